"""Labs' money coming in over Stripe: payment intents, settling, and what fails."""

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from payouts import chart
from payouts.calls import (
    LOOK_BACK,
    Answer,
    Fact,
    FactKind,
    Operation,
    Refusal,
    params_of,
    plan_call,
)
from payouts.disputes import unsettled_withheld
from payouts.errors import CallConflict, EventUnclear, UnknownFunding
from payouts.ledger import Line, post_entry
from payouts.models import ExternalCall, Funding
from payouts.money import Money, checked_amount
from payouts.seen import PaymentIntentSeen, TransactionSeen
from payouts.states import CallOperation, FundingState

if TYPE_CHECKING:
    from payouts.gateway import Gateway
    from payouts.holds import HoldPolicy

AVAILABLE = "available"


def plan_funding(
    session: Session,
    *,
    funding_id: UUID,
    lab_id: UUID,
    money: Money,
    payment_method: str,
    at: datetime,
) -> ExternalCall:
    """Plan to take money from a lab; nothing is in the books before Stripe has it.

    Raises:
        BadAmount.
        CallConflict: this funding was planned before, for another amount or method.
    """
    checked_amount(money.amount_minor)
    natural_key = f"payment_intent:{funding_id}"
    call = plan_call(
        session,
        operation=CallOperation.PAYMENT_INTENT,
        natural_key=natural_key,
        subject_id=funding_id,
        params={
            "amount": money.amount_minor,
            "currency": money.currency.lower(),
            "confirm": True,
            "payment_method": payment_method,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "description": "Project budget",
            "transfer_group": str(funding_id),
            "metadata": {
                "funding_id": str(funding_id),
                "lab_id": str(lab_id),
                "natural_key": natural_key,
                "attempt": "1",
            },
            "expand": ["latest_charge.balance_transaction"],
        },
        at=at,
    )
    known = session.get(Funding, funding_id)
    if known is None:
        session.add(
            Funding(
                id=funding_id,
                lab_id=lab_id,
                currency=money.currency,
                amount_minor=money.amount_minor,
                planned_at=at,
                call_id=call.id,
            )
        )
        session.flush()
    elif known.lab_id != lab_id:
        raise CallConflict(natural_key)
    return call


def record_intent(
    session: Session, funding: Funding, seen: PaymentIntentSeen, at: datetime
) -> list[Fact]:
    """Take over how a payment stands, only ever forward; the funding is locked by the caller.

    Money that arrived is booked at once (J1). Until Stripe lets us use it, it is unsettled and
    no project can be given it.

    Raises:
        EventUnclear: Stripe has changed the money into another currency on its way to us.
    """
    funding.payment_intent_id = funding.payment_intent_id or seen.id
    if seen.status == "processing" and funding.state == FundingState.PLANNED:
        funding.state = FundingState.PROCESSING
        session.flush()
        return [funding_fact(FactKind.FUNDING_PROCESSING, funding)]
    if seen.status == "succeeded" and seen.transaction is not None:
        return _received(session, funding, seen.charge_id, seen.transaction, at)
    if seen.status in ("requires_payment_method", "canceled", "requires_action"):
        text = seen.failure_text or "The payment method was not accepted."
        return fail_funding(session, funding, seen.failure_code or seen.status, text)
    return []


def _received(
    session: Session,
    funding: Funding,
    charge_id: str | None,
    line: TransactionSeen,
    at: datetime,
) -> list[Fact]:
    facts = []
    if funding.state in (FundingState.PLANNED, FundingState.PROCESSING, FundingState.FAILED):
        currency, lab_id = funding.currency, funding.lab_id
        if line.currency != currency:
            # What the lab paid is not what we have: a person refunds it, or agrees on a rate.
            raise EventUnclear(
                f"{Money(funding.amount_minor, currency)} of funding {funding.id} came as "
                f"{line.amount_minor} minor units of {line.currency}"
            )
        is_available = line.status == AVAILABLE
        lab = (
            chart.lab_funding(lab_id, currency)
            if is_available
            else chart.lab_funding_unsettled(lab_id, currency)
        )
        lines = [Line(chart.stripe_clearing(currency), lab, line.net_minor)]
        if line.fee_minor:
            lines.append(Line(chart.stripe_fees(currency), lab, line.fee_minor))
        post_entry(
            session,
            key=f"funding:{funding.id}:received",
            kind="funding_received",
            lines=lines,
            at=at,
        )
        funding.state = FundingState.SETTLED if is_available else FundingState.UNSETTLED
        funding.settled_at = at if is_available else None
        funding.charge_id = charge_id
        funding.transaction_id = line.id
        funding.fee_minor = line.fee_minor
        funding.failure_code = funding.failure_text = None
        facts.append(funding_fact(FactKind.FUNDING_RECEIVED, funding))
        if is_available:
            facts.append(funding_fact(FactKind.FUNDING_SETTLED, funding))
        session.flush()
        return facts
    return record_settling(session, funding, line, at)


