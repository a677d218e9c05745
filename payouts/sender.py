"""Makes the planned writes to Stripe: lease, send, record, each in its own transaction or none.

What an answer means (PAYOUTS, section 10): a yes is booked in the transaction that stores it; a
definite no gives the money back; anything else leaves it reserved, and is sent again under the
same key with the same body for an hour, then only looked up. Nothing here ever makes a new key.
"""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

from sqlalchemy.orm import Session

from payouts import disputes, funding, invoice_calls, payees, platform_payouts, wire
from payouts.bucket import PLATFORM, RATE, WriteRate, hold_back, take_place
from payouts.calls import (
    RESEND_FOR,
    Answer,
    Fact,
    FactKind,
    Operation,
    Refusal,
    Tell,
    canonical,
    locked_call,
    refusal_of,
    tell_nobody,
)
from payouts.errors import (
    CallNotOpen,
    GatewayKeyMisused,
    GatewayKeyRejected,
    GatewayRefused,
    GatewayUnknown,
    UnknownCall,
    UnknownPayout,
)
from payouts.holds import HoldPolicy, Reason
from payouts.models import ExternalCall, Payout
from payouts.states import CallOperation, CallState
from payouts.transfers import POLICY, locked_payout, place_hold

if TYPE_CHECKING:
    from payouts.gateway import Gateway

Begin: TypeAlias = Callable[[], AbstractContextManager[Session]]
Now: TypeAlias = Callable[[], datetime]

OPERATIONS: dict[CallOperation, Operation] = {
    **payees.OPERATIONS,
    **funding.OPERATIONS,
    **invoice_calls.OPERATIONS,
    **wire.OPERATIONS,
    **disputes.OPERATIONS,
    **platform_payouts.OPERATIONS,
}

LEASE = timedelta(seconds=60)
"""Longer than the gateway's time-out by far, so that a living sender never loses its lease."""
RETRY_FOR = timedelta(hours=1)
SERVER_ERRORS = 2
"""After so many answers of 5xx the key is spent: Stripe repeats them for it."""
LOOKUPS_APART = timedelta(minutes=10)
LOOKUPS_NEEDED = 2
FORBIDDEN = 403
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
class _Lease:
    """The call as it stood when it was leased, and the number that proves the lease."""

    call: ExternalCall
    fencing: int


def run_call(
    begin: Begin,
    gateway: "Gateway",
    call_id: UUID,
    *,
    now: Now,
    tell: Tell = tell_nobody,
    policy: HoldPolicy = POLICY,
    rate: WriteRate = RATE,
) -> CallOutcome:
    """Make a planned call, or make it again; safe to run twice, at once and after a crash.

    It leaves when the bucket of all processes has a place for it; when that is far away, or Stripe
    has asked to be left alone, the outcome is `try_later`.

    `tell` is called for each fact inside the transaction that records it, so that an outbox can
    keep what follows; the outcome carries the same facts. The call is made outside of any
    transaction.

    Raises:
        UnknownCall.
        GatewayKeyRejected: Stripe does not accept our key; every sender stops, and the call can be
            made when there is a key again.
    """
    with begin() as session:
        place = _place(session, call_id, now(), rate)
    _outside(session)
    if isinstance(place, CallOutcome):
        return place
    if place > now():
        rate.wait((place - now()).total_seconds())
    with begin() as session:
        leased = _lease(session, call_id, now(), tell, policy)
    if isinstance(leased, CallOutcome):
        return leased
    call = leased.call
    operation = OPERATIONS[call.operation]
    try:
        # Only a call that was never sent can still be refused by us.
        check = operation.check if call.tries == 1 else None
        refusal = check(gateway, call) if check else None
        answer = None if refusal else operation.perform(gateway, call)
    except GatewayRefused as error:
        if call.tries > 1 and error.status == FORBIDDEN:
            # Refused before Stripe looked at the key, so the earlier sending may have worked.
            unknown = GatewayUnknown(error.text, error.status, error.request_id)
            with begin() as session:
                return _try_later(session, leased, unknown, now(), tell, rate)
        refusal, answer = refusal_of(error), None
    except GatewayKeyRejected:
        with begin() as session:
            _put_back(session, leased, status=401)
        raise
    except GatewayKeyMisused as error:
        with begin() as session:
            return _give_up(session, leased, error.text, "idempotency_error", now(), tell)
    except GatewayUnknown as error:
        with begin() as session:
            return _try_later(session, leased, error, now(), tell, rate)
    with begin() as session:
        if answer is not None:
            return _record(session, call_id, answer, now(), tell)
        assert refusal is not None
        return _refuse(session, leased, refusal, now(), tell, policy)


