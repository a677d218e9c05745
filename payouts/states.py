"""The states that money passes through on its way over Stripe, and which may follow which."""

from dataclasses import dataclass
from enum import StrEnum


class CallState(StrEnum):
    """How far a write to Stripe has come.

    `sent` may have happened and may be sent again under its key; `unknown` may have happened and
    may only be looked up.
    """

    PLANNED = "planned"
    SENT = "sent"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class CallOperation(StrEnum):
    """What a write to Stripe does."""

    ACCOUNT = "account"
    ACCOUNT_LINK = "account_link"
    PAYMENT_INTENT = "payment_intent"
    TRANSFER = "transfer"
    REVERSAL = "reversal"
    REFUND = "refund"
    DISPUTE_EVIDENCE = "dispute_evidence"
    PLATFORM_PAYOUT = "platform_payout"
    CUSTOMER = "customer"
    INVOICE = "invoice"
    INVOICE_LINE = "invoice_line"
    INVOICE_OPENING = "invoice_opening"
    INVOICE_VOID = "invoice_void"


class FundingState(StrEnum):
    """How far a lab's payment has come; `unsettled` money arrived and can still bounce."""

    PLANNED = "planned"
    PROCESSING = "processing"
    UNSETTLED = "unsettled"
    SETTLED = "settled"
    FAILED = "failed"


class InvoiceState(StrEnum):
    """How far an invoice to a lab has come; one given up as `uncollectible` can still be paid."""

    PLANNED = "planned"
    DRAFT = "draft"
    OPEN = "open"
    UNCOLLECTIBLE = "uncollectible"
    VOID = "void"
    PAID = "paid"


class PayoutState(StrEnum):
    """How far an expert's money has come; `payouts.transfers.MOVES` says what may follow what."""

    ACCRUED = "accrued"
    ELIGIBLE = "eligible"
    HELD = "held"
    BATCHED = "batched"
    TRANSFERRING = "transferring"
    TRANSFERRED = "transferred"
    PAYOUT_PENDING = "payout_pending"
    IN_TRANSIT = "in_transit"
    PAID = "paid"
    FAILED = "failed"
    RETURNED = "returned"
    CANCELLED = "cancelled"
    REVERSED = "reversed"


class HoldCode(StrEnum):
    """Why a payout waits."""

    PAYEE_REQUIREMENTS = "payee_requirements"
    BANK_CHANGED = "bank_changed"
    FIRST_PAYOUT = "first_payout"
    MINIMUM = "minimum"
    RECEIVABLE = "receivable"
    PLATFORM_FUNDS = "platform_funds"
    AMOUNT_CHANGED = "amount_changed"
    PROVIDER_REFUSED = "provider_refused"
    DISPUTE_AMOUNT = "dispute_amount"
    SANCTIONS = "sanctions"


class HoldOwner(StrEnum):
    """Who has to act for a hold to end; nobody has to where time alone ends it."""

    EXPERT = "expert"
    PLATFORM = "platform"
    TIME = "time"


class InboxState(StrEnum):
    """What became of a webhook; `parked` names an object that we do not know yet."""

    STORED = "stored"
    PARKED = "parked"
    APPLIED = "applied"
    IGNORED = "ignored"
    BROKEN = "broken"


class CardDisputeState(StrEnum):
    """How a payer's quarrel with its bank about our charge stands; an inquiry has taken nothing."""

    INQUIRY = "inquiry"
    OPEN = "open"
    WON = "won"
    LOST = "lost"
    CLOSED = "closed"


class PlatformPayoutState(StrEnum):
    """How far money of our own is on its way to our bank."""

    PLANNED = "planned"
    SENT = "sent"
    PAID = "paid"
    FAILED = "failed"


_I = InvoiceState
INVOICE_MOVES = {
    (_I.PLANNED, _I.DRAFT),
    *((source, target) for source in (_I.PLANNED, _I.DRAFT) for target in (_I.OPEN, _I.PAID)),
    *((source, _I.VOID) for source in (_I.PLANNED, _I.DRAFT, _I.OPEN, _I.UNCOLLECTIBLE)),
    *((source, _I.UNCOLLECTIBLE) for source in (_I.PLANNED, _I.DRAFT, _I.OPEN)),
    (_I.OPEN, _I.PAID),
    (_I.UNCOLLECTIBLE, _I.PAID),
}
"""Every step of an invoice; what Stripe tells late may leave steps out, and none leads back."""

