"""What is believed of submissions and reviewers, and what work was worth."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import EXPERT, REVIEWER, guard_rows, platform_may, tenant_may

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
TABLES = ("item_belief", "vote_merit", "reviewer_reliability", "item_credit", "expert_impact")


def upgrade() -> None:
    op.create_table(
        "item_belief",
        _key("submission_id", "submission"),
        sa.Column("project_id", sa.Uuid, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        _number("belief"),
        sa.Column("votes", sa.BigInteger, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.CheckConstraint("belief between 0 and 1", name="belief"),
        schema="market",
    )
    op.create_table(
        "vote_merit",
        _key("review_id", "review"),
        _person("reviewer_id"),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        _number("merit"),
        sa.Column("right", sa.Double),
        sa.Column("at", TIME, nullable=False),
        schema="market",
    )
    op.create_index(
        "ix_vote_merit_reviewer_id", "vote_merit", ["reviewer_id", "domain"], schema="market"
    )
    op.create_table(
        "reviewer_reliability",
        _key("reviewer_id", "person"),
        sa.Column("domain", sa.Text, primary_key=True),
        *(_number(name) for name in ("accuracy", "low", "high")),
        sa.Column("votes", sa.BigInteger, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.CheckConstraint("low <= high", name="low"),
        schema="market",
    )
    op.create_table(
        "item_credit",
        _key("submission_id", "submission"),
        _person("expert_id"),
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id"), nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        *(_number(name) for name in ("validity", "novelty", "level_weight", "lift", "credit")),
        sa.Column("like_submission_id", sa.Uuid),
        sa.Column("decided_at", TIME, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
        sa.CheckConstraint("validity between 0 and 1 and novelty between 0 and 1", name="parts"),
        schema="market",
    )
    for column in ("domain", "expert_id", "project_id"):
        op.create_index(
            f"ix_item_credit_{column}", "item_credit", [column, "decided_at"], schema="market"
        )
    op.create_table(
        "expert_impact",
        _key("expert_id", "person"),
        sa.Column("domain", sa.Text, primary_key=True),
        sa.Column("items", sa.BigInteger, nullable=False),
        *(_number(name) for name in ("total", "rate", "sd")),
        sa.Column("at", TIME, nullable=False),
        sa.Column("top", sa.Double),
        sa.Column("expected_rank", sa.Double),
        sa.Column("call", sa.Text),
        sa.CheckConstraint("top between 0 and 1", name="top"),
        schema="market",
    )
    for table in TABLES:
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", "select, insert, update")
    # Whoever is measured reads what was found.
    tenant_may(
        "market.reviewer_reliability", REVIEWER, "select", "reviewer_id = (select market.tenant())"
    )
    tenant_may("market.expert_impact", EXPERT, "select", "expert_id = (select market.tenant())")


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table, schema="market")


def _key(name: str, table: str) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid, sa.ForeignKey(f"market.{table}.id"), primary_key=True)


def _person(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False)


def _number(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.Double, nullable=False)
