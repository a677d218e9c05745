"""Review plans: what is reviewed, how often, at how many levels, and who may accept it; pure.

A draw is a number from 0 to 1 made of the submission, the round, the level and the version of the
plan alone, so that anyone can make it again.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args
from uuid import UUID

import msgspec
from msgspec import Meta

from market.errors import MarketError

Rate = Annotated[float, Meta(ge=0, le=1)]
Votes = Annotated[int, Meta(ge=1, le=15)]
Authority = Literal["checklist", "panel", "both"]
AUTHORITIES: tuple[Authority, ...] = get_args(Authority)


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


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A box that a machine can tick: what the text in one field of the payload must be like.

    `number` counts words or lines; `text` is looked for as it is written, but by `capitals`, which
    wants it in capital letters wherever it stands, and somewhere. A field that holds no text meets
    nothing.
    """

    field: Annotated[str, Meta(min_length=1, max_length=100)]
    kind: Literal[
        "least_words", "most_words", "lines", "contains", "lacks", "begins", "ends", "capitals"
    ]
    number: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    text: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None

    def told(self) -> str:
        """The check in words, as its author and the draw read it."""
        wanted = self.number if self.text is None else repr(self.text)
        return f"{self.field} {self.kind} {wanted}"


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a project's submissions are reviewed.

    `rules` are asked in their order, the first that holds counts, and without one everything is
    reviewed; a random share of `control_rate` is reviewed whatever they say. A claimed stump is
    always reviewed. With `stop_early` a majority is asked first, and the others only while their
    votes can still change what is decided.

    `authority` says who accepts. Without one, people do, and whoever is spared by a rule or passed
    over in silence is accepted too. By `checklist`, what meets every check is accepted at once, and
    people decide on the rest. By `panel` nothing is accepted until people have judged it, whatever
    the rules spare and however long it takes. By `both` it must meet every check besides. Where
    silence does not accept, the author is still paid as if it had (see `votes`).

    What is to be done again goes back to its author, at most `max_rework` times. `rejected` says
    who does anew what was rejected: `others`, who are offered its seat, or, with `drop`, nobody. A
    task then ends with the answers that it has, and is cancelled where it has none.

    With `stop_at` no more is asked of a claim once all who voted on it, two at least, say the same
    and are right with this probability, each believed by its own record; reviews that somebody
    holds are waited for, and a share of `control_rate` is asked to the full, so that what stopping
    costs stays known.

    `dissent_minor` is what a vote may earn its reviewer that is not as was decided and says why, on
    a question of judgement, where the lab finds the reason worth it (see `bonuses`).

    Units: `rework_within_s` seconds; `dissent_minor` minor units of the project's currency.
    """

    control_rate: Rate = 0.1
    rules: Annotated[tuple[SampleRule, ...], Meta(max_length=20)] = ()
    stop_early: bool = False
    further: Annotated[tuple[FurtherLevel, ...], Meta(max_length=4)] = ()
    adjudicate: Literal["never", "ties", "splits"] = "ties"
    max_rework: Annotated[int, Meta(ge=0, le=5)] = 2
    rework_within_s: Annotated[int, Meta(ge=3600, le=14 * 24 * 3600)] = 48 * 3600
    rejected: Literal["others", "drop"] = "others"
    authority: Authority | None = None
    checks: Annotated[tuple[Check, ...], Meta(max_length=50)] = ()
    dissent_minor: Annotated[int, Meta(ge=1, le=10**8)] | None = None
    stop_at: Annotated[float, Meta(ge=0.8, le=0.999)] | None = None

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
    """Refuse a plan that names a level twice, or whose checklist and authority do not go together.

    Raises:
        PlanRefused.
    """
    levels = [one.level for one in plan.further]
    if levels != sorted(set(levels)):
        raise PlanRefused("further", "name each level once, the lowest first")
    if bool(plan.checks) != (plan.authority in ("checklist", "both")):
        raise PlanRefused("checks", "be given with the authority checklist or both, and only then")
    for one in plan.checks:
        counts = one.kind in ("least_words", "most_words", "lines")
        if counts != (one.number is not None) or counts == (one.text is not None):
            wanted = "number" if counts else "text"
            raise PlanRefused("checks", f"give {wanted}, and nothing else, for {one.kind}")


def unmet(checks: Sequence[Check], payload: Mapping[str, object]) -> tuple[str, ...]:
    """The checks that a payload does not meet, in words and in their order."""
    return tuple(one.told() for one in checks if not _meets(one, payload.get(one.field)))


def silence_accepts(authority: str | None, missed: Sequence[str]) -> bool:
    """Whether work that nobody looked at in time is accepted; it is paid for either way."""
    return authority is None or (authority == "checklist" and not missed)


def _meets(check: Check, given: object) -> bool:
    if not isinstance(given, str):
        return False
    text, number = check.text or "", check.number or 0
    match check.kind:
        case "least_words":
            return len(given.split()) >= number
        case "most_words":
            return len(given.split()) <= number
        case "lines":
            return sum(1 for line in given.splitlines() if line.strip()) == number
        case "contains":
            return text in given
        case "lacks":
            return text not in given
        case "begins":
            return given.lstrip().startswith(text)
        case "ends":
            return given.rstrip().endswith(text)
        case "capitals":
            found = re.findall(re.escape(text), given, re.IGNORECASE)
            return bool(found) and all(one == text.upper() for one in found)


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