def _outside(session: Session) -> None:
    """Stripe is never asked while a transaction of ours is open."""
    if session.in_transaction():
        raise RuntimeError("run_call was given a transaction that stays open")


def _outcome(
    call: ExternalCall,
    result: Result,
    facts: list[Fact] | None = None,
    *,
    retry_at: datetime | None = None,
    text: str = "",
    link_url: str = "",
) -> CallOutcome:
    return CallOutcome(
        call_id=call.id,
        operation=call.operation,
        subject_id=call.subject_id,
        result=result,
        retry_at=retry_at,
        text=text,
        link_url=link_url,
        facts=tuple(facts or ()),
    )


_OVER = {
    CallState.CONFIRMED: Result.CONFIRMED,
    CallState.REFUSED: Result.REFUSED,
    CallState.UNKNOWN: Result.UNKNOWN,
}


def _place(
    session: Session, call_id: UUID, at: datetime, rate: WriteRate
) -> CallOutcome | datetime:
    """When this write may leave; in a transaction of its own, as all senders share one row."""
    call = session.get(ExternalCall, call_id)
    if call is None:
        raise UnknownCall(call_id)
    if call.state in _OVER or call.next_try_at > at:
        # Nothing will be written, as the lease will tell.
        return at
    place = take_place(session, at=at, rate=rate)
    if place.is_taken:
        return place.goes_at
    call = locked_call(session, call_id)
    call.next_try_at = max(call.next_try_at, place.goes_at)
    session.flush()
    return _outcome(call, Result.TRY_LATER, retry_at=call.next_try_at, text="too many writes")


def _lease(
    session: Session,
    call_id: UUID,
    at: datetime,
    tell: Tell,
    policy: HoldPolicy,
) -> CallOutcome | _Lease:
    """Take the call for a while, and mark it sent before it is."""
    call = locked_call(session, call_id)
    if call.state in _OVER:
        return _outcome(call, _OVER[call.state], text=call.error_text or "")
    if call.leased_until is not None and call.leased_until > at:
        return _outcome(call, Result.BUSY, retry_at=call.leased_until)
    if call.next_try_at > at:
        return _outcome(call, Result.TRY_LATER, retry_at=call.next_try_at)
    if call.first_sent_at is not None and at - call.first_sent_at >= RESEND_FOR:
        return _becomes_unknown(session, call, "first sent 20 hours ago or more", tell)
    before = OPERATIONS[call.operation].before
    refusal = before(session, call, at) if before else None
    if refusal is not None:
        return _refuse_locked(session, call, refusal, at, tell, policy)
    call.state = CallState.SENT
    call.fencing += 1
    call.tries += 1
    call.leased_until = at + LEASE
    call.first_sent_at = call.first_sent_at or at
    call.last_sent_at = at
    session.flush()
    session.expunge(call)
    return _Lease(call, call.fencing)


