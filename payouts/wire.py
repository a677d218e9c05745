"""Transfers on the wire: what is asked of Stripe, and what its answers mean."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from payouts.calls import (
    LOOK_BACK,
    SHORT_OF_FUNDS,
    Answer,
    Answered,
    Fact,
    FactKind,
    Operation,
    Refusal,
    params_of,
)
from payouts.holds import HoldPolicy, Reason
from payouts.ledger import void_pending
from payouts.models import ExternalCall, Payee, Payout, PayoutHold, Transfer
from payouts.payees import is_ready, payee_of
from payouts.reservations import Settlement, post_reserved
from payouts.seen import TransferSeen
from payouts.states import CallOperation, HoldCode, HoldOwner, PayoutState
from payouts.transfers import (
    Step,
    hold_or_batch,
    hold_payout,
    locked_payout,
    locked_payouts,
    move_payout,
    move_payouts,
    payout_fact,
    transfer_lines,
)

if TYPE_CHECKING:
    from payouts.gateway import Gateway

CANNOT_RECEIVE = ("insufficient_capabilities_for_transfer", "account_closed", "account_invalid")
DESTINATION_CHANGED = "destination_changed"
NEGATIVE_BALANCE = "negative_connected_balance"


def _start_sending(
    session: Session, calls: Sequence[ExternalCall], at: datetime
) -> dict[UUID, Refusal]:
    """The step before the first sending; the destination must still be the one that was pinned."""
    found = locked_payouts(session, [call.subject_id for call in calls])
    batched = [one for one in found.values() if one.state == PayoutState.BATCHED]
    payees = {
        payee.owner_id: payee
        for payee in session.scalars(
            select(Payee).where(Payee.owner_id.in_([one.owner_id for one in batched]))
        )
    }
    # Those behind a refusal were leased, and put back unsent.
    unsent = [found[call.subject_id] for call in calls if call.tries == 0]
    until = _short_until(session, {one.currency for one in unsent}, at)
    refusals: dict[UUID, Refusal] = {}
    for one in batched:
        if not _is_where_it_was(one, payees.get(one.owner_id)):
            refusals[one.id] = Refusal(
                DESTINATION_CHANGED, "The destination has changed since this was planned."
            )
    for one in unsent:
        if one.currency in until and one.id not in refusals:
            refusals[one.id] = Refusal(
                SHORT_OF_FUNDS[0],
                "An older payout was refused for lack of funds, and goes first.",
                hold=_short_of_funds(until[one.currency]),
            )
    fit = [Step(one, "send") for one in batched if one.id not in refusals]
    move_payouts(session, fit, at=at)
    return {call.id: refusals[call.subject_id] for call in calls if call.subject_id in refusals}


def _short_until(
    session: Session, currencies: AbstractSet[str], at: datetime
) -> dict[str, datetime]:
    """In which of some currencies Stripe said of late that our balance is too low, and until when
    nobody asks again: what is younger waits with it, and for no longer.
    """
    if not currencies:
        return {}
    rows = session.execute(
        select(Payout.currency, func.min(PayoutHold.expires_at).label("ends"))
        .join(Payout, Payout.id == PayoutHold.payout_id)
        .where(
            PayoutHold.code == HoldCode.PLATFORM_FUNDS,
            PayoutHold.cleared_at.is_(None),
            PayoutHold.expires_at > at,
            Payout.currency.in_(currencies),
        )
        .group_by(Payout.currency)
    )
    return {row.currency: row.ends for row in rows}


def _is_where_it_was(payout: Payout, payee: Payee | None) -> bool:
    """Whether a payout would still go where it was planned to."""
    return (
        payee is not None
        and payee.account_id == payout.destination
        # To be told of the first bank account is no change of it.
        and payee.destination_version <= max(payout.destination_version or 0, 1)
        and is_ready(payee)
    )


def _connected_balance_ok(gateway: "Gateway", call: ExternalCall) -> Refusal | None:
    """A connected account below zero would swallow the transfer, in whatever currency it is."""
    held = gateway.balance(str(params_of(call)["destination"])).available
    if min(held.values(), default=0) < 0:
        return Refusal(NEGATIVE_BALANCE, "The balance at Stripe is below zero.")
    return None


def _send(gateway: "Gateway", call: ExternalCall) -> Answer:
    return transfer_answer(gateway.create_transfer(params_of(call), key=str(call.id)))


def transfer_answer(seen: TransferSeen) -> Answer:
    """A transfer that exists, as far as our books need it."""
    return Answer(
        object_id=seen.id,
        summary={
            "id": seen.id,
            "amount": seen.amount_minor,
            "destination": seen.destination,
            "destination_payment": seen.destination_payment or "",
        },
    )


def _record_transfers(
    session: Session, answered: Sequence[Answered], at: datetime
) -> dict[UUID, list[Fact]]:
    """J8: reservations are posted, and transfers with their counterparts are in our books."""
    payouts = locked_payouts(session, [call.subject_id for call, _ in answered])
    made = [(payouts[call.subject_id], call, answer) for call, answer in answered]
    steps = [Step(payout, "confirm", reason_code=answer.object_id) for payout, _, answer in made]
    move_payouts(session, steps, at=at)
    post_reserved(session, [_settlement(payout) for payout, _, _ in made], at=at)
    for payout, call, answer in made:
        payout.reservation_key = None
        session.add(
            Transfer(
                payout_id=payout.id,
                owner_id=payout.owner_id,
                call_id=call.id,
                stripe_id=answer.object_id,
                destination=str(answer.summary["destination"]),
                destination_payment=str(answer.summary["destination_payment"]) or None,
                currency=payout.currency,
                amount_minor=payout.amount_minor,
                at=at,
            )
        )
    session.flush()
    return {call.id: [payout_fact(FactKind.PAYOUT_TRANSFERRED, payout)] for payout, call, _ in made}


def _settlement(payout: Payout) -> Settlement:
    assert payout.reservation_key is not None
    return Settlement(
        payout.reservation_key,
        key=f"{payout.reservation_key}:transferred",
        kind="payout_transferred",
        lines=tuple(transfer_lines(payout)),
    )


def _refused(
    session: Session, call: ExternalCall, refusal: Refusal, at: datetime, policy: HoldPolicy
) -> list[Fact]:
    """A definite no: the money is free again, and the payout waits with a reason to read."""
    payout = locked_payout(session, call.subject_id)
    assert payout.reservation_key is not None
    move_payout(session, payout, "refuse", at=at, reason_code=refusal.code, note=refusal.text[:500])
    void_pending(
        session,
        payout.reservation_key,
        key=f"{payout.reservation_key}:refused",
        kind="payout_refused",
        at=at,
    )
    payout.reservation_key = None
    payout.call_id = None
    payee = payee_of(session, payout.owner_id)
    if payee is not None and refusal.code in CANNOT_RECEIVE:
        # Stripe knows better than what we last saw of this account.
        payee.transfers_status = "restricted"
    session.flush()
    if refusal.code == DESTINATION_CHANGED:
        return hold_or_batch(session, payout, at=at, policy=policy)
    reason = refusal.hold or reason_after(refusal, at, policy)
    return hold_payout(session, payout, [reason], at=at)


def _short_of_funds(until: datetime) -> Reason:
    return Reason(
        HoldCode.PLATFORM_FUNDS,
        HoldOwner.PLATFORM,
        "Our own balance at Stripe was too low for this moment. Your money is yours; we send "
        "it again as soon as the balance allows.",
        until,
    )


def reason_after(refusal: Refusal, at: datetime, policy: HoldPolicy) -> Reason:
    """Why a payout waits after Stripe refused its transfer."""
    if refusal.code in SHORT_OF_FUNDS:
        return _short_of_funds(at + policy.funds_wait)
    if refusal.code in CANNOT_RECEIVE:
        return Reason(
            HoldCode.PAYEE_REQUIREMENTS,
            HoldOwner.EXPERT,
            "Stripe does not let your account receive money at present. Please look at what it "
            "asks of you.",
            at + policy.escalate_after,
        )
    if refusal.code == NEGATIVE_BALANCE:
        return Reason(
            HoldCode.PROVIDER_REFUSED,
            HoldOwner.PLATFORM,
            "Your balance at Stripe is below zero, and Stripe would keep this payment to fill it. "
            "A person looks at it before anything is sent.",
            at + policy.escalate_after,
        )
    if refusal.code == "not_found":
        return Reason(
            HoldCode.PROVIDER_REFUSED,
            HoldOwner.PLATFORM,
            "The transfer did not reach Stripe. A person has looked for it and sends it again.",
            at + policy.escalate_after,
        )
    return Reason(
        HoldCode.PROVIDER_REFUSED,
        HoldOwner.PLATFORM,
        f"Stripe refused the transfer: {refusal.text} A person looks at it; your money is yours.",
        at + policy.escalate_after,
    )


def _find_transfer(gateway: "Gateway", call: ExternalCall) -> Answer | None:
    since = (call.first_sent_at or call.planned_at) - LOOK_BACK
    for seen in gateway.transfers(transfer_group=str(call.subject_id), since=since):
        if seen.metadata.get("attempt") == str(call.attempt):
            return transfer_answer(seen)
    return None


OPERATIONS = {
    CallOperation.TRANSFER: Operation(
        perform=_send,
        refused=_refused,
        look_up=_find_transfer,
        before=_start_sending,
        record_all=_record_transfers,
        check=_connected_balance_ok,
    ),
}
