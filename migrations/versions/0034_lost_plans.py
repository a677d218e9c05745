"""Why a kept plan was given up."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("kept_plan", sa.Column("given_up", sa.Text), schema="market")


def downgrade() -> None:
    op.drop_column("kept_plan", "given_up", schema="market")
