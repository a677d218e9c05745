"""Visits: browsers that came into the console with a key."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import guard_rows, platform_may

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "visit",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("key_id", sa.Uuid, sa.ForeignKey("market.api_key.id"), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        schema="market",
    )
    op.create_index("ix_visit_key_id", "visit", ["key_id"], schema="market")
    guard_rows("market.visit")
    platform_may("market.visit", "select, insert, delete")


def downgrade() -> None:
    op.drop_table("visit", schema="market")
