"""How labs pay in and take back."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session

from market.db import new_id
from market.events import Event, change_state, emit
from market.fundings.models import Funding
from market.fundings.queries import budget_levels, refundable
from market.fundings.queries import funding as any_funding
from market.fundings.rules import (
    FUNDING,
    InvoiceNotVoidable,
    PaymentMethodInvalid,
    RefundTooLarge,
    budget_state,
    check_invoice,
    checked_funding,
    is_payment_method,
)
from market.projects.models import Project
from payouts.calls import Fact, FactKind
from payouts.errors import FloorBreached, InvoiceNotOpen
from payouts.funding import plan_funding
from payouts.invoices import invoice_of, plan_invoice, plan_void
from payouts.money import Money
from payouts.refunds import plan_refund

DAY = timedelta(days=1)

FUNDING_MOVES: dict[FactKind, tuple[str, Event | None]] = {
    FactKind.FUNDING_INVOICED: ("invoice", Event.FUNDING_INVOICED),
    FactKind.FUNDING_PROCESSING: ("process", None),
    FactKind.FUNDING_RECEIVED: ("receive", None),
    FactKind.FUNDING_SETTLED: ("settle", Event.FUNDING_SUCCEEDED),
    FactKind.FUNDING_FAILED: ("fail", Event.FUNDING_FAILED),
}


def request_funding(
    session: Session,
    *,
    organisation_id: UUID,
    money: Money,
    payment_method: str,
    actor_id: UUID,
    at: datetime,
) -> Funding:
    """Ask a lab's bank or card for money; it can be used when it has arrived and settled.

    Raises:
        FundingAmount, PaymentMethodInvalid.
    """
    checked_funding(money.amount_minor)
    if not is_payment_method(payment_method):
        raise PaymentMethodInvalid(payment_method)
    funding_id = new_id()
    call = plan_funding(
        session,
        funding_id=funding_id,
        lab_id=organisation_id,
        money=money,
        payment_method=payment_method,
        at=at,
    )
    return _requested(
        session,
        Funding(
            id=funding_id,
            organisation_id=organisation_id,
            amount_minor=money.amount_minor,
            currency=money.currency,
            payment_method=payment_method,
            external_call_id=call.id,
            created_at=at,
        ),
        actor_id,
    )


def request_invoice(
    session: Session,
    *,
    organisation_id: UUID,
    money: Money,
    email: str,
    days_until_due: int,
    actor_id: UUID,
    at: datetime,
) -> Funding:
    """Ask a lab for money by invoice; it can be used when it is paid, has arrived and settled.

    Raises:
        FundingAmount, InvoiceTermsInvalid.
    """
    checked_funding(money.amount_minor)
    check_invoice(email, days_until_due)
    funding_id = new_id()
    call = plan_invoice(
        session,
        funding_id=funding_id,
        lab_id=organisation_id,
        money=money,
        email=email,
        days_until_due=days_until_due,
        at=at,
    )
    return _requested(
        session,
        Funding(
            id=funding_id,
            organisation_id=organisation_id,
            amount_minor=money.amount_minor,
            currency=money.currency,
            payment_method=None,
            external_call_id=call.id,
            created_at=at,
        ),
        actor_id,
    )


def _requested(session: Session, funding: Funding, actor_id: UUID) -> Funding:
    session.add(funding)
    session.flush()
    emit(
        session,
        Event.FUNDING_REQUESTED,
        funding.id,
        at=funding.created_at,
        organisation_id=funding.organisation_id,
        actor_id=actor_id,
        data={"amount_minor": funding.amount_minor, "currency": funding.currency},
    )
    return funding


def void_invoice(session: Session, funding_id: UUID, *, actor_id: UUID, at: datetime) -> Funding:
    """Take an invoice back that is not paid; the funding fails when Stripe has done it.

    Raises:
        FundingNotFound, InvoiceNotVoidable.
    """
    funding = any_funding(session, funding_id)
    if funding.payment_method is not None:
        raise InvoiceNotVoidable(funding.state)
    try:
        call = plan_void(session, funding_id=funding_id, at=at)
    except InvoiceNotOpen as over:
        raise InvoiceNotVoidable(over.state) from None
    emit(
        session,
        Event.INVOICE_VOID_REQUESTED,
        call.id,
        at=at,
        organisation_id=funding.organisation_id,
        actor_id=actor_id,
        data={"funding_id": str(funding_id)},
    )
    return funding


def request_refund(
    session: Session, funding_id: UUID, *, amount_minor: int, actor_id: UUID, at: datetime
) -> UUID:
    """Send part of a lab's free money back the way it came; it is promised from now on.

    Returns the id of the planned call.

    Raises:
        FundingNotFound, RefundTooLarge.
    """
    funding = any_funding(session, funding_id)
    left = refundable(session, funding)
    if amount_minor > left:
        raise RefundTooLarge(left)
    try:
        call = plan_refund(session, funding_id=funding_id, amount_minor=amount_minor, at=at)
    except FloorBreached as short:
        # Somebody gave the money to a project between the look and the promise.
        raise RefundTooLarge(short.available_minor) from short
    emit(
        session,
        Event.REFUND_REQUESTED,
        call.id,
        at=at,
        organisation_id=funding.organisation_id,
        actor_id=actor_id,
        data={"amount_minor": amount_minor, "currency": funding.currency},
    )
    return call.id


def warn_of_budgets(session: Session, *, last_s: int, at: datetime) -> list[UUID]:
    """Tell labs once when a live project's budget runs low, and once when nothing of it is free.

    It is low when what is free would not last `last_s` seconds at the pace of the last day. Money
    that comes in lets a lab be told again. Returns the projects of which somebody was told.
    """
    told = []
    days = last_s / DAY.total_seconds()
    for level in budget_levels(session, since=at - DAY, days=days):
        state = budget_state(level.free_minor, level.spent_minor, days)
        if state == level.warned:
            continue
        session.execute(
            update(Project).where(Project.id == level.project_id).values(budget_warned=state)
        )
        # From exhausted to low it has become better, which alarms nobody.
        if state is None or level.warned == "exhausted":
            continue
        emit(
            session,
            Event.BUDGET_LOW if state == "low" else Event.BUDGET_EXHAUSTED,
            level.project_id,
            at=at,
            organisation_id=level.organisation_id,
            data={
                "free_minor": level.free_minor,
                "spent_in_a_day_minor": level.spent_minor,
                "currency": level.currency,
            },
        )
        told.append(level.project_id)
    return told


def tell_overdue(session: Session, fact: Fact, *, at: datetime) -> None:
    """Tell a lab that its invoice was not paid in its time; nothing else follows from that."""
    emit(
        session,
        Event.FUNDING_OVERDUE,
        fact.subject_id,
        at=at,
        organisation_id=fact.owner_id,
        data={"text": fact.text, "amount_minor": fact.amount_minor, "currency": fact.currency},
    )


def move_funding(session: Session, fact: Fact, *, at: datetime) -> None:
    """Move a funding along with its money, in the transaction that moved that.

    Raises:
        StateConflict: it stands where this cannot happen.
    """
    action, event = FUNDING_MOVES[fact.kind]
    funding = session.get_one(
        Funding, fact.subject_id, with_for_update=True, populate_existing=True
    )
    funding.failure = fact.text if action == "fail" else None
    if action == "settle":
        funding.settled_at = at
    if action == "invoice":
        invoice = invoice_of(session, funding.id)
        funding.invoice_number, funding.invoice_url = invoice.number, invoice.url
        funding.due_at = invoice.due_at
    change_state(
        session,
        FUNDING,
        funding,
        action,
        at=at,
        event=event,
        organisation_id=funding.organisation_id,
        note=fact.text or None,
        data={"amount_minor": funding.amount_minor, "currency": funding.currency},
    )