def record_settling(
    session: Session, funding: Funding, line: TransactionSeen, at: datetime
) -> list[Fact]:
    """Let a lab use money that has become available; the funding is locked by the caller."""
    if funding.state != FundingState.UNSETTLED or line.status != AVAILABLE:
        return []
    currency, lab_id = funding.currency, funding.lab_id
    # What a card dispute withholds of it stays where it is until that is decided.
    usable = funding.amount_minor - unsettled_withheld(session, funding.id)
    if usable > 0:
        post_entry(
            session,
            key=f"funding:{funding.id}:settled",
            kind="funding_settled",
            lines=[
                Line(
                    chart.lab_funding_unsettled(lab_id, currency),
                    chart.lab_funding(lab_id, currency),
                    usable,
                )
            ],
            at=at,
        )
    funding.state = FundingState.SETTLED
    funding.settled_at = at
    session.flush()
    return [funding_fact(FactKind.FUNDING_SETTLED, funding)]


def fail_funding(session: Session, funding: Funding, code: str, text: str) -> list[Fact]:
    """Say that a payment will not come, unless it has; the funding is locked by the caller."""
    if funding.state not in (FundingState.PLANNED, FundingState.PROCESSING):
        return []
    funding.state = FundingState.FAILED
    funding.failure_code, funding.failure_text = code, text
    session.flush()
    return [funding_fact(FactKind.FUNDING_FAILED, funding, text)]


def funding_fact(kind: FactKind, funding: Funding, text: str = "") -> Fact:
    """Something that happened to a payment of a lab."""
    return Fact(kind, funding.id, funding.lab_id, funding.amount_minor, funding.currency, text)


def unsettled_fundings(session: Session) -> list[tuple[UUID, str]]:
    """Fundings that wait for Stripe, each with the balance line to look at."""
    rows = session.execute(
        select(Funding.id, Funding.transaction_id).where(
            Funding.state == FundingState.UNSETTLED, Funding.transaction_id.is_not(None)
        )
    )
    return [(funding_id, line) for funding_id, line in rows if line is not None]


def locked_funding(session: Session, funding_id: UUID) -> Funding:
    """The funding, held until the transaction ends.

    Raises:
        UnknownFunding.
    """
    found = session.get(Funding, funding_id, with_for_update=True, populate_existing=True)
    if found is None:
        raise UnknownFunding(funding_id)
    return found


def _intent_answer(seen: PaymentIntentSeen) -> Answer:
    return Answer(
        object_id=seen.id,
        summary={"id": seen.id, "status": seen.status, "amount": seen.amount_minor},
        record=partial(_record_intent_of, seen=seen),
    )


def _record_intent_of(
    session: Session, call: ExternalCall, at: datetime, *, seen: PaymentIntentSeen
) -> list[Fact]:
    try:
        return record_intent(session, locked_funding(session, call.subject_id), seen, at)
    except EventUnclear:
        # The payment is made, whatever it came to; its event says the rest to a person.
        return []


def _pay_in(gateway: "Gateway", call: ExternalCall) -> Answer:
    return _intent_answer(gateway.create_payment_intent(params_of(call), key=str(call.id)))


def _pay_in_refused(
    session: Session, call: ExternalCall, refusal: Refusal, _at: datetime, _policy: "HoldPolicy"
) -> list[Fact]:
    funding = locked_funding(session, call.subject_id)
    return fail_funding(session, funding, refusal.code, refusal.text)


def _find_intent(gateway: "Gateway", call: ExternalCall) -> Answer | None:
    since = (call.first_sent_at or call.planned_at) - LOOK_BACK
    for seen in gateway.payment_intents(since=since):
        if seen.metadata.get("natural_key") == call.natural_key:
            return _intent_answer(seen)
    return None


OPERATIONS = {
    CallOperation.PAYMENT_INTENT: Operation(
        perform=_pay_in,
        refused=_pay_in_refused,
        look_up=_find_intent,
    ),
}
