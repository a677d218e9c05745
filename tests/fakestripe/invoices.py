"""Customers, invoices, their lines and what pays them, on the platform's own account."""

from __future__ import annotations

from tests.fakestripe import payments
from tests.fakestripe.answers import Call, Handler, page, public, rendered
from tests.fakestripe.world import PLATFORM, ApiRefusal, Json, World

DAY_S = 24 * 3600


def create_customer(world: World, call: Call) -> Json:
    params = call.params
    customer: Json = {
        "id": world.new_id("cus"),
        "object": "customer",
        "created": world.stamp(),
        "email": params.get("email"),
        "livemode": False,
        "metadata": params.get("metadata", {}),
        "name": params.get("name"),
    }
    world.put("customer", customer)
    world.event("customer.created", customer)
    return rendered(world, customer, call)


def list_customers(world: World, call: Call) -> Json:
    found = world.every("customer", owner=PLATFORM)
    if "email" in call.params:
        found = [one for one in found if one["email"] == call.params["email"]]
    return page(world, found, call)


def create_invoice(world: World, call: Call) -> Json:
    params = call.params
    customer = world.get("customer", str(params.get("customer", "")), owner=PLATFORM)
    sends = params.get("collection_method") == "send_invoice"
    if sends and not customer["email"]:
        raise ApiRefusal(400, "invalid_request_error", "The customer needs an email address.")
    if sends and "days_until_due" not in params:
        raise ApiRefusal(
            400,
            "invalid_request_error",
            "You must pass days_until_due or due_date to send an invoice.",
            code="parameter_missing",
            param="days_until_due",
        )
    invoice_id = world.new_id("in")
    invoice: Json = {
        "id": invoice_id,
        "object": "invoice",
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": params.get("auto_advance", False),
        "automatic_tax": {
            "enabled": False,
            "liability": None,
            "status": None,
            "disabled_reason": None,
            "provider": None,
        },
        "collection_method": params.get("collection_method", "charge_automatically"),
        "created": world.stamp(),
        "currency": params["currency"],
        "customer": customer["id"],
        "default_tax_rates": [],
        "description": params.get("description"),
        "discounts": [],
        "due_date": int(world.now()) + DAY_S * params["days_until_due"] if sends else None,
        "hosted_invoice_url": None,
        "issuer": {"type": "self"},
        "livemode": False,
        "lines": {
            "object": "list",
            "data": [],
            "has_more": False,
            "url": f"/v1/invoices/{invoice_id}/lines",
        },
        "metadata": params.get("metadata", {}),
        "number": None,
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": world.stamp(),
        "period_start": world.stamp(),
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "starting_balance": 0,
        "status": "draft",
        "status_transitions": dict.fromkeys(
            ("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")
        ),
    }
    _count(invoice, 0)
    world.put("invoice", invoice)
    world.event("invoice.created", invoice)
    return rendered(world, invoice, call)


def _count(invoice: Json, total: int, *, paid: int = 0) -> None:
    invoice |= {
        "amount_due": total,
        "amount_overpaid": 0,
        "amount_paid": paid,
        "amount_paid_off_stripe": 0,
        "amount_remaining": total - paid,
        "amount_shipping": 0,
        "subtotal": total,
        "total": total,
    }


def _own(world: World, call: Call) -> Json:
    return world.get("invoice", call.ids[0], owner=call.account)


def retrieve_invoice(world: World, call: Call) -> Json:
    return rendered(world, _own(world, call), call)


def list_invoices(world: World, call: Call) -> Json:
    found = world.every("invoice", owner=call.account)
    for name in ("customer", "status"):
        if name in call.params:
            found = [one for one in found if one[name] == call.params[name]]
    return page(world, found, call)


def create_line(world: World, call: Call) -> Json:
    params = call.params
    invoice = world.get("invoice", str(params.get("invoice", "")), owner=PLATFORM)
    _must_be(invoice, "draft", "have lines added to it")
    if params["currency"] != invoice["currency"]:
        raise ApiRefusal(
            400, "invalid_request_error", "The line has another currency than its invoice."
        )
    line: Json = {
        "id": world.new_id("ii"),
        "object": "invoiceitem",
        "amount": params["amount"],
        "currency": params["currency"],
        "customer": invoice["customer"],
        "created": world.stamp(),
        "date": world.stamp(),
        "description": params.get("description"),
        "discountable": True,
        "invoice": invoice["id"],
        "livemode": False,
        "metadata": params.get("metadata", {}),
        "period": {"start": world.stamp(), "end": world.stamp()},
        "proration": False,
        "quantity": 1,
        "quantity_decimal": "1",
    }
    world.put("invoiceitem", line)
    _count(invoice, invoice["total"] + line["amount"])
    return rendered(world, line, call)


