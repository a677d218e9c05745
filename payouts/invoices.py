"""Labs that pay by invoice: made at Stripe step by step, and booked only when Stripe has the money.

Whom it is addressed to, the invoice, its line, and letting it be paid are four writes, each planned
in the transaction that records the one before, so that a crash leaves a call to be made and never
an invoice that nobody goes on with. What pays it is a payment like any other, and is booked by
`payouts.funding` as one: an invoice moves no money by itself.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from payouts.calls import Fact, FactKind, Params, plan_call
from payouts.errors import EventUnclear, InvoiceNotOpen, UnknownFunding
from payouts.funding import fail_funding, funding_fact, locked_funding, record_intent
from payouts.invoice_models import FundingInvoice, LabCustomer
from payouts.models import ExternalCall, Funding
from payouts.money import Money, checked_amount
from payouts.seen import InvoiceSeen, PaymentIntentSeen
from payouts.states import INVOICE_MOVES, CallOperation, CallState, InvoiceState

ENDED = {
    InvoiceState.VOID: ("invoice_void", "The invoice was taken back."),
    InvoiceState.UNCOLLECTIBLE: ("invoice_uncollectible", "The invoice was given up as not paid."),
}
"""How an invoice ends without money, and the sentence that its lab reads."""


def plan_invoice(
    session: Session,
    *,
    funding_id: UUID,
    lab_id: UUID,
    money: Money,
    email: str,
    days_until_due: int,
    at: datetime,
) -> ExternalCall:
    """Plan an invoice to a lab; nothing is in the books before it is paid and Stripe has the money.

    Returns the first call to make; `next_call` names those that follow.

    Raises:
        BadAmount.
    """
    checked_amount(money.amount_minor)
    customer = _customer(session, lab_id, email.strip().lower(), at)
    row = FundingInvoice(
        funding_id=funding_id,
        lab_id=lab_id,
        customer_id=customer.id,
        days_until_due=days_until_due,
        call_id=uuid7(),
    )
    if customer.customer_id is None:
        assert customer.call_id is not None
        call = session.get_one(ExternalCall, customer.call_id)
    else:
        call = plan_draft(session, row, money.currency, customer.customer_id, at)
    row.call_id = call.id
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
    session.add(row)
    session.flush()
    return call


def _customer(session: Session, lab_id: UUID, email: str, at: datetime) -> LabCustomer:
    """Whom a lab's invoices go to, locked; made at the first asking with the call that makes it."""
    session.execute(
        insert(LabCustomer).values(id=uuid7(), lab_id=lab_id, email=email).on_conflict_do_nothing()
    )
    found = session.scalars(
        select(LabCustomer)
        .where(LabCustomer.lab_id == lab_id, LabCustomer.email == email)
        .with_for_update()
    ).one()
    before = None if found.call_id is None else session.get_one(ExternalCall, found.call_id)
    if before is None or before.state == CallState.REFUSED:
        natural_key = f"customer:{found.id}"
        call = plan_call(
            session,
            operation=CallOperation.CUSTOMER,
            natural_key=natural_key,
            attempt=1 if before is None else before.attempt + 1,
            subject_id=found.id,
            params={
                "email": email,
                "metadata": {"lab_id": str(lab_id), "natural_key": natural_key},
            },
            at=at,
        )
        found.call_id = call.id
        session.flush()
    return found


def next_call(session: Session, funding_id: UUID) -> UUID | None:
    """The write about an invoice that is planned and was not made yet, if there is one."""
    return session.scalar(
        select(ExternalCall.id)
        .join(FundingInvoice, FundingInvoice.call_id == ExternalCall.id)
        .where(FundingInvoice.funding_id == funding_id, ExternalCall.state == CallState.PLANNED)
    )


def invoice_of(session: Session, funding_id: UUID, *, locked: bool = False) -> FundingInvoice:
    """The invoice of a funding.

    Raises:
        UnknownFunding: it is not paid by invoice.
    """
    found = session.get(
        FundingInvoice, funding_id, with_for_update=locked or None, populate_existing=locked
    )
    if found is None:
        raise UnknownFunding(funding_id)
    return found


def plan_void(session: Session, *, funding_id: UUID, at: datetime) -> ExternalCall:
    """Plan to take an invoice back that was not paid.

    Raises:
        UnknownFunding: it is not paid by invoice.
        InvoiceNotOpen: it is not out yet, or is over.
    """
    locked_funding(session, funding_id)
    row = invoice_of(session, funding_id, locked=True)
    if row.state not in (InvoiceState.OPEN, InvoiceState.UNCOLLECTIBLE):
        raise InvoiceNotOpen(funding_id, row.state)
    assert row.invoice_id is not None
    number = session.scalar(
        select(func.count())
        .select_from(ExternalCall)
        .where(
            ExternalCall.natural_key == f"invoice_void:{funding_id}",
            ExternalCall.state == CallState.REFUSED,
        )
    )
    return plan_step(
        session,
        CallOperation.INVOICE_VOID,
        row,
        {"invoice": row.invoice_id},
        at,
        attempt=1 + (number or 0),
    )


