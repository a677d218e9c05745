"""Labs' money going back over Stripe to whoever paid it."""

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from payouts import chart
from payouts.calls import (
    Answer,
    Fact,
    FactKind,
    Operation,
    Refusal,
    params_of,
    plan_call,
)
from payouts.errors import BadAmount
from payouts.funding import locked_funding
from payouts.ledger import Line, post_entry, post_pending, reserve, void_pending
from payouts.ledger_models import JournalEntry
from payouts.models import ExternalCall
from payouts.money import checked_amount
from payouts.seen import RefundSeen
from payouts.states import CallOperation

if TYPE_CHECKING:
    from payouts.gateway import Gateway
    from payouts.holds import HoldPolicy


def plan_refund(
    session: Session, *, funding_id: UUID, amount_minor: int, at: datetime
) -> ExternalCall:
    """Plan to send part of a lab's free money back; it is reserved until Stripe has answered.

    Raises:
        UnknownFunding.
        BadAmount: nothing, or more than is left of this funding.
        FloorBreached: the lab has given the money to a project.
    """
    funding = locked_funding(session, funding_id)
    left = funding.amount_minor - funding.refunded_minor
    if funding.payment_intent_id is None or checked_amount(amount_minor) > left:
        raise BadAmount(amount_minor)
    number = (
        1
        + session.scalars(
            select(func.count())
            .select_from(ExternalCall)
            .where(ExternalCall.natural_key == f"refund:{funding_id}")
        ).one()
    )
    lab, currency = funding.lab_id, funding.currency
    # Before the call is planned, so that a refusal leaves no call without its money.
    reserve(
        session,
        key=f"refund:{funding_id}:{number}",
        kind="refund_reserved",
        lines=[
            Line(chart.lab_funding(lab, currency), chart.refund_to(lab, currency), amount_minor)
        ],
        at=at,
    )
    call = plan_call(
        session,
        operation=CallOperation.REFUND,
        natural_key=f"refund:{funding_id}",
        attempt=number,
        subject_id=funding_id,
        params={
            "payment_intent": funding.payment_intent_id,
            "amount": amount_minor,
            "reason": "requested_by_customer",
            "metadata": {
                "funding_id": str(funding_id),
                "natural_key": f"refund:{funding_id}",
                "attempt": str(number),
            },
        },
        at=at,
    )
    # Counted from now on, so that two plans cannot ask for more than there is.
    funding.refunded_minor += amount_minor
    session.flush()
    return call


def _refund_key(call: ExternalCall) -> str:
    return f"refund:{call.subject_id}:{call.attempt}"


def _refund_answer(seen: RefundSeen) -> Answer:
    return Answer(
        object_id=seen.id,
        summary={"id": seen.id, "status": seen.status or "", "amount": seen.amount_minor},
        record=partial(_record_refund, seen=seen),
    )


def _record_refund(
    session: Session, call: ExternalCall, at: datetime, *, seen: RefundSeen
) -> list[Fact]:
    funding = locked_funding(session, call.subject_id)
    lab, currency = funding.lab_id, funding.currency
    key = _refund_key(call)
    post_pending(
        session,
        key,
        key=f"{key}:sent",
        kind="refund_sent",
        lines=[
            Line(
                chart.lab_funding(lab, currency),
                chart.refund_to(lab, currency),
                seen.amount_minor,
            )
        ],
        at=at,
    )
    post_entry(
        session,
        key=f"{key}:left",
        kind="refund_left",
        lines=[
            Line(chart.refund_to(lab, currency), chart.stripe_clearing(currency), seen.amount_minor)
        ],
        at=at,
    )
    return [Fact(FactKind.REFUND_SENT, funding.id, lab, seen.amount_minor, currency)]


def record_refund(
    session: Session, call: ExternalCall, seen: RefundSeen, at: datetime
) -> list[Fact]:
    """Give a lab back what its bank would not take, once; the call is locked by the caller."""
    funding = locked_funding(session, call.subject_id)
    key = f"{_refund_key(call)}:failed"
    already = session.scalar(select(exists().where(JournalEntry.key == key)))
    if seen.status not in ("failed", "canceled") or already:
        return []
    lab, currency, amount = funding.lab_id, funding.currency, seen.amount_minor
    line = Line(chart.stripe_clearing(currency), chart.lab_funding(lab, currency), amount)
    post_entry(session, key=key, kind="refund_failed", lines=[line], at=at)
    funding.refunded_minor -= amount
    session.flush()
    text = "Your bank did not take the refund; the money is yours to use or to ask for again."
    return [Fact(FactKind.REFUND_REFUSED, funding.id, lab, amount, currency, text)]


def _refund_refused(
    session: Session, call: ExternalCall, refusal: Refusal, at: datetime, _policy: "HoldPolicy"
) -> list[Fact]:
    funding = locked_funding(session, call.subject_id)
    key = _refund_key(call)
    void_pending(session, key, key=f"{key}:refused", kind="refund_refused", at=at)
    amount = params_of(call)["amount"]
    assert isinstance(amount, int)
    funding.refunded_minor -= amount
    session.flush()
    return [
        Fact(
            FactKind.REFUND_REFUSED,
            funding.id,
            funding.lab_id,
            amount,
            funding.currency,
            refusal.text,
        )
    ]


def _send_back(gateway: "Gateway", call: ExternalCall) -> Answer:
    return _refund_answer(gateway.create_refund(params_of(call), key=str(call.id)))


def _find_refund(gateway: "Gateway", call: ExternalCall) -> Answer | None:
    for seen in gateway.refunds(str(params_of(call)["payment_intent"])):
        if seen.metadata.get("attempt") == str(call.attempt):
            return _refund_answer(seen)
    return None


OPERATIONS = {
    CallOperation.REFUND: Operation(
        perform=_send_back,
        refused=_refund_refused,
        look_up=_find_refund,
    ),
}