def list_lines(world: World, call: Call) -> Json:
    found = world.every("invoiceitem", owner=call.account)
    if "invoice" in call.params:
        found = [one for one in found if one["invoice"] == call.params["invoice"]]
    return page(world, found, call)


def _must_be(invoice: Json, states: str, what: str) -> None:
    if invoice["status"] not in states.split():
        raise ApiRefusal(
            400, "invalid_request_error", f"A {invoice['status']} invoice cannot {what}."
        )


def _become(world: World, invoice: Json, status: str, moment: str) -> Json:
    invoice["status"] = status
    invoice["status_transitions"][moment] = world.stamp()
    return invoice


def finalize(world: World, call: Call) -> Json:
    invoice = _own(world, call)
    _must_be(invoice, "draft", "be finalized")
    _become(world, invoice, "open", "finalized_at")
    invoice["auto_advance"] = call.params.get("auto_advance", invoice["auto_advance"])
    invoice["number"] = f"STANDIN-{invoice['id'][-4:]}"
    invoice["hosted_invoice_url"] = f"https://invoice.invalid/{invoice['id']}"
    world.event("invoice.finalized", invoice)
    return rendered(world, invoice, call)


def void(world: World, call: Call) -> Json:
    invoice = _own(world, call)
    _must_be(invoice, "open uncollectible", "be voided")
    _become(world, invoice, "void", "voided_at")
    world.event("invoice.voided", invoice)
    return rendered(world, invoice, call)


def give_up(world: World, invoice_id: str) -> Json:
    """Somebody marks an invoice as uncollectible in Stripe's dashboard."""
    invoice = world.get("invoice", invoice_id)
    _must_be(invoice, "open", "be marked uncollectible")
    _become(world, invoice, "uncollectible", "marked_uncollectible_at")
    return world.event("invoice.marked_uncollectible", invoice)


def pay(world: World, invoice_id: str, method: str, *, off_stripe: bool = False) -> Json:
    """Its receiver opens the hosted page and pays: by a payment that carries nothing of ours."""
    invoice = world.get("invoice", invoice_id)
    _must_be(invoice, "open uncollectible", "be paid")
    if off_stripe:
        _record_payment(
            world, invoice, {"type": "payment_record", "payment_record": "prec_standin"}, "paid"
        )
        return settle_invoice(world, invoice)
    intent = payments.new_intent(world, invoice["amount_remaining"], invoice["currency"], {})
    _record_payment(
        world, invoice, {"type": "payment_intent", "payment_intent": intent["id"]}, "open"
    )
    payments.confirm(world, intent, method)
    return public(invoice)


def _record_payment(world: World, invoice: Json, payment: Json, status: str) -> None:
    world.put(
        "invoice_payment",
        {
            "id": world.new_id("inpay"),
            "object": "invoice_payment",
            "amount_paid": None,
            "amount_requested": invoice["amount_remaining"],
            "created": world.stamp(),
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "livemode": False,
            "payment": payment,
            "status": status,
            "status_transitions": {"canceled_at": None, "paid_at": None},
        },
    )


def settle_payment(world: World, intent: Json) -> None:
    """A payment that succeeded pays the invoice that it is for, if it is for one."""
    for paid in world.every("invoice_payment"):
        if paid["payment"].get("payment_intent") == intent["id"] and paid["status"] == "open":
            paid["status"], paid["amount_paid"] = "paid", intent["amount_received"]
            settle_invoice(world, world.get("invoice", paid["invoice"]))


def settle_invoice(world: World, invoice: Json) -> Json:
    """The invoice is paid in full."""
    _count(invoice, invoice["total"], paid=invoice["total"])
    _become(world, invoice, "paid", "paid_at")
    return world.event("invoice.paid", invoice)


def list_payments(world: World, call: Call) -> Json:
    found = world.every("invoice_payment", owner=call.account)
    for name in ("invoice", "status"):
        if name in call.params:
            found = [one for one in found if one[name] == call.params[name]]
    wanted = call.params.get("payment", {}).get("payment_intent")
    if wanted is not None:
        found = [one for one in found if one["payment"].get("payment_intent") == wanted]
    return page(world, found, call)


ROUTES: dict[tuple[str, str], Handler] = {
    ("POST", "/v1/customers"): create_customer,
    ("GET", "/v1/customers"): list_customers,
    ("POST", "/v1/invoices"): create_invoice,
    ("GET", "/v1/invoices"): list_invoices,
    ("GET", "/v1/invoices/{invoice}"): retrieve_invoice,
    ("POST", "/v1/invoices/{invoice}/finalize"): finalize,
    ("POST", "/v1/invoices/{invoice}/void"): void,
    ("POST", "/v1/invoiceitems"): create_line,
    ("GET", "/v1/invoiceitems"): list_lines,
    ("GET", "/v1/invoice_payments"): list_payments,
}