def _record(
    session: Session, call_id: UUID, answer: Answer, at: datetime, tell: Tell
) -> CallOutcome:
    """Store a yes with what it means in the books; whoever comes second changes nothing."""
    call = locked_call(session, call_id)
    if call.state == CallState.CONFIRMED:
        return _outcome(call, Result.CONFIRMED, link_url=answer.link_url)
    if call.state == CallState.REFUSED:
        # Somebody has given the money back meanwhile; a person has to see both.
        raise CallNotOpen(call.id, f"was refused, and {answer.object_id} exists")
    call.state = CallState.CONFIRMED
    call.object_id = answer.object_id
    call.answer = canonical(answer.summary)
    call.http_status = 200
    call.answered_at = at
    call.leased_until = None
    call.error_code = call.error_text = None
    session.flush()
    facts = answer.record(session, call, at) if answer.record else []
    tell(session, facts)
    return _outcome(call, Result.CONFIRMED, facts, link_url=answer.link_url)


def confirm_call(
    session: Session, call: ExternalCall, answer: Answer, at: datetime, tell: Tell
) -> CallOutcome:
    """Record a yes that came another way: found by looking, or told by a webhook."""
    return _record(session, call.id, answer, at, tell)


def _refuse(
    session: Session,
    leased: _Lease,
    refusal: Refusal,
    at: datetime,
    tell: Tell,
    policy: HoldPolicy,
) -> CallOutcome:
    call = locked_call(session, leased.call.id)
    if call.fencing != leased.fencing or call.state != CallState.SENT:
        return _outcome(call, _OVER.get(call.state, Result.BUSY))
    return _refuse_locked(session, call, refusal, at, tell, policy)


def _refuse_locked(
    session: Session,
    call: ExternalCall,
    refusal: Refusal,
    at: datetime,
    tell: Tell,
    policy: HoldPolicy,
) -> CallOutcome:
    """Store a definite no together with the money it gives back."""
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
    return _outcome(call, Result.REFUSED, facts, text=refusal.text)


def _try_later(
    session: Session,
    leased: _Lease,
    error: GatewayUnknown,
    at: datetime,
    tell: Tell,
    rate: WriteRate,
) -> CallOutcome:
    """Nobody can tell: again under the same key, later each time, or only look from now on.

    What Stripe asks for in `Retry-After` is kept; and when it was one write too many, every
    other sender waits too. A lock of Stripe's on one object (`lock_timeout`) concerns only it.
    """
    call = locked_call(session, leased.call.id)
    if call.fencing != leased.fencing or call.state != CallState.SENT:
        return _outcome(call, _OVER.get(call.state, Result.BUSY))
    call.http_status = error.status
    call.request_id = error.request_id or None
    call.error_code, call.error_text = "outcome_unknown", error.reason
    call.leased_until = None
    if error.status is not None and error.status >= 500:
        call.server_errors += 1
    first = call.first_sent_at or at
    if call.server_errors >= SERVER_ERRORS or at - first >= RETRY_FOR:
        return _becomes_unknown(session, call, error.reason, tell)
    wait = min(2.0**call.tries, 300.0)
    # Spread out, so that many calls that failed together do not come back together.
    pause = timedelta(seconds=wait / 2 + random.uniform(0, wait / 2))  # noqa: S311
    asked = timedelta(seconds=error.retry_after_s or 0)
    call.next_try_at = at + max(pause, asked)
    if error.status == TOO_MANY and error.reason != LOCK_TIMEOUT:
        hold_back(session, until=at + max(asked, HELD_BACK), rate=rate, account=PLATFORM)
    session.flush()
    return _outcome(call, Result.TRY_LATER, retry_at=call.next_try_at, text=error.reason)


def _give_up(
    session: Session, leased: _Lease, text: str, code: str, at: datetime, tell: Tell
) -> CallOutcome:
    call = locked_call(session, leased.call.id)
    if call.state != CallState.SENT:
        return _outcome(call, _OVER.get(call.state, Result.BUSY))
    call.error_code = code
    call.answered_at = at
    return _becomes_unknown(session, call, text, tell)


def _becomes_unknown(session: Session, call: ExternalCall, text: str, tell: Tell) -> CallOutcome:
    """Never sent again; its money stays reserved until somebody has looked."""
    call.state = CallState.UNKNOWN
    call.leased_until = None
    call.error_text = text
    session.flush()
    fact = Fact(FactKind.CALL_UNKNOWN, call.id, call.subject_id, text=text)
    tell(session, [fact])
    return _outcome(call, Result.UNKNOWN, [fact], text=text)


