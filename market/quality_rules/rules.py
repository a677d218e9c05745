"""What a quality rule can ask and do, how it is judged on history, and what is refused; pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from market.errors import MarketError
from market.experts.rules import EXPERT_FIELDS
from market.language import Field, Vocabulary
from market.states import Machine, Move
from market.verdicts.rules import REVIEWED, Share, wilson

QUALITY_RULE = Machine(
    "quality_rule",
    ("drafted",),
    (
        Move("start", ("drafted",), "in_force"),
        Move("drop", ("drafted",), "dropped"),
        Move("retire", ("in_force",), "retired"),
        Move("expire", ("in_force",), "expired"),
    ),
)

Action = Literal["watch", "review", "limit", "notify"]

ACTIONS: tuple[Action, ...] = ("watch", "review", "limit", "notify")
"""What a rule does: look closer, review all that the person hands in, offer no new work in some
domains, or only tell ops. Nobody is suspended or shut out by a rule.
"""

NAME = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")

WINDOWS = (7, 30, 90)
"""Days over which signals are counted; each signal's name ends in one of them."""

LONGEST_LIFE = timedelta(days=366)
"""A rule is looked at again within a year, by whoever owns it then."""

LONGEST_STRETCH = timedelta(days=366)
LOOKS = 30
"""How often, at most, a simulation looks at everybody: each day of a month, each twelfth of a year.
"""

FEWEST_LATER = 3
"""Later verdicts from which it can be said whether somebody was hit with reason."""

LATER = timedelta(days=30)
"""How long after a hit verdicts speak for or against it."""

SHOWN = 200
"""People whom one simulation names."""

EVIDENCE = 10
"""Pieces of work that a firing names as evidence, the latest first."""

_OF_VERDICTS = """(select {what} from market.verdict v where v.expert_id = {{row}}.id
    and v.basis in ({bases}) and v.decided_at <= {{at}}
    and v.decided_at > {{at}} - interval '{days} days'{more})"""

_OF_OFFERS = """(select count(*) from market.offer o where o.expert_id = {{row}}.id
    and o.state = '{state}' and o.ended_at <= {{at}}
    and o.ended_at > {{at}} - interval '{days} days')"""


def _verdicts(days: int, what: str, more: str = "") -> str:
    bases = ", ".join(f"'{basis}'" for basis in REVIEWED)
    return _OF_VERDICTS.format(what=what, bases=bases, days=days, more=more)


def _offers(days: int, state: str) -> str:
    return _OF_OFFERS.format(state=state, days=days)


# The upper end of Wilson's interval at 95 %: z squared is 3.8415.
_HIGH = (
    "(avg(v.is_accepted::int) + 1.92073 / nullif(count(*), 0) + 1.95996 * sqrt((avg("
    "v.is_accepted::int) * (1 - avg(v.is_accepted::int)) + 0.960365 / nullif(count(*), 0))"
    " / nullif(count(*), 0))) / (1 + 3.84146 / nullif(count(*), 0))"
)

_ACCUSED = (
    " and not v.is_accepted and exists (select from market.review r"
    " where r.submission_id = v.submission_id"
    " and r.reason_code in ('fabricated', 'not_original'))"
)


def _signals(days: int) -> tuple[Field, ...]:
    span = f"in the last {days} days"
    counted = (
        ("decided", _verdicts(days, "count(*)"), "reviewed submissions decided", "10"),
        ("rejected", _verdicts(days, "count(*)", " and not v.is_accepted"), "rejections", "3"),
        (
            "accepted_share",
            _verdicts(days, "avg(v.is_accepted::int)"),
            "share of reviewed submissions that were accepted",
            "0.6",
        ),
        (
            "accepted_at_most",
            _verdicts(days, _HIGH),
            "upper end of the 95 % interval of the accepted share: below it beyond doubt",
            "0.6",
        ),
        (
            "refuted",
            _verdicts(days, "count(*)", " and v.is_tested and not v.is_stump"),
            "claims of stumps that did not hold",
            "5",
        ),
        (
            "accused",
            _verdicts(days, "count(*)", _ACCUSED),
            "rejections in which a reviewer named fabrication or work of others",
            "1",
        ),
        ("abandoned", _offers(days, "abandoned"), "tasks that were left without a word", "3"),
    )
    return tuple(
        Field(
            name=f"{name}_{days}d",
            kind="number",
            column=column,
            about=f"{about} {span}",
            example=example,
        )
        for name, column, about, example in counted
    )


