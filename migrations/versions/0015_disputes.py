"""Card disputes, payouts to our own bank, and the pace of writing to Stripe."""

import sqlalchemy as sa
from alembic import op

from migrations.grants import LAB, guard_rows, platform_may, tenant_may

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
BEFORE = "account account_link payment_intent transfer reversal refund"
AFTER = f"{BEFORE} dispute_evidence platform_payout"
STEPS = {
    "card_dispute": "'' inquiry, '' open, inquiry open, inquiry closed, open won, open lost",
    "platform_payout": (
        "'' planned, planned sent, planned failed, sent paid, sent failed, paid failed"
    ),
}
DISPUTE_STATES = "inquiry open won lost closed"
PAYOUT_STATES = "planned sent paid failed"


def _listed(values: str) -> str:
    return ", ".join(f"'{value}'" for value in values.split())


def _operations(values: str) -> None:
    # The table's first migration named it so.
    name = "ck_external_call_ck_external_call_operation"
    op.execute(f"alter table payouts.external_call drop constraint {name}")
    op.execute(
        f"alter table payouts.external_call add constraint {name}"
        f" check (operation in ({_listed(values)}))"
    )


def upgrade() -> None:
    _operations(AFTER)
    op.create_table(
        "write_bucket",
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("held_back", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("longest_wait_s", sa.Float, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("account", name="pk_write_bucket"),
        schema="payouts",
    )
    op.create_table(
        "card_dispute",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("stripe_id", sa.Text, nullable=False),
        sa.Column("funding_id", sa.Uuid, nullable=False),
        sa.Column("lab_id", sa.Uuid, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("evidence_due_at", TIME),
        sa.Column("taken_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("fee_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("withheld_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("unsettled_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("lost_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("evidence_call_id", sa.Uuid),
        sa.Column("answered_at", TIME),
        sa.Column("closed_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_card_dispute"),
        sa.UniqueConstraint("stripe_id", name="uq_card_dispute_stripe_id"),
        sa.ForeignKeyConstraint(
            ["funding_id"], ["payouts.funding.id"], name="fk_card_dispute_funding_id"
        ),
        sa.ForeignKeyConstraint(
            ["evidence_call_id"],
            ["payouts.external_call.id"],
            name="fk_card_dispute_evidence_call_id",
        ),
        sa.CheckConstraint(f"state in ({_listed(DISPUTE_STATES)})", name="ck_card_dispute_state"),
        sa.CheckConstraint("amount_minor > 0", name="ck_card_dispute_amount"),
        sa.CheckConstraint(
            "withheld_minor >= 0 and unsettled_minor between 0 and withheld_minor",
            name="ck_card_dispute_withheld",
        ),
        schema="payouts",
    )
    op.create_index("ix_card_dispute_funding_id", "card_dispute", ["funding_id"], schema="payouts")
    op.create_index("ix_card_dispute_lab_id", "card_dispute", ["lab_id"], schema="payouts")
    op.create_table(
        "platform_payout",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("planned_at", TIME, nullable=False),
        sa.Column("planned_by", sa.Uuid, nullable=False),
        sa.Column("call_id", sa.Uuid),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("stripe_id", sa.Text),
        sa.Column("failure_text", sa.Text),
        sa.Column("ended_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_platform_payout"),
        sa.UniqueConstraint("stripe_id", name="uq_platform_payout_stripe_id"),
        sa.ForeignKeyConstraint(
            ["call_id"], ["payouts.external_call.id"], name="fk_platform_payout_call_id"
        ),
        sa.CheckConstraint(f"state in ({_listed(PAYOUT_STATES)})", name="ck_platform_payout_state"),
        sa.CheckConstraint("amount_minor > 0", name="ck_platform_payout_amount"),
        schema="payouts",
    )
    for machine, steps in STEPS.items():
        for step in steps.split(","):
            source, target = step.split()
            op.execute(
                "insert into payouts.state_rule (machine, from_state, to_state) values "
                f"('{machine}', '{source.strip(chr(39))}', '{target}')"
            )
        op.execute(
            f"create trigger {machine}_state before insert or update of state on payouts.{machine}"
            " for each row execute function payouts.guard_state()"
        )
    for table in ("write_bucket", "card_dispute", "platform_payout"):
        guard_rows(f"payouts.{table}")
        platform_may(f"payouts.{table}", "select, insert, update")
    tenant_may("payouts.card_dispute", LAB, "select", "lab_id = market.tenant()")


def downgrade() -> None:
    for table in ("platform_payout", "card_dispute", "write_bucket"):
        op.drop_table(table, schema="payouts")
    for machine in STEPS:
        op.execute(f"delete from payouts.state_rule where machine = '{machine}'")
    op.execute(f"delete from payouts.external_call where operation not in ({_listed(BEFORE)})")
    _operations(BEFORE)
