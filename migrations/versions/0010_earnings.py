"""What experts earned, what labs paid in, and the runs that pay out."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import (
    EXPERT,
    LAB,
    drop_machine,
    guard_rows,
    machine,
    platform_may,
    tenant_may,
)

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)

FUNDING = {
    ("", "requested"),
    ("requested", "processing"),
    ("requested", "received"),
    ("processing", "received"),
    ("failed", "received"),
    ("received", "succeeded"),
    ("requested", "failed"),
    ("processing", "failed"),
}
PAYOUT_RUN = {("", "pending"), ("pending", "running"), ("running", "succeeded")}


def upgrade() -> None:
    op.create_table(
        "funding",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id"), nullable=False
        ),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("payment_method", sa.Text, nullable=False),
        sa.Column("external_call_id", sa.Uuid, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("failure", sa.Text),
        sa.Column("settled_at", TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint(
            "state in ('requested', 'processing', 'received', 'succeeded', 'failed')",
            name="state",
        ),
        sa.CheckConstraint("amount_minor > 0", name="amount_minor"),
        schema="market",
    )
    op.create_index(
        "ix_funding_organisation_id", "funding", ["organisation_id", "id"], schema="market"
    )
    machine("market.funding", "funding", FUNDING)

    op.create_table(
        "earning",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column(
            "organisation_id", sa.Uuid, sa.ForeignKey("market.organisation.id"), nullable=False
        ),
        sa.Column("project_id", sa.Uuid, sa.ForeignKey("market.project.id"), nullable=False),
        sa.Column("expert_id", sa.Uuid, sa.ForeignKey("market.person.id"), nullable=False),
        sa.Column("offer_id", sa.Uuid, sa.ForeignKey("market.offer.id"), nullable=False),
        sa.Column("week", sa.Date, nullable=False),
        sa.Column("seconds", sa.BigInteger, nullable=False),
        sa.Column("rate_minor_per_hour", sa.BigInteger, nullable=False),
        sa.Column("pay_minor", sa.BigInteger, nullable=False),
        sa.Column("fee_minor", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("entry_key", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("part", sa.BigInteger, nullable=False),
        sa.Column("submission_id", sa.Uuid, sa.ForeignKey("market.submission.id")),
        sa.Column("payout_id", sa.Uuid),
        sa.CheckConstraint("kind in ('hours')", name="kind"),
        sa.CheckConstraint("seconds > 0 and part > 0", name="seconds"),
        sa.CheckConstraint("pay_minor >= 0 and fee_minor >= 0", name="amounts"),
        sa.CheckConstraint("extract(isodow from week) = 1", name="week"),
        sa.UniqueConstraint("offer_id", "week", "rate_minor_per_hour", "kind", "part"),
        schema="market",
    )
    op.create_index("ix_earning_expert_id", "earning", ["expert_id", "id"], schema="market")
    op.create_index("ix_earning_project_id", "earning", ["project_id", "id"], schema="market")
    op.create_index("ix_earning_payout_id", "earning", ["payout_id"], schema="market")
    op.create_index(
        "ix_earning_waiting",
        "earning",
        ["expert_id"],
        schema="market",
        postgresql_where=sa.text("payout_id is null"),
    )

    op.create_table(
        "payout_run",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("period_end", sa.Date, nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("requested_by", sa.Uuid),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("payouts", sa.BigInteger, nullable=False),
        sa.Column("held", sa.BigInteger, nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.CheckConstraint("state in ('pending', 'running', 'succeeded')", name="state"),
        sa.CheckConstraint("extract(isodow from period_end) = 1", name="period_end"),
        schema="market",
    )
    op.create_index(
        "uq_payout_run_by_clock",
        "payout_run",
        ["period_end"],
        unique=True,
        schema="market",
        postgresql_where=sa.text("requested_by is null"),
    )
    machine("market.payout_run", "payout_run", PAYOUT_RUN)

    for table in ("funding", "earning", "payout_run"):
        guard_rows(f"market.{table}")
    platform_may("market.funding", "select, insert, update")
    # Of a line of pay only the payout that takes it along is ever filled in.
    platform_may("market.earning", "select, insert, update (payout_id)")
    platform_may("market.payout_run", "select, insert, update")
    tenant_may("market.funding", LAB, "select", "organisation_id = (select market.tenant())")
    tenant_may("market.earning", EXPERT, "select", "expert_id = (select market.tenant())")


def downgrade() -> None:
    for table in ("payout_run", "earning", "funding"):
        op.drop_table(table, schema="market")
    for name in ("payout_run", "funding"):
        drop_machine(name)