def open_past_due(session: Session, at: datetime, *, limit: int = 100) -> list[UUID]:
    """Fundings whose invoice is open past its time and of whose lateness nobody was told."""
    return list(
        session.scalars(
            select(FundingInvoice.funding_id)
            .where(
                FundingInvoice.state == InvoiceState.OPEN,
                FundingInvoice.overdue_at.is_(None),
                FundingInvoice.due_at <= at,
            )
            .order_by(FundingInvoice.due_at, FundingInvoice.funding_id)
            .limit(limit)
        )
    )


def record_overdue(session: Session, funding_id: UUID, at: datetime) -> list[Fact]:
    """Say once that an invoice was not paid in its time; it can still be."""
    funding = locked_funding(session, funding_id)
    row = invoice_of(session, funding_id, locked=True)
    if row.state != InvoiceState.OPEN or row.overdue_at or row.due_at is None or row.due_at > at:
        return []
    row.overdue_at = at
    session.flush()
    text = f"Invoice {row.number} was due on {row.due_at:%Y-%m-%d}."
    return [funding_fact(FactKind.FUNDING_OVERDUE, funding, text)]


def record_invoice(
    session: Session,
    funding: Funding,
    seen: InvoiceSeen,
    payment: PaymentIntentSeen | None,
    at: datetime,
) -> list[Fact]:
    """Take over how an invoice stands, only ever forward; the funding is locked by the caller.

    Raises:
        EventUnclear: paid, and not by one payment over the whole amount at Stripe; or it stands in
            a way that this version does not know.
    """
    if seen.status not in list(InvoiceState):
        raise EventUnclear(f"invoice {seen.id} is {seen.status}, which is not known here")
    row = invoice_of(session, funding.id, locked=True)
    row.invoice_id = row.invoice_id or seen.id
    row.number, row.url = seen.number or row.number, seen.url or row.url
    row.due_at = seen.due_at or row.due_at
    state = InvoiceState(seen.status)
    facts = []
    moved = (row.state, state) in INVOICE_MOVES
    if moved:
        row.state = state
        if state == InvoiceState.OPEN:
            facts.append(funding_fact(FactKind.FUNDING_INVOICED, funding, row.number or ""))
        elif state in ENDED:
            facts += fail_funding(session, funding, *ENDED[state])
    session.flush()
    money = Money(funding.amount_minor, funding.currency)
    if payment is not None and Money(payment.amount_minor, payment.currency) == money:
        facts += record_intent(session, funding, payment, at)
    elif state == InvoiceState.PAID and moved:
        # Said once, of whichever event comes first.
        raise EventUnclear(
            f"invoice {seen.id} is paid, and not by one payment of {money} on this Stripe balance"
        )
    return facts


def plan_step(
    session: Session,
    operation: CallOperation,
    row: FundingInvoice,
    params: Params,
    at: datetime,
    *,
    attempt: int = 1,
) -> ExternalCall:
    """Plan the next write about an invoice, which the caller has locked."""
    call = plan_call(
        session,
        operation=operation,
        natural_key=f"{operation}:{row.funding_id}",
        attempt=attempt,
        subject_id=row.funding_id,
        params=params,
        at=at,
    )
    row.call_id = call.id
    session.flush()
    return call


def carried(operation: CallOperation, funding_id: UUID) -> Params:
    """What an object of Stripe's carries, so that it is found when its answer was lost."""
    return {"funding_id": str(funding_id), "natural_key": f"{operation}:{funding_id}"}


def plan_draft(
    session: Session, row: FundingInvoice, currency: str, customer_id: str, at: datetime
) -> ExternalCall:
    """Plan the invoice itself, without lines, once it is known whom it goes to."""
    params: Params = {
        "customer": customer_id,
        "currency": currency.lower(),
        "collection_method": "send_invoice",
        "days_until_due": row.days_until_due,
        # Neither sent before it has its line, nor with lines that belong to another invoice.
        "auto_advance": False,
        "pending_invoice_items_behavior": "exclude",
        "description": "Project budget",
        "metadata": carried(CallOperation.INVOICE, row.funding_id),
    }
    return plan_step(session, CallOperation.INVOICE, row, params, at)
