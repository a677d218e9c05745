"""Transfers to connected accounts, their reversals, and automatic payouts to banks."""

from __future__ import annotations

from tests.fakestripe import accounts, exchange
from tests.fakestripe.answers import Call, Handler, page, rendered
from tests.fakestripe.payments import balance_of
from tests.fakestripe.world import PLATFORM, ApiRefusal, Json, World, transaction


def _bad(message: str, code: str, param: str = "") -> ApiRefusal:
    return ApiRefusal(400, "invalid_request_error", message, code=code, param=param)


def create_transfer(world: World, call: Call) -> Json:
    params = call.params
    amount, currency, destination = params.get("amount"), params["currency"], params["destination"]
    if amount is None:
        raise _bad("Missing required param: amount.", "parameter_missing", "amount")
    if amount < 1:
        raise _bad(
            "This value must be greater than or equal to 1.", "parameter_invalid_integer", "amount"
        )
    if destination not in world.objects.get("account", {}):
        raise _bad(f"No such destination: '{destination}'", "resource_missing", "destination")
    if not accounts.transfers_active(world, destination):
        raise _bad(
            "Your destination account needs to have at least one of the following capabilities "
            "enabled: transfers",
            "insufficient_capabilities_for_transfer",
        )
    kept = world.get("account", destination)["defaults"]["currency"]
    rate = None if kept == currency else exchange.rate_of(world, currency, kept)
    arriving = amount if rate is None else exchange.changed(amount, rate)
    transfer_id, payment_id = world.new_id("tr"), world.new_id("py")
    # Checked first, so that a refusal leaves nothing behind.
    world.bank.move(
        kind="transfer",
        source=transfer_id,
        at=world.now(),
        legs=exchange.legs(
            "platform/available", amount, currency, f"{destination}/available", arriving, kept
        ),
    )
    out = transaction(
        world,
        owner=PLATFORM,
        kind="transfer",
        category="transfer",
        source=transfer_id,
        amount=-amount,
        currency=currency,
        description=params.get("description"),
    )
    arrived = transaction(
        world,
        owner=destination,
        kind="payment",
        category="charge",
        source=payment_id,
        amount=arriving,
        currency=kept,
        exchange_rate=rate,
    )
    world.put(
        "charge",
        {
            "id": payment_id,
            "object": "charge",
            "amount": amount,
            "amount_captured": amount,
            "amount_refunded": 0,
            "balance_transaction": arrived["id"],
            "billing_details": {
                "address": None,
                "email": None,
                "name": None,
                "phone": None,
                "tax_id": None,
            },
            "captured": True,
            "created": world.stamp(),
            "currency": currency,
            "disputed": False,
            "livemode": False,
            "metadata": {},
            "paid": True,
            "payment_intent": None,
            "payment_method_details": None,
            "refunded": False,
            "source_transfer": transfer_id,
            "status": "succeeded",
            "transfer_group": None,
        },
        owner=destination,
    )
    transfer: Json = {
        "id": transfer_id,
        "object": "transfer",
        "amount": amount,
        "amount_reversed": 0,
        "balance_transaction": out["id"],
        "created": world.stamp(),
        "currency": currency,
        "description": params.get("description"),
        "destination": destination,
        "destination_payment": payment_id,
        "livemode": False,
        "metadata": params.get("metadata", {}),
        "reversals": {
            "object": "list",
            "data": [],
            "has_more": False,
            "url": f"/v1/transfers/{transfer_id}/reversals",
        },
        "reversed": False,
        "source_transaction": None,
        "source_type": "card",
        "transfer_group": params.get("transfer_group"),
    }
    world.put("transfer", transfer)
    world.event("transfer.created", transfer)
    world.later(world.delays.payout_s, "payout", destination)
    return rendered(world, transfer, call)


def retrieve_transfer(world: World, call: Call) -> Json:
    return rendered(world, world.get("transfer", call.ids[0], owner=call.account), call)


def list_transfers(world: World, call: Call) -> Json:
    found = world.every("transfer", owner=call.account)
    for name in ("transfer_group", "destination"):
        if name in call.params:
            found = [transfer for transfer in found if transfer[name] == call.params[name]]
    return page(world, found, call)


