"""Makes the planned writes to Stripe: lease, send, record, each in its own transaction or none.

Many are leased in one transaction and recorded in another, and between the two they leave one by
one at the pace of the bucket. Whatever a crash forgets in between is sent again after the lease,
under the same key with the same body, and gets the same answer. Nothing here ever makes a new key.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

from sqlalchemy.exc import DataError, IntegrityError, InternalError, ProgrammingError
from sqlalchemy.orm import Session

from payouts.bucket import RATE, Place, WriteRate, take_places
from payouts.calls import (
    RESEND_FOR,
    Refusal,
    Tell,
    locked_call,
    next_transfers,
    refusal_of,
    tell_nobody,
)
from payouts.errors import (
    GatewayKeyMisused,
    GatewayKeyRejected,
    GatewayRefused,
    GatewayUnknown,
    PayoutsError,
)
from payouts.holds import HoldPolicy
from payouts.models import ExternalCall
from payouts.outcomes import (
    OPERATIONS,
    OVER,
    Begin,
    CallOutcome,
    Heard,
    NeverSent,
    Now,
    Result,
    Said,
    becomes_unknown,
    outcome_of,
    refuse,
    settle,
)
from payouts.states import CallState
from payouts.transfers import POLICY

if TYPE_CHECKING:
    from payouts.gateway import Gateway

Choose: TypeAlias = Callable[[Session, datetime], Sequence[ExternalCall]]
"""Which calls a sender takes, locked."""

LEASE = timedelta(seconds=60)
"""Longer than the gateway's time-out by far, so that a living sender never loses its lease."""
ASKING = timedelta(seconds=40)
"""How much of a lease must be left to send under it: twice the gateway's time-out, as Stripe is
read before it is written to."""
AT_ONCE = 25
"""How many transfers one sender leases together: two and a half seconds' worth at the usual pace,
and what a crash may leave to be sent again after the lease."""
SETTLE_AFTER = timedelta(seconds=5)
"""How long an answer waits at most, beside the next one that is asked for, to be recorded."""
FORBIDDEN = 403
ROWS_FAULT = (IntegrityError, DataError, ProgrammingError, InternalError)
"""What the database refuses because of what was to be written, and would refuse again; a lost
connection and a deadlock are none of them."""


