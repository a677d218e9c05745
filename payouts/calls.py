"""Writes to Stripe as rows: planned in the transaction that needs them, made outside of any.

`payouts.sender` makes them; this file says what a plan is, what an answer is, and what the rest of
the service learns from one.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

from sqlalchemy import or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from payouts.errors import CallConflict, UnknownCall
from payouts.models import ExternalCall
from payouts.states import CallOperation, CallState

if TYPE_CHECKING:
    from payouts.errors import GatewayRefused
    from payouts.gateway import Gateway
    from payouts.holds import HoldPolicy, Reason

ParamValue: TypeAlias = "str | int | bool | Sequence[ParamValue] | Mapping[str, ParamValue]"
Params: TypeAlias = Mapping[str, ParamValue]
"""What a write says: no nulls and no floats, since Stripe's library drops the ones and sends the
others."""

RESEND_FOR = timedelta(hours=20)
"""How long after the first sending a key may be sent again; Stripe may forget it after 24 hours."""


LOOK_BACK = timedelta(minutes=5)
"""How far before the first sending a look-up begins, for clocks that differ."""


class FactKind(StrEnum):
    """What happened, in terms of money."""

    PAYEE_OPENED = "payee_opened"
    PAYEE_READY = "payee_ready"
    PAYEE_NOT_READY = "payee_not_ready"
    FUNDING_PROCESSING = "funding_processing"
    FUNDING_RECEIVED = "funding_received"
    FUNDING_SETTLED = "funding_settled"
    FUNDING_FAILED = "funding_failed"
    FUNDING_INVOICED = "funding_invoiced"
    FUNDING_OVERDUE = "funding_overdue"
    REFUND_SENT = "refund_sent"
    REFUND_REFUSED = "refund_refused"
    PAYOUT_BATCHED = "payout_batched"
    PAYOUT_HELD = "payout_held"
    PAYOUT_HOLD_ESCALATED = "payout_hold_escalated"
    PAYOUT_TRANSFERRED = "payout_transferred"
    PAYOUT_ON_ITS_WAY = "payout_on_its_way"
    PAYOUT_PAID = "payout_paid"
    PAYOUT_FAILED = "payout_failed"
    PAYOUT_RETURNED = "payout_returned"
    PAYOUT_CANCELLED = "payout_cancelled"
    PAYOUT_REVERSED = "payout_reversed"
    CALL_UNKNOWN = "call_unknown"
    EVENT_BROKEN = "event_broken"
    PAYOUT_WITHDRAWN = "payout_withdrawn"
    PAYOUT_RECALLED = "payout_recalled"
    DISPUTE_OPENED = "dispute_opened"
    DISPUTE_WON = "dispute_won"
    DISPUTE_LOST = "dispute_lost"
    DISPUTE_CLOSED = "dispute_closed"
    DISPUTE_ANSWERED = "dispute_answered"
    PLATFORM_PAYOUT_SENT = "platform_payout_sent"
    PLATFORM_PAYOUT_PAID = "platform_payout_paid"
    PLATFORM_PAYOUT_FAILED = "platform_payout_failed"


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that happened: to which funding, payout, payee or call, and whose it is."""

    kind: FactKind
    subject_id: UUID
    owner_id: UUID
    amount_minor: int = 0
    currency: str = ""
    text: str = ""


Tell: TypeAlias = Callable[[Session, Sequence[Fact]], None]
"""Called inside the transaction that made the facts, so that no event about them can be lost."""


def tell_nobody(session: Session, facts: Sequence[Fact]) -> None:
    """For callers who read the returned facts instead."""
    del session, facts


@dataclass(frozen=True, slots=True)
class Answer:
    """Stripe's yes: the object it made, a summary to keep, and what follows in our books."""

    object_id: str
    summary: Params
    record: Callable[[Session, ExternalCall, datetime], list[Fact]] | None = None
    link_url: str = ""


