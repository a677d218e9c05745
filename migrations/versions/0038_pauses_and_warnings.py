"""How far pauses moved a deadline, and when a quiet expert was asked."""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "work_session",
        sa.Column("paused_s", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        schema="market",
    )
    op.add_column(
        "work_session", sa.Column("warned_at", sa.DateTime(timezone=True)), schema="market"
    )
    op.create_check_constraint("paused_s", "work_session", "paused_s >= 0", schema="market")


def downgrade() -> None:
    for name in ("paused_s", "warned_at"):
        op.drop_column("work_session", name, schema="market")
