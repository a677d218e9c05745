"""States, limits and refusals of money on its way: from labs, and to experts."""

import re
from datetime import date, datetime
from uuid import UUID

from market.earnings.rules import week_of
from market.errors import MarketError
from market.states import Machine, Move

FUNDING = Machine(
    "funding",
    initial=("requested",),
    moves=(
        Move("process", ("requested",), "processing"),
        # Arrived, and the lab's bank can still take it back, so no project may have it yet.
        # A payment that failed can still be paid: Stripe tries again, or the lab does there.
        Move("receive", ("requested", "processing", "failed"), "received"),
        Move("settle", ("received",), "succeeded"),
        Move("fail", ("requested", "processing"), "failed"),
    ),
)

PAYOUT_RUN = Machine(
    "payout_run",
    initial=("pending",),
    moves=(
        Move("start", ("pending",), "running"),
        Move("finish", ("running",), "succeeded"),
    ),
)

SMALLEST_FUNDING_MINOR = 100
LARGEST_FUNDING_MINOR = 99_999_999
"""Stripe takes at most 999,999.99 in one payment."""

PAYMENT_METHOD = re.compile(r"pm_[A-Za-z0-9_]{1,120}")
COUNTRY = re.compile(r"[A-Z]{2}")


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


class CountryInvalid(MarketError):
    """A text that is no country."""

    def __init__(self, country: str) -> None:
        super().__init__("country is two capital letters, such as US (ISO 3166-1)")
        self.country = country[:8]


class PeriodEndInvalid(MarketError):
    """A day on which no pay period has ended."""

    def __init__(self, period_end: date, latest: date) -> None:
        super().__init__(
            f"a pay period ends with Sunday: send the Monday after it, {latest} or earlier,"
            f" not {period_end}"
        )
        self.latest = latest.isoformat()


class NotAPayee(MarketError):
    """This expert has not said yet where to be paid."""

    def __init__(self, expert_id: UUID) -> None:
        super().__init__("say first where you are paid: POST /v1/payees/me")
        self.expert_id = expert_id


class FundingNotFound(MarketError):
    """No funding that the caller may see has this id."""

    def __init__(self, funding_id: UUID) -> None:
        super().__init__("there is no such funding")
        self.funding_id = funding_id


class PayoutRunNotFound(MarketError):
    """No payout run has this id."""

    def __init__(self, run_id: UUID) -> None:
        super().__init__("there is no such payout run")
        self.run_id = run_id


class PayoutNotFound(MarketError):
    """No payout that the caller may see has this id."""

    def __init__(self, payout_id: UUID) -> None:
        super().__init__("there is no such payout")
        self.payout_id = payout_id


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


def is_country(text: str) -> bool:
    """Whether a text has the form of a country's code."""
    return COUNTRY.fullmatch(text) is not None


def checked_period_end(period_end: date, *, at: datetime) -> date:
    """The Monday that ended a pay period, once it is certain to be one.

    Raises:
        PeriodEndInvalid.
    """
    latest = week_of(at)
    if period_end.weekday() != 0 or period_end > latest:
        raise PeriodEndInvalid(period_end, latest)
    return period_end
