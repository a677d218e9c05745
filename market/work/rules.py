"""Sessions and time: their states, the arithmetic of paid time, what is refused.

All time is the server's, cut to whole seconds, so that cutting a stretch in two or joining two
never changes its length. A paid stretch is a run of accepted heartbeats with no gap above `GAP_S`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
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

PAUSE_BUDGET_S = 8 * 3600
"""How far the pauses of an offer move its deadline, all together."""

NEAR_CAP_S = 600
"""So long before a cap is reached, a session says so."""

SKEW_S = 5
"""How far a caller's clock may run ahead of ours before what it says is refused."""

CONFIRM_AFTER = timedelta(hours=48)
"""Recorded time that its expert has not objected to for so long is confirmed."""

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


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one UTC day: the first `paid_s` seconds of it are paid, the rest is not."""

    starts_at: datetime
    ends_at: datetime
    paid_s: int
    overtime_s: int = 0
    """How many of its paid seconds, the last ones, lie beyond what a week pays plainly."""

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


def monday_of(day: date) -> date:
    """The Monday that the week of a day begins with."""
    return day - timedelta(days=day.weekday())


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


@dataclass(frozen=True, slots=True)
class Room:
    """What the caps still allow when a stretch of time begins.

    `day_used_s` is what its first day has been paid for before, over all projects; `week_used_s`
    what its first week has been paid for on this project, whose cap a week is `week_cap_s`, if
    there is one. What a week is paid for beyond `overtime_after_s` is overtime.

    Units: seconds.
    """

    cap_left_s: int
    day_used_s: int
    week_cap_s: int | None = None
    week_used_s: int = 0
    overtime_after_s: int | None = None

    @property
    def is_overtime(self) -> bool:
        """Whether a second that is paid next is overtime."""
        return self.overtime_after_s is not None and self.week_used_s >= self.overtime_after_s

    def overtime_s(self, paid_s: int) -> int:
        """How many of the next paid seconds are overtime."""
        if self.overtime_after_s is None:
            return 0
        return paid_s - min(paid_s, max(0, self.overtime_after_s - self.week_used_s))

    @property
    def left_s(self) -> int:
        """How much can be paid until the nearest cap of this day stops it."""
        left = min(self.cap_left_s, max(0, DAY_CAP_S - self.day_used_s))
        if self.week_cap_s is not None:
            left = min(left, max(0, self.week_cap_s - self.week_used_s))
        return left


def pieces(start: datetime, end: datetime, room: Room) -> list[Piece]:
    """Cut a stretch by day and say how much of each piece is paid: its first seconds, as far as
    every cap allows. Beyond, time is recorded and not paid.
    """
    found: list[Piece] = []
    for first, last in by_day(start, end):
        here = room_after(room, found, first)
        paid_s = min(seconds_between(first, last), here.left_s)
        found.append(Piece(first, last, paid_s, here.overtime_s(paid_s)))
    return found


def room_after(room: Room, done: Sequence[Piece], at: datetime | None = None) -> Room:
    """What the caps allow when some pieces of a stretch are done and the next begins at a moment,
    which is when the last one ended unless another is given.
    """
    for n, piece in enumerate(done):
        following = done[n + 1].starts_at if n + 1 < len(done) else at or piece.ends_at
        day_used_s = room.day_used_s + piece.paid_s
        week_used_s = room.week_used_s + piece.paid_s
        if following.date() > piece.starts_at.date():
            # A new day, and on Mondays a new week, have been paid for nothing yet.
            day_used_s = 0
            week_used_s = 0 if following.weekday() == 0 else week_used_s
        room = replace(
            room,
            cap_left_s=room.cap_left_s - piece.paid_s,
            day_used_s=day_used_s,
            week_used_s=week_used_s,
        )
    return room


@dataclass(frozen=True, slots=True)
class Proof:
    """Something of a session that was kept as it came: a heartbeat, or one of its own moves.

    `kind` is `beat`, or the action of a move that starts or stops the clock.
    """

    at: datetime
    kind: str
    is_active: bool = True
    seq: int = 0


def stretches(
    started_at: datetime, proofs: Sequence[Proof], *, quiet_s: int
) -> list[tuple[datetime, datetime]]:
    """The paid stretches of a session, from nothing but its proofs: what its record must equal.

    A heartbeat whose number is not above the last, or that comes before it, changes nothing; so
    the proofs may hold repetitions, in any order among those of one moment.
    """
    found: list[tuple[datetime, datetime]] = []
    since: datetime | None = started_at
    is_paused = False
    last_at = active_at = started_at
    last_seq = 0

    def close(at: datetime) -> None:
        nonlocal since
        if since is not None:
            until = stretch_end(last_at, at, last_active_at=active_at, quiet_s=quiet_s)
            if until > since:
                found.append((since, until))
            since = None

    for proof in sorted(proofs, key=_in_turn):
        at = proof.at
        if proof.kind == "resume":
            is_paused, since, last_at, active_at = False, at, at, at
        elif proof.kind == "pause":
            close(at)
            is_paused = True
        elif proof.kind in ("end", "lose"):
            close(last_at if proof.kind == "lose" else at)
            break
        elif proof.kind == "beat" and not is_paused and proof.seq > last_seq and at >= last_at:
            is_late = seconds_between(last_at, at) > GAP_S
            is_quiet = at > quiet_end(active_at, quiet_s)
            if since is not None and (is_late or is_quiet):
                close(at)
                since = None if is_quiet and not proof.is_active else at
            elif since is None and proof.is_active:
                since = at
            last_at, last_seq = at, proof.seq
            if proof.is_active:
                active_at = at
    return found


def _in_turn(proof: Proof) -> tuple[datetime, int, int]:
    # In one second, what was accepted came after the clock was let run and before it was stopped.
    place = {"resume": 0, "beat": 1}.get(proof.kind, 2)
    return proof.at, place, proof.seq
