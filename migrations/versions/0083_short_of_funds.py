"""Payouts that wait for our own balance are found at once, for those behind them wait too."""

import sqlalchemy as sa
from alembic import op

revision = "0083"
down_revision = "0082"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_payout_hold_short",
        "payout_hold",
        ["expires_at"],
        schema="payouts",
        postgresql_where=sa.text("code = 'platform_funds' and cleared_at is null"),
    )


def downgrade() -> None:
    op.drop_index("ix_payout_hold_short", "payout_hold", schema="payouts")
