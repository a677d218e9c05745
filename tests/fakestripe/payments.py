"""Payment intents, charges and refunds on the platform's own account."""

from __future__ import annotations

from tests.fakestripe.answers import Call, Handler, page, rendered
from tests.fakestripe.world import PLATFORM, ApiRefusal, Json, World, transaction

DECLINES = {
    "pm_card_chargeDeclined": ("card_declined", "Your card was declined."),
    "pm_card_chargeDeclinedInsufficientFunds": (
        "card_declined",
        "Your card has insufficient funds.",
    ),
}
BANK_DEBITS = ("pm_usBankAccount_success", "pm_usBankAccount_insufficientFunds")
CARDS = ("pm_card_visa", "pm_card_bypassPending")


def fee_for(amount: int, method: str) -> int:
    """Stripe's list price in the US, as an example: 2.9 % + 30 cents, or 0.8 % up to 5 dollars."""
    if method in BANK_DEBITS:
        return min((amount * 8 + 500) // 1000, 500)
    return (amount * 29 + 500) // 1000 + 30


def _charge(world: World, intent: Json, *, status: str, at_once: bool) -> Json:
    charge: Json = {
        "id": world.new_id("ch"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": intent["amount"] if status == "succeeded" else 0,
        "amount_refunded": 0,
        "balance_transaction": None,
        "billing_details": {
            "address": None,
            "email": None,
            "name": None,
            "phone": None,
            "tax_id": None,
        },
        "captured": status == "succeeded",
        "created": world.stamp(),
        "currency": intent["currency"],
        "customer": None,
        "description": intent["description"],
        "disputed": False,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "paid": status == "succeeded",
        "payment_intent": intent["id"],
        "payment_method": intent["payment_method"],
        "payment_method_details": None,
        "refunded": False,
        "source_transfer": None,
        "status": status,
        "transfer_group": intent["transfer_group"],
    }
    world.put("charge", charge)
    intent["latest_charge"] = charge["id"]
    if status == "succeeded":
        _collect(world, intent, charge, at_once=at_once)
    return charge


def _collect(world: World, intent: Json, charge: Json, *, at_once: bool) -> None:
    """The payer's money arrives, less Stripe's fee: available at once, or pending for a while."""
    amount, currency = intent["amount"], intent["currency"]
    fee = fee_for(amount, str(intent["payment_method"]))
    place = "platform/available" if at_once else "platform/pending"
    world.bank.move(
        kind="charge",
        source=charge["id"],
        at=world.now(),
        legs=[
            ("world/payers", currency, -amount),
            (place, currency, amount - fee),
            ("stripe/fees", currency, fee),
        ],
    )
    line = transaction(
        world,
        owner=PLATFORM,
        kind="charge" if intent["payment_method"] in CARDS else "payment",
        category="charge",
        source=charge["id"],
        amount=amount,
        fee=fee,
        currency=currency,
        status="available" if at_once else "pending",
        description=intent["description"],
    )
    charge["balance_transaction"] = line["id"]
    if not at_once:
        line["available_on"] = int(world.now() + world.delays.settle_s)
        world.later(world.delays.settle_s, "settle", line["id"])


def succeed(world: World, intent: Json, *, at_once: bool) -> None:
    """The payment is collected; the events say so."""
    intent["status"] = "succeeded"
    intent["amount_received"] = intent["amount"]
    intent["processing"] = None
    if intent["latest_charge"] is None:
        charge = _charge(world, intent, status="succeeded", at_once=at_once)
    else:
        charge = world.get("charge", intent["latest_charge"])
        charge |= {
            "status": "succeeded",
            "paid": True,
            "captured": True,
            "amount_captured": intent["amount"],
        }
        _collect(world, intent, charge, at_once=at_once)
    world.event("charge.succeeded", charge)
    world.event("payment_intent.succeeded", intent)
    if world.objects.get("invoice_payment"):
        from tests.fakestripe.invoices import settle_payment

        settle_payment(world, intent)


def fail(world: World, intent: Json, *, code: str, message: str) -> Json:
    """The payment was refused; the intent waits for another payment method."""
    intent["status"] = "requires_payment_method"
    intent["processing"] = None
    intent["last_payment_error"] = {
        "type": "card_error" if intent["payment_method"] not in BANK_DEBITS else "api_error",
        "code": code,
        "message": message,
    }
    if intent["latest_charge"] is not None:
        charge = world.get("charge", intent["latest_charge"])
        charge |= {"status": "failed", "failure_code": code, "failure_message": message}
        world.event("charge.failed", charge)
    intent["payment_method"] = None
    world.event("payment_intent.payment_failed", intent)
    return intent


def confirm(world: World, intent: Json, method: str) -> None:
    """A payer gives a payment method, and the payment is tried."""
    intent["payment_method"] = method
    if method in DECLINES:
        code, message = DECLINES[method]
        fail(world, intent, code=code, message=message)
        raise ApiRefusal(402, "card_error", message, code=code, payment_intent=intent)
    if method in CARDS:
        succeed(world, intent, at_once=method == "pm_card_bypassPending")
    elif method in BANK_DEBITS:
        intent["status"] = "processing"
        charge = _charge(world, intent, status="pending", at_once=False)
        world.event("charge.pending", charge)
        world.event("payment_intent.processing", intent)
        world.later(world.delays.settle_s, "collect", intent["id"])
        intent["_outcome"] = method
    else:
        raise ApiRefusal(
            400,
            "invalid_request_error",
            f"No such PaymentMethod: '{method}'",
            code="resource_missing",
            param="payment_method",
        )


def collect(world: World, intent_id: str) -> None:
    """A bank debit comes to its end: paid and available, or returned by the bank."""
    intent = world.get("payment_intent", intent_id)
    if intent["status"] != "processing":
        return
    if intent["_outcome"] == "pm_usBankAccount_success":
        succeed(world, intent, at_once=True)
    else:
        fail(
            world,
            intent,
            code="payment_intent_payment_attempt_failed",
            message="The customer's bank account has insufficient funds.",
        )


def settle(world: World, line_id: str) -> None:
    """Pending money becomes available; Stripe tells of it with the whole balance."""
    line = world.get("balance_transaction", line_id)
    if line["status"] == "available":
        return
    line["status"] = "available"
    net, currency = line["net"], line["currency"]
    world.bank.move(
        kind="settle",
        source=line_id,
        at=world.now(),
        legs=[("platform/pending", currency, -net), ("platform/available", currency, net)],
    )
    world.event("balance.available", balance_of(world, PLATFORM) | {"id": world.new_id("bal")})


def balance_of(world: World, account: str) -> Json:
    """An account's balance object, by currency."""
    currencies = sorted({c for place, c in world.bank.held if place.startswith(f"{account}/")})
    currencies = currencies or ["usd"]

    def part(name: str) -> list[Json]:
        return [
            {
                "amount": world.bank.balance(f"{account}/{name}", currency),
                "currency": currency,
                "source_types": {"card": world.bank.balance(f"{account}/{name}", currency)},
            }
            for currency in currencies
        ]

    return {
        "object": "balance",
        "available": part("available"),
        "livemode": False,
        "pending": part("pending"),
    }


def new_intent(world: World, amount: int, currency: str, params: Json) -> Json:
    """A payment that nobody has given a payment method for yet."""
    intent: Json = {
        "id": world.new_id("pi"),
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_received": 0,
        "automatic_payment_methods": params.get("automatic_payment_methods"),
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic",
        "client_secret": None,
        "confirmation_method": "automatic",
        "created": world.stamp(),
        "currency": currency,
        "customer": None,
        "description": params.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": params.get("metadata", {}),
        "next_action": None,
        "payment_method": None,
        "payment_method_options": {},
        "processing": None,
        "status": "requires_payment_method",
        "transfer_group": params.get("transfer_group"),
    }
    world.put("payment_intent", intent)
    intent["client_secret"] = f"{intent['id']}_secret_standin"
    world.event("payment_intent.created", intent)
    return intent


def create_payment_intent(world: World, call: Call) -> Json:
    params = call.params
    amount = params.get("amount")
    if amount is None or params.get("currency") is None:
        raise ApiRefusal(
            400,
            "invalid_request_error",
            "Missing required param: amount or currency.",
            code="parameter_missing",
        )
    if amount < 50:
        raise ApiRefusal(
            400,
            "invalid_request_error",
            "Amount must be at least $0.50 usd",
            code="amount_too_small",
            param="amount",
        )
    intent = new_intent(world, amount, params["currency"], params)
    if params.get("confirm"):
        confirm(world, intent, str(params.get("payment_method", "")))
    elif params.get("payment_method"):
        intent["payment_method"] = params["payment_method"]
        intent["status"] = "requires_confirmation"
    return rendered(world, intent, call)


def retrieve_payment_intent(world: World, call: Call) -> Json:
    return rendered(world, world.get("payment_intent", call.ids[0], owner=call.account), call)


def list_payment_intents(world: World, call: Call) -> Json:
    return page(world, world.every("payment_intent", owner=call.account), call)


def retrieve_charge(world: World, call: Call) -> Json:
    return rendered(world, world.get("charge", call.ids[0], owner=call.account), call)


def list_charges(world: World, call: Call) -> Json:
    found = world.every("charge", owner=call.account)
    for name in ("payment_intent", "transfer_group"):
        if name in call.params:
            found = [charge for charge in found if charge[name] == call.params[name]]
    return page(world, found, call)


def create_refund(world: World, call: Call) -> Json:
    params = call.params
    if "charge" in params:
        charge = world.get("charge", params["charge"], owner=PLATFORM)
    elif "payment_intent" in params:
        intent = world.get("payment_intent", params["payment_intent"], owner=PLATFORM)
        if intent["latest_charge"] is None:
            raise ApiRefusal(
                400, "invalid_request_error", "This PaymentIntent has no successful charge."
            )
        charge = world.get("charge", intent["latest_charge"])
    else:
        raise ApiRefusal(
            400,
            "invalid_request_error",
            "One of the following params should be provided: payment_intent or charge.",
            code="parameter_missing",
        )
    left = charge["amount_captured"] - charge["amount_refunded"]
    amount = params.get("amount", left)
    if amount <= 0 or amount > left:
        raise ApiRefusal(
            400,
            "invalid_request_error",
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left}).",
            code="charge_already_refunded" if left == 0 else "amount_too_large",
            param="amount",
        )
    currency = charge["currency"]
    refund_id = world.new_id("re")
    world.bank.move(
        kind="refund",
        source=refund_id,
        at=world.now(),
        legs=[("platform/available", currency, -amount), ("world/payers", currency, amount)],
    )
    line = transaction(
        world,
        owner=PLATFORM,
        kind="refund",
        category="refund",
        source=refund_id,
        amount=-amount,
        currency=currency,
    )
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    refund: Json = {
        "id": refund_id,
        "object": "refund",
        "amount": amount,
        "balance_transaction": line["id"],
        "charge": charge["id"],
        "created": world.stamp(),
        "currency": currency,
        "metadata": params.get("metadata", {}),
        "payment_intent": charge["payment_intent"],
        "reason": params.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }
    world.put("refund", refund)
    world.event("refund.created", refund)
    world.event("charge.refunded", charge)
    return rendered(world, refund, call)


