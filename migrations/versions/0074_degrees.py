"""Experts say which degrees and licences they have."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from migrations.grants import EXPERT

revision = "0074"
down_revision = "0073"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "expert",
        sa.Column("degrees", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
        schema="market",
    )
    op.add_column(
        "expert",
        sa.Column("licences", sa.ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")),
        schema="market",
    )
    op.create_check_constraint(
        "degrees", "expert", "jsonb_typeof(degrees) = 'object'", schema="market"
    )
    op.execute(f"grant update (degrees, licences) on market.expert to {EXPERT}")


def downgrade() -> None:
    op.drop_column("expert", "licences", schema="market")
    op.drop_column("expert", "degrees", schema="market")
