"""What can be refused about money: each refusal states a fact and carries it as attributes."""

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from payouts.chart import AccountRef


class PayoutsError(Exception):
    """A refusal of this package; anything else that it raises is a bug."""


class BadAmount(PayoutsError):
    """An amount of money that is no positive whole number of minor units in range."""

    def __init__(self, amount_minor: object) -> None:
        super().__init__(f"{amount_minor!r} is no positive whole number of minor units")
        self.amount_minor = amount_minor


class UnknownCurrency(PayoutsError):
    """A currency that this platform does not keep books in."""

    def __init__(self, currency: str) -> None:
        super().__init__(f"no books are kept in {currency!r}")
        self.currency = currency


class CurrencyMismatch(PayoutsError):
    """Two amounts, or two ledger accounts, of different currencies where one is needed."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other} are two currencies")
        self.one = one
        self.other = other


class SameAccount(PayoutsError):
    """A line that would move money from a ledger account to itself."""

    def __init__(self, account: "AccountRef") -> None:
        super().__init__(f"{account} cannot be debited and credited by one line")
        self.account = account


class AccountMismatch(PayoutsError):
    """A ledger account that exists already, and belongs to another tenant."""

    def __init__(self, account: "AccountRef") -> None:
        super().__init__(f"{account} exists and belongs to another tenant")
        self.account = account


class EmptyEntry(PayoutsError):
    """A journal entry without a line."""

    def __init__(self, key: str) -> None:
        super().__init__(f"entry {key!r} has no line")
        self.key = key


class UnknownEntry(PayoutsError):
    """No journal entry has this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"there is no entry {key!r}")
        self.key = key


class EntryConflict(PayoutsError):
    """The key tells of another event already: another kind, other lines, another purpose."""

    def __init__(self, key: str) -> None:
        super().__init__(f"entry {key!r} exists and says something else")
        self.key = key


class FloorBreached(PayoutsError):
    """A ledger account has less to give than was asked of it, reservations counted."""

    def __init__(self, account: "AccountRef", available_minor: int, wanted_minor: int) -> None:
        super().__init__(f"{account} has {available_minor} available, {wanted_minor} was wanted")
        self.account = account
        self.available_minor = available_minor
        self.wanted_minor = wanted_minor


class NotPending(PayoutsError):
    """The entry moved money, or let it go; there is no reservation to post or void."""

    def __init__(self, key: str) -> None:
        super().__init__(f"entry {key!r} reserves nothing")
        self.key = key


