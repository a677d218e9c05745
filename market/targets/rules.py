"""Which targets there are, when one is missed and when it is met again, what is refused; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from market.errors import MarketError
from market.verdicts.rules import wilson

PROJECT_KINDS = ("speed", "volume", "quality")
"""What a lab wants of a project: half of all verdicts within so many seconds of the handing in; so
many accepted answers by a date; at least such a share of reviewed work accepted.
"""

QUEUE_KINDS = ("age", "wait", "acceptance", "expiry")
"""What ops want of a queue: the oldest that waits, nine tenths of the waits that ended, the share
of offers that are taken (or of reviews that end in a vote), the share that ran out.
"""

QUEUES = ("seats", "reviews")
"""What people wait for each other in: seats of tasks for experts, submissions for reviewers."""

SPEED_WINDOW = timedelta(days=7)
QUALITY_WINDOW = timedelta(days=30)
QUEUE_WINDOW = timedelta(days=1)

FEWEST = 5
"""Cases below which nothing is said of a share or of a middle."""

SLACK = 0.1
"""How far behind the even line a volume may be, as a share of its goal."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One target: what kind, and what is wanted.

    Units: `goal` seconds (speed, age, wait), answers (volume) or a share (the others).
    """

    kind: str
    goal: float
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """How a target stands: what is seen of it, on how many cases, and whether it is missed or met.

    Neither is said while there is too little to tell; a miss lasts until the target is met. Units:
        as the goal's; `low` and `high` a 95 % interval where there is one; `wanted` what the goal
        asks for by now.
    """

    value: float | None
    count: int
    is_missed: bool
    is_met: bool
    wanted: float
    low: float | None = None
    high: float | None = None


def at_most(goal: Goal, value: float | None, count: int, *, fewest: int = 1) -> Seen:
    """A figure that may not rise above its goal; nothing waiting is as it should be."""
    if value is None or count < fewest:
        return Seen(value, count, False, value is None, goal.goal)
    return Seen(value, count, value > goal.goal, value <= goal.goal, goal.goal)


def share_seen(goal: Goal, part: int, whole: int, *, is_most: bool = False) -> Seen:
    """A share that may not fall below its goal, or rise above it: missed once that is beyond doubt,
    which is to say that the whole interval lies on the wrong side.
    """
    found = wilson(part, whole)
    value = found.value
    if value is None or whole < FEWEST:
        return Seen(value, whole, False, False, goal.goal, found.low, found.high)
    missed = found.low > goal.goal if is_most else found.high < goal.goal
    met = value <= goal.goal if is_most else value >= goal.goal
    return Seen(value, whole, missed, met, goal.goal, found.low, found.high)


def volume_seen(goal: Goal, done: int, *, since: datetime, at: datetime) -> Seen:
    """How a volume stands against the even line from when it was set to its due date."""
    wanted = even_line(goal, since=since, at=at)
    is_over = goal.due_at is not None and at >= goal.due_at
    slack = 0.0 if is_over else SLACK * goal.goal
    return Seen(float(done), done, done < wanted - slack, done >= wanted, wanted)


def even_line(goal: Goal, *, since: datetime, at: datetime) -> float:
    """What would be done by a time if work went on evenly. Units: answers."""
    if goal.due_at is None or at >= goal.due_at:
        return goal.goal
    return goal.goal * max(0.0, (at - since) / (goal.due_at - since))


@dataclass(frozen=True, slots=True)
class BurnPoint:
    """What is left of a volume when a day ends, and what the even line leaves. Units: answers."""

    at: datetime
    left: float
    even: float


def burn_down(
    goal: Goal, done: Sequence[tuple[datetime, int]], *, since: datetime, at: datetime
) -> list[BurnPoint]:
    """What was left of a volume, day by day; `done` are the accepted answers of each day."""
    found: list[BurnPoint] = [BurnPoint(since, goal.goal, goal.goal)]
    left, end = goal.goal, since
    by_day = list(done)
    while end < at:
        end = min(end + timedelta(days=1), at)
        while by_day and by_day[0][0] < end:
            left -= by_day.pop(0)[1]
        even = goal.goal - even_line(goal, since=since, at=end)
        found.append(BurnPoint(end, max(0.0, left), even))
    return found


def check_goal(goal: Goal, *, kinds: Sequence[str], at: datetime) -> None:
    """Refuse a target that cannot be meant.

    Raises:
        TargetUnfit.
    """
    if goal.kind not in kinds:
        raise TargetUnfit("kind", "one of " + ", ".join(kinds))
    is_share = goal.kind in ("quality", "acceptance", "expiry")
    if is_share and not 0 < goal.goal < 1:
        raise TargetUnfit("goal", "a share between 0 and 1")
    if not is_share and not 1 <= goal.goal <= 1e9:
        raise TargetUnfit("goal", "at least 1, and at most 1000000000")
    if (goal.kind == "volume") != (goal.due_at is not None):
        raise TargetUnfit("due_at", "given with volume, and only with it")
    if goal.due_at is not None and goal.due_at <= at:
        raise TargetUnfit("due_at", "later than now")


def said(kind: str, seen: Seen) -> str:
    """A miss in words."""
    value = 0.0 if seen.value is None else seen.value
    if kind in ("speed", "age", "wait"):
        what = {
            "speed": "half of all verdicts take longer than",
            "age": "the oldest waits for",
            "wait": "one in ten waits longer than",
        }[kind]
        return f"{what} {value:.0f} s; at most {seen.wanted:.0f} s are wanted"
    if kind == "volume":
        return f"{value:.0f} answers are accepted; by now {seen.wanted:.0f} are wanted"
    what = {
        "quality": "of reviewed work is accepted",
        "acceptance": "is taken",
        "expiry": "ran out",
    }[kind]
    bound = "at most" if kind == "expiry" else "at least"
    return f"{value:.0%} of {seen.count} {what}; {bound} {seen.wanted:.0%} is wanted"


class TargetUnfit(MarketError):
    """A service target with a field that does not fit."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class TargetNotFound(MarketError):
    """No service target in force has this id."""

    def __init__(self, target_id: UUID) -> None:
        super().__init__("there is no such service target in force")
        self.target_id = target_id