def create_reversal(world: World, call: Call) -> Json:
    transfer = world.get("transfer", call.ids[0], owner=PLATFORM)
    left = transfer["amount"] - transfer["amount_reversed"]
    # As Stripe describes it: no amount means the whole transfer.
    amount = call.params.get("amount", left)
    if amount < 1 or amount > left:
        raise _bad(
            f"Reversal amount ({amount}) is greater than the unreversed amount ({left}).",
            "transfer_reversal_amount_too_large",
            "amount",
        )
    currency, account = transfer["currency"], transfer["destination"]
    kept = world.get("account", account)["defaults"]["currency"]
    # Of what arrived the same share is taken, and it comes back at the rate of today.
    arrived = world.get("charge", transfer["destination_payment"])["balance_transaction"]
    whole = world.get("balance_transaction", arrived)["amount"]
    reversed_then, reversed_now = transfer["amount_reversed"], transfer["amount_reversed"] + amount
    taken = whole * reversed_now // transfer["amount"] - whole * reversed_then // transfer["amount"]
    rate = None if kept == currency else exchange.rate_of(world, kept, currency)
    coming = amount if rate is None else exchange.changed(taken, rate)
    reversal_id = world.new_id("trr")
    if world.bank.balance(f"{account}/available", kept) < taken:
        raise _bad("The connected account has too little money.", "balance_insufficient")
    world.bank.move(
        kind="reversal",
        source=reversal_id,
        at=world.now(),
        legs=exchange.legs(
            f"{account}/available", taken, kept, "platform/available", coming, currency
        ),
    )
    line = transaction(
        world,
        owner=PLATFORM,
        kind="transfer_refund",
        category="transfer_reversal",
        source=reversal_id,
        amount=coming,
        currency=currency,
        exchange_rate=rate,
    )
    payment_refund = world.new_id("pyr")
    transaction(
        world,
        owner=account,
        kind="payment_refund",
        category="refund",
        source=payment_refund,
        amount=-taken,
        currency=kept,
    )
    transfer["amount_reversed"] += amount
    transfer["reversed"] = transfer["amount_reversed"] == transfer["amount"]
    reversal: Json = {
        "id": reversal_id,
        "object": "transfer_reversal",
        "amount": amount,
        "balance_transaction": line["id"],
        "created": world.stamp(),
        "currency": currency,
        "destination_payment_refund": payment_refund,
        "metadata": call.params.get("metadata") or {},
        "source_refund": None,
        "transfer": transfer["id"],
    }
    world.put("transfer_reversal", reversal)
    transfer["reversals"]["data"].insert(0, dict(reversal))
    world.event("transfer.reversed", transfer)
    return rendered(world, reversal, call)


def list_reversals(world: World, call: Call) -> Json:
    transfer = world.get("transfer", call.ids[0], owner=PLATFORM)
    found = [r for r in world.every("transfer_reversal") if r["transfer"] == transfer["id"]]
    return page(world, found, call)


def list_payouts(world: World, call: Call) -> Json:
    found = world.every("payout", owner=call.account)
    if "status" in call.params:
        found = [payout for payout in found if payout["status"] == call.params["status"]]
    return page(world, found, call)


def retrieve_payout(world: World, call: Call) -> Json:
    return rendered(world, world.get("payout", call.ids[0], owner=call.account), call)


def retrieve_balance(world: World, call: Call) -> Json:
    return balance_of(world, call.account)


def list_transactions(world: World, call: Call) -> Json:
    found = world.every("balance_transaction", owner=call.account)
    for name in ("source", "type", "currency"):
        if name in call.params:
            found = [line for line in found if line[name] == call.params[name]]
    if "payout" in call.params:
        world.get("payout", call.params["payout"], owner=call.account)
        found = [line for line in found if line.get("_payout") == call.params["payout"]]
    return page(world, found, call)


def retrieve_transaction(world: World, call: Call) -> Json:
    return rendered(world, world.get("balance_transaction", call.ids[0], owner=call.account), call)


def list_events(world: World, call: Call) -> Json:
    found = world.every("event", owner=call.account)
    if "type" in call.params:
        found = [event for event in found if event["type"] == call.params["type"]]
    if "types" in call.params:
        found = [event for event in found if event["type"] in call.params["types"]]
    return page(world, found, call)


def retrieve_event(world: World, call: Call) -> Json:
    return rendered(world, world.get("event", call.ids[0], owner=call.account), call)


def start_payout(world: World, account_id: str) -> None:
    """The automatic schedule: all that is available goes to the bank, one payout per currency."""
    account = world.get("account", account_id)
    balance = account["configuration"]["recipient"]["capabilities"]["stripe_balance"]
    if (
        not account.get("_bank")
        or account.get("_bank_errored")
        or balance["payouts"]["status"] != "active"
    ):
        return
    currencies = {c for place, c in world.bank.held if place == f"{account_id}/available"}
    for currency in sorted(currencies):
        amount = world.bank.balance(f"{account_id}/available", currency)
        if amount <= 0:
            continue
        payout_id = world.new_id("po")
        for line in world.every("balance_transaction", owner=account_id):
            if line["currency"] == currency and line.get("_payout") is None:
                line["_payout"] = payout_id
        world.bank.move(
            kind="payout",
            source=payout_id,
            at=world.now(),
            legs=[
                (f"{account_id}/available", currency, -amount),
                (f"{account_id}/in_transit", currency, amount),
            ],
        )
        line = transaction(
            world,
            owner=account_id,
            kind="payout",
            category="payout",
            source=payout_id,
            amount=-amount,
            currency=currency,
        )
        line["_payout"] = payout_id
        payout: Json = {
            "id": payout_id,
            "object": "payout",
            "amount": amount,
            "application_fee": None,
            "application_fee_amount": None,
            "arrival_date": world.stamp(),
            "automatic": True,
            "balance_transaction": line["id"],
            "created": world.stamp(),
            "currency": currency,
            "description": "STRIPE PAYOUT",
            "destination": account["_bank"],
            "failure_balance_transaction": None,
            "failure_code": None,
            "failure_message": None,
            "livemode": False,
            "metadata": {},
            "method": "standard",
            "original_payout": None,
            "payout_method": None,
            "reconciliation_status": "in_progress",
            "reversed_by": None,
            "source_type": "card",
            "statement_descriptor": None,
            "status": "pending",
            "trace_id": None,
            "type": "bank_account",
        }
        world.put("payout", payout, owner=account_id)
        world.event("payout.created", payout, account=account_id)
        world.later(world.delays.payout_s, "payout_sent", payout_id)