class PendingResolved(PayoutsError):
    """The reservation was posted or voided before, by another entry."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the reservation {key!r} has been resolved")
        self.key = key


class PendingExceeded(PayoutsError):
    """More than was reserved, between these two ledger accounts, was to be posted."""

    def __init__(
        self, debit: "AccountRef", credit: "AccountRef", reserved_minor: int, wanted_minor: int
    ) -> None:
        super().__init__(
            f"{reserved_minor} was reserved from {debit} to {credit}, {wanted_minor} was wanted"
        )
        self.debit = debit
        self.credit = credit
        self.reserved_minor = reserved_minor
        self.wanted_minor = wanted_minor


class NotReversible(PayoutsError):
    """Only an entry that moved money can be taken back, and only once."""

    def __init__(self, key: str) -> None:
        super().__init__(f"entry {key!r} cannot be reversed, or has been")
        self.key = key


class RateMissing(PayoutsError):
    """No rate was in force at a moment that is to be paid."""

    def __init__(self, at: datetime) -> None:
        super().__init__(f"no rate was in force at {at.isoformat()}")
        self.at = at


class RatesOverlap(PayoutsError):
    """Two rates were in force at one moment."""

    def __init__(self, at: datetime) -> None:
        super().__init__(f"more than one rate was in force at {at.isoformat()}")
        self.at = at


class PayeeNotReady(PayoutsError):
    """Stripe still asks something of the payee before money can be sent."""

    def __init__(self, payee_id: UUID, requirements: tuple[str, ...]) -> None:
        super().__init__(f"payee {payee_id} is not ready: {', '.join(requirements)}")
        self.payee_id = payee_id
        self.requirements = requirements


class PayoutStateConflict(PayoutsError):
    """The payout stands in a state from which this step does not lead anywhere."""

    def __init__(self, payout_id: UUID, state: str, action: str) -> None:
        super().__init__(f"payout {payout_id} is {state}: {action} is not possible")
        self.payout_id = payout_id
        self.state = state
        self.action = action


class SignatureRefused(PayoutsError):
    """A webhook whose signature is missing, false or too old."""


class UnknownCall(PayoutsError):
    """No write to Stripe has this id."""

    def __init__(self, call_id: UUID) -> None:
        super().__init__(f"there is no external call {call_id}")
        self.call_id = call_id


class CallConflict(PayoutsError):
    """The same write was planned before with other parameters, or cannot be planned again."""

    def __init__(self, natural_key: str) -> None:
        super().__init__(f"the call {natural_key!r} exists and asks for something else")
        self.natural_key = natural_key


class InvoiceNotOpen(PayoutsError):
    """An invoice that is not out yet, or over, cannot be taken back."""

    def __init__(self, funding_id: UUID, state: str) -> None:
        super().__init__(f"the invoice of {funding_id} is {state}")
        self.funding_id = funding_id
        self.state = state


class EventUnclear(PayoutsError):
    """What Stripe tells fits nothing that we know how to book; a person has to look at it."""


class CallNotOpen(PayoutsError):
    """The outcome of this call is known, or it has not been looked for often enough."""

    def __init__(self, call_id: UUID, why: str) -> None:
        super().__init__(f"call {call_id}: {why}")
        self.call_id = call_id
        self.why = why


class UnknownPayee(PayoutsError):
    """Nobody was made a payee under this id."""

    def __init__(self, owner_id: UUID) -> None:
        super().__init__(f"{owner_id} is no payee")
        self.owner_id = owner_id


class UnknownPayout(PayoutsError):
    """No payout has this id."""

    def __init__(self, payout_id: UUID) -> None:
        super().__init__(f"there is no payout {payout_id}")
        self.payout_id = payout_id


class UnknownHold(PayoutsError):
    """No open hold has this id."""

    def __init__(self, hold_id: UUID) -> None:
        super().__init__(f"there is no open hold {hold_id}")
        self.hold_id = hold_id


class UnknownFunding(PayoutsError):
    """No funding has this id."""

    def __init__(self, funding_id: UUID) -> None:
        super().__init__(f"there is no funding {funding_id}")
        self.funding_id = funding_id


class EventRefused(PayoutsError):
    """A webhook that is signed well and still not for us."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class GatewayRefused(PayoutsError):
    """Stripe's definite no: the request was not carried out and never will be."""

    def __init__(self, status: int, code: str, text: str, request_id: str = "") -> None:
        super().__init__(f"Stripe refused ({status} {code}): {text}")
        self.status = status
        self.code = code
        self.text = text
        self.request_id = request_id


class GatewayUnknown(PayoutsError):
    """It cannot be told whether Stripe carried the request out; when it may be asked again."""

    def __init__(
        self,
        reason: str,
        status: int | None = None,
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"outcome unknown: {reason}")
        self.reason = reason
        self.status = status
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class GatewayKeyMisused(PayoutsError):
    """Stripe has seen this idempotency key with another body: a bug of ours, never retried."""

    def __init__(self, text: str, request_id: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.request_id = request_id


class GatewayKeyRejected(PayoutsError):
    """Stripe does not accept our API key; every sender has to stop."""


class UnknownDispute(PayoutsError):
    """No card dispute has this id."""

    def __init__(self, dispute_id: UUID) -> None:
        super().__init__(f"there is no card dispute {dispute_id}")
        self.dispute_id = dispute_id


class DisputeStateConflict(PayoutsError):
    """The card dispute is decided, or has been answered, so evidence changes nothing."""

    def __init__(self, dispute_id: UUID, state: str) -> None:
        super().__init__(f"card dispute {dispute_id} is {state}: no evidence can be sent")
        self.dispute_id = dispute_id
        self.state = state


class UnknownBreak(PayoutsError):
    """No break that still stands has this id."""

    def __init__(self, break_id: UUID) -> None:
        super().__init__(f"there is no open break {break_id}")
        self.break_id = break_id


class BreakNotBookable(PayoutsError):
    """Stripe's balance is not the sum of Stripe's own lines; no entry of ours can mend that."""

    def __init__(self, break_id: UUID) -> None:
        super().__init__(f"break {break_id} is between two figures of Stripe's")
        self.break_id = break_id


class RecoveryUnderWay(PayoutsError):
    """A case that is to be undone while Stripe is asked for its money back."""

    def __init__(self, case_id: UUID) -> None:
        super().__init__("its money is on its way back at Stripe; try again when that has ended")
        self.case_id = case_id
