"""Review plans: what is reviewed, how often and at how many levels; pure.

A draw is a number from 0 to 1 made of the submission, the round, the level and the version of the
plan alone, so that anyone can make it again.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from market.errors import MarketError

Rate = Annotated[float, Meta(ge=0, le=1)]
Votes = Annotated[int, Meta(ge=1, le=15)]


class SampleRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose work is reviewed at which rate.

    The rule holds for an author of whom at least `min_decided` reviewed submissions are decided,
    with at least `min_accepted` as the lower end of the interval of its accepted share.
    """

    rate: Rate
    min_decided: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    min_accepted: Rate = 0.0


class FurtherLevel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A level of review above the first: how much of what comes through goes there."""

    level: Annotated[int, Meta(ge=2, le=5)]
    rate: Rate
    votes: Votes = 1


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a project's submissions are reviewed.

    `rules` are asked in their order, the first that holds counts, and without one everything is
    reviewed; a random share of `control_rate` is reviewed whatever they say. A claimed stump is
    always reviewed. With `stop_early` a majority is asked first, and the others only while their
    votes can still change what is decided.

    Units: `rework_within_s` seconds.
    """

    control_rate: Rate = 0.1
    rules: Annotated[tuple[SampleRule, ...], Meta(max_length=20)] = ()
    stop_early: bool = False
    further: Annotated[tuple[FurtherLevel, ...], Meta(max_length=4)] = ()
    adjudicate: Literal["never", "ties", "splits"] = "ties"
    max_rework: Annotated[int, Meta(ge=0, le=5)] = 2
    rework_within_s: Annotated[int, Meta(ge=3600, le=14 * 24 * 3600)] = 48 * 3600

    def above(self, level: int) -> FurtherLevel | None:
        """The next level over one."""
        return min(
            (one for one in self.further if one.level > level),
            key=lambda one: one.level,
            default=None,
        )


PLAIN = Plan(adjudicate="never")
"""Without a plan everything is reviewed at one level, and a tie is the author's."""


@dataclass(frozen=True, slots=True)
class Record:
    """What came of an author's reviewed work so far; `low` is the lower end of its interval."""

    decided: int
    accepted: int
    low: float


@dataclass(frozen=True, slots=True)
class Chosen:
    """Whether a submission is reviewed, by which rule, and by what draw."""

    is_reviewed: bool
    is_control: bool
    rule: int | None
    rate: float
    draw: float


class PlanRefused(MarketError):
    """A review plan that contradicts itself."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must {wanted}")
        self.field = field


def check_plan(plan: Plan) -> None:
    """Refuse a plan that names a level twice.

    Raises:
        PlanRefused.
    """
    levels = [one.level for one in plan.further]
    if levels != sorted(set(levels)):
        raise PlanRefused("further", "name each level once, the lowest first")


def draw(submission_id: UUID, round_: int, level: int, version: int, what: str) -> float:
    """A number from 0 (included) to 1 (excluded) for one decision on one submission."""
    seed = f"{submission_id}:{round_}:{level}:{version}:{what}"
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) / 2**64


def choose(plan: Plan, record: Record, *, submission_id: UUID, round_: int, version: int) -> Chosen:
    """Whether a submission is reviewed at the first level."""
    number, rate = _rule_for(plan.rules, record)
    drawn = draw(submission_id, round_, 1, version, "review")
    is_control = draw(submission_id, round_, 1, version, "control") < plan.control_rate
    return Chosen(drawn < rate or is_control, is_control, number, rate, drawn)


def _rule_for(rules: Sequence[SampleRule], record: Record) -> tuple[int | None, float]:
    for number, rule in enumerate(rules):
        if record.decided >= rule.min_decided and record.low >= rule.min_accepted:
            return number, rule.rate
    return None, 1.0
