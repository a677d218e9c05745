"""Reconciliation: Stripe's lines, what does not match, and the published proofs."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import (
    EXPERT,
    LAB,
    REVIEWER,
    append_only,
    guard_rows,
    platform_may,
    tenant_may,
)

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
KINDS = [
    "ours_not_theirs",
    "theirs_not_ours",
    "amount_differs",
    "currency_differs",
    "twice",
    "balance_differs",
]
TABLES = ("stripe_line", "pull_mark", "reconciliation_break", "proof")


def upgrade() -> None:
    op.create_table(
        "stripe_line",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("category", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("fee_minor", sa.BigInteger, nullable=False),
        sa.Column("net_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("source_id", sa.Text),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("pulled_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stripe_line"),
        schema="payouts",
    )
    op.create_index(
        "ix_stripe_line_place_reference", "stripe_line", ["place", "reference"], schema="payouts"
    )
    op.create_table(
        "pull_mark",
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("pulled_until", TIME, nullable=False),
        sa.PrimaryKeyConstraint("place", name="pk_pull_mark"),
        schema="payouts",
    )
    listed = ", ".join(f"'{kind}'" for kind in KINDS)
    op.create_table(
        "reconciliation_break",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("reference", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("ours_minor", sa.BigInteger, nullable=False),
        sa.Column("theirs_minor", sa.BigInteger, nullable=False),
        sa.Column("found_at", TIME, nullable=False),
        sa.Column("seen_at", TIME, nullable=False),
        sa.Column("assigned_to", sa.Uuid),
        sa.Column("resolved_at", TIME),
        sa.Column("resolution", sa.Text),
        sa.Column("resolved_by", sa.Uuid),
        sa.Column("note", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_reconciliation_break"),
        sa.CheckConstraint(f"kind in ({listed})", name="ck_reconciliation_break_kind"),
        schema="payouts",
    )
    op.create_index(
        "uq_reconciliation_break_open",
        "reconciliation_break",
        ["place", "currency", "reference"],
        unique=True,
        schema="payouts",
        postgresql_where=sa.text("resolved_at is null"),
    )
    op.create_table(
        "proof",
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("first_link", sa.BigInteger, nullable=False),
        sa.Column("last_link", sa.BigInteger, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_proof"),
        sa.UniqueConstraint("digest", name="uq_proof_digest"),
        schema="payouts",
    )
    for table in TABLES:
        guard_rows(f"payouts.{table}")
    for table in ("stripe_line", "proof"):
        platform_may(f"payouts.{table}", "select, insert")
        append_only(f"payouts.{table}")
    for table in ("pull_mark", "reconciliation_break"):
        platform_may(f"payouts.{table}", "select, insert, update")
    # A proof is published: whoever has a key may read all of them.
    for role in (LAB, EXPERT, REVIEWER):
        tenant_may("payouts.proof", role, "select", "true")


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table, schema="payouts")
