"""Looks that are kept for one reviewer are found without reading the whole queue."""

import sqlalchemy as sa
from alembic import op

revision = "0080"
down_revision = "0079"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_review_reserved_for",
        "review",
        ["reserved_for"],
        schema="market",
        postgresql_where=sa.text("state = 'queued' and reserved_for is not null"),
    )


def downgrade() -> None:
    op.drop_index("ix_review_reserved_for", "review", schema="market")
