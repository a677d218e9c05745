"""From seconds to lines of pay: weeks, rates, and what is refused; pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move
from payouts.pay import BASIS_POINTS, RateSpan, fee_minor, pay_minor, split_by_rate

UNPAID_TIME = ("voided",)
"""States of a time entry whose seconds earn nothing: its expert took them out itself.

Time in dispute earns its line all the same; the line is what waits for the decision.
"""

EARNING = Machine(
    "earning",
    ("accrued", "approved"),
    (
        Move("approve", ("accrued",), "approved"),
        Move("dispute", ("accrued",), "disputed"),
        Move("uphold", ("disputed",), "approved"),
        Move("withhold", ("disputed",), "withheld"),
        Move("restore", ("withheld",), "approved"),
    ),
)
"""A line of pay: what it owes is the expert's already, and free to pay out once it is approved.

A withheld line names the dispute that decided it, by which its expert can appeal.
"""

KINDS = (
    "hours",
    "deliverable",
    "attempt_fee",
    "floor",
    "screening",
    "impact_bonus",
    "bonus",
    "sitting",
    "guarantee",
)
"""What pay can be for. `floor` tops work that was not accepted up to what its time is worth, and
`screening` tops the minutes of a task that was not for its expert up to what its screener pays.
`sitting` is the time of a test, or of a baseline, and `guarantee` what was promised to somebody who
was admitted and then offered no work in time.
"""

LOCK_AFTER = timedelta(hours=12)
"""So long after its last second, by UTC, a week of time is locked and credited."""

REVIEW_FOR = timedelta(hours=48)
"""How long at least a lab has to look at a line before its silence approves it."""

REVIEW_ENDS = timedelta(days=2, hours=12)
"""When in a week, from its Monday, silence approves: Wednesday noon."""

PAID_AT = timedelta(days=2, hours=18)
"""When in a week, from its Monday, the payout run starts: Wednesday evening."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class LineNotFound(MarketError):
    """No line of pay that the caller may see has this id."""

    def __init__(self, earning_id: UUID) -> None:
        super().__init__("there is no such line of pay")
        self.earning_id = earning_id


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
    is_overtime: bool = False

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
    kind: str = "hours"


def week_of(at: datetime) -> date:
    """The Monday, by UTC, that the week of a moment begins with."""
    day = at.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())


@dataclass(frozen=True, slots=True)
class Period:
    """The edges of one pay week, all by UTC: shown to each expert in its own zone beside."""

    week: date

    @property
    def starts_at(self) -> datetime:
        """Its first second."""
        return datetime.combine(self.week, time(), UTC)

    @property
    def ends_at(self) -> datetime:
        """When its last second is over."""
        return self.starts_at + timedelta(days=7)

    @property
    def locks_at(self) -> datetime:
        """Until when an expert can take time of its own out."""
        return self.ends_at + LOCK_AFTER

    @property
    def review_ends_at(self) -> datetime:
        """When the lab's silence has approved its lines."""
        return self.ends_at + REVIEW_ENDS

    @property
    def paid_at(self) -> datetime:
        """When what was approved by then is paid out."""
        return self.ends_at + PAID_AT


def review_until(week: date, credited_at: datetime) -> datetime:
    """When silence approves a line: the first Wednesday noon that leaves its lab the time to look.

    A line that is credited late rolls over to the next one; it never vanishes.
    """
    from_then = max(Period(week).ends_at, credited_at.astimezone(UTC)) + REVIEW_FOR
    found = Period(week_of(from_then)).starts_at + REVIEW_ENDS
    return found if found >= from_then else found + timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Fixed:
    """What a contract pays beside hours, and what is true of the work so far.

    Units: minor units.
    """

    deliverable_minor: int
    attempt_fee_minor: int
    attempts_max: int
    attempts: int
    """Honest attempts that have their outcome, whatever it is."""
    is_accepted: bool
    is_decided: bool
    """Whether nothing more is to be decided about the work."""
    can_add: bool
    """Whether the contract pays anything beside hours at all, so that a decision matters."""
    screening_minor: int = 0
    """What is paid at least, where a screener ended the work."""
    impact_bonus_minor: int = 0
    """What a stump pays on top, by its terms."""
    is_stump: bool = False
    is_void: bool = False
    """Whether the work was a fraud by a decided case, so that nothing is due for it."""