SIGNALS = Vocabulary(
    *(field for days in WINDOWS for field in _signals(days)),
    *(EXPERT_FIELDS.fields[name] for name in ("tier", "domains", "completed", "days_here")),
)
"""What the condition of a rule can ask of an expert, as it was known at a time.

Where a person lives and what languages it speaks is no signal of quality, and is not among them.
"""


class RuleTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a rule says: on which condition, what is done, for how long, and in which words.

    `text` is read by whoever is hit. Units: `lasts_days` days, also how long a rule leaves a person
        alone after it fired.
    """

    when: Annotated[str, Meta(min_length=1, max_length=2000)]
    action: Action
    lasts_days: Annotated[int, Meta(ge=1, le=180)]
    reason_code: Annotated[str, Meta(min_length=1, max_length=100)]
    text: Annotated[str, Meta(min_length=40, max_length=2000)]
    domains: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """Somebody whom a rule would have hit, what was known then, and what came within a month.

    Units: `later` and `later_accepted` reviewed verdicts.
    """

    expert_id: UUID
    at: datetime
    known: dict[str, str]
    later: int
    later_accepted: int

    def was_wrong(self, usual: float) -> bool | None:
        """Whether the work that came was accepted as often as everybody's; None if too little came.

        Units: `usual` a share.
        """
        if self.later < FEWEST_LATER:
            return None
        return self.later_accepted >= usual * self.later


@dataclass(frozen=True, slots=True)
class Judged:
    """What a rule would have done on a stretch: whom it would have hit, and how often wrongly.

    Units: `usual` the accepted share of everybody's reviewed work on the stretch.
    """

    looks: int
    hits: tuple[Hit, ...]
    usual: float | None

    @property
    def wrong(self) -> Share:
        """Of those hit of whom enough came later, the share that was hit wrongly."""
        said = [hit.was_wrong(self.usual) for hit in self.hits if self.usual is not None]
        known = [one for one in said if one is not None]
        return wilson(sum(known), len(known))


def looks_at(since: datetime, until: datetime) -> list[datetime]:
    """When a simulation looks at everybody: every day, or evenly on a longer stretch."""
    days = max(1, (until - since) // timedelta(days=1))
    number = min(days, LOOKS)
    return [until - (until - since) * n / number for n in range(number - 1, -1, -1)]


def told_facts(facts: dict[str, str]) -> str:
    """What was known, as whoever is hit reads it."""
    return "; ".join(f"{name} is {value}" for name, value in facts.items())


class QualityRuleNotFound(MarketError):
    """No quality rule has this id."""

    def __init__(self, rule_id: UUID) -> None:
        super().__init__("there is no such quality rule")
        self.rule_id = rule_id


class QualityRuleUnfit(MarketError):
    """A quality rule with a field that does not fit."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class RuleNotSimulated(MarketError):
    """A rule that was not tried on history before it is to act on people."""

    def __init__(self) -> None:
        super().__init__(
            "simulate this version of the rule on history first, and read whom it would have hit"
        )


class StretchRefused(MarketError):
    """A stretch of history that no simulation can be run on."""

    def __init__(self, wanted: str) -> None:
        super().__init__(f"the stretch must {wanted}")


def check_terms(
    name: str, terms: RuleTerms, *, expires_at: datetime, known_domains: Iterable[str], at: datetime
) -> None:
    """Refuse a rule that could not mean anything.

    Raises:
        QualityRuleUnfit.
    """
    if len(name) > 60 or not NAME.fullmatch(name):
        raise QualityRuleUnfit("name", "small letters and digits with - or _ between, at most 60")
    if not at < expires_at <= at + LONGEST_LIFE:
        raise QualityRuleUnfit("expires_at", "later than now, and within a year")
    if list(known_domains) and terms.action != "limit":
        raise QualityRuleUnfit("domains", "given with limit only")


def check_stretch(since: datetime, until: datetime, *, at: datetime) -> None:
    """Refuse a stretch that is not in the past, or too long.

    Raises:
        StretchRefused.
    """
    if not since < until <= at:
        raise StretchRefused("end in the past, and after it began")
    if until - since > LONGEST_STRETCH:
        raise StretchRefused(f"be at most {LONGEST_STRETCH.days} days long")
