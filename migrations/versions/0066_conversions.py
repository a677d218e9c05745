"""What Stripe changed into another currency, and at what rate."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import EXPERT, REVIEWER, guard_rows, platform_may, tenant_may

revision = "0066"
down_revision = "0065"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("stripe_line", sa.Column("exchange_rate", sa.Text()), schema="payouts")
    op.create_table(
        "conversion",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("transfer_id", sa.Uuid, nullable=False),
        sa.Column("payout_id", sa.Uuid, nullable=False),
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("from_currency", sa.Text, nullable=False),
        sa.Column("from_minor", sa.BigInteger, nullable=False),
        sa.Column("to_currency", sa.Text, nullable=False),
        sa.Column("to_minor", sa.BigInteger, nullable=False),
        sa.Column("rate_numerator", sa.BigInteger, nullable=False),
        sa.Column("rate_denominator", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("line_id", sa.Text, nullable=False),
        sa.Column("converted_at", TIME, nullable=False),
        sa.Column("booked_at", TIME, nullable=False),
        sa.Column("back_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("lost_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("id", name="pk_conversion"),
        sa.UniqueConstraint("transfer_id", name="uq_conversion_transfer_id"),
        sa.UniqueConstraint("line_id", name="uq_conversion_line_id"),
        sa.ForeignKeyConstraint(
            ["transfer_id"], ["payouts.transfer.id"], name="fk_conversion_transfer_id"
        ),
        sa.ForeignKeyConstraint(
            ["payout_id"], ["payouts.payout.id"], name="fk_conversion_payout_id"
        ),
        sa.CheckConstraint("from_currency <> to_currency", name="ck_conversion_currencies"),
        sa.CheckConstraint("from_minor > 0 and to_minor > 0", name="ck_conversion_amounts"),
        sa.CheckConstraint(
            "rate_numerator > 0 and rate_denominator > 0", name="ck_conversion_rate"
        ),
        sa.CheckConstraint("back_minor between 0 and to_minor", name="ck_conversion_back"),
        sa.CheckConstraint("source in ('stripe')", name="ck_conversion_source"),
        schema="payouts",
    )
    op.create_index("ix_conversion_payout_id", "conversion", ["payout_id"], schema="payouts")
    guard_rows("payouts.conversion")
    platform_may("payouts.conversion", "select, insert, update")
    for role in (EXPERT, REVIEWER):
        tenant_may("payouts.conversion", role, "select", "owner_id = market.tenant()")


def downgrade() -> None:
    op.drop_table("conversion", schema="payouts")
    op.drop_column("stripe_line", "exchange_rate", schema="payouts")
