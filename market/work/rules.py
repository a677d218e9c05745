"""Sessions and time: their states, the arithmetic of paid time, what is refused.

All time is the server's, cut to whole seconds, so that cutting a stretch in two or joining two
never changes its length. A paid stretch is a run of accepted heartbeats with no gap above `GAP_S`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

GAP_S = 90
"""Two accepted heartbeats at most this far apart make a paid interval."""

PROMPT_S = 300
"""Quiet for so long, the expert is asked whether it is still there."""

QUIET_S = 600
"""Quiet for so long, the clock stops."""

MAX_QUIET_S = 900
"""The longest quiet time that a task of reading or listening may declare."""

DAY_CAP_S = 12 * 3600
"""The most that is paid to one expert for one UTC day, over all its projects."""

LOST_S = 300
"""A running session without a heartbeat for so long is lost."""

MAX_PAUSE_S = 4 * 3600
"""A pause, or a session left idle, ends the session after so long."""

SKEW_S = 5
"""How far a caller's clock may run ahead of ours before what it says is refused."""

CONFIRM_AFTER = timedelta(hours=48)
"""Recorded time that its expert has not objected to for so long is confirmed."""

MIN_REASON = 20
"""Characters that a dispute about time needs."""

SESSION = Machine(
    "work_session",
    ("running",),
    (
        Move("go_idle", ("running",), "idle"),
        Move("wake", ("idle",), "running"),
        Move("pause", ("running", "idle"), "paused"),
        Move("resume", ("paused",), "running"),
        Move("end", ("running", "idle", "paused"), "ended"),
        Move("lose", ("running",), "aborted"),
    ),
)

TIME_ENTRY = Machine(
    "time_entry",
    ("recorded",),
    (
        Move("confirm", ("recorded",), "confirmed"),
        Move("lock", ("confirmed",), "locked"),
        Move("dispute", ("recorded", "confirmed", "locked"), "disputed"),
        Move("adjust", ("disputed",), "adjusted"),
        Move("uphold", ("disputed",), "confirmed"),
        Move("approve", ("locked", "adjusted"), "payable"),
        Move("settle", ("payable",), "settled"),
        Move("void", ("recorded", "confirmed"), "voided"),
    ),
)

OPEN_SESSIONS = ("running", "idle", "paused")


class SessionNotFound(MarketError):
    """No work session that the caller may see has this id."""

    def __init__(self, session_id: UUID) -> None:
        super().__init__("there is no such work session")
        self.session_id = session_id


class TimeEntryNotFound(MarketError):
    """No time entry that the caller may see has this id."""

    def __init__(self, entry_id: UUID) -> None:
        super().__init__("there is no such time entry")
        self.entry_id = entry_id


class SessionAlreadyOpen(MarketError):
    """A second session while one is open: a person works on one thing at a time."""

    def __init__(self) -> None:
        super().__init__("you have an open work session; stop it before you start another")


class SessionNotOpen(MarketError):
    """Something asked of a session that has ended."""

    def __init__(self, state: str) -> None:
        super().__init__(f"this work session has {state}; start another one")
        self.state = state


class FromTheFuture(MarketError):
    """A heartbeat that claims a moment which has not come."""

    def __init__(self, ahead_s: int) -> None:
        super().__init__(
            f"this heartbeat was sent {ahead_s} s from now; set the clock, or leave sent_at out"
        )
        self.ahead_s = ahead_s


class TimeTaken(MarketError):
    """A session that would begin in time which is recorded already."""

    def __init__(self) -> None:
        super().__init__("you have recorded time at this moment already; start a moment later")


class TimeHandedIn(MarketError):
    """Time taken out after something was handed in on it."""

    def __init__(self) -> None:
        super().__init__("work was handed in on this time; dispute it instead")


class DisputeReasonMissing(MarketError):
    """A dispute about time without a word on what is wrong."""

    def __init__(self) -> None:
        super().__init__(f"say in {MIN_REASON} characters or more what is wrong with this time")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one UTC day: the first `paid_s` seconds of it are paid, the rest is not."""

    starts_at: datetime
    ends_at: datetime
    paid_s: int

    @property
    def seconds(self) -> int:
        """How long it is."""
        return seconds_between(self.starts_at, self.ends_at)

    @property
    def capped_s(self) -> int:
        """How much of it lies beyond a cap."""
        return self.seconds - self.paid_s


def whole(at: datetime) -> datetime:
    """A moment cut to its whole second, in UTC: the only time that pay knows."""
    return at.astimezone(UTC).replace(microsecond=0)


def seconds_between(start: datetime, end: datetime) -> int:
    """The whole seconds from one moment to another."""
    return (end - start) // timedelta(seconds=1)


def quiet_end(last_active_at: datetime, quiet_s: int) -> datetime:
    """When the clock of someone quiet stops."""
    return last_active_at + timedelta(seconds=quiet_s)


def stretch_end(
    last_beat_at: datetime, at: datetime, *, last_active_at: datetime, quiet_s: int
) -> datetime:
    """Until when a stretch that had its last heartbeat is paid, now that a proof comes at `at`.

    A proof within `GAP_S` pays until itself, but never past the end of the quiet time, whether or
    not it says that there was activity: so one more heartbeat in between changes nothing.
    """
    if seconds_between(last_beat_at, at) > GAP_S:
        return last_beat_at
    return max(last_beat_at, min(at, quiet_end(last_active_at, quiet_s)))


def by_day(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """A stretch cut at each midnight UTC, so that every piece lies in one day and in one week."""
    while start < end:
        midnight = (start + timedelta(days=1)).replace(hour=0, minute=0, second=0)
        yield start, min(end, midnight)
        start = midnight


def pieces(start: datetime, end: datetime, *, cap_left_s: int, day_used_s: int) -> list[Piece]:
    """Cut a stretch by day and say how much of each piece is paid.

    `cap_left_s` is what the offer's cap still allows when the stretch begins, `day_used_s` what the
    first day has been paid for before. Beyond either, time is recorded and not paid.
    """
    found: list[Piece] = []
    for first, last in by_day(start, end):
        paid = min(seconds_between(first, last), cap_left_s, max(0, DAY_CAP_S - day_used_s))
        found.append(Piece(first, last, paid))
        cap_left_s -= paid
        day_used_s = 0
    return found
