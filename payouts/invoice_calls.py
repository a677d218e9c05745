"""The writes that make an invoice, each of which plans the next when its answer is recorded."""

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.orm import Session

from payouts.calls import Answer, Fact, Operation, Params, Refusal, params_of
from payouts.funding import fail_funding, locked_funding
from payouts.invoice_models import FundingInvoice, LabCustomer
from payouts.invoices import carried, invoice_of, plan_draft, plan_step, record_invoice
from payouts.models import ExternalCall, Funding
from payouts.seen import InvoiceSeen, MadeSeen
from payouts.states import CallOperation, InvoiceState

if TYPE_CHECKING:
    from payouts.gateway import Gateway
    from payouts.holds import HoldPolicy


def _record_customer(
    session: Session, call: ExternalCall, at: datetime, *, seen: MadeSeen
) -> list[Fact]:
    customer = session.get_one(LabCustomer, call.subject_id, with_for_update=True)
    customer.customer_id = seen.id
    for row in _waiting(session, customer, call):
        currency = session.get_one(Funding, row.funding_id).currency
        plan_draft(session, row, currency, seen.id, at)
    return []


def _waiting(session: Session, customer: LabCustomer, call: ExternalCall) -> list[FundingInvoice]:
    """The invoices that wait for the one whom they are addressed to."""
    return list(
        session.scalars(
            select(FundingInvoice)
            .where(FundingInvoice.customer_id == customer.id, FundingInvoice.call_id == call.id)
            .order_by(FundingInvoice.funding_id)
            .with_for_update()
        )
    )


def _record_draft(
    session: Session, call: ExternalCall, at: datetime, *, seen: InvoiceSeen
) -> list[Fact]:
    funding = locked_funding(session, call.subject_id)
    row = invoice_of(session, funding.id, locked=True)
    row.invoice_id, row.state = seen.id, InvoiceState.DRAFT
    customer = session.get_one(LabCustomer, row.customer_id)
    assert customer.customer_id is not None
    params: Params = {
        "customer": customer.customer_id,
        "invoice": seen.id,
        "amount": funding.amount_minor,
        "currency": funding.currency.lower(),
        "description": "Project budget",
        "metadata": carried(CallOperation.INVOICE_LINE, funding.id),
    }
    plan_step(session, CallOperation.INVOICE_LINE, row, params, at)
    return []


def _record_line(
    session: Session, call: ExternalCall, at: datetime, *, seen: MadeSeen
) -> list[Fact]:
    del seen
    row = invoice_of(session, call.subject_id, locked=True)
    assert row.invoice_id is not None
    # From here on Stripe sends it, reminds of it and takes what comes.
    params: Params = {"invoice": row.invoice_id, "auto_advance": True}
    plan_step(session, CallOperation.INVOICE_OPENING, row, params, at)
    return []


def _record_seen(
    session: Session, call: ExternalCall, at: datetime, *, seen: InvoiceSeen
) -> list[Fact]:
    if seen.status == InvoiceState.PAID:
        # Paid before our own call was answered: its webhook brings the payment along.
        return []
    return record_invoice(session, locked_funding(session, call.subject_id), seen, None, at)


def _refused(
    session: Session, call: ExternalCall, refusal: Refusal, _at: datetime, _policy: "HoldPolicy"
) -> list[Fact]:
    """An invoice that cannot be made, or not to this address, brings no money."""
    if call.operation == CallOperation.CUSTOMER:
        customer = session.get_one(LabCustomer, call.subject_id, with_for_update=True)
        ids = [row.funding_id for row in _waiting(session, customer, call)]
    else:
        ids = [call.subject_id]
    facts = []
    for funding_id in ids:
        funding = locked_funding(session, funding_id)
        facts += fail_funding(session, funding, refusal.code, refusal.text)
    return facts


def _customer_answer(seen: MadeSeen) -> Answer:
    return Answer(seen.id, {"id": seen.id}, record=partial(_record_customer, seen=seen))


def _line_answer(seen: MadeSeen) -> Answer:
    return Answer(seen.id, {"id": seen.id}, record=partial(_record_line, seen=seen))


def _draft_answer(seen: InvoiceSeen) -> Answer:
    summary: Params = {"id": seen.id, "status": seen.status}
    return Answer(seen.id, summary, record=partial(_record_draft, seen=seen))


def _seen_answer(seen: InvoiceSeen) -> Answer:
    summary: Params = {"id": seen.id, "status": seen.status, "due": seen.due_minor}
    return Answer(seen.id, summary, record=partial(_record_seen, seen=seen))


def _apart(call: ExternalCall) -> tuple[str, Params]:
    """The invoice that a write is about, and what the write says of it."""
    params = dict(params_of(call))
    return str(params.pop("invoice")), params


def _make_customer(gateway: "Gateway", call: ExternalCall) -> Answer:
    return _customer_answer(gateway.create_customer(params_of(call), key=str(call.id)))


def _find_customer(gateway: "Gateway", call: ExternalCall) -> Answer | None:
    for seen in gateway.customers(str(params_of(call)["email"])):
        if seen.metadata.get("natural_key") == call.natural_key:
            return _customer_answer(seen)
    return None


def _make_draft(gateway: "Gateway", call: ExternalCall) -> Answer:
    return _draft_answer(gateway.create_invoice(params_of(call), key=str(call.id)))


def _find_draft(gateway: "Gateway", call: ExternalCall) -> Answer | None:
    for seen in gateway.invoices(str(params_of(call)["customer"])):
        if seen.metadata.get("natural_key") == call.natural_key:
            return _draft_answer(seen)
    return None


def _make_line(gateway: "Gateway", call: ExternalCall) -> Answer:
    return _line_answer(gateway.create_invoice_line(params_of(call), key=str(call.id)))


def _find_line(gateway: "Gateway", call: ExternalCall) -> Answer | None:
    for seen in gateway.invoice_lines(str(params_of(call)["invoice"])):
        if seen.metadata.get("natural_key") == call.natural_key:
            return _line_answer(seen)
    return None


def _open(gateway: "Gateway", call: ExternalCall) -> Answer:
    invoice_id, params = _apart(call)
    return _seen_answer(gateway.open_invoice(invoice_id, params, key=str(call.id)))


def _find_open(gateway: "Gateway", call: ExternalCall) -> Answer | None:
    seen = gateway.invoice(_apart(call)[0])
    return None if seen.status == InvoiceState.DRAFT else _seen_answer(seen)


def _void(gateway: "Gateway", call: ExternalCall) -> Answer:
    invoice_id, params = _apart(call)
    return _seen_answer(gateway.void_invoice(invoice_id, params, key=str(call.id)))


def _find_void(gateway: "Gateway", call: ExternalCall) -> Answer | None:
    seen = gateway.invoice(_apart(call)[0])
    return _seen_answer(seen) if seen.status == InvoiceState.VOID else None


OPERATIONS = {
    CallOperation.CUSTOMER: Operation(
        perform=_make_customer, refused=_refused, look_up=_find_customer
    ),
    CallOperation.INVOICE: Operation(perform=_make_draft, refused=_refused, look_up=_find_draft),
    CallOperation.INVOICE_LINE: Operation(perform=_make_line, refused=_refused, look_up=_find_line),
    CallOperation.INVOICE_OPENING: Operation(perform=_open, refused=_refused, look_up=_find_open),
    # Refused, it is paid or over already, which its webhook tells.
    CallOperation.INVOICE_VOID: Operation(perform=_void, look_up=_find_void),
}
