"""When the events of each connected account were listed last."""

import sqlalchemy as sa
from alembic import op

revision = "0071"
down_revision = "0070"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "payee", sa.Column("events_listed_at", sa.DateTime(timezone=True)), schema="payouts"
    )


def downgrade() -> None:
    op.drop_column("payee", "events_listed_at", schema="payouts")
