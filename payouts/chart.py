"""The chart of accounts: every kind of place where money can be, and how to name one of them.

A ledger account is a code, an owner and a currency. Its tenant is whose rows it belongs to: a
lab's, for its own accounts and its projects'; an expert's; nobody's, for the platform's.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from uuid import UUID, uuid5

from payouts.money import exponent_of

ACCOUNT_IDS = UUID("6f0d2b53-54a6-4c0e-9a3c-0c5a1a5d7e21")
"""The namespace that ledger account ids are derived in."""


class Side(StrEnum):
    """The side of a posting on which a ledger account grows."""

    DEBIT = "debit"
    CREDIT = "credit"


class Code(StrEnum):
    """What a ledger account means; `CHART` says how each behaves."""

    STRIPE_CLEARING = "stripe_clearing"
    CONNECTED_BALANCE = "connected_balance"
    BANK = "bank"
    LAB_FUNDING = "lab_funding"
    LAB_FUNDING_UNSETTLED = "lab_funding_unsettled"
    PROJECT_ESCROW = "project_escrow"
    EXPERT_PAYABLE = "expert_payable"
    EXPERT_HELD = "expert_held"
    RESERVE = "reserve"
    TAX_WITHHELD = "tax_withheld"
    PAYOUT_IN_TRANSIT = "payout_in_transit"
    REFUND_IN_TRANSIT = "refund_in_transit"
    PLATFORM_FEE = "platform_fee"
    STRIPE_FEES = "stripe_fees"
    DISPUTE_CLEARING = "dispute_clearing"
    DISPUTE_LOSS = "dispute_loss"
    EXPERT_RECEIVABLE = "expert_receivable"
    FX_POSITION = "fx_position"
    FX_GAIN_LOSS = "fx_gain_loss"
    SUSPENSE = "suspense"


class Owner(StrEnum):
    """What kind of owner a code's accounts have."""

    PLATFORM = "platform"
    LAB = "lab"
    PROJECT = "project"
    EXPERT = "expert"
    AUTHORITY = "authority"


@dataclass(frozen=True, slots=True)
class Row:
    """How the accounts of one code behave.

    With a floor the database refuses a balance on the wrong side, reservations counted, and keeps
    the balance in each posting's own transaction. Without one nothing is locked and the balance
    is folded together later. Accounts that may stand on either side count as debit accounts.
    """

    owner: Owner
    normal_side: Side
    has_floor: bool


CHART = {
    Code.STRIPE_CLEARING: Row(Owner.PLATFORM, Side.DEBIT, has_floor=False),
    Code.CONNECTED_BALANCE: Row(Owner.EXPERT, Side.DEBIT, has_floor=False),
    Code.BANK: Row(Owner.PLATFORM, Side.DEBIT, has_floor=False),
    Code.LAB_FUNDING: Row(Owner.LAB, Side.CREDIT, has_floor=True),
    Code.LAB_FUNDING_UNSETTLED: Row(Owner.LAB, Side.CREDIT, has_floor=True),
    Code.PROJECT_ESCROW: Row(Owner.PROJECT, Side.CREDIT, has_floor=True),
    Code.EXPERT_PAYABLE: Row(Owner.EXPERT, Side.CREDIT, has_floor=True),
    Code.EXPERT_HELD: Row(Owner.EXPERT, Side.CREDIT, has_floor=True),
    Code.RESERVE: Row(Owner.EXPERT, Side.CREDIT, has_floor=True),
    Code.TAX_WITHHELD: Row(Owner.AUTHORITY, Side.CREDIT, has_floor=True),
    Code.PAYOUT_IN_TRANSIT: Row(Owner.EXPERT, Side.CREDIT, has_floor=True),
    Code.REFUND_IN_TRANSIT: Row(Owner.LAB, Side.CREDIT, has_floor=True),
    Code.PLATFORM_FEE: Row(Owner.PLATFORM, Side.CREDIT, has_floor=False),
    Code.STRIPE_FEES: Row(Owner.PLATFORM, Side.DEBIT, has_floor=False),
    Code.DISPUTE_CLEARING: Row(Owner.LAB, Side.DEBIT, has_floor=False),
    Code.DISPUTE_LOSS: Row(Owner.PLATFORM, Side.DEBIT, has_floor=False),
    Code.EXPERT_RECEIVABLE: Row(Owner.EXPERT, Side.DEBIT, has_floor=True),
    Code.FX_POSITION: Row(Owner.PLATFORM, Side.DEBIT, has_floor=False),
    Code.FX_GAIN_LOSS: Row(Owner.PLATFORM, Side.DEBIT, has_floor=False),
    Code.SUSPENSE: Row(Owner.PLATFORM, Side.DEBIT, has_floor=False),
}


