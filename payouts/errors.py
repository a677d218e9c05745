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
