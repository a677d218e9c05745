"""The history of a machine keeps what a move rests on."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0082"
down_revision = "0081"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("state_change", sa.Column("evidence", ARRAY(sa.Text)), schema="market")


def downgrade() -> None:
    op.drop_column("state_change", "evidence", schema="market")
