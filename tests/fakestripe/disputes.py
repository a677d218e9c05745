"""Disputes of charges by payers' banks, and the platform's own payouts to its bank."""

from __future__ import annotations

from tests.fakestripe.answers import Call, Handler, page, rendered
from tests.fakestripe.world import PLATFORM, ApiRefusal, Json, World, transaction

FEE = 1500
"""What Stripe takes for a dispute, won or lost: 15.00, as an example."""
OPEN = ("needs_response", "warning_needs_response")
DUE_IN_S = 7 * 24 * 3600


def open_dispute(
    world: World, charge_id: str, *, reason: str, amount: int | None, inquiry: bool
) -> Json:
    """The payer's bank takes a payment back, or only asks about it."""
    charge = world.get("charge", charge_id, owner=PLATFORM)
    dispute: Json = {
        "id": world.new_id("du"),
        "object": "dispute",
        "amount": amount or charge["amount"] - charge["amount_refunded"],
        "balance_transactions": [],
        "charge": charge_id,
        "created": world.stamp(),
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {"enhanced_evidence": {}},
        "evidence_details": {
            "due_by": world.stamp() + DUE_IN_S,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": inquiry,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "reason": reason,
        "status": "warning_needs_response" if inquiry else "needs_response",
    }
    world.put("dispute", dispute)
    charge["disputed"] = True
    world.event("charge.dispute.created", dispute)
    if not inquiry:
        _withdraw(world, dispute)
    return dispute


def _withdraw(world: World, dispute: Json) -> None:
    """The money leaves at once, with a fee, whatever is on the balance."""
    amount, currency = dispute["amount"], dispute["currency"]
    world.bank.move(
        kind="dispute",
        source=dispute["id"],
        at=world.now(),
        may_overdraw=True,
        legs=[
            ("platform/available", currency, -(amount + FEE)),
            ("world/payers", currency, amount),
            ("stripe/fees", currency, FEE),
        ],
    )
    line = transaction(
        world,
        owner=PLATFORM,
        kind="adjustment",
        category="dispute",
        source=dispute["id"],
        amount=-amount,
        fee=FEE,
        currency=currency,
        description=f"Chargeback withdrawal for {dispute['charge']}",
    )
    dispute["balance_transactions"].append(dict(line))
    world.event("charge.dispute.funds_withdrawn", dispute)


def escalate(world: World, dispute_id: str) -> Json:
    """An inquiry becomes a dispute: now the money is taken."""
    dispute = world.get("dispute", dispute_id)
    dispute["status"] = "needs_response"
    dispute["is_charge_refundable"] = False
    world.event("charge.dispute.updated", dispute)
    _withdraw(world, dispute)
    return dispute


def close_dispute(world: World, dispute_id: str, *, won: bool) -> Json:
    """The payer's bank decides; what it took comes back when the platform has won."""
    dispute = world.get("dispute", dispute_id)
    if dispute["status"].startswith("warning_"):
        dispute["status"] = "warning_closed"
        world.event("charge.dispute.closed", dispute)
        return dispute
    dispute["status"] = "won" if won else "lost"
    if won:
        amount, currency = dispute["amount"], dispute["currency"]
        world.bank.move(
            kind="dispute_reversal",
            source=dispute_id,
            at=world.now(),
            legs=[("world/payers", currency, -amount), ("platform/available", currency, amount)],
        )
        line = transaction(
            world,
            owner=PLATFORM,
            kind="adjustment",
            category="dispute_reversal",
            source=dispute_id,
            amount=amount,
            currency=currency,
            description=f"Chargeback reversal for {dispute['charge']}",
        )
        dispute["balance_transactions"].append(dict(line))
        world.event("charge.dispute.funds_reinstated", dispute)
    world.event("charge.dispute.closed", dispute)
    return dispute


def retrieve_dispute(world: World, call: Call) -> Json:
    return rendered(world, world.get("dispute", call.ids[0], owner=call.account), call)


def list_disputes(world: World, call: Call) -> Json:
    found = world.every("dispute", owner=call.account)
    for name in ("charge", "payment_intent"):
        if name in call.params:
            found = [one for one in found if one[name] == call.params[name]]
    return page(world, found, call)


def update_dispute(world: World, call: Call) -> Json:
    dispute = world.get("dispute", call.ids[0], owner=PLATFORM)
    if dispute["status"] not in OPEN:
        raise ApiRefusal(
            400,
            "invalid_request_error",
            "This dispute is already closed or under review.",
            code="dispute_already_submitted",
        )
    dispute["evidence"] |= call.params.get("evidence", {})
    dispute["metadata"] |= call.params.get("metadata", {})
    dispute["evidence_details"]["has_evidence"] = True
    if call.params.get("submit", True):
        dispute["evidence_details"]["submission_count"] += 1
        dispute["status"] = dispute["status"].replace("needs_response", "under_review")
    world.event("charge.dispute.updated", dispute)
    return rendered(world, dispute, call)


def create_platform_payout(world: World, call: Call) -> Json:
    """Money of the platform's own balance for its bank; it takes the steps of any payout."""
    amount, currency = call.params["amount"], call.params["currency"]
    payout_id = world.new_id("po")
    world.bank.move(
        kind="payout",
        source=payout_id,
        at=world.now(),
        legs=[
            ("platform/available", currency, -amount),
            ("platform/in_transit", currency, amount),
        ],
    )
    line = transaction(
        world,
        owner=PLATFORM,
        kind="payout",
        category="payout",
        source=payout_id,
        amount=-amount,
        currency=currency,
    )
    payout: Json = {
        "id": payout_id,
        "object": "payout",
        "amount": amount,
        "application_fee": None,
        "application_fee_amount": None,
        "arrival_date": world.stamp(),
        "automatic": False,
        "balance_transaction": line["id"],
        "created": world.stamp(),
        "currency": currency,
        "description": call.params.get("description"),
        "destination": "ba_platform",
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": call.params.get("metadata", {}),
        "method": "standard",
        "original_payout": None,
        "payout_method": None,
        "reconciliation_status": "not_applicable",
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": None,
        "status": "pending",
        "trace_id": None,
        "type": "bank_account",
    }
    world.put("payout", payout)
    world.event("payout.created", payout)
    world.later(world.delays.payout_s, "payout_sent", payout_id)
    return rendered(world, payout, call)


ROUTES: dict[tuple[str, str], Handler] = {
    ("GET", "/v1/disputes"): list_disputes,
    ("GET", "/v1/disputes/{dispute}"): retrieve_dispute,
    ("POST", "/v1/disputes/{dispute}"): update_dispute,
    ("POST", "/v1/payouts"): create_platform_payout,
}