def _put_back(session: Session, leased: _Lease, *, status: int) -> None:
    """The API key was not accepted, so nothing was done: as if it had not been sent this time."""
    call = locked_call(session, leased.call.id)
    if call.fencing == leased.fencing and call.state == CallState.SENT:
        call.http_status = status
        call.error_code = "api_key_rejected"
        call.leased_until = None
        session.flush()


def resolve_unknown(
    begin: Begin, gateway: "Gateway", call_id: UUID, *, now: Now, tell: Tell = tell_nobody
) -> CallOutcome:
    """Look for what an unknown call may have made: found, it is confirmed.

    Not found twice, ten minutes apart, it is `not_found`: then, and only by a person,
    `approve_new_attempt`. Until then the money stays where it is.

    Raises:
        CallNotOpen: its outcome is known, or it is still being sent.
    """
    at = now()
    with begin() as session:
        call = locked_call(session, call_id)
        if call.state != CallState.UNKNOWN:
            raise CallNotOpen(call_id, f"is {call.state}")
        due = call.last_lookup_at + LOOKUPS_APART if call.last_lookup_at else at
        if due > at:
            return _outcome(call, Result.UNKNOWN, retry_at=due)
        session.expunge(call)
    _outside(session)
    look_up = OPERATIONS[call.operation].look_up
    found = look_up(gateway, call) if look_up else None
    with begin() as session:
        if found is not None:
            return _record(session, call_id, found, now(), tell)
        call = locked_call(session, call_id)
        if call.state != CallState.UNKNOWN:
            return _outcome(call, _OVER.get(call.state, Result.BUSY))
        call.lookups += 1
        call.last_lookup_at = at
        session.flush()
        if call.lookups < LOOKUPS_NEEDED:
            return _outcome(call, Result.UNKNOWN, retry_at=at + LOOKUPS_APART)
        return _outcome(call, Result.NOT_FOUND, text="looked for twice and not found")


def stop_payout(
    session: Session,
    payout_id: UUID,
    *,
    reason: Reason,
    by: UUID,
    at: datetime,
    policy: HoldPolicy = POLICY,
) -> list[Fact]:
    """Hold a payout by a person's decision while its transfer is not sent yet, planned or not.

    Raises:
        UnknownPayout.
        PayoutStateConflict: the transfer has been sent; only a reversal could bring it back.
    """
    payout = session.get(Payout, payout_id)
    if payout is None:
        raise UnknownPayout(payout_id)
    # The call is locked before the payout, as a sender does; whoever comes first wins.
    call = locked_call(session, payout.call_id) if payout.call_id else None
    payout = locked_payout(session, payout_id)
    if call is None or call.state != CallState.PLANNED or payout.call_id != call.id:
        return place_hold(session, payout_id, reason=reason, by=by, at=at)
    refusal = Refusal("stopped", reason.text, hold=reason)
    return list(_refuse_locked(session, call, refusal, at, tell_nobody, policy).facts)


def approve_new_attempt(
    session: Session,
    call_id: UUID,
    *,
    by: UUID,
    reason: str,
    at: datetime,
    policy: HoldPolicy = POLICY,
) -> list[Fact]:
    """A person decides that a call never happened: its money is free, and may be sent anew.

    Raises:
        CallNotOpen: its outcome is not unknown, or it was not looked for twice.
    """
    call = locked_call(session, call_id)
    if call.state != CallState.UNKNOWN:
        raise CallNotOpen(call_id, f"is {call.state}")
    if call.lookups < LOOKUPS_NEEDED:
        raise CallNotOpen(call_id, "was not looked for twice, ten minutes apart")
    call.approved_by = by
    call.approval = reason
    refusal = Refusal(
        "not_found", "The transfer did not reach Stripe; a person has looked for it twice."
    )
    return list(_refuse_locked(session, call, refusal, at, tell_nobody, policy).facts)
