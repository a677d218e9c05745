"""Lift studies, and what rates of impact and of levels go on from."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import LAB, append_only, guard_rows, platform_may, tenant_may

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
OF_LAB = "organisation_id = (select market.tenant())"
ADDED = ("lift_batch", "lift_item", "lift_report")
TABLES = ("lift_study", *ADDED, "lift_effect")


def _id() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid(), primary_key=True)


def _of(name: str, target: str, *, key: bool = False, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Uuid, sa.ForeignKey(target), primary_key=key, nullable=null)


def upgrade() -> None:
    lab = ("organisation_id", "market.organisation.id")
    op.create_table(
        "lift_study",
        _id(),
        _of(*lab),
        _of("project_id", "market.project.id"),
        sa.Column("metric", sa.Text, nullable=False),
        sa.Column("is_higher_better", sa.Boolean, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("batches", sa.BigInteger, nullable=False),
        sa.Column("items", sa.BigInteger, nullable=False),
        sa.Column("drawn_at", TIME, nullable=False),
        sa.Column("drawn_by", sa.Uuid, nullable=False),
        sa.Column("estimated_at", TIME),
        sa.Column("reports", sa.BigInteger, nullable=False),
        sa.Column("common", sa.Double),
        sa.Column("common_sd", sa.Double),
        sa.Column("noise", sa.Double),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint("length(btrim(metric)) between 1 and 200", name="metric"),
        sa.CheckConstraint("batches between 4 and 200 and items > 0", name="sizes"),
        sa.CheckConstraint("(estimated_at is null) = (common is null)", name="estimated"),
        schema="market",
    )
    op.create_index("ix_lift_study_project_id", "lift_study", ["project_id", "id"], schema="market")
    op.create_table(
        "lift_batch",
        _id(),
        _of(*lab),
        _of("study_id", "market.lift_study.id"),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("items", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("study_id", "number"),
        sa.CheckConstraint(
            "number >= 0 and items >= 0 and (number > 0 or items = 0)", name="items"
        ),
        schema="market",
    )
    op.create_table(
        "lift_item",
        _of("batch_id", "market.lift_batch.id", key=True),
        _of("submission_id", "market.submission.id", key=True),
        _of(*lab),
        _of("study_id", "market.lift_study.id"),
        _of("expert_id", "market.person.id"),
        sa.Column("domain", sa.Text, nullable=False),
        schema="market",
    )
    op.create_index(
        "ix_lift_item_submission_id", "lift_item", ["submission_id", "study_id"], schema="market"
    )
    op.create_index("ix_lift_item_study_id", "lift_item", ["study_id"], schema="market")
    op.create_table(
        "lift_report",
        _of("batch_id", "market.lift_batch.id", key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        _of(*lab),
        sa.Column("value", sa.Double, nullable=False),
        sa.Column("reported_at", TIME, nullable=False),
        sa.Column("reported_by", sa.Uuid, nullable=False),
        sa.CheckConstraint("number > 0", name="number"),
        schema="market",
    )
    op.create_table(
        "lift_effect",
        _id(),
        _of(*lab),
        _of("study_id", "market.lift_study.id"),
        _of("expert_id", "market.person.id", null=True),
        sa.Column("domain", sa.Text),
        sa.Column("items", sa.BigInteger, nullable=False),
        sa.Column("batches", sa.BigInteger, nullable=False),
        *(
            sa.Column(name, sa.Double, nullable=False)
            for name in ("added", "added_sd", "relative", "low", "high")
        ),
        sa.UniqueConstraint("study_id", "expert_id", "domain", postgresql_nulls_not_distinct=True),
        sa.CheckConstraint("(expert_id is null) <> (domain is null)", name="subject"),
        sa.CheckConstraint("low <= relative and relative <= high", name="interval"),
        schema="market",
    )
    for table in TABLES:
        guard_rows(f"market.{table}")
        tenant_may(f"market.{table}", LAB, "select", OF_LAB)
    for table in ADDED:
        platform_may(f"market.{table}", "select, insert")
        append_only(f"market.{table}")
    platform_may("market.lift_study", "select, insert, update")
    platform_may("market.lift_effect")
    op.create_table(
        "impact_state",
        sa.Column("domain", sa.Text, primary_key=True),
        sa.Column("state", sa.ARRAY(sa.Double), nullable=False),
        sa.Column("items", sa.BigInteger, nullable=False),
        schema="market",
    )
    guard_rows("market.impact_state")
    platform_may("market.impact_state", "select, insert, update")
    op.add_column(
        "expert_impact",
        sa.Column("memory", sa.ARRAY(sa.Double), nullable=False, server_default="{}"),
        schema="market",
    )
    op.create_table(
        "frontier_state",
        sa.Column("domain", sa.Text, primary_key=True),
        sa.Column("level", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column(
            "target_model_id",
            sa.Uuid,
            sa.ForeignKey("market.target_model.id"),
            primary_key=True,
        ),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("state", sa.ARRAY(sa.Double), nullable=False),
        schema="market",
    )
    guard_rows("market.frontier_state")
    platform_may("market.frontier_state", "select, insert, update")


def downgrade() -> None:
    op.drop_table("frontier_state", schema="market")
    op.drop_column("expert_impact", "memory", schema="market")
    op.drop_table("impact_state", schema="market")
    for table in reversed(TABLES):
        op.drop_table(table, schema="market")
