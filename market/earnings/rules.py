"""From seconds to lines of pay: weeks, rates, and what is refused; pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from market.errors import MarketError
from payouts.pay import RateSpan, fee_minor, pay_minor, split_by_rate

UNPAID_TIME = ("disputed", "voided")
"""States of a time entry whose seconds are not paid: a person decides, or has decided."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class OfferNotOver(MarketError):
    """Work that is still going on; what it earns is not known."""

    def __init__(self, offer_id: UUID, state: str) -> None:
        super().__init__(f"an offer that is {state} earns nothing yet")
        self.offer_id = offer_id
        self.state = state


@dataclass(frozen=True, slots=True)
class Stretch:
    """Paid time without a break, within one UTC day.

    Units: seconds.
    """

    starts_at: datetime
    seconds: int

    @property
    def ends_at(self) -> datetime:
        """When the last of its seconds is over."""
        return self.starts_at + timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class Line:
    """What the seconds of one week at one rate are worth.

    Units: seconds; minor units, an hour for the rate.
    """

    week: date
    rate_minor_per_hour: int
    seconds: int
    pay_minor: int
    fee_minor: int


def week_of(at: datetime) -> date:
    """The Monday, by UTC, that the week of a moment begins with."""
    day = at.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())


def spans_in_force(terms: Mapping[str, object], tier_spans: Sequence[RateSpan]) -> list[RateSpan]:
    """The rates that an offer's time is paid at: those of its terms, or of the expert's pay tier.

    A promotion raises the rate from its moment on; a rate is never lower than the one that the
    offer was accepted at, whatever happened to the tier since, and there always is one.
    """
    bound = terms["rate_minor_per_hour"]
    assert isinstance(bound, int)
    found: list[RateSpan] = []
    covered_until: datetime | None = datetime.min.replace(tzinfo=UTC)
    for span in tier_spans if terms["rate_from"] == "tier" else ():
        assert covered_until is not None
        if covered_until < span.starts_at:
            found.append(RateSpan(bound, covered_until, span.starts_at))
        rate = max(bound, span.rate_minor_per_hour)
        found.append(RateSpan(rate, span.starts_at, span.ends_at))
        covered_until = span.ends_at
    if covered_until is not None:
        found.append(RateSpan(bound, covered_until, None))
    return found


def priced(
    stretches: Sequence[Stretch],
    spans: Sequence[RateSpan],
    *,
    fee_basis_points: int,
    credited: Sequence[Line],
) -> list[Line]:
    """What some time earns beyond the lines that were credited before: a line a week and a rate.

    All seconds of a week at a rate are summed before the one rounding, so that it makes no
    difference how the time was cut into sessions, or how often it was credited.

    Raises:
        RateMissing, RatesOverlap.
    """
    seconds: Counter[tuple[date, int]] = Counter()
    for stretch in stretches:
        for part_s, rate in split_by_rate(stretch.starts_at, stretch.ends_at, spans):
            seconds[week_of(stretch.starts_at), rate] += part_s
    found = []
    for (week, rate), total_s in sorted(seconds.items()):
        before = [one for one in credited if (one.week, one.rate_minor_per_hour) == (week, rate)]
        more_s = total_s - sum(one.seconds for one in before)
        if more_s > 0:
            pay = pay_minor(total_s, rate) - sum(one.pay_minor for one in before)
            found.append(Line(week, rate, more_s, pay, fee_minor(pay, fee_basis_points)))
    return found


def plain_cell(text: str) -> str:
    """A text that a spreadsheet shows and never runs.

    Source: OWASP, CSV Injection: a cell that begins with one of these characters is a formula.
    """
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
