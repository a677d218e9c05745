"""Releases of target models, and the tasks that calibrate them."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import LAB, drop_machine, guard_rows, machine, platform_may, tenant_may

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
RELEASE = {
    ("", "told"),
    ("told", "calibrating"),
    ("calibrating", "calibrated"),
    ("calibrated", "adopted"),
    ("told", "withdrawn"),
    ("calibrating", "withdrawn"),
    ("calibrated", "withdrawn"),
}


def upgrade() -> None:
    op.add_column(
        "task",
        sa.Column("target_model_id", sa.Uuid, sa.ForeignKey("market.target_model.id")),
        schema="market",
    )
    op.create_table(
        "model_release",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id"), nullable=False
        ),
        sa.Column(
            "target_model_id",
            sa.Uuid,
            sa.ForeignKey("market.target_model.id"),
            nullable=False,
            unique=True,
        ),
        sa.Column(
            "earlier_model_id", sa.Uuid, sa.ForeignKey("market.target_model.id"), nullable=False
        ),
        sa.Column("told_at", TIME, nullable=False),
        sa.Column("size", sa.SmallInteger, nullable=False),
        sa.Column("prior", sa.LargeBinary, nullable=False),
        sa.Column("prior_mean", sa.Double, nullable=False),
        sa.Column("prior_sd", sa.Double, nullable=False),
        sa.Column("told_by", sa.Uuid),
        sa.Column("mean", sa.Double),
        sa.Column("sd", sa.Double),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "state in ('told', 'calibrating', 'calibrated', 'adopted', 'withdrawn')", name="state"
        ),
        sa.CheckConstraint("size between 10 and 30", name="size"),
        sa.CheckConstraint("target_model_id <> earlier_model_id", name="earlier"),
        schema="market",
    )
    op.create_index(
        "ix_model_release_organisation_id",
        "model_release",
        ["organisation_id", "id"],
        schema="market",
    )
    op.create_index(
        "ix_model_release_earlier_model_id", "model_release", ["earlier_model_id"], schema="market"
    )
    op.create_table(
        "calibration_task",
        sa.Column("release_id", sa.Uuid, sa.ForeignKey("market.model_release.id")),
        sa.Column("task_id", sa.Uuid, sa.ForeignKey("market.task.id")),
        sa.Column("organisation_id", sa.Uuid, nullable=False),
        sa.Column("domain", sa.Text, nullable=False),
        sa.Column("level", sa.SmallInteger, nullable=False),
        sa.Column("base", sa.Double, nullable=False),
        sa.Column("base_sd", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("release_id", "task_id"),
        schema="market",
    )
    op.create_index("ix_calibration_task_task_id", "calibration_task", ["task_id"], schema="market")
    machine("market.model_release", "model_release", RELEASE)
    own = "organisation_id = (select market.tenant())"
    for table, rights in (
        ("model_release", "select, insert, update"),
        ("calibration_task", "select, insert"),
    ):
        guard_rows(f"market.{table}")
        platform_may(f"market.{table}", rights)
        tenant_may(f"market.{table}", LAB, "select", own)


def downgrade() -> None:
    op.drop_table("calibration_task", schema="market")
    op.drop_table("model_release", schema="market")
    drop_machine("model_release")
    op.drop_column("task", "target_model_id", schema="market")
