"""Hours of the week and time off, and what they leave of a stretch of time; pure.

Hours are those of a clock on the expert's wall: a moment is within a window if that clock, in the
expert's time zone, shows a time within it. An hour that a change of the clocks leaves out is not
there, and one that it repeats counts twice.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import ceil, floor
from typing import Annotated, Literal, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from market.errors import MarketError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

MAX_WINDOWS = 50
MAX_TIME_OFF = 100
YEARS = (2000, 2200)
"""The years in which time off can lie."""

ANSWER_S = 30 * 60
"""The open time that an offer leaves its expert to answer in, or all of a shorter deadline."""

DAY_MINUTES = 24 * 60
LOOKS = (timedelta(days=8), timedelta(days=64), timedelta(days=400))
"""How far ahead the next opening is looked for, the nearest first."""

Week = tuple[tuple[int, int], ...]
"""Open stretches of a week, in minutes from Monday 00:00 on the expert's clock, in their order."""

Spans = tuple[tuple[datetime, datetime], ...]
"""Stretches of time, in their order and apart from each other."""

Point = TypeVar("Point", int, datetime)

TimeOfDay = Annotated[str, Meta(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]


class Window(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Hours of one day of the week, on the expert's clock; a night is two windows."""

    day: Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    starts: TimeOfDay
    ends: TimeOfDay


class TimeOff(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A stretch of time in which an expert is away."""

    starts_at: Annotated[datetime, Meta(tz=True)]
    ends_at: Annotated[datetime, Meta(tz=True)]


def week_of(windows: Sequence[Window]) -> Week:
    """Windows as stretches of a week; those that meet or overlap are one.

    Raises:
        AvailabilityInvalid.
    """
    if len(windows) > MAX_WINDOWS:
        raise AvailabilityInvalid("windows", f"{MAX_WINDOWS} at most")
    found = []
    for one in windows:
        midnight = DAYS.index(one.day) * DAY_MINUTES
        starts, ends = _minutes(one.starts), _minutes(one.ends)
        if starts >= ends:
            wanted = "later at their end than at their start; a night is two windows"
            raise AvailabilityInvalid("windows", wanted)
        found.append((midnight + starts, midnight + ends))
    return tuple(_joined(found))


def windows_of(week: Week) -> list[Window]:
    """The same the other way round: windows of one day each."""
    found = []
    for start, end in week:
        while start < end:
            day = start // DAY_MINUTES
            last = min(end, (day + 1) * DAY_MINUTES)
            found.append(
                Window(
                    day=DAYS[day],  # type: ignore[arg-type]
                    starts=_told(start - day * DAY_MINUTES),
                    ends=_told(last - day * DAY_MINUTES),
                )
            )
            start = last
    return found


def away_of(rows: Sequence[TimeOff]) -> Spans:
    """Time off in its order; stretches that meet or overlap are one.

    Raises:
        AvailabilityInvalid.
    """
    if len(rows) > MAX_TIME_OFF:
        raise AvailabilityInvalid("time_off", f"{MAX_TIME_OFF} stretches at most")
    ends = [at for one in rows for at in (one.starts_at, one.ends_at)]
    if any(not YEARS[0] <= at.year < YEARS[1] for at in ends):
        raise AvailabilityInvalid("time_off", f"between the years {YEARS[0]} and {YEARS[1]}")
    if any(one.starts_at >= one.ends_at for one in rows):
        raise AvailabilityInvalid("time_off", "later at its end than at its start")
    return tuple(
        _joined((one.starts_at.astimezone(UTC), one.ends_at.astimezone(UTC)) for one in rows)
    )


@dataclass(frozen=True, slots=True)
class Calendar:
    """When an expert works: in the hours of its week, at any time where it names none, and never
    while it is away.
    """

    zone: str = "UTC"
    week: Week = ()
    away: Spans = ()

    @property
    def clock(self) -> ZoneInfo:
        """The clock on the expert's wall."""
        return ZoneInfo(self.zone)

    def spans(self, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
        """The open stretches between two moments."""
        if start >= end:
            return []
        found: list[tuple[datetime, datetime]] = []
        for first, last in _in_week(self.zone, self.week, start, end):
            for gone, back in self.away:
                if back <= first or gone >= last:
                    continue
                if first < gone:
                    found.append((first, gone))
                first = back
                if first >= last:
                    break
            if first < last:
                found.append((first, last))
        return found

    def open_s(self, start: datetime, end: datetime) -> int:
        """Whole seconds that are open between two moments."""
        found = (last - first for first, last in self.spans(start, end))
        return sum(found, timedelta()) // timedelta(seconds=1)

    def reached_at(self, start: datetime, end: datetime, seconds: int) -> datetime | None:
        """The moment at which so many seconds have been open since a start; None if that is not
        before an end.
        """
        left = timedelta(seconds=seconds)
        for first, last in self.spans(start, end):
            if last - first >= left:
                return first + left
            left -= last - first
        return None

    def opens_after(self, at: datetime) -> datetime | None:
        """The next moment at which closed time becomes open; None where none comes in a year."""
        for ahead in LOOKS:
            for first, _ in self.spans(at, at + ahead):
                if first > at:
                    return first
        return None


def room_s(calendar: Calendar, at: datetime, *, offer_ttl_s: int, work_ttl_s: int) -> int:
    """How much work an offer made now can ask for: the open time before the last moment at which
    it may be due; none, where too little of it lies before the offer's deadline to answer in.

    Units: seconds.
    """
    answered = at + timedelta(seconds=offer_ttl_s)
    if calendar.open_s(at, answered) < min(ANSWER_S, offer_ttl_s):
        return 0
    return calendar.open_s(at, answered + timedelta(seconds=work_ttl_s))


def not_due_before(
    calendar: Calendar, at: datetime, *, offer_ttl_s: int, work_ttl_s: int, expected_s: int
) -> datetime | None:
    """Until when work stays undue however early its offer is accepted, so that the expert's own
    hours hold it; None where the usual deadline does that by itself.

    At the latest it is the last moment for which an offer reserves money.
    """
    answered = at + timedelta(seconds=offer_ttl_s)
    last = answered + timedelta(seconds=work_ttl_s)
    reached = calendar.reached_at(answered, last, expected_s) or last
    # Whoever accepts has until then at least, and these hours lie before it.
    return None if reached <= at + timedelta(seconds=work_ttl_s) else reached


def _joined(spans: Iterable[tuple[Point, Point]]) -> list[tuple[Point, Point]]:
    found: list[tuple[Point, Point]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


# Many experts keep the same hours, and a run asks for the same stretch for all of them.
@lru_cache(maxsize=8192)
def _in_week(zone: str, week: Week, start: datetime, end: datetime) -> Spans:
    if not week:
        return ((start, end),)
    found: list[tuple[datetime, datetime]] = []
    for first, last, offset_s in _offsets(zone, start, end):
        offset = timedelta(seconds=offset_s)
        # The clock on the wall, as if it were one of UTC.
        shown, until = first + offset, last + offset
        midnight = shown.replace(hour=0, minute=0, second=0, microsecond=0)
        monday = midnight - timedelta(days=midnight.weekday())
        while monday < until:
            for opens, closes in week:
                begins = max(shown, monday + timedelta(minutes=opens)) - offset
                ends = min(until, monday + timedelta(minutes=closes)) - offset
                if begins < ends:
                    found.append((begins, ends))
            monday += timedelta(days=7)
    return tuple(_joined(found))


@lru_cache(maxsize=1024)
def _offsets(
    zone: str, start: datetime, end: datetime
) -> tuple[tuple[datetime, datetime, int], ...]:
    """A stretch cut where the clocks of a zone change, with what they are ahead of UTC in each.

    Units: seconds.
    """
    return tuple(_cut(ZoneInfo(zone), start.astimezone(UTC), end.astimezone(UTC)))


def _cut(
    zone: ZoneInfo, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime, int]]:
    begins, probe, offset_s = start, start, _ahead(zone, start)
    while probe < end:
        following = min(probe + timedelta(days=1), end)
        if _ahead(zone, following) == offset_s:
            probe = following
            continue
        # Clocks change on a whole second.
        before, after = floor(probe.timestamp()), ceil(following.timestamp())
        while after - before > 1:
            middle = (before + after) // 2
            if _ahead(zone, datetime.fromtimestamp(middle, UTC)) == offset_s:
                before = middle
            else:
                after = middle
        changed = datetime.fromtimestamp(after, UTC)
        yield begins, changed, offset_s
        begins, probe, offset_s = changed, changed, _ahead(zone, changed)
    if begins < end:
        yield begins, end, offset_s


def _ahead(zone: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    return 0 if offset is None else offset // timedelta(seconds=1)


def _minutes(told: str) -> int:
    return int(told[:2]) * 60 + int(told[3:])


def _told(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


class AvailabilityInvalid(MarketError):
    """Hours or time off that cannot be what somebody means."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field
