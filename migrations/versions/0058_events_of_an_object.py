"""Webhooks that wait, by the object that they are about."""

import sqlalchemy as sa
from alembic import op

revision = "0058"
down_revision = "0057"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_stripe_event_object",
        "stripe_event",
        ["object_id"],
        schema="payouts",
        postgresql_where=sa.text("state in ('stored', 'parked')"),
    )


def downgrade() -> None:
    op.drop_index("ix_stripe_event_object", "stripe_event", schema="payouts")