@dataclass(frozen=True, slots=True)
class AccountRef:
    """The name of one ledger account, whether or not anything has been posted to it.

    Raises:
        UnknownCurrency.
    """

    code: Code
    owner_id: UUID | None
    currency: str
    tenant_id: UUID | None

    def __post_init__(self) -> None:
        exponent_of(self.currency)

    def __str__(self) -> str:
        owner = f":{self.owner_id}" if self.owner_id else ""
        return f"{self.code}{owner} ({self.currency})"

    @property
    def row(self) -> Row:
        """How this account behaves."""
        return CHART[self.code]


@lru_cache(maxsize=16_384)
def account_id(account: AccountRef) -> UUID:
    """The id of a ledger account, which follows from its name, so that no query is needed."""
    return uuid5(
        ACCOUNT_IDS,
        f"{account.code}/{account.owner_id}/{account.currency}/{account.tenant_id}",
    )


def stripe_clearing(currency: str = "USD") -> AccountRef:
    """The mirror of the platform's balance at Stripe, pending and available together."""
    return AccountRef(Code.STRIPE_CLEARING, None, currency, None)


def connected_balance(expert_id: UUID, currency: str = "USD") -> AccountRef:
    """The mirror of an expert's balance at Stripe."""
    return AccountRef(Code.CONNECTED_BALANCE, expert_id, currency, expert_id)


def bank(currency: str = "USD") -> AccountRef:
    """The platform's own bank account."""
    return AccountRef(Code.BANK, None, currency, None)


def lab_funding(lab_id: UUID, currency: str = "USD") -> AccountRef:
    """A lab's settled money that no project has been given yet."""
    return AccountRef(Code.LAB_FUNDING, lab_id, currency, lab_id)


def lab_funding_unsettled(lab_id: UUID, currency: str = "USD") -> AccountRef:
    """A lab's money that may still bounce; nothing can be committed from it."""
    return AccountRef(Code.LAB_FUNDING_UNSETTLED, lab_id, currency, lab_id)


def project_budget(project_id: UUID, lab_id: UUID, currency: str = "USD") -> AccountRef:
    """A project's budget; what is promised from it stands there as pending debits."""
    return AccountRef(Code.PROJECT_ESCROW, project_id, currency, lab_id)


def owed_to(expert_id: UUID, currency: str = "USD") -> AccountRef:
    """What an expert has earned, approved and free to be paid."""
    return AccountRef(Code.EXPERT_PAYABLE, expert_id, currency, expert_id)


def held_for(expert_id: UUID, currency: str = "USD") -> AccountRef:
    """What an expert has earned, and a dispute or a review still holds."""
    return AccountRef(Code.EXPERT_HELD, expert_id, currency, expert_id)


def reserve_of(expert_id: UUID, currency: str = "USD") -> AccountRef:
    """The part of an expert's earnings that is kept back for a set time."""
    return AccountRef(Code.RESERVE, expert_id, currency, expert_id)


def tax_withheld(authority_id: UUID, currency: str = "USD") -> AccountRef:
    """What has been withheld for a tax authority and not been remitted yet."""
    return AccountRef(Code.TAX_WITHHELD, authority_id, currency, None)


def in_transit_to(expert_id: UUID, currency: str = "USD") -> AccountRef:
    """What has left an expert's earnings and is not confirmed in the bank yet."""
    return AccountRef(Code.PAYOUT_IN_TRANSIT, expert_id, currency, expert_id)


def refund_to(lab_id: UUID, currency: str = "USD") -> AccountRef:
    """A refund sent to a lab that is not final yet."""
    return AccountRef(Code.REFUND_IN_TRANSIT, lab_id, currency, lab_id)


def platform_fee(currency: str = "USD") -> AccountRef:
    """The platform's revenue."""
    return AccountRef(Code.PLATFORM_FEE, None, currency, None)


def stripe_fees(currency: str = "USD") -> AccountRef:
    """What Stripe has charged the platform."""
    return AccountRef(Code.STRIPE_FEES, None, currency, None)


def dispute_clearing(lab_id: UUID, currency: str = "USD") -> AccountRef:
    """What a card dispute has taken from a lab's funding, its outcome open."""
    return AccountRef(Code.DISPUTE_CLEARING, lab_id, currency, lab_id)


def dispute_loss(currency: str = "USD") -> AccountRef:
    """What the platform has lost to card disputes for good."""
    return AccountRef(Code.DISPUTE_LOSS, None, currency, None)


def receivable_from(expert_id: UUID, currency: str = "USD") -> AccountRef:
    """What an expert owes the platform after a clawback."""
    return AccountRef(Code.EXPERT_RECEIVABLE, expert_id, currency, expert_id)


def fx_position(currency: str) -> AccountRef:
    """One leg of the platform's conversions; the other stands in the other currency."""
    return AccountRef(Code.FX_POSITION, None, currency, None)


def fx_gain_loss(currency: str = "USD") -> AccountRef:
    """The difference between the rate we booked at and the one Stripe gave."""
    return AccountRef(Code.FX_GAIN_LOSS, None, currency, None)


def suspense(currency: str = "USD") -> AccountRef:
    """What reconciliation could not explain yet; it should be nothing by the next day."""
    return AccountRef(Code.SUSPENSE, None, currency, None)