@dataclass(frozen=True, slots=True)
class _Leased:
    """What may be sent, in its order, and since when; and the others that were chosen."""

    calls: list[ExternalCall]
    place: Place | None
    over: list[CallOutcome]


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

    `tell` is called with the facts inside the transaction that records them, so that an outbox can
    keep what follows; the outcome carries the same facts. The call is made outside of any
    transaction.

    Raises:
        UnknownCall.
        GatewayKeyRejected: Stripe does not accept our key; every sender stops, and the call can be
            made when there is a key again.
    """

    def choose(session: Session, _at: datetime) -> list[ExternalCall]:
        return [locked_call(session, call_id)]

    return _send(begin, gateway, choose, now=now, tell=tell, policy=policy, rate=rate)[0]


def send_transfers(
    begin: Begin,
    gateway: "Gateway",
    *,
    now: Now,
    tell: Tell = tell_nobody,
    policy: HoldPolicy = POLICY,
    rate: WriteRate = RATE,
    limit: int = AT_ONCE,
) -> list[CallOutcome]:
    """Make the planned transfers that nobody else is at, oldest first, as `run_call` makes each.

    None are left to take when the answer is empty. Two senders never take the same.

    Raises:
        GatewayKeyRejected: what was heard before it is recorded.
    """
    choose = partial(next_transfers, limit=limit)
    return _send(begin, gateway, choose, now=now, tell=tell, policy=policy, rate=rate)


def _send(
    begin: Begin,
    gateway: "Gateway",
    choose: Choose,
    *,
    now: Now,
    tell: Tell,
    policy: HoldPolicy,
    rate: WriteRate,
) -> list[CallOutcome]:
    with begin() as session:
        at = now()
        leased = _lease(session, choose(session, at), at, tell, policy, rate)
    _outside(session)
    outcomes = list(leased.over)
    store = partial(_store, begin, now=now, tell=tell, policy=policy, rate=rate)
    heard: list[Heard] = []
    first_heard_at = at
    rejected: GatewayKeyRejected | None = None
    is_stopped = False
    try:
        for number, call in enumerate(leased.calls):
            assert leased.place is not None
            assert call.leased_until is not None
            pause = (leased.place.goes_at + number * rate.interval - now()).total_seconds()
            if pause > 0:
                rate.wait(pause)
            said: Said | NeverSent = NeverSent()
            # Stripe was slow, and the lease would not outlive another such answer.
            if not is_stopped and (number == 0 or call.leased_until - now() > ASKING):
                said = _ask(gateway, call)
            # What comes after is not asked for: it would be refused too, or take what an older
            # payout waits for.
            is_stopped |= isinstance(said, Refusal) and said.stops_others
            is_stopped |= isinstance(said, GatewayKeyRejected)
            if isinstance(said, GatewayKeyRejected):
                rejected = said
            first_heard_at = first_heard_at if heard else now()
            heard.append(Heard(call, said))
            if now() - first_heard_at >= SETTLE_AFTER:
                # Let go of before it is stored, as a failure to store is raised already.
                heard, stored = [], heard
                outcomes += store(stored)
    finally:
        outcomes += store(heard)
    if rejected is not None:
        raise rejected
    return outcomes


def _outside(session: Session) -> None:
    """Stripe is never asked while a transaction of ours is open."""
    if session.in_transaction():
        raise RuntimeError("a sender was given a transaction that stays open")


def _lease(
    session: Session,
    chosen: Sequence[ExternalCall],
    at: datetime,
    tell: Tell,
    policy: HoldPolicy,
    rate: WriteRate,
) -> _Leased:
    """Take calls for a while, and mark them sent before they are."""
    over, ready = [], []
    for call in chosen:
        outcome = _standing(session, call, at, tell)
        if outcome is None:
            ready.append(call)
        else:
            over.append(outcome)
    if not ready:
        return _Leased([], None, over)
    place = take_places(session, len(ready), at=at, rate=rate)
    if not place.is_taken:
        for call in ready:
            call.next_try_at = max(call.next_try_at, place.goes_at)
            later = outcome_of(
                call, Result.TRY_LATER, retry_at=call.next_try_at, text="too many writes"
            )
            over.append(later)
        session.flush()
        return _Leased([], None, over)
    sent = []
    refusals = {
        call_id: refusal
        for operation in {call.operation for call in ready}
        if (before := OPERATIONS[operation].before) is not None
        for call_id, refusal in before(
            session, [call for call in ready if call.operation == operation], at
        ).items()
    }
    until = max(at, place.goes_at + len(ready) * rate.interval) + LEASE
    for call in ready:
        if call.id in refusals:
            over.append(refuse(session, call, refusals[call.id], at, tell, policy))
            continue
        call.state = CallState.SENT
        call.fencing += 1
        call.tries += 1
        call.leased_until = until
        call.first_sent_at = call.first_sent_at or at
        call.last_sent_at = at
        sent.append(call)
    session.flush()
    for call in sent:
        session.expunge(call)
    return _Leased(sent, place, over)


def _standing(session: Session, call: ExternalCall, at: datetime, tell: Tell) -> CallOutcome | None:
    """Why a call is not to be sent now; None when it is."""
    if call.state in OVER:
        return outcome_of(call, OVER[call.state], text=call.error_text or "")
    if call.leased_until is not None and call.leased_until > at:
        return outcome_of(call, Result.BUSY, retry_at=call.leased_until)
    if call.next_try_at > at:
        return outcome_of(call, Result.TRY_LATER, retry_at=call.next_try_at)
    if call.first_sent_at is not None and at - call.first_sent_at >= RESEND_FOR:
        return becomes_unknown(session, call, "first sent 20 hours ago or more", tell)
    return None


def _ask(gateway: "Gateway", call: ExternalCall) -> "Said | NeverSent":
    """Make a leased call."""
    operation = OPERATIONS[call.operation]
    try:
        # Only a call that was never sent can still be refused by us.
        check = operation.check if call.tries == 1 else None
        try:
            refusal = check(gateway, call) if check else None
        except GatewayUnknown:
            # Else the check would be left out the next time.
            return NeverSent()
        return refusal or operation.perform(gateway, call)
    except GatewayRefused as error:
        if call.tries > 1 and error.status == FORBIDDEN:
            # Refused before Stripe looked at the key, so the earlier sending may have worked.
            return GatewayUnknown(error.text, error.status, error.request_id)
        return refusal_of(error)
    except (GatewayKeyRejected, GatewayKeyMisused, GatewayUnknown) as error:
        return error


def _store(
    begin: Begin,
    heard: Sequence[Heard],
    *,
    now: Now,
    tell: Tell,
    policy: HoldPolicy,
    rate: WriteRate,
) -> list[CallOutcome]:
    """Record what was heard, in one transaction; when one of many cannot be, each in its own, so
    that it does not take the others along.
    """
    if not heard:
        return []

    def together(some: Sequence[Heard]) -> list[CallOutcome]:
        with begin() as session:
            return settle(session, some, now(), tell=tell, policy=policy, rate=rate)

    try:
        return together(heard)
    except (PayoutsError, *ROWS_FAULT):
        if len(heard) == 1:
            raise
    outcomes: list[CallOutcome] = []
    refused: list[Exception] = []
    for one in heard:
        try:
            outcomes += together([one])
        except (PayoutsError, *ROWS_FAULT) as error:
            refused.append(error)
    if refused:
        raise refused[0]
    return outcomes
