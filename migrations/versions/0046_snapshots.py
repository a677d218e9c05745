"""Snapshots of accepted work, which deliver it."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import LAB, append_only, guard_rows, platform_may, tenant_may

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None

OF_LAB = "organisation_id = (select market.tenant())"


def upgrade() -> None:
    op.create_table(
        "snapshot",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id"), nullable=False
        ),
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id"), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("tasks", sa.BigInteger, nullable=False),
        sa.Column("answers", sa.BigInteger, nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("taken_by", sa.Uuid),
        sa.UniqueConstraint("project_id", "number", name="uq_snapshot_project_id_number"),
        sa.CheckConstraint("number > 0 and tasks > 0 and answers >= 0", name="counts"),
        schema="market",
    )
    op.create_table(
        "snapshot_answer",
        sa.Column("snapshot_id", sa.Uuid, sa.ForeignKey("market.snapshot.id"), primary_key=True),
        sa.Column(
            "submission_id", sa.Uuid, sa.ForeignKey("market.submission.id"), primary_key=True
        ),
        sa.Column("organisation_id", sa.Uuid, nullable=False),
        sa.Column("share", sa.SmallInteger, nullable=False),
        sa.Column("is_stump", sa.Boolean, nullable=False),
        schema="market",
    )
    op.create_index(
        "ix_snapshot_answer_submission_id", "snapshot_answer", ["submission_id"], schema="market"
    )
    for table in ("market.snapshot", "market.snapshot_answer"):
        guard_rows(table)
        append_only(table)
        platform_may(table, "select, insert")
        tenant_may(table, LAB, "select", OF_LAB)


def downgrade() -> None:
    op.drop_table("snapshot_answer", schema="market")
    op.drop_table("snapshot", schema="market")
