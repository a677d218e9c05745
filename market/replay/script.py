"""What a market is made of before it runs: people, tasks, what happened, and who judged it.

The folder format is documented in `docs/replay.md`; `folders.py` reads it and its foreign cousins,
`generate.py` makes one up.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol, Self

from market.errors import MarketError


class ReplayRefused(MarketError):
    """An input that cannot be replayed: the file, the row and what is wrong with it."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ExpertLine:
    """One expert. Units: `capacity` tasks at a time, `weekly_hours` hours."""

    expert: str
    domains: tuple[str, ...]
    pay_tier: str = "T2"
    capacity: int = 5
    weekly_hours: int = 40
    country: str = "US"
    timezone: str = "UTC"
    headline: str = ""


@dataclass(frozen=True, slots=True)
class TaskLine:
    """One task. Units: `answers` experts, `expected_s` seconds."""

    task: str
    domain: str
    instructions: str
    answers: int = 1
    expected_s: int = 1800
    complexity: int = 1


@dataclass(frozen=True, slots=True)
class PairLine:
    """What is known of an expert and a task before the market opens, from 0 to 1: a bid, say."""

    expert: str
    task: str
    value: float


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """One attempt to make the model fail. Units: `active_s` seconds at work before it was sent."""

    attempt: str
    expert: str
    task: str
    sent_at: datetime
    active_s: int
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class VoteLine:
    """One rater's view of one attempt: did the model fail, and was the attempt fair?"""

    attempt: str
    rater: str
    model_failed: bool
    attempt_fair: bool
    seconds: int


class Behaviour(Protocol):
    """What the people of a market do when they get work."""

    def attempt_of(
        self, expert: str, task: str, at: datetime, worked_until: datetime | None = None
    ) -> AttemptLine | None:
        """What an expert did with a task that it accepted; nothing when it never got to it.

        `worked_until` is when what is recorded of its time ends; a clock is never started before.
        """
        ...

    def votes_on(self, attempt: AttemptLine) -> Sequence[VoteLine]:
        """How the raters see an attempt."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What the lab of a market offers.

    Units: seconds, of which `cap_s` are paid a task at most; `budget_minor` US cents.
    """

    name: str
    brief: str
    domains: tuple[str, ...]
    budget_minor: int
    cap_s: int = 3600
    reviews: int = 3
    answers_per_task: int = 1
    policy: str = "default"
    only_known_pairs: bool = False
    offer_ttl_s: int = 7 * 86_400
    work_ttl_s: int = 400 * 86_400
    review_ttl_s: int = 90 * 86_400


@dataclass(frozen=True, slots=True)
class Script:
    """A whole market: who, what, on which terms, and how they behave.

    Without a behaviour nobody works: such a market is matched, and that is all.
    """

    title: str
    terms: Terms
    experts: Sequence[ExpertLine]
    tasks: Sequence[TaskLine]
    pairs: Sequence[PairLine]
    raters: Sequence[str] = ()
    behaviour: Behaviour | None = None
    known_optimum: float | None = None
    notes: tuple[str, ...] = ()
    """What the service does otherwise than the record, in words, for the report."""


@dataclass(slots=True)
class Recorded:
    """The behaviour that a record holds; each pair acts as it acted then, in the order of then."""

    attempts: dict[tuple[str, str], AttemptLine]
    votes: dict[str, list[VoteLine]]
    shift: timedelta = timedelta(0)

    @classmethod
    def of(cls, attempts: Sequence[AttemptLine], votes: Sequence[VoteLine]) -> Self:
        """A record of these rows; each pair did its task once.

        Raises:
            ReplayRefused, since a task is done once by each of its experts.
        """
        done: dict[tuple[str, str], AttemptLine] = {}
        for line in attempts:
            if (line.expert, line.task) in done:
                raise ReplayRefused("attempts", f"{line.expert} did {line.task} twice")
            done[line.expert, line.task] = line
        judged: dict[str, list[VoteLine]] = defaultdict(list)
        for vote in votes:
            judged[vote.attempt].append(vote)
        return cls(done, dict(judged))

    def attempt_of(
        self, expert: str, task: str, at: datetime, worked_until: datetime | None = None
    ) -> AttemptLine | None:
        """The pair's recorded attempt, moved forward with all others."""
        del at, worked_until
        line = self.attempts.get((expert, task))
        return replace(line, sent_at=line.sent_at + self.shift) if line else None

    def votes_on(self, attempt: AttemptLine) -> Sequence[VoteLine]:
        """The recorded votes."""
        return self.votes.get(attempt.attempt, [])


def whole_weeks_until(first: datetime, now: datetime) -> timedelta:
    """How far to move a record so that nothing in it happens before its market opens.

    Whole weeks, so that weekdays, hours and pay weeks stay what they were.
    """
    if first > now:
        return timedelta(0)
    return timedelta(weeks=(now - first) // timedelta(weeks=1) + 1)
