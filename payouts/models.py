"""What every table of the schema `payouts` is made of; calls, payees, fundings, payouts, webhooks.

Triggers and constraints hold the rules, so that a mistake in the application, or a hand at the SQL
prompt, is refused too.
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column
from uuid_utils.compat import uuid7

from payouts.states import (
    CallOperation,
    CallState,
    FundingState,
    HoldCode,
    HoldOwner,
    InboxState,
    PayoutState,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

DATABASE_TIME = text("clock_timestamp()")
"""The database's own clock, for when a row was recorded; business time is always given."""


class Base(MappedAsDataclass, DeclarativeBase, kw_only=True):
    """A table of the schema `payouts`; rows are dataclasses."""

    metadata = MetaData(schema="payouts", naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        int: BigInteger(),
        bytes: LargeBinary(),
        datetime: DateTime(timezone=True),
    }


def one_of(column: str, values: type[StrEnum], name: str | None = None) -> CheckConstraint:
    """A check that a text column holds one of an enumeration's values."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} in ({listed})", name=name or column)


class StateRule(Base, kw_only=True):
    """One step that a payout or a call may take, for the triggers that refuse every other."""

    __tablename__ = "state_rule"

    machine: Mapped[str] = mapped_column(primary_key=True)
    from_state: Mapped[str] = mapped_column(primary_key=True)
    to_state: Mapped[str] = mapped_column(primary_key=True)


class ExternalCall(Base, kw_only=True):
    """A write to Stripe, committed before it is made; its id is the idempotency key.

    What is asked (operation, natural key, parameters) never changes once it is there, so that a
    key is only ever sent with one body. The lease keeps two senders apart, and the fencing number
    tells a sender that lost its lease that another took over.
    """

    __tablename__ = "external_call"
    __table_args__ = (
        UniqueConstraint("natural_key", "attempt"),
        one_of("operation", CallOperation),
        one_of("state", CallState),
        CheckConstraint("attempt >= 1", name="attempt"),
        CheckConstraint("state <> 'confirmed' or object_id is not null", name="confirmed"),
        Index(None, "subject_id"),
        Index(
            "ix_external_call_open",
            "next_try_at",
            postgresql_where=text("state in ('planned', 'sent', 'unknown')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    operation: Mapped[CallOperation] = mapped_column(Text)
    natural_key: Mapped[str]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    subject_id: Mapped[UUID]
    params: Mapped[str]
    params_sha256: Mapped[str]
    planned_at: Mapped[datetime]
    next_try_at: Mapped[datetime]
    state: Mapped[CallState] = mapped_column(Text, default=CallState.PLANNED)
    fencing: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    leased_until: Mapped[datetime | None] = mapped_column(default=None)
    tries: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    server_errors: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    first_sent_at: Mapped[datetime | None] = mapped_column(default=None)
    last_sent_at: Mapped[datetime | None] = mapped_column(default=None)
    http_status: Mapped[int | None] = mapped_column(SmallInteger, default=None)
    request_id: Mapped[str | None] = mapped_column(default=None)
    object_id: Mapped[str | None] = mapped_column(default=None)
    answer: Mapped[str | None] = mapped_column(default=None)
    error_code: Mapped[str | None] = mapped_column(default=None)
    error_text: Mapped[str | None] = mapped_column(default=None)
    answered_at: Mapped[datetime | None] = mapped_column(default=None)
    lookups: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    last_lookup_at: Mapped[datetime | None] = mapped_column(default=None)
    approved_by: Mapped[UUID | None] = mapped_column(default=None)
    approval: Mapped[str | None] = mapped_column(default=None)


class Payee(Base, kw_only=True):
    """Someone who can be paid: their connected account, and what Stripe still asks of them.

    `requirements` are Stripe's own names of what the payee has to give; `payouts.payees` puts
    them into words. `destination_version` grows with every change of the bank account.
    """

    __tablename__ = "payee"
    __table_args__ = (CheckConstraint("country ~ '^[A-Z]{2}$'", name="country"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    owner_id: Mapped[UUID] = mapped_column(unique=True)
    country: Mapped[str]
    created_at: Mapped[datetime]
    account_call_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("payouts.external_call.id"), default=None
    )
    account_id: Mapped[str | None] = mapped_column(unique=True, default=None)
    transfers_status: Mapped[str] = mapped_column(server_default="unknown", default="unknown")
    requirements: Mapped[list[str]] = mapped_column(
        ARRAY(Text), server_default=text("'{}'"), default_factory=list
    )
    is_closed: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    is_leaving: Mapped[bool] = mapped_column(server_default=text("false"), default=False)
    """Whether all that is owed is to be sent, however little it is."""
    destination_version: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    bank_changed_at: Mapped[datetime | None] = mapped_column(default=None)
    fetched_at: Mapped[datetime | None] = mapped_column(default=None)
    events_listed_at: Mapped[datetime | None] = mapped_column(default=None)


class Funding(Base, kw_only=True):
    """Money that a lab pays in; its id is the caller's own."""

    __tablename__ = "funding"
    __table_args__ = (
        one_of("state", FundingState),
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint("refunded_minor between 0 and amount_minor", name="refunded"),
        Index(None, "lab_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    lab_id: Mapped[UUID]
    currency: Mapped[str]
    amount_minor: Mapped[int]
    planned_at: Mapped[datetime]
    call_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.external_call.id"))
    state: Mapped[FundingState] = mapped_column(Text, default=FundingState.PLANNED)
    payment_intent_id: Mapped[str | None] = mapped_column(unique=True, default=None)
    charge_id: Mapped[str | None] = mapped_column(default=None)
    transaction_id: Mapped[str | None] = mapped_column(default=None)
    fee_minor: Mapped[int | None] = mapped_column(default=None)
    refunded_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    failure_code: Mapped[str | None] = mapped_column(default=None)
    failure_text: Mapped[str | None] = mapped_column(default=None)
    settled_at: Mapped[datetime | None] = mapped_column(default=None)


class Payout(Base, kw_only=True):
    """What one expert is paid for one period, from their earnings to their bank.

    The destination is pinned when the transfer is planned. `reservation_key` names the pending
    journal entry that keeps the money for this payout, and is null once it was posted or voided.
    """

    __tablename__ = "payout"
    __table_args__ = (
        # One for each period and reason; one that was withdrawn or recalled makes room.
        Index(
            "uq_payout_period",
            "owner_id",
            "currency",
            "period_end",
            "reason_code",
            unique=True,
            postgresql_where=text("state <> 'cancelled'"),
        ),
        one_of("state", PayoutState),
        Index(None, "run_id", postgresql_where=text("run_id is not null")),
        CheckConstraint("amount_minor > 0", name="amount"),
        Index(None, "stripe_payout_id"),
        Index("ix_payout_held", "state_at", postgresql_where=text("state in ('held', 'batched')")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    owner_id: Mapped[UUID]
    currency: Mapped[str]
    period_end: Mapped[date]
    amount_minor: Mapped[int]
    opened_at: Mapped[datetime]
    state_at: Mapped[datetime]
    reason_code: Mapped[str] = mapped_column(server_default="weekly", default="weekly")
    state: Mapped[PayoutState] = mapped_column(Text, default=PayoutState.ACCRUED)
    attempt: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"), default=0)
    reservation_key: Mapped[str | None] = mapped_column(default=None)
    destination: Mapped[str | None] = mapped_column(default=None)
    destination_version: Mapped[int | None] = mapped_column(default=None)
    call_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("payouts.external_call.id"), default=None
    )
    stripe_payout_id: Mapped[str | None] = mapped_column(default=None)
    failure_code: Mapped[str | None] = mapped_column(default=None)
    failure_text: Mapped[str | None] = mapped_column(default=None)
    run_id: Mapped[UUID | None] = mapped_column(default=None)
    recovered_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)


class PayoutMove(Base, kw_only=True):
    """One step of a payout, never changed; folded in order they give its state."""

    __tablename__ = "payout_move"
    __table_args__ = (UniqueConstraint("payout_id", "number"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    payout_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.payout.id"))
    owner_id: Mapped[UUID]
    number: Mapped[int] = mapped_column(SmallInteger)
    from_state: Mapped[str]
    to_state: Mapped[PayoutState] = mapped_column(Text)
    action: Mapped[str]
    at: Mapped[datetime]
    actor_id: Mapped[UUID | None] = mapped_column(default=None)
    reason_code: Mapped[str] = mapped_column(server_default="", default="")
    note: Mapped[str] = mapped_column(server_default="", default="")


class PayoutHold(Base, kw_only=True):
    """Why a payout waits, who has to act, and the sentence that its expert reads."""

    __tablename__ = "payout_hold"
    __table_args__ = (
        one_of("code", HoldCode),
        one_of("acts", HoldOwner),
        Index(
            None,
            "payout_id",
            "code",
            unique=True,
            postgresql_where=text("cleared_at is null"),
        ),
        Index(
            "ix_payout_hold_short",
            "expires_at",
            postgresql_where=text("code = 'platform_funds' and cleared_at is null"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    payout_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.payout.id"))
    owner_id: Mapped[UUID]
    code: Mapped[HoldCode] = mapped_column(Text)
    acts: Mapped[HoldOwner] = mapped_column(Text)
    text: Mapped[str]
    placed_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    placed_by: Mapped[UUID | None] = mapped_column(default=None)
    escalated_at: Mapped[datetime | None] = mapped_column(default=None)
    cleared_at: Mapped[datetime | None] = mapped_column(default=None)
    cleared_by: Mapped[UUID | None] = mapped_column(default=None)
    clear_note: Mapped[str] = mapped_column(server_default="", default="")


class Transfer(Base, kw_only=True):
    """Money that has moved from the platform's balance at Stripe to a payee's."""

    __tablename__ = "transfer"
    __table_args__ = (
        CheckConstraint("amount_minor > 0", name="amount"),
        CheckConstraint("reversed_minor between 0 and amount_minor", name="reversed"),
        # At most one live transfer for a payout, whatever happened before.
        Index(
            "uq_transfer_live",
            "payout_id",
            unique=True,
            postgresql_where=text("reversed_minor < amount_minor"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    payout_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.payout.id"))
    owner_id: Mapped[UUID]
    call_id: Mapped[UUID] = mapped_column(ForeignKey("payouts.external_call.id"), unique=True)
    stripe_id: Mapped[str] = mapped_column(unique=True)
    destination: Mapped[str]
    destination_payment: Mapped[str | None] = mapped_column(unique=True)
    currency: Mapped[str]
    amount_minor: Mapped[int]
    at: Mapped[datetime]
    reversed_minor: Mapped[int] = mapped_column(server_default=text("0"), default=0)


class StripeEvent(Base, kw_only=True):
    """A webhook as it came, once per endpoint and event id; an event is a hint, never a fact."""

    __tablename__ = "stripe_event"
    __table_args__ = (
        UniqueConstraint("endpoint", "event_id"),
        one_of("state", InboxState),
        CheckConstraint("endpoint in ('snapshot', 'thin')", name="endpoint"),
        Index(
            "ix_stripe_event_open",
            "next_try_at",
            postgresql_where=text("state in ('stored', 'parked')"),
        ),
        Index(
            "ix_stripe_event_object",
            "object_id",
            postgresql_where=text("state in ('stored', 'parked')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default_factory=uuid7)
    endpoint: Mapped[str]
    event_id: Mapped[str]
    type: Mapped[str]
    account: Mapped[str | None]
    object_id: Mapped[str | None]
    api_version: Mapped[str | None]
    payload: Mapped[bytes]
    received_at: Mapped[datetime]
    next_try_at: Mapped[datetime]
    state: Mapped[InboxState] = mapped_column(Text, default=InboxState.STORED)
    tries: Mapped[int] = mapped_column(server_default=text("0"), default=0)
    applied_at: Mapped[datetime | None] = mapped_column(default=None)
    note: Mapped[str] = mapped_column(server_default="", default="")
