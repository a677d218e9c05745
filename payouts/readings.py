"""Stripe's objects as facts of ours: the conversions, with nothing of its library in their results.

Stripe's objects are no mappings: `["x"]` and `in` work on them, `.get` and `dict()` do not.
"""

from datetime import UTC, datetime
from typing import Any

from payouts.seen import (
    AccountSeen,
    DisputeSeen,
    InvoiceSeen,
    MadeSeen,
    PaymentIntentSeen,
    PayoutSeen,
    RefundSeen,
    ReversalSeen,
    TransactionSeen,
    TransferSeen,
)


def _time(seconds: Any) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def metadata_of(found: Any) -> dict[str, str]:
    """What we attached to an object when it was made."""
    # The library's objects are no mappings.
    plain: dict[str, str] = found.to_dict() if found is not None else {}
    return plain


def id_of(found: Any) -> str | None:
    """The id of something that may be absent, an id, or the expanded object."""
    if found is None or isinstance(found, str):
        return found
    return str(found["id"])


def transaction(found: Any) -> TransactionSeen | None:
    """A line of a balance, once it is there and not merely named."""
    if found is None or isinstance(found, str):
        return None
    source = found["source"]
    transfer = None
    if source is not None and not isinstance(source, str) and "source_transfer" in source:
        transfer = id_of(source["source_transfer"])
    # Some lists leave it out, where others say null.
    has_rate = "exchange_rate" in found and found["exchange_rate"] is not None
    return TransactionSeen(
        id=found["id"],
        type=found["type"],
        category=found["reporting_category"],
        amount_minor=found["amount"],
        fee_minor=found["fee"],
        net_minor=found["net"],
        currency=found["currency"].upper(),
        status=found["status"],
        source_id=id_of(source),
        source_transfer=transfer,
        created_at=_time(found["created"]),
        stated_rate=str(found["exchange_rate"]) if has_rate else None,
    )


def certain_transaction(found: Any) -> TransactionSeen:
    """A line that was asked for by itself, which is always the whole object."""
    seen = transaction(found)
    if seen is None:
        raise TypeError("a balance transaction came as its id only")
    return seen


def payment_intent(found: Any) -> PaymentIntentSeen:
    """A payment, with its line once there is one."""
    charge = found["latest_charge"]
    error = found["last_payment_error"]
    has_line = charge is not None and not isinstance(charge, str)
    return PaymentIntentSeen(
        id=found["id"],
        status=found["status"],
        amount_minor=found["amount"],
        currency=found["currency"].upper(),
        metadata=metadata_of(found["metadata"]),
        charge_id=id_of(charge),
        transaction=transaction(charge["balance_transaction"]) if has_line else None,
        failure_code=error["code"] if error is not None and "code" in error else None,
        failure_text=error["message"] if error is not None and "message" in error else None,
    )


def made(found: Any) -> MadeSeen:
    """A customer, or a line of an invoice."""
    return MadeSeen(id=found["id"], metadata=metadata_of(found["metadata"]))


def invoice(found: Any) -> InvoiceSeen:
    """An invoice as it stands."""
    due = found["due_date"]
    return InvoiceSeen(
        id=found["id"],
        status=found["status"],
        due_minor=found["amount_due"],
        paid_minor=found["amount_paid"],
        currency=found["currency"].upper(),
        number=found["number"],
        url=found["hosted_invoice_url"],
        due_at=None if due is None else _time(due),
        metadata=metadata_of(found["metadata"]),
    )


def payment_of_invoice(found: Any) -> str | None:
    """The payment intent behind one payment of an invoice."""
    paid_by = found["payment"]
    return id_of(paid_by["payment_intent"]) if paid_by["type"] == "payment_intent" else None


def transfer(found: Any) -> TransferSeen:
    """A transfer as it stands."""
    return TransferSeen(
        id=found["id"],
        amount_minor=found["amount"],
        reversed_minor=found["amount_reversed"],
        currency=found["currency"].upper(),
        destination=id_of(found["destination"]) or "",
        destination_payment=id_of(found["destination_payment"]),
        transfer_group=found["transfer_group"],
        metadata=metadata_of(found["metadata"]),
    )


def reversal(found: Any) -> ReversalSeen:
    """What was taken back of a transfer."""
    return ReversalSeen(
        id=found["id"],
        transfer_id=id_of(found["transfer"]) or "",
        amount_minor=found["amount"],
        currency=found["currency"].upper(),
        metadata=metadata_of(found["metadata"]),
        refund_id=id_of(found["destination_payment_refund"])
        if "destination_payment_refund" in found
        else None,
    )


def refund(found: Any) -> RefundSeen:
    """Money on its way back to its payer."""
    return RefundSeen(
        id=found["id"],
        status=found["status"],
        amount_minor=found["amount"],
        currency=found["currency"].upper(),
        metadata=metadata_of(found["metadata"]),
    )


def payout(found: Any) -> PayoutSeen:
    """A payout to a bank."""
    return PayoutSeen(
        id=found["id"],
        status=found["status"],
        amount_minor=found["amount"],
        currency=found["currency"].upper(),
        is_reconciled=found["reconciliation_status"] == "completed",
        failure_code=found["failure_code"],
        failure_text=found["failure_message"],
        metadata=metadata_of(found["metadata"]),
    )


def _within(found: Any, *names: str) -> Any:
    """What lies so deep in an object; None where any part on the way is null, or left out."""
    for name in names:
        if found is None or name not in found:
            return None
        found = found[name]
    return found


def account(found: Any) -> AccountSeen:
    """A recipient and what Stripe still asks of it."""
    capability = _within(
        found, "configuration", "recipient", "capabilities", "stripe_balance", "stripe_transfers"
    )
    entries = _within(found, "requirements", "entries")
    return AccountSeen(
        id=found["id"],
        transfers_status="unknown" if capability is None else capability["status"],
        requirements=tuple(
            entry["description"]
            for entry in entries or []
            if entry["awaiting_action_from"] == "user"
            and _within(entry, "minimum_deadline", "status") != "eventually_due"
        ),
        is_closed=bool(found["closed"]),
        metadata=metadata_of(found["metadata"]),
    )


def dispute(found: Any) -> DisputeSeen:
    """A dispute with the lines of our balance that it has made so far."""
    due = _within(found, "evidence_details", "due_by")
    return DisputeSeen(
        id=found["id"],
        status=found["status"],
        reason=found["reason"],
        amount_minor=found["amount"],
        currency=found["currency"].upper(),
        charge_id=id_of(found["charge"]) or "",
        payment_intent_id=id_of(found["payment_intent"]),
        evidence_due_at=_time(due) if due is not None else None,
        metadata=metadata_of(found["metadata"]),
        transactions=tuple(certain_transaction(line) for line in found["balance_transactions"]),
    )


def amounts(parts: Any) -> dict[str, int]:
    """A part of a balance, by currency."""
    return {part["currency"].upper(): part["amount"] for part in parts}
