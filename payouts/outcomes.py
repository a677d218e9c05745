"""What the answers to calls mean, each written in the transaction that stores it.

A yes is booked; a definite no gives the money back; anything else leaves it reserved, and is sent
again under the same key with the same body for an hour, then only looked up (PAYOUTS, section 10).
Many answers are stored at once: those that mean the same are booked in the same few statements.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias
from uuid import UUID

from sqlalchemy.orm import Session

from payouts import (
    disputes,
    funding,
    invoice_calls,
    payees,
    platform_payouts,
    refunds,
    reversals,
    wire,
)
from payouts.bucket import PLATFORM, WriteRate, hold_back
from payouts.calls import (
    Answer,
    Answered,
    Fact,
    FactKind,
    Operation,
    Refusal,
    Tell,
    canonical,
    locked_call,
    locked_calls,
)
from payouts.errors import CallNotOpen, GatewayKeyMisused, GatewayKeyRejected, GatewayUnknown
from payouts.holds import HoldPolicy
from payouts.models import ExternalCall
from payouts.states import CallOperation, CallState

Begin: TypeAlias = Callable[[], AbstractContextManager[Session]]
Now: TypeAlias = Callable[[], datetime]

OPERATIONS: dict[CallOperation, Operation] = {
    **payees.OPERATIONS,
    **funding.OPERATIONS,
    **refunds.OPERATIONS,
    **invoice_calls.OPERATIONS,
    **wire.OPERATIONS,
    **reversals.OPERATIONS,
    **disputes.OPERATIONS,
    **platform_payouts.OPERATIONS,
}

RETRY_FOR = timedelta(hours=1)
SERVER_ERRORS = 2
"""After so many answers of 5xx the key is spent: Stripe repeats them for it."""
UNAUTHORIZED = 401
TOO_MANY = 429
LOCK_TIMEOUT = "lock_timeout"
HELD_BACK = timedelta(seconds=1)
"""How long everybody waits after an answer of 429 that does not say how long."""


class Result(StrEnum):
    """What came of one try to make, or to find, a call."""

    CONFIRMED = "confirmed"
    REFUSED = "refused"
    TRY_LATER = "try_later"
    BUSY = "busy"
    UNKNOWN = "unknown"
    NOT_FOUND = "not_found"


OVER = {
    CallState.CONFIRMED: Result.CONFIRMED,
    CallState.REFUSED: Result.REFUSED,
    CallState.UNKNOWN: Result.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How a call stands after a try, and what happened because of it.

    `retry_at` says when to try again; without one there is nothing more for a machine to do, or
    (`unknown`) only `resolve_unknown`.
    """

    call_id: UUID
    operation: CallOperation
    subject_id: UUID
    result: Result
    retry_at: datetime | None = None
    text: str = ""
    link_url: str = ""
    facts: tuple[Fact, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class NeverSent:
    """A call that its sender leased and let go again."""


Said: TypeAlias = "Answer | Refusal | GatewayUnknown | GatewayKeyMisused | GatewayKeyRejected"


@dataclass(frozen=True, slots=True)
class Heard:
    """A call as it stood when it was leased, and what came of it; its fencing number proves the
    lease.
    """

    call: ExternalCall
    said: "Said | NeverSent"


def outcome_of(
    call: ExternalCall,
    result: Result,
    facts: Sequence[Fact] = (),
    *,
    retry_at: datetime | None = None,
    text: str = "",
    link_url: str = "",
) -> CallOutcome:
    """How a call stands, in the words of whoever asked for it."""
    return CallOutcome(
        call_id=call.id,
        operation=call.operation,
        subject_id=call.subject_id,
        result=result,
        retry_at=retry_at,
        text=text,
        link_url=link_url,
        facts=tuple(facts),
    )


def settle(
    session: Session,
    heard: Sequence[Heard],
    at: datetime,
    *,
    tell: Tell,
    policy: HoldPolicy,
    rate: WriteRate,
) -> list[CallOutcome]:
    """Store what came of some calls, with all that follows from it.

    Raises:
        CallNotOpen: one was refused by a person meanwhile, and exists at Stripe all the same.
    """
    calls = locked_calls(session, [one.call.id for one in heard])
    yes = [(calls[one.call.id], one.said) for one in heard if isinstance(one.said, Answer)]
    outcomes = record_answers(session, yes, at, tell)
    for one in heard:
        call, said = calls[one.call.id], one.said
        if isinstance(said, Answer):
            continue
        if call.state != CallState.SENT or call.fencing != one.call.fencing:
            # Another sender took over, or a webhook told what came of it.
            outcomes.append(outcome_of(call, OVER.get(call.state, Result.BUSY)))
        elif isinstance(said, Refusal):
            outcomes.append(refuse(session, call, said, at, tell, policy))
        elif isinstance(said, GatewayUnknown):
            outcomes.append(_try_later(session, call, said, at, tell, rate))
        elif isinstance(said, GatewayKeyMisused):
            call.error_code = "idempotency_error"
            call.answered_at = at
            outcomes.append(becomes_unknown(session, call, said.text, tell))
        else:
            outcomes.append(_put_back(session, call, said, at))
    return outcomes


def record_answers(
    session: Session, answered: Sequence[Answered], at: datetime, tell: Tell
) -> list[CallOutcome]:
    """Store every yes with what it means in the books; whoever comes second changes nothing.

    Raises:
        CallNotOpen.
    """
    fresh: dict[CallOperation, list[Answered]] = {}
    for call, answer in answered:
        if call.state == CallState.REFUSED:
            # Somebody has given the money back meanwhile; a person has to see both.
            raise CallNotOpen(call.id, f"was refused, and {answer.object_id} exists")
        if call.state == CallState.CONFIRMED:
            continue
        fresh.setdefault(call.operation, []).append((call, answer))
        call.state = CallState.CONFIRMED
        call.object_id = answer.object_id
        call.answer = canonical(answer.summary)
        call.http_status = 200
        call.answered_at = at
        call.leased_until = None
        call.error_code = call.error_text = None
    session.flush()
    facts: dict[UUID, list[Fact]] = {}
    for operation, group in fresh.items():
        record_all = OPERATIONS[operation].record_all
        if record_all is not None:
            facts |= record_all(session, group, at)
            continue
        for call, answer in group:
            facts[call.id] = answer.record(session, call, at) if answer.record else []
    tell(session, [fact for found in facts.values() for fact in found])
    return [
        outcome_of(call, Result.CONFIRMED, facts.get(call.id, ()), link_url=answer.link_url)
        for call, answer in answered
    ]


def confirm_call(
    session: Session, call_id: UUID, answer: Answer, at: datetime, tell: Tell
) -> CallOutcome:
    """Record a yes that came another way: found by looking, or told by a webhook."""
    return record_answers(session, [(locked_call(session, call_id), answer)], at, tell)[0]


def refuse(
    session: Session,
    call: ExternalCall,
    refusal: Refusal,
    at: datetime,
    tell: Tell,
    policy: HoldPolicy,
) -> CallOutcome:
    """Store a definite no together with the money it gives back; the call is locked."""
    call.state = CallState.REFUSED
    call.http_status = refusal.status
    call.request_id = refusal.request_id or None
    call.error_code, call.error_text = refusal.code, refusal.text
    call.answered_at = at
    call.leased_until = None
    session.flush()
    refused = OPERATIONS[call.operation].refused
    facts = refused(session, call, refusal, at, policy) if refused else []
    tell(session, facts)
    return outcome_of(call, Result.REFUSED, facts, text=refusal.text)


def _try_later(
    session: Session,
    call: ExternalCall,
    error: GatewayUnknown,
    at: datetime,
    tell: Tell,
    rate: WriteRate,
) -> CallOutcome:
    """Nobody can tell: again under the same key, later each time, or only look from now on.

    What Stripe asks for in `Retry-After` is kept; and when it was one write too many, every
    other sender waits too. A lock of Stripe's on one object (`lock_timeout`) concerns only it.
    """
    call.http_status = error.status
    call.request_id = error.request_id or None
    call.error_code, call.error_text = "outcome_unknown", error.reason
    call.leased_until = None
    if error.status is not None and error.status >= 500:
        call.server_errors += 1
    first = call.first_sent_at or at
    if call.server_errors >= SERVER_ERRORS or at - first >= RETRY_FOR:
        return becomes_unknown(session, call, error.reason, tell)
    wait = min(2.0**call.tries, 300.0)
    # Spread out, so that many calls that failed together do not come back together.
    pause = timedelta(seconds=wait / 2 + random.uniform(0, wait / 2))  # noqa: S311
    asked = timedelta(seconds=error.retry_after_s or 0)
    call.next_try_at = at + max(pause, asked)
    if error.status == TOO_MANY and error.reason != LOCK_TIMEOUT:
        hold_back(session, until=at + max(asked, HELD_BACK), rate=rate, account=PLATFORM)
    session.flush()
    return outcome_of(call, Result.TRY_LATER, retry_at=call.next_try_at, text=error.reason)


def becomes_unknown(session: Session, call: ExternalCall, text: str, tell: Tell) -> CallOutcome:
    """Never sent again; its money stays reserved until somebody has looked."""
    call.state = CallState.UNKNOWN
    call.leased_until = None
    call.error_text = text
    session.flush()
    fact = Fact(FactKind.CALL_UNKNOWN, call.id, call.subject_id, text=text)
    tell(session, [fact])
    return outcome_of(call, Result.UNKNOWN, [fact], text=text)


def _put_back(
    session: Session, call: ExternalCall, said: "GatewayKeyRejected | NeverSent", at: datetime
) -> CallOutcome:
    """Nothing was done: as if it had not been sent this time."""
    call.leased_until = None
    # So that the first real sending is still the one that we may refuse ourselves.
    call.tries -= 1
    if isinstance(said, GatewayKeyRejected):
        call.http_status = UNAUTHORIZED
        call.error_code = "api_key_rejected"
    session.flush()
    return outcome_of(call, Result.TRY_LATER, retry_at=at, text="it was not sent")
