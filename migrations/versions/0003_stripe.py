"""Stripe: calls, payees, fundings, payouts, transfers, webhooks, and the rules of their steps."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from migrations.grants import EXPERT, append_only, guard_rows, platform_may, tenant_may

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

RULES = Path(__file__).with_suffix(".sql")
TIME = sa.DateTime(timezone=True)

CALL_STEPS = """
    '' planned, planned sent, planned refused, sent confirmed, sent refused, sent unknown,
    unknown confirmed, unknown refused
"""
PAYOUT_STEPS = """
    '' accrued, accrued eligible, eligible held, held eligible, eligible batched,
    batched transferring, batched eligible, transferring eligible, transferring transferred,
    transferred payout_pending, payout_pending in_transit, payout_pending cancelled,
    in_transit paid, in_transit failed, paid returned, failed payout_pending,
    returned payout_pending, transferred reversed, payout_pending reversed, in_transit reversed,
    paid reversed, failed reversed, returned reversed
"""
CALL_STATES = "planned sent confirmed refused unknown"
OPERATIONS = "account account_link payment_intent transfer reversal refund"
FUNDING_STATES = "planned processing unsettled settled failed"
PAYOUT_STATES = (
    "accrued eligible held batched transferring transferred payout_pending in_transit paid failed "
    "returned cancelled reversed"
)
HOLD_CODES = (
    "payee_requirements bank_changed first_payout minimum receivable platform_funds "
    "amount_changed provider_refused dispute_amount sanctions"
)
INBOX_STATES = "stored parked applied ignored broken"

TABLES = (
    "state_rule",
    "external_call",
    "payee",
    "funding",
    "payout",
    "payout_move",
    "payout_hold",
    "transfer",
    "stripe_event",
)
FUNCTIONS = ("guard_state", "keep_asked", "keep_payout", "want_move")


def upgrade() -> None:
    _calls()
    _payees()
    _payouts()
    _inbox()
    for machine, steps in (("external_call", CALL_STEPS), ("payout", PAYOUT_STEPS)):
        for step in steps.split(","):
            source, target = step.split()
            op.execute(
                "insert into payouts.state_rule (machine, from_state, to_state) values "
                f"('{machine}', '{source.strip(chr(39))}', '{target}')"
            )
    op.execute(RULES.read_text())
    _grants()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table, schema="payouts")
    for function in FUNCTIONS:
        op.execute(f"drop function payouts.{function}()")


def _one_of(table: str, column: str, values: str) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values.split())
    return sa.CheckConstraint(f"{column} in ({listed})", name=f"ck_{table}_{column}")


def _id() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, nullable=False)


def _calls() -> None:
    op.create_table(
        "state_rule",
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("from_state", sa.Text, nullable=False),
        sa.Column("to_state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("machine", "from_state", "to_state", name="pk_state_rule"),
        schema="payouts",
    )
    op.create_table(
        "external_call",
        _id(),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("natural_key", sa.Text, nullable=False),
        sa.Column("attempt", sa.SmallInteger, nullable=False),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("params_sha256", sa.Text, nullable=False),
        sa.Column("planned_at", TIME, nullable=False),
        sa.Column("next_try_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("fencing", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("leased_until", TIME),
        sa.Column("tries", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("server_errors", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("first_sent_at", TIME),
        sa.Column("last_sent_at", TIME),
        sa.Column("http_status", sa.SmallInteger),
        sa.Column("request_id", sa.Text),
        sa.Column("object_id", sa.Text),
        sa.Column("answer", sa.Text),
        sa.Column("error_code", sa.Text),
        sa.Column("error_text", sa.Text),
        sa.Column("answered_at", TIME),
        sa.Column("lookups", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("last_lookup_at", TIME),
        sa.Column("approved_by", sa.Uuid),
        sa.Column("approval", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_external_call"),
        sa.UniqueConstraint("natural_key", "attempt", name="uq_external_call_natural_key_attempt"),
        _one_of("external_call", "operation", OPERATIONS),
        _one_of("external_call", "state", CALL_STATES),
        sa.CheckConstraint("attempt >= 1", name="ck_external_call_attempt"),
        sa.CheckConstraint(
            "state <> 'confirmed' or object_id is not null", name="ck_external_call_confirmed"
        ),
        schema="payouts",
    )
    op.create_index(
        "ix_external_call_subject_id", "external_call", ["subject_id"], schema="payouts"
    )
    op.create_index(
        "ix_external_call_open",
        "external_call",
        ["next_try_at"],
        schema="payouts",
        postgresql_where=sa.text("state in ('planned', 'sent', 'unknown')"),
    )


def _payees() -> None:
    op.create_table(
        "payee",
        _id(),
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("country", sa.Text, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("account_call_id", sa.Uuid),
        sa.Column("account_id", sa.Text),
        sa.Column("transfers_status", sa.Text, nullable=False, server_default="unknown"),
        sa.Column("requirements", ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("is_closed", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column(
            "destination_version", sa.BigInteger, nullable=False, server_default=sa.text("0")
        ),
        sa.Column("bank_changed_at", TIME),
        sa.Column("fetched_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_payee"),
        sa.UniqueConstraint("owner_id", name="uq_payee_owner_id"),
        sa.UniqueConstraint("account_id", name="uq_payee_account_id"),
        sa.ForeignKeyConstraint(
            ["account_call_id"], ["payouts.external_call.id"], name="fk_payee_account_call_id"
        ),
        sa.CheckConstraint("country ~ '^[A-Z]{2}$'", name="ck_payee_country"),
        schema="payouts",
    )
    op.create_table(
        "funding",
        _id(),
        sa.Column("lab_id", sa.Uuid, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("planned_at", TIME, nullable=False),
        sa.Column("call_id", sa.Uuid, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("payment_intent_id", sa.Text),
        sa.Column("charge_id", sa.Text),
        sa.Column("transaction_id", sa.Text),
        sa.Column("fee_minor", sa.BigInteger),
        sa.Column("refunded_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("failure_code", sa.Text),
        sa.Column("failure_text", sa.Text),
        sa.Column("settled_at", TIME),
        sa.PrimaryKeyConstraint("id", name="pk_funding"),
        sa.UniqueConstraint("payment_intent_id", name="uq_funding_payment_intent_id"),
        sa.ForeignKeyConstraint(
            ["call_id"], ["payouts.external_call.id"], name="fk_funding_call_id"
        ),
        _one_of("funding", "state", FUNDING_STATES),
        sa.CheckConstraint("amount_minor > 0", name="ck_funding_amount"),
        sa.CheckConstraint("refunded_minor between 0 and amount_minor", name="ck_funding_refunded"),
        schema="payouts",
    )
    op.create_index("ix_funding_lab_id", "funding", ["lab_id"], schema="payouts")


def _payouts() -> None:
    op.create_table(
        "payout",
        _id(),
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("period_end", sa.Date, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("opened_at", TIME, nullable=False),
        sa.Column("state_at", TIME, nullable=False),
        sa.Column("reason_code", sa.Text, nullable=False, server_default="weekly"),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempt", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("reservation_key", sa.Text),
        sa.Column("destination", sa.Text),
        sa.Column("destination_version", sa.BigInteger),
        sa.Column("call_id", sa.Uuid),
        sa.Column("stripe_payout_id", sa.Text),
        sa.Column("failure_code", sa.Text),
        sa.Column("failure_text", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_payout"),
        sa.UniqueConstraint(
            "owner_id",
            "currency",
            "period_end",
            "reason_code",
            name="uq_payout_owner_id_currency_period_end_reason_code",
        ),
        sa.ForeignKeyConstraint(
            ["call_id"], ["payouts.external_call.id"], name="fk_payout_call_id"
        ),
        _one_of("payout", "state", PAYOUT_STATES),
        sa.CheckConstraint("amount_minor > 0", name="ck_payout_amount"),
        schema="payouts",
    )
    op.create_index("ix_payout_stripe_payout_id", "payout", ["stripe_payout_id"], schema="payouts")
    op.create_index(
        "ix_payout_held",
        "payout",
        ["state_at"],
        schema="payouts",
        postgresql_where=sa.text("state in ('held', 'batched')"),
    )
    op.create_table(
        "payout_move",
        _id(),
        sa.Column("payout_id", sa.Uuid, nullable=False),
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("number", sa.SmallInteger, nullable=False),
        sa.Column("from_state", sa.Text, nullable=False),
        sa.Column("to_state", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor_id", sa.Uuid),
        sa.Column("reason_code", sa.Text, nullable=False, server_default=""),
        sa.Column("note", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_payout_move"),
        sa.UniqueConstraint("payout_id", "number", name="uq_payout_move_payout_id_number"),
        sa.ForeignKeyConstraint(
            ["payout_id"], ["payouts.payout.id"], name="fk_payout_move_payout_id"
        ),
        schema="payouts",
    )
    op.create_table(
        "payout_hold",
        _id(),
        sa.Column("payout_id", sa.Uuid, nullable=False),
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("acts", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("placed_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("placed_by", sa.Uuid),
        sa.Column("escalated_at", TIME),
        sa.Column("cleared_at", TIME),
        sa.Column("cleared_by", sa.Uuid),
        sa.Column("clear_note", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_payout_hold"),
        sa.ForeignKeyConstraint(
            ["payout_id"], ["payouts.payout.id"], name="fk_payout_hold_payout_id"
        ),
        _one_of("payout_hold", "code", HOLD_CODES),
        _one_of("payout_hold", "acts", "expert platform time"),
        schema="payouts",
    )
    op.create_index(
        "ix_payout_hold_payout_id_code",
        "payout_hold",
        ["payout_id", "code"],
        unique=True,
        schema="payouts",
        postgresql_where=sa.text("cleared_at is null"),
    )
    op.create_table(
        "transfer",
        _id(),
        sa.Column("payout_id", sa.Uuid, nullable=False),
        sa.Column("owner_id", sa.Uuid, nullable=False),
        sa.Column("call_id", sa.Uuid, nullable=False),
        sa.Column("stripe_id", sa.Text, nullable=False),
        sa.Column("destination", sa.Text, nullable=False),
        sa.Column("destination_payment", sa.Text),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("reversed_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("id", name="pk_transfer"),
        sa.UniqueConstraint("call_id", name="uq_transfer_call_id"),
        sa.UniqueConstraint("stripe_id", name="uq_transfer_stripe_id"),
        sa.UniqueConstraint("destination_payment", name="uq_transfer_destination_payment"),
        sa.ForeignKeyConstraint(["payout_id"], ["payouts.payout.id"], name="fk_transfer_payout_id"),
        sa.ForeignKeyConstraint(
            ["call_id"], ["payouts.external_call.id"], name="fk_transfer_call_id"
        ),
        sa.CheckConstraint("amount_minor > 0", name="ck_transfer_amount"),
        sa.CheckConstraint(
            "reversed_minor between 0 and amount_minor", name="ck_transfer_reversed"
        ),
        schema="payouts",
    )
    op.create_index(
        "uq_transfer_live",
        "transfer",
        ["payout_id"],
        unique=True,
        schema="payouts",
        postgresql_where=sa.text("reversed_minor < amount_minor"),
    )


def _inbox() -> None:
    op.create_table(
        "stripe_event",
        _id(),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("account", sa.Text),
        sa.Column("object_id", sa.Text),
        sa.Column("api_version", sa.Text),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("next_try_at", TIME, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("tries", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("applied_at", TIME),
        sa.Column("note", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_stripe_event"),
        sa.UniqueConstraint("endpoint", "event_id", name="uq_stripe_event_endpoint_event_id"),
        _one_of("stripe_event", "state", INBOX_STATES),
        _one_of("stripe_event", "endpoint", "snapshot thin"),
        schema="payouts",
    )
    op.create_index(
        "ix_stripe_event_open",
        "stripe_event",
        ["next_try_at"],
        schema="payouts",
        postgresql_where=sa.text("state in ('stored', 'parked')"),
    )


def _grants() -> None:
    rights = {
        "state_rule": "select",
        "payout_move": "select, insert",
        # The bytes of a webhook stay as they came.
        "stripe_event": "select, insert, update (state, tries, next_try_at, applied_at, note)",
    }
    for table in TABLES:
        name = f"payouts.{table}"
        guard_rows(name)
        platform_may(name, rights.get(table, "select, insert, update"))
    append_only("payouts.payout_move")
    for table in ("payee", "payout", "payout_move", "payout_hold", "transfer"):
        tenant_may(f"payouts.{table}", EXPERT, "select", "owner_id = market.tenant()")
