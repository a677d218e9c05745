"""Transfers taken back: by a decided case, or because the bank would not take the money."""

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from payouts import chart
from payouts.calls import Answer, Fact, FactKind, Operation, Refusal, params_of, plan_call
from payouts.errors import BadAmount, PayoutStateConflict
from payouts.holds import HoldPolicy
from payouts.ledger import Line, post_pending, reserve, void_pending
from payouts.models import ExternalCall, Payout, Transfer
from payouts.money import checked_amount
from payouts.recoveries import open_cases, record_recovered
from payouts.seen import ReversalSeen
from payouts.states import CallOperation, CallState, PayoutState
from payouts.transfers import locked_payout, move_payout, payout_fact

if TYPE_CHECKING:
    from payouts.gateway import Gateway

CASE, RECALL = "case", "recall"
"""Why a transfer is taken back: by a decided case, or because the bank would not take it."""

AT_STRIPE = (PayoutState.TRANSFERRED, PayoutState.FAILED, PayoutState.RETURNED)
"""Where the money of a payout lies on the expert's balance at Stripe."""
OPEN = (CallState.PLANNED, CallState.SENT, CallState.UNKNOWN)


def live_transfer(session: Session, payout_id: UUID) -> Transfer | None:
    """The transfer of a payout that has not been taken back whole, locked."""
    return session.scalars(
        select(Transfer)
        .where(Transfer.payout_id == payout_id, Transfer.reversed_minor < Transfer.amount_minor)
        .with_for_update()
    ).one_or_none()


def plan_reversal(
    session: Session, *, payout_id: UUID, amount_minor: int, decided_by: UUID, at: datetime
) -> ExternalCall:
    """Plan to take money back that is still at Stripe, after a decided case booked it as owed.

    Both sides are reserved: what is on its way to the expert, and what they owe.

    Raises:
        PayoutStateConflict: the money is not at Stripe, or was taken back already.
        BadAmount: more than is left of the transfer.
        FloorBreached: the expert does not owe that much.
    """
    payout = locked_payout(session, payout_id)
    return plan_taking_back(
        session, payout, amount_minor=amount_minor, decided_by=decided_by, at=at, purpose=CASE
    )


def plan_taking_back(
    session: Session,
    payout: Payout,
    *,
    amount_minor: int | None,
    decided_by: UUID,
    at: datetime,
    purpose: str,
) -> ExternalCall:
    """Plan a reversal of a locked payout's transfer: for a case, or of all of it as a recall.

    Raises:
        PayoutStateConflict, BadAmount, FloorBreached.
    """
    transfer = live_transfer(session, payout.id)
    if transfer is None or payout.state not in AT_STRIPE:
        raise PayoutStateConflict(payout.id, payout.state, "reverse")
    natural_key = f"reversal:{payout.id}"
    earlier = session.scalars(
        select(ExternalCall).where(ExternalCall.natural_key == natural_key)
    ).all()
    if any(call.state in OPEN for call in earlier):
        raise PayoutStateConflict(payout.id, payout.state, "reverse")
    left = transfer.amount_minor - transfer.reversed_minor
    wanted = left if amount_minor is None else checked_amount(amount_minor)
    if wanted > left:
        raise BadAmount(wanted)
    attempt = len(earlier) + 1
    reserve(
        session,
        key=f"{natural_key}:{attempt}",
        kind="reversal_reserved",
        lines=_reversal_lines(payout, wanted, purpose),
        at=at,
    )
    call = plan_call(
        session,
        operation=CallOperation.REVERSAL,
        natural_key=natural_key,
        attempt=attempt,
        subject_id=payout.id,
        params={
            "amount": wanted,
            "metadata": {
                "payout_id": str(payout.id),
                "transfer": transfer.stripe_id,
                "natural_key": natural_key,
                "attempt": str(attempt),
                "purpose": purpose,
            },
        },
        at=at,
    )
    call.approved_by = decided_by
    session.flush()
    return call


