"""A project may let the next person read the draft of work that went back."""

import sqlalchemy as sa
from alembic import op

revision = "0075"
down_revision = "0074"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "project",
        sa.Column("passes_drafts", sa.Boolean, nullable=False, server_default=sa.false()),
        schema="market",
    )


def downgrade() -> None:
    op.drop_column("project", "passes_drafts", schema="market")