def fixed_lines(
    week: date,
    fixed: Fixed,
    *,
    floor_minor: int | None,
    fee_basis_points: int,
    credited: Sequence[Line],
    worth_minor: int = 0,
) -> list[Line]:
    """What is due beside hours beyond the lines that were credited before.

    `floor_minor` is what the time is worth at the floor rate of a contract by deliverable, and None
    for hourly contracts. Work that is not accepted is topped up to it, once that is decided; when a
    decision is overturned, what was topped up counts towards the deliverable. `worth_minor` is what
    the time pays either way, which counts towards a screening.
    """
    before: Counter[str] = Counter()
    for line in credited:
        before[line.kind] += line.pay_minor
    fees = fixed.attempt_fee_minor * min(fixed.attempts, fixed.attempts_max)
    deliverable = fixed.deliverable_minor if fixed.is_accepted else 0
    due = {
        "attempt_fee": fees - before["attempt_fee"],
        "deliverable": deliverable - before["deliverable"],
    }
    if fixed.is_stump:
        due["impact_bonus"] = fixed.impact_bonus_minor - before["impact_bonus"]
    if fixed.screening_minor:
        due["screening"] = max(0, fixed.screening_minor - fees - worth_minor) - before["screening"]
    if floor_minor is not None and fixed.is_decided:
        top_up = max(0, floor_minor - deliverable - fees) - before["floor"]
        due["floor"] = top_up
        if top_up < 0:
            due["deliverable"] += top_up
    return [
        Line(week, 0, 0, pay, fee_minor(pay, fee_basis_points), kind)
        for kind, pay in due.items()
        if pay > 0
    ]


def overtime_of(terms: Mapping[str, object]) -> int:
    """What overtime is paid at, in hundredths of a per cent of the rate; 10,000 where none is."""
    share = terms.get("overtime_basis_points") or BASIS_POINTS
    assert isinstance(share, int)
    return share


def overtime_rate(rate_minor_per_hour: int, overtime_basis_points: int) -> int:
    """What an hour of overtime is paid, rounded up: never less than was promised.

    Units: minor units an hour; hundredths of a per cent of the rate.
    """
    return -(-rate_minor_per_hour * overtime_basis_points // BASIS_POINTS)


def paid_at(
    stretch: Stretch,
    starts_at: datetime,
    ends_at: datetime,
    spans: Sequence[RateSpan],
    overtime_basis_points: int,
) -> Iterator[tuple[int, int]]:
    """Seconds and rate of a part of a stretch, cut where the rate changes.

    Raises:
        RateMissing, RatesOverlap.
    """
    for seconds, rate in split_by_rate(starts_at, ends_at, spans):
        yield seconds, overtime_rate(rate, overtime_basis_points) if stretch.is_overtime else rate


def is_hourly(terms: Mapping[str, object]) -> bool:
    """Whether a contract pays time by the hour; else time is a floor under pay for the work."""
    return terms.get("pay_basis", "hourly") == "hourly"


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
    overtime_basis_points: int = BASIS_POINTS,
) -> list[Line]:
    """What some time earns beyond the lines that were credited before: a line a week and a rate.

    All seconds of a week at a rate are summed before the one rounding, so that it makes no
    difference how the time was cut into sessions, or how often it was credited. Overtime has a rate
    of its own, and so lines of its own.

    Raises:
        RateMissing, RatesOverlap.
    """
    seconds: Counter[tuple[date, int]] = Counter()
    for stretch in stretches:
        parts = paid_at(stretch, stretch.starts_at, stretch.ends_at, spans, overtime_basis_points)
        for part_s, rate in parts:
            seconds[week_of(stretch.starts_at), rate] += part_s
    found = []
    for (week, rate), total_s in sorted(seconds.items()):
        before = [
            one
            for one in credited
            if (one.kind, one.week, one.rate_minor_per_hour) == ("hours", week, rate)
        ]
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