def fail_refund(world: World, refund_id: str) -> Json:
    """The payer's bank does not take the refund: the money is back on the platform's balance."""
    refund = world.get("refund", refund_id)
    amount, currency = refund["amount"], refund["currency"]
    world.bank.move(
        kind="refund_failure",
        source=refund_id,
        at=world.now(),
        legs=[("world/payers", currency, -amount), ("platform/available", currency, amount)],
    )
    line = transaction(
        world,
        owner=PLATFORM,
        kind="refund_failure",
        category="refund_failure",
        source=refund_id,
        amount=amount,
        currency=currency,
    )
    refund |= {
        "status": "failed",
        "failure_reason": "lost_or_stolen_card",
        "failure_balance_transaction": line["id"],
    }
    charge = world.get("charge", refund["charge"])
    charge["amount_refunded"] -= amount
    charge["refunded"] = False
    world.event("refund.failed", refund)
    return refund


def retrieve_refund(world: World, call: Call) -> Json:
    return rendered(world, world.get("refund", call.ids[0], owner=call.account), call)


def list_refunds(world: World, call: Call) -> Json:
    found = world.every("refund", owner=call.account)
    for name in ("payment_intent", "charge"):
        if name in call.params:
            found = [refund for refund in found if refund[name] == call.params[name]]
    return page(world, found, call)


ROUTES: dict[tuple[str, str], Handler] = {
    ("POST", "/v1/payment_intents"): create_payment_intent,
    ("GET", "/v1/payment_intents"): list_payment_intents,
    ("GET", "/v1/payment_intents/{intent}"): retrieve_payment_intent,
    ("GET", "/v1/charges"): list_charges,
    ("GET", "/v1/charges/{charge}"): retrieve_charge,
    ("POST", "/v1/refunds"): create_refund,
    ("GET", "/v1/refunds"): list_refunds,
    ("GET", "/v1/refunds/{refund}"): retrieve_refund,
}
