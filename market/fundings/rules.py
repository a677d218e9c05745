"""States, limits and refusals of money that labs pay in."""

import re
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

FUNDING = Machine(
    "funding",
    initial=("requested",),
    moves=(
        # Its lab can pay it from now on.
        Move("invoice", ("requested",), "invoiced"),
        Move("process", ("requested", "invoiced"), "processing"),
        # Arrived, and the lab's bank can still take it back, so no project may have it yet.
        # A payment that failed can still be paid: Stripe tries again, or the lab does there.
        Move("receive", ("requested", "invoiced", "processing", "failed"), "received"),
        Move("settle", ("received",), "succeeded"),
        Move("fail", ("requested", "invoiced", "processing"), "failed"),
    ),
)

SMALLEST_FUNDING_MINOR = 100
LARGEST_FUNDING_MINOR = 99_999_999
"""Stripe takes at most 999,999.99 in one payment."""

EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}\.[^@\s.]{2,60}")
DAYS_UNTIL_DUE = (1, 90)

PAYMENT_METHOD = re.compile(r"pm_[A-Za-z0-9_]{1,120}")


class FundingAmount(MarketError):
    """An amount that cannot be paid in at once."""

    def __init__(self, amount_minor: int) -> None:
        super().__init__(
            f"one payment is {SMALLEST_FUNDING_MINOR} to {LARGEST_FUNDING_MINOR} minor units,"
            f" not {amount_minor}"
        )
        self.amount_minor = amount_minor
        self.smallest_minor = SMALLEST_FUNDING_MINOR
        self.largest_minor = LARGEST_FUNDING_MINOR


class PaymentMethodInvalid(MarketError):
    """A text that names no payment method."""

    def __init__(self, payment_method: str) -> None:
        super().__init__("payment_method is Stripe's id of one: pm_ and letters, digits or _")
        self.payment_method = payment_method[:80]


class FundingWayUnclear(MarketError):
    """A payment that says both ways of paying, or neither."""

    def __init__(self) -> None:
        super().__init__("give a payment_method or an invoice, and one of them only")


class InvoiceTermsInvalid(MarketError):
    """An invoice that cannot be sent as it was asked for."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class InvoiceNotVoidable(MarketError):
    """An invoice that is not out yet, or is over."""

    def __init__(self, state: str) -> None:
        super().__init__(
            f"only an invoice that is out and not paid can be taken back; this one is {state}"
        )
        self.state = state


class FundingNotFound(MarketError):
    """No funding that the caller may see has this id."""

    def __init__(self, funding_id: UUID) -> None:
        super().__init__("there is no such funding")
        self.funding_id = funding_id


class RefundTooLarge(MarketError):
    """More than is left of a funding, or than the lab has free."""

    def __init__(self, left_minor: int) -> None:
        super().__init__(
            f"at most {left_minor} minor units can go back: the rest was never paid in, has gone"
            " back before, or was given to projects"
        )
        self.left_minor = left_minor


def checked_funding(amount_minor: int) -> int:
    """The amount itself, once it is certain that it can be paid in at once.

    Raises:
        FundingAmount.
    """
    if not SMALLEST_FUNDING_MINOR <= amount_minor <= LARGEST_FUNDING_MINOR:
        raise FundingAmount(amount_minor)
    return amount_minor


def is_payment_method(text: str) -> bool:
    """Whether a text has the form of Stripe's id of a payment method."""
    return PAYMENT_METHOD.fullmatch(text) is not None


def check_invoice(email: str, days_until_due: int) -> None:
    """Refuse an invoice to nobody, or to be paid at no time.

    Raises:
        InvoiceTermsInvalid.
    """
    first, last = DAYS_UNTIL_DUE
    if EMAIL.fullmatch(email.strip()) is None:
        raise InvoiceTermsInvalid("email", "the address that the invoice is sent to")
    if not first <= days_until_due <= last:
        raise InvoiceTermsInvalid("days_until_due", f"{first} to {last}")


def budget_state(free_minor: int, spent_minor: int, days: float) -> str | None:
    """What is to be said of a budget: `exhausted` when nothing is free, `low` when it would not
    last `days` at a day's pace; None when it would.

    Units: minor units; `spent_minor` is those of one day.
    """
    if free_minor <= 0:
        return "exhausted"
    return "low" if spent_minor > 0 and free_minor <= spent_minor * days else None
