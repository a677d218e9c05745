"""Verdicts are read by the time at which they were decided, and those of a lab the newest first."""

from alembic import op

revision = "0079"
down_revision = "0078"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_verdict_decided_at", "verdict", ["decided_at"], schema="market")
    op.create_index(
        "ix_verdict_organisation_id",
        "verdict",
        ["organisation_id", "decided_at"],
        schema="market",
        postgresql_include=["share"],
    )


def downgrade() -> None:
    op.drop_index("ix_verdict_organisation_id", "verdict", schema="market")
    op.drop_index("ix_verdict_decided_at", "verdict", schema="market")