SHORT_OF_FUNDS = ("balance_insufficient", "insufficient_funds")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A definite no, Stripe's or our own before sending; `hold` is what the payout then waits for,
    where the code alone does not say it.
    """

    code: str
    text: str
    status: int | None = None
    request_id: str = ""
    hold: "Reason | None" = None

    @property
    def stops_others(self) -> bool:
        """Whether what was to be sent next would be refused as well."""
        return self.code in SHORT_OF_FUNDS


Answered: TypeAlias = tuple[ExternalCall, Answer]
"""A call and the yes that it got."""

Refused: TypeAlias = "Callable[[Session, ExternalCall, Refusal, datetime, HoldPolicy], list[Fact]]"
"""Gives back what a refused write had reserved, and says what waits for what."""


Before: TypeAlias = Callable[[Session, Sequence[ExternalCall], datetime], dict[UUID, Refusal]]
RecordAll: TypeAlias = Callable[[Session, Sequence[Answered], datetime], dict[UUID, list[Fact]]]


@dataclass(frozen=True, slots=True)
class Operation:
    """How one kind of write is made, recorded, refused, and looked up when nobody can tell.

    `before` runs with the leases of some calls, in their transaction; `check` reads Stripe just
    before sending; both may refuse, the former by the ids of the calls. `record_all` books many
    answers together, where an answer does not say itself how it is recorded; what happened is told
    by the calls' ids. `look_up` finds what an earlier sending made, by what it carried.
    """

    perform: "Callable[[Gateway, ExternalCall], Answer]"
    refused: "Refused | None" = None
    look_up: "Callable[[Gateway, ExternalCall], Answer | None] | None" = None
    before: Before | None = None
    record_all: RecordAll | None = None
    check: "Callable[[Gateway, ExternalCall], Refusal | None] | None" = None


def canonical(params: Params) -> str:
    """The one spelling of a write's parameters.

    Raises:
        TypeError: a null, a float or an object of ours is among them.
    """

    def checked(value: object) -> object:
        if isinstance(value, Mapping):
            return {str(key): checked(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [checked(inner) for inner in value]
        if type(value) in (str, int, bool):
            return value
        raise TypeError(f"{value!r} cannot be sent")

    return json.dumps(checked(params), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def params_of(call: ExternalCall) -> Params:
    """What was committed, to be sent as it is."""
    params: Params = json.loads(call.params)
    return params


@dataclass(frozen=True, slots=True)
class Plan:
    """A write to be made once for a natural key and attempt, and what it says."""

    operation: CallOperation
    natural_key: str
    subject_id: UUID
    params: Params
    attempt: int = 1


def plan_call(
    session: Session,
    *,
    operation: CallOperation,
    natural_key: str,
    subject_id: UUID,
    params: Params,
    at: datetime,
    attempt: int = 1,
) -> ExternalCall:
    """Write down what will be asked of Stripe, once for a natural key and attempt.

    Planned again with the same parameters it is the call that exists.

    Raises:
        CallConflict: it exists and asks for something else.
    """
    plan = Plan(operation, natural_key, subject_id, params, attempt)
    return plan_calls(session, [plan], at=at)[0]


def plan_calls(session: Session, plans: Sequence[Plan], *, at: datetime) -> list[ExternalCall]:
    """Write down many calls at once, as `plan_call` does each.

    Raises:
        CallConflict.
    """
    if not plans:
        return []
    rows = []
    for plan in plans:
        spelled = canonical(plan.params)
        rows.append(
            {
                "id": uuid7(),
                "operation": plan.operation,
                "natural_key": plan.natural_key,
                "attempt": plan.attempt,
                "subject_id": plan.subject_id,
                "params": spelled,
                "params_sha256": hashlib.sha256(spelled.encode()).hexdigest(),
                "planned_at": at,
                "next_try_at": at,
                "state": CallState.PLANNED,
            }
        )
    made = session.scalars(
        insert(ExternalCall).on_conflict_do_nothing().returning(ExternalCall), rows
    )
    found = {(call.natural_key, call.attempt): call for call in made}
    asked = [(plan.natural_key, plan.attempt) for plan in plans]
    if kept := [key for key in asked if key not in found]:
        there = select(ExternalCall).where(
            tuple_(ExternalCall.natural_key, ExternalCall.attempt).in_(kept)
        )
        found |= {(call.natural_key, call.attempt): call for call in session.scalars(there)}
    for row, key in zip(rows, asked, strict=True):
        call = found[key]
        if call.params_sha256 != row["params_sha256"] or call.operation != row["operation"]:
            raise CallConflict(call.natural_key)
    return [found[key] for key in asked]


def locked_call(session: Session, call_id: UUID) -> ExternalCall:
    """The call, held against other senders until the transaction ends.

    Raises:
        UnknownCall.
    """
    call = session.get(ExternalCall, call_id, with_for_update=True, populate_existing=True)
    if call is None:
        raise UnknownCall(call_id)
    return call


def locked_calls(session: Session, call_ids: Sequence[UUID]) -> dict[UUID, ExternalCall]:
    """Many calls, held against other senders until the transaction ends."""
    found = session.scalars(
        select(ExternalCall)
        .where(ExternalCall.id.in_(call_ids))
        .order_by(ExternalCall.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {call.id: call for call in found}


def next_transfers(session: Session, at: datetime, *, limit: int) -> list[ExternalCall]:
    """Transfers that were planned, never sent, and that nobody else is at; oldest first, locked."""
    return list(
        session.scalars(
            select(ExternalCall)
            .where(
                ExternalCall.operation == CallOperation.TRANSFER,
                ExternalCall.state == CallState.PLANNED,
                ExternalCall.next_try_at <= at,
            )
            .order_by(ExternalCall.next_try_at, ExternalCall.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
            .execution_options(populate_existing=True)
        )
    )


def due_calls(session: Session, at: datetime, *, limit: int = 100) -> list[UUID]:
    """Calls that somebody should make or make again, oldest plan first.

    A job was queued for each when it was planned; this finds those whose job was lost.
    """
    return list(
        session.scalars(
            select(ExternalCall.id)
            .where(
                ExternalCall.state.in_((CallState.PLANNED, CallState.SENT)),
                ExternalCall.next_try_at <= at,
                or_(ExternalCall.leased_until.is_(None), ExternalCall.leased_until <= at),
            )
            .order_by(ExternalCall.planned_at, ExternalCall.id)
            .limit(limit)
        )
    )


def unknown_calls(session: Session, *, limit: int = 100) -> list[UUID]:
    """Calls whose outcome nobody can tell yet, each wants `resolve_unknown`; first what was not
    looked for the longest, so that those which a person has to decide hold up no others.
    """
    return list(
        session.scalars(
            select(ExternalCall.id)
            .where(ExternalCall.state == CallState.UNKNOWN)
            .order_by(
                ExternalCall.last_lookup_at.nulls_first(), ExternalCall.planned_at, ExternalCall.id
            )
            .limit(limit)
        )
    )


def refusal_of(error: "GatewayRefused") -> Refusal:
    """Stripe's no as a fact."""
    return Refusal(error.code, error.text, error.status, error.request_id)
