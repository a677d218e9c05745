"""What Stripe has told us: its objects as facts of ours, with nothing of its library in them.

Currencies are upper case and amounts are in minor units, as everywhere in this package.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction


@dataclass(frozen=True, slots=True)
class TransactionSeen:
    """One line of a Stripe balance; `source_transfer` names the transfer that it arrived by."""

    id: str
    type: str
    category: str
    amount_minor: int
    fee_minor: int
    net_minor: int
    currency: str
    status: str
    source_id: str | None
    source_transfer: str | None
    created_at: datetime
    stated_rate: str | None = None

    @property
    def exchange_rate(self) -> Fraction | None:
        """Stripe's rate as the exact fraction that its decimal spelling says."""
        return None if self.stated_rate is None else Fraction(self.stated_rate)


@dataclass(frozen=True, slots=True)
class PaymentIntentSeen:
    """A payment, and the balance line of its charge once there is one."""

    id: str
    status: str
    amount_minor: int
    currency: str
    metadata: Mapping[str, str]
    charge_id: str | None
    transaction: TransactionSeen | None
    failure_code: str | None
    failure_text: str | None


@dataclass(frozen=True, slots=True)
class MadeSeen:
    """Something that Stripe made for us and of which nothing but its name matters."""

    id: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class InvoiceSeen:
    """An invoice, where it is paid, and until when."""

    id: str
    status: str
    due_minor: int
    paid_minor: int
    currency: str
    number: str | None
    url: str | None
    due_at: datetime | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TransferSeen:
    """A transfer from the platform to a connected account."""

    id: str
    amount_minor: int
    reversed_minor: int
    currency: str
    destination: str
    destination_payment: str | None
    transfer_group: str | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ReversalSeen:
    """Money taken back from a connected account; `refund_id` names it on that account's side."""

    id: str
    transfer_id: str
    amount_minor: int
    currency: str
    metadata: Mapping[str, str]
    refund_id: str | None = None


@dataclass(frozen=True, slots=True)
class RefundSeen:
    """Money on its way back to whoever paid."""

    id: str
    status: str | None
    amount_minor: int
    currency: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DisputeSeen:
    """A payer's bank wants money back; `transactions` are what that has done to our balance."""

    id: str
    status: str
    reason: str
    amount_minor: int
    currency: str
    charge_id: str
    payment_intent_id: str | None
    evidence_due_at: datetime | None
    metadata: Mapping[str, str]
    transactions: tuple[TransactionSeen, ...]


@dataclass(frozen=True, slots=True)
class PayoutSeen:
    """Stripe's payout of an account, the platform's or a connected one, to its bank."""

    id: str
    status: str
    amount_minor: int
    currency: str
    is_reconciled: bool
    failure_code: str | None
    failure_text: str | None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AccountSeen:
    """A recipient: whether transfers reach it, and what the person still has to give."""

    id: str
    transfers_status: str
    requirements: tuple[str, ...]
    is_closed: bool
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LinkSeen:
    """A page of Stripe's for one person, for a few minutes; not to be kept."""

    account_id: str
    url: str
    expires_at: str


@dataclass(frozen=True, slots=True)
class BalanceSeen:
    """A Stripe balance by currency (upper case), in minor units."""

    available: Mapping[str, int]
    pending: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class EventSeen:
    """An event from the list, as the bytes that a webhook would have brought."""

    id: str
    payload: bytes