def send_payout(world: World, payout_id: str) -> None:
    """The payout leaves for the bank, and Stripe says which transactions it holds."""
    payout = world.get("payout", payout_id)
    if payout["status"] != "pending":
        return
    account_id = world.owner_of[payout_id]
    payout["status"] = "in_transit"
    world.event("payout.updated", payout, account=account_id)
    if payout["automatic"]:
        payout["reconciliation_status"] = "completed"
        world.event("payout.reconciliation_completed", payout, account=account_id)
    world.later(world.delays.payout_s, "payout_paid", payout_id)


def finish_payout(world: World, payout_id: str) -> None:
    """The bank has it."""
    payout = world.get("payout", payout_id)
    if payout["status"] != "in_transit":
        return
    account_id = world.owner_of[payout_id]
    amount, currency = payout["amount"], payout["currency"]
    world.bank.move(
        kind="payout_paid",
        source=payout_id,
        at=world.now(),
        legs=[
            (f"{account_id}/in_transit", currency, -amount),
            (f"{account_id}/bank", currency, amount),
        ],
    )
    payout["status"] = "paid"
    world.event("payout.paid", payout, account=account_id)


def fail_payout(world: World, payout_id: str, *, code: str) -> Json:
    """The bank sends the money back, even after `paid`; the bank account is marked unusable."""
    payout = world.get("payout", payout_id)
    if payout["status"] == "failed":
        return payout
    account_id = world.owner_of[payout_id]
    amount, currency = payout["amount"], payout["currency"]
    place = "bank" if payout["status"] == "paid" else "in_transit"
    world.bank.move(
        kind="payout_failure",
        source=payout_id,
        at=world.now(),
        legs=[
            (f"{account_id}/{place}", currency, -amount),
            (f"{account_id}/available", currency, amount),
        ],
    )
    line = transaction(
        world,
        owner=account_id,
        kind="payout_failure",
        category="payout_reversal",
        source=payout_id,
        amount=amount,
        currency=currency,
    )
    payout |= {
        "status": "failed",
        "failure_code": code,
        "failure_message": f"The bank refused the money ({code}).",
        "failure_balance_transaction": line["id"],
    }
    if account_id != PLATFORM:
        world.get("account", account_id)["_bank_errored"] = True
    world.event("payout.failed", payout, account=account_id)
    return payout


def top_up(world: World, amount: int, currency: str) -> Json:
    """Money of the platform's own, from its bank to its balance."""
    source = world.new_id("tu")
    world.bank.move(
        kind="topup",
        source=source,
        at=world.now(),
        legs=[("world/payers", currency, -amount), ("platform/available", currency, amount)],
    )
    return transaction(
        world,
        owner=PLATFORM,
        kind="topup",
        category="topup",
        source=source,
        amount=amount,
        currency=currency,
    )


def charge_fee(world: World, amount: int, currency: str) -> Json:
    """A fee that Stripe takes from the platform's balance by itself."""
    fee_id = world.new_id("fee")
    world.bank.move(
        kind="fee",
        source=fee_id,
        at=world.now(),
        legs=[("platform/available", currency, -amount), ("stripe/fees", currency, amount)],
    )
    return transaction(
        world,
        owner=PLATFORM,
        kind="stripe_fee",
        category="fee",
        source=fee_id,
        amount=-amount,
        currency=currency,
        description="Connect: active account fee",
    )


ROUTES: dict[tuple[str, str], Handler] = {
    ("POST", "/v1/transfers"): create_transfer,
    ("GET", "/v1/transfers"): list_transfers,
    ("GET", "/v1/transfers/{transfer}"): retrieve_transfer,
    ("POST", "/v1/transfers/{id}/reversals"): create_reversal,
    ("GET", "/v1/transfers/{id}/reversals"): list_reversals,
    ("GET", "/v1/payouts"): list_payouts,
    ("GET", "/v1/payouts/{payout}"): retrieve_payout,
    ("GET", "/v1/balance"): retrieve_balance,
    ("GET", "/v1/balance_transactions"): list_transactions,
    ("GET", "/v1/balance_transactions/{id}"): retrieve_transaction,
    ("GET", "/v1/events"): list_events,
    ("GET", "/v1/events/{id}"): retrieve_event,
}