_D = CardDisputeState
CARD_DISPUTE_MOVES = {
    (_D.INQUIRY, _D.OPEN),
    (_D.INQUIRY, _D.CLOSED),
    (_D.OPEN, _D.WON),
    (_D.OPEN, _D.LOST),
}
"""Every step of a card dispute; the database refuses any other (`payouts.guard_state`)."""

_P = PlatformPayoutState
PLATFORM_PAYOUT_MOVES = {
    (_P.PLANNED, _P.SENT),
    (_P.PLANNED, _P.FAILED),
    (_P.SENT, _P.PAID),
    (_P.SENT, _P.FAILED),
    # A bank may send money back that Stripe has shown as paid.
    (_P.PAID, _P.FAILED),
}
"""Every step of a payout to our own bank."""

CALL_MOVES = {
    (CallState.PLANNED, CallState.SENT),
    # Refused by ourselves, before it was sent.
    (CallState.PLANNED, CallState.REFUSED),
    (CallState.SENT, CallState.CONFIRMED),
    (CallState.SENT, CallState.REFUSED),
    (CallState.SENT, CallState.UNKNOWN),
    # Found by looking; or looked for twice, not found, and given up by a person.
    (CallState.UNKNOWN, CallState.CONFIRMED),
    (CallState.UNKNOWN, CallState.REFUSED),
}
"""Every step of a call; the database refuses any other (`payouts.guard_state`)."""


@dataclass(frozen=True, slots=True)
class Move:
    """One step that a payout may take."""

    source: PayoutState
    action: str
    target: PayoutState


_S = PayoutState
MOVES = (
    # The period is locked and its time for disputes is over.
    Move(_S.ACCRUED, "lock_period", _S.ELIGIBLE),
    Move(_S.ELIGIBLE, "hold", _S.HELD),
    Move(_S.HELD, "clear", _S.ELIGIBLE),
    Move(_S.ELIGIBLE, "batch", _S.BATCHED),
    Move(_S.BATCHED, "send", _S.TRANSFERRING),
    # Before the transfer is sent, and after: only an answer can tell of a refusal.
    Move(_S.BATCHED, "refuse", _S.ELIGIBLE),
    Move(_S.TRANSFERRING, "refuse", _S.ELIGIBLE),
    Move(_S.TRANSFERRING, "confirm", _S.TRANSFERRED),
    Move(_S.TRANSFERRED, "start_payout", _S.PAYOUT_PENDING),
    Move(_S.PAYOUT_PENDING, "leave_for_bank", _S.IN_TRANSIT),
    Move(_S.PAYOUT_PENDING, "cancel", _S.CANCELLED),
    Move(_S.IN_TRANSIT, "pay", _S.PAID),
    Move(_S.IN_TRANSIT, "fail", _S.FAILED),
    # Stripe may show a payout as paid and have it back from the bank days later.
    Move(_S.PAID, "return", _S.RETURNED),
    Move(_S.FAILED, "start_payout", _S.PAYOUT_PENDING),
    Move(_S.RETURNED, "start_payout", _S.PAYOUT_PENDING),
    # Nothing has been sent: the money is the expert's to be paid by another payout.
    Move(_S.ELIGIBLE, "withdraw", _S.CANCELLED),
    Move(_S.HELD, "withdraw", _S.CANCELLED),
    Move(_S.BATCHED, "withdraw", _S.CANCELLED),
    # The bank would not take it: it comes back from Stripe to what the expert is owed.
    Move(_S.FAILED, "recall", _S.CANCELLED),
    Move(_S.RETURNED, "recall", _S.CANCELLED),
    # Money is taken back from an expert by a decided case only.
    Move(_S.TRANSFERRED, "reverse", _S.REVERSED),
    Move(_S.PAYOUT_PENDING, "reverse", _S.REVERSED),
    Move(_S.IN_TRANSIT, "reverse", _S.REVERSED),
    Move(_S.PAID, "reverse", _S.REVERSED),
    Move(_S.FAILED, "reverse", _S.REVERSED),
    Move(_S.RETURNED, "reverse", _S.REVERSED),
)
"""Every step of a payout; the database refuses any other (`payouts.guard_state`)."""

TARGET = {(move.source, move.action): move.target for move in MOVES}
"""Where an action leads from a state."""
