"""Offers that nobody answered are counted at each run, for each expert."""

import sqlalchemy as sa
from alembic import op

revision = "0076"
down_revision = "0075"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_offer_missed",
        "offer",
        ["expert_id", "expires_at"],
        schema="market",
        postgresql_where=sa.text("state = 'timed_out'"),
    )


def downgrade() -> None:
    op.drop_index("ix_offer_missed", "offer", schema="market")
