"""Payouts that are taken out before they are sent, and money that comes back unspent."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from payouts.calls import Fact, FactKind, locked_call
from payouts.errors import PayoutStateConflict, UnknownPayout
from payouts.holds import end_hold, open_holds
from payouts.ledger import void_pending
from payouts.models import ExternalCall, Payout
from payouts.reversals import plan_taking_back
from payouts.states import CallState, PayoutState
from payouts.transfers import locked_payout, move_payout, payout_fact

UNSENT = (PayoutState.ELIGIBLE, PayoutState.HELD, PayoutState.BATCHED)
CAME_BACK = (PayoutState.FAILED, PayoutState.RETURNED)


def withdraw_payout(
    session: Session, payout_id: UUID, *, by: UUID, note: str, at: datetime
) -> list[Fact]:
    """Take a payout out that has not been sent; its money is free for another payout.

    Raises:
        UnknownPayout.
        PayoutStateConflict: it was sent, or may have been.
    """
    payout = session.get(Payout, payout_id)
    if payout is None:
        raise UnknownPayout(payout_id)
    # The call is locked before the payout, as a sender does; whoever comes first wins.
    call = locked_call(session, payout.call_id) if payout.call_id else None
    payout = locked_payout(session, payout_id)
    is_planned = call is not None and call.state == CallState.PLANNED
    if payout.state not in UNSENT or (payout.state == PayoutState.BATCHED and not is_planned):
        raise PayoutStateConflict(payout.id, payout.state, "withdraw")
    if call is not None and is_planned:
        call.state = CallState.REFUSED
        call.error_code, call.error_text = "withdrawn", note
        call.answered_at = at
    if payout.reservation_key is not None:
        key = payout.reservation_key
        void_pending(session, key, key=f"{key}:withdrawn", kind="payout_withdrawn", at=at)
        payout.reservation_key = None
    for hold in open_holds(session, payout_id):
        end_hold(hold, at=at, by=by, note="The payout was withdrawn.")
    move_payout(session, payout, "withdraw", at=at, actor_id=by, note=note)
    return [payout_fact(FactKind.PAYOUT_WITHDRAWN, payout, note)]


def unsent_of_run(session: Session, run_id: UUID) -> list[UUID]:
    """The payouts of a run that have not been sent, oldest first."""
    return list(
        session.scalars(
            select(Payout.id)
            .where(Payout.run_id == run_id, Payout.state.in_(UNSENT))
            .order_by(Payout.opened_at, Payout.id)
        )
    )


def plan_recall(
    session: Session, *, payout_id: UUID, by: UUID, reason: str, at: datetime
) -> ExternalCall:
    """Plan to bring money back that the expert's bank would not take: it is owed to them again.

    Nobody owes anything by it. Another payout can be opened as soon as Stripe has given it back.

    Raises:
        UnknownPayout.
        PayoutStateConflict: it did not fail, or was taken back already.
    """
    payout = locked_payout(session, payout_id)
    if payout.state not in CAME_BACK:
        raise PayoutStateConflict(payout.id, payout.state, "recall")
    call = plan_taking_back(
        session, payout, amount_minor=None, decided_by=by, at=at, purpose="recall"
    )
    call.approval = reason
    session.flush()
    return call
