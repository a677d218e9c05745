"""Evaluation sets that experts and models answer, and how they stand."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import LAB, append_only, guard_rows, platform_may, tenant_may

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OF_LAB = "organisation_id = (select market.tenant())"
TABLES = ("eval_set", "eval_item", "eval_answer", "baseline_result")


def _id() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid(), primary_key=True)


def _of(name: str, target: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid, sa.ForeignKey(target), nullable=null)


def upgrade() -> None:
    lab = ("organisation_id", "market.organisation.id")
    op.create_table(
        "eval_set",
        _id(),
        _of(*lab),
        _of("project_id", "market.project.id"),
        _of("target_model_id", "market.target_model.id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("complexity", sa.SmallInteger, nullable=False),
        sa.Column("limit_s", sa.BigInteger, nullable=False),
        sa.Column("experts", sa.SmallInteger, nullable=False),
        sa.Column("items", sa.BigInteger, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("created_by", sa.Uuid, nullable=False),
        sa.Column("model_state", sa.Text, nullable=False),
        sa.Column("failure", sa.Text),
        sa.Column("leased_until", TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint("model_state in ('asking', 'done', 'failed')", name="model_state"),
        sa.CheckConstraint("complexity between 1 and 10 and limit_s > 0", name="terms"),
        sa.CheckConstraint("experts between 3 and 50 and items between 20 and 500", name="sizes"),
        schema="market",
    )
    op.create_index("ix_eval_set_project_id", "eval_set", ["project_id", "id"], schema="market")
    op.create_index(
        "ix_eval_set_domain", "eval_set", ["domain", "target_model_id", "id"], schema="market"
    )
    op.create_table(
        "eval_item",
        _id(),
        _of(*lab),
        _of("set_id", "market.eval_set.id"),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("choices", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("key", sa.ARRAY(sa.Text), nullable=False),
        sa.UniqueConstraint("set_id", "number"),
        schema="market",
    )
    op.create_table(
        "eval_answer",
        _id(),
        _of(*lab),
        _of("set_id", "market.eval_set.id"),
        _of("item_id", "market.eval_item.id"),
        _of("person_id", "market.person.id", null=True),
        sa.Column("asked_at", TIME, nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("closed_at", TIME),
        sa.Column("is_right", sa.Boolean),
        sa.UniqueConstraint("item_id", "person_id", postgresql_nulls_not_distinct=True),
        sa.CheckConstraint("(closed_at is null) = (is_right is null)", name="closed"),
        schema="market",
    )
    op.create_index(
        "ix_eval_answer_set_id", "eval_answer", ["set_id", "person_id"], schema="market"
    )
    op.create_table(
        "baseline_result",
        _id(),
        _of(*lab),
        _of("set_id", "market.eval_set.id"),
        sa.Column("at", TIME, nullable=False),
        sa.Column("people", sa.BigInteger, nullable=False),
        *(
            sa.Column(name, sa.Double, nullable=False)
            for name in (
                "human",
                "human_low",
                "human_high",
                "model",
                "model_low",
                "model_high",
                "best_chance",
            )
        ),
        sa.Column("standing", sa.Text, nullable=False),
        sa.Column("proposal", sa.Text),
        sa.Column("proposed_complexity", sa.SmallInteger),
        sa.CheckConstraint(
            "standing in ('human', 'unclear', 'saturated', 'thin')", name="standing"
        ),
        schema="market",
    )
    op.create_index(
        "ix_baseline_result_set_id", "baseline_result", ["set_id", "id"], schema="market"
    )
    for table in TABLES:
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", "select, insert, update")
    for table in ("eval_set", "baseline_result"):
        tenant_may(f"market.{table}", LAB, "select", OF_LAB)
    append_only("market.eval_item")


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table, schema="market")
