"""What only a person, or a second look, can decide about a call to Stripe."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy.orm import Session

from payouts.calls import Fact, Refusal, Tell, locked_call, tell_nobody
from payouts.errors import CallNotOpen, UnknownPayout
from payouts.holds import HoldPolicy, Reason
from payouts.models import Payout
from payouts.outcomes import (
    OPERATIONS,
    OVER,
    Begin,
    CallOutcome,
    Now,
    Result,
    confirm_call,
    outcome_of,
    refuse,
)
from payouts.states import CallState
from payouts.transfers import POLICY, locked_payout, place_hold

if TYPE_CHECKING:
    from payouts.gateway import Gateway

LOOKUPS_APART = timedelta(minutes=10)
LOOKUPS_NEEDED = 2


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
            return outcome_of(call, Result.UNKNOWN, retry_at=due)
        session.expunge(call)
    look_up = OPERATIONS[call.operation].look_up
    found = look_up(gateway, call) if look_up else None
    with begin() as session:
        if found is not None:
            return confirm_call(session, call_id, found, now(), tell)
        call = locked_call(session, call_id)
        if call.state != CallState.UNKNOWN:
            return outcome_of(call, OVER.get(call.state, Result.BUSY))
        call.lookups += 1
        call.last_lookup_at = at
        session.flush()
        if call.lookups < LOOKUPS_NEEDED:
            return outcome_of(call, Result.UNKNOWN, retry_at=at + LOOKUPS_APART)
        return outcome_of(call, Result.NOT_FOUND, text="looked for twice and not found")


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
    return list(refuse(session, call, refusal, at, tell_nobody, policy).facts)


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
    return list(refuse(session, call, refusal, at, tell_nobody, policy).facts)
