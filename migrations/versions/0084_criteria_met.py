"""A vote that accepts a part names the criteria that hold, where they have points."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0084"
down_revision = "0083"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("review", sa.Column("met", ARRAY(sa.Text)), schema="market")


def downgrade() -> None:
    op.drop_column("review", "met", schema="market")
