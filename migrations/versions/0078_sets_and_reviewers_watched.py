"""Sets that are one item many times, and reviewers who are poor on what is known, are told once."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import LAB, guard_rows, platform_may, tenant_may

revision = "0078"
down_revision = "0077"
branch_labels = None
depends_on = None

TABLES = ("market.spread_alarm", "market.reviewer_alarm")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "spread_alarm",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id"), nullable=False
        ),
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id"), nullable=False),
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.person.id")),
        sa.Column("flags", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("items", sa.BigInteger, nullable=False),
        sa.Column("copies", sa.BigInteger, nullable=False),
        sa.Column("spread", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        schema="market",
    )
    op.create_index(
        "uq_spread_alarm_open",
        "spread_alarm",
        ["project_id", sa.text("coalesce(expert_id, project_id)")],
        unique=True,
        postgresql_where=sa.text("ended_at is null"),
        schema="market",
    )
    op.create_index("ix_spread_alarm_at", "spread_alarm", ["at"], schema="market")
    op.create_table(
        "reviewer_alarm",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("reviewer_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("right", sa.BigInteger, nullable=False),
        sa.Column("wrong", sa.BigInteger, nullable=False),
        sa.Column("poor", sa.Double, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("ended_at", TIME),
        schema="market",
    )
    op.create_index(
        "uq_reviewer_alarm_open",
        "reviewer_alarm",
        ["reviewer_id"],
        unique=True,
        postgresql_where=sa.text("ended_at is null"),
        schema="market",
    )
    op.create_index("ix_reviewer_alarm_at", "reviewer_alarm", ["at"], schema="market")
    for table in TABLES:
        guard_rows(table)
        platform_may(table, "select, insert, update (ended_at)")
    tenant_may(TABLES[0], LAB, "select", "organisation_id = (select market.tenant())")
    _kinds("'frontier', 'drift', 'spread', 'reviewer'")


def downgrade() -> None:
    op.drop_table("reviewer_alarm", schema="market")
    op.drop_table("spread_alarm", schema="market")
    # Nobody has looked at an alarm that is gone; the table itself refuses to forget anything.
    op.execute("alter table market.acknowledgement disable trigger user")
    op.execute("delete from market.acknowledgement where kind in ('spread', 'reviewer')")
    op.execute("alter table market.acknowledgement enable trigger user")
    _kinds("'frontier', 'drift'")


def _kinds(named: str) -> None:
    op.drop_constraint("ck_acknowledgement_kind", "acknowledgement", schema="market")
    op.create_check_constraint("kind", "acknowledgement", f"kind in ({named})", schema="market")