def _reversal_lines(payout: Payout, amount_minor: int, purpose: str) -> list[Line]:
    """From the expert's balance at Stripe to ours; and what it was on its way for is settled by
    it: what the expert owes after a case, or what we owe the expert again.
    """
    owner_id, currency = payout.owner_id, payout.currency
    settled = (
        chart.owed_to(owner_id, currency)
        if purpose == RECALL
        else chart.receivable_from(owner_id, currency)
    )
    return [
        Line(
            chart.stripe_clearing(currency),
            chart.connected_balance(owner_id, currency),
            amount_minor,
        ),
        Line(
            chart.in_transit_to(owner_id, currency),
            settled,
            amount_minor,
        ),
    ]


def _take_back(gateway: "Gateway", call: ExternalCall) -> Answer:
    params = params_of(call)
    return _reversal_answer(gateway.create_reversal(_transfer_of(call), params, key=str(call.id)))


def _transfer_of(call: ExternalCall) -> str:
    return _said(call, "transfer")


def _said(call: ExternalCall, name: str) -> str:
    """What the metadata of a planned call says."""
    metadata = params_of(call)["metadata"]
    assert isinstance(metadata, dict)
    return str(metadata.get(name, ""))


def _reversal_answer(seen: ReversalSeen) -> Answer:
    return Answer(
        object_id=seen.id,
        summary={
            "id": seen.id,
            "amount": seen.amount_minor,
            "transfer": seen.transfer_id,
            "refund": seen.refund_id or "",
        },
        record=partial(_record_reversal, seen=seen),
    )


def _record_reversal(
    session: Session, call: ExternalCall, at: datetime, *, seen: ReversalSeen
) -> list[Fact]:
    payout = locked_payout(session, call.subject_id)
    transfer = session.scalars(
        select(Transfer).where(Transfer.stripe_id == seen.transfer_id).with_for_update()
    ).one()
    key = f"{call.natural_key}:{call.attempt}"
    purpose = _said(call, "purpose")
    is_recall = purpose == RECALL
    if not is_recall:
        open_cases(session, payout.owner_id, payout.currency)
    post_pending(
        session,
        key,
        key=f"{key}:reversed",
        kind="payout_recalled" if is_recall else "payout_reversed",
        lines=_reversal_lines(payout, seen.amount_minor, purpose),
        at=at,
    )
    transfer.reversed_minor += seen.amount_minor
    if transfer.reversed_minor == transfer.amount_minor:
        move_payout(
            session,
            payout,
            "recall" if is_recall else "reverse",
            at=at,
            actor_id=call.approved_by,
            reason_code=seen.id,
            note=call.approval or "",
        )
    if is_recall:
        text = f"The money is with us again and is paid to you anew: {call.approval}"
        return [payout_fact(FactKind.PAYOUT_RECALLED, payout, text)]
    record_recovered(session, payout.owner_id, payout.currency, seen.amount_minor, at=at)
    return [
        Fact(
            FactKind.PAYOUT_REVERSED,
            payout.id,
            payout.owner_id,
            seen.amount_minor,
            payout.currency,
        )
    ]


def _reversal_refused(
    session: Session, call: ExternalCall, refusal: Refusal, at: datetime, _policy: HoldPolicy
) -> list[Fact]:
    key = f"{call.natural_key}:{call.attempt}"
    void_pending(
        session, key, key=f"{key}:refused", kind="reversal_refused", at=at, memo=refusal.code
    )
    return []


def _find_reversal(gateway: "Gateway", call: ExternalCall) -> Answer | None:
    for seen in gateway.reversals(_transfer_of(call)):
        if seen.metadata.get("attempt") == str(call.attempt):
            return _reversal_answer(seen)
    return None


OPERATIONS = {
    CallOperation.REVERSAL: Operation(
        perform=_take_back, refused=_reversal_refused, look_up=_find_reversal
    ),
}
