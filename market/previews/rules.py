"""What a preview may be asked, and how recorded runs and answers are told; pure but for arrays."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np

from market.db import Json
from market.errors import MarketError
from market.explanations.rules import Facts, Ids, Recorded
from market.policies.rules import ALL_SETTINGS, RunPolicy, differences
from matching.problem import Int64

if TYPE_CHECKING:
    from matching.past import Past
    from matching.preview import Preview
    from matching.replay import Estimate
    from matching.tuning import Choice, Frontier

MOST_EVALUATIONS = 500
"""Policies that one search may try."""

LISTED = 20
"""Experts that an answer names who gain, and who lose, the most."""

HOUR_S = 3600.0


class PreviewNotFound(MarketError):
    """No preview has this id."""

    def __init__(self, preview_id: UUID) -> None:
        super().__init__("there is no such preview")
        self.preview_id = preview_id


class StretchInvalid(MarketError):
    """A stretch of time that ends before it begins."""

    def __init__(self) -> None:
        super().__init__("a stretch ends after it begins; both times need a zone")


class StretchEmpty(MarketError):
    """A stretch of time in which no run was recorded that could be replayed."""

    def __init__(self, since: datetime, until: datetime) -> None:
        super().__init__(
            f"no matching run that ended between {since.isoformat()} and {until.isoformat()} kept"
            " what it saw, so there is nothing to replay: choose a stretch with runs in it"
        )


class GoalInvalid(MarketError):
    """A goal or an effort of a search that is out of its bounds."""

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"{setting}: {reason}")
        self.setting = setting


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one offer of a run, as it is known at one moment.

    Units: hours; cost in minor units, null until it is known.
    """

    task_id: UUID
    expert_id: UUID
    accepted: bool
    known: bool
    stump: bool
    cost_minor: int
    wait_h: float
    age_h: float
    delay_h: float


@dataclass(frozen=True, slots=True)
class Recording:
    """A run of the stretch: what it kept, and what came of its offers."""

    file: Recorded
    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Named:
    """Runs as a replay reads them, and the names of its labels."""

    pasts: "tuple[Past, ...]"
    experts: tuple[UUID, ...]
    domains: tuple[str, ...]
    left_out: int


def checked_goal(fill: float, evaluations: int, knobs: Sequence[str]) -> None:
    """Refuse a search that cannot be made.

    Raises:
        GoalInvalid.
    """
    if not 0 <= fill <= 1:
        raise GoalInvalid("goal_fill", f"{fill} is not a share from 0 to 1")
    if not 1 <= evaluations <= MOST_EVALUATIONS:
        raise GoalInvalid(
            "evaluations", f"{evaluations} is not a whole number from 1 to {MOST_EVALUATIONS}"
        )
    allowed = [n for n in ALL_SETTINGS if n.startswith("weights.")]
    allowed += ["open_seat_price", "newcomer_share"]
    for knob in knobs:
        if knob not in allowed:
            raise GoalInvalid("knobs", f"{knob[:64]} cannot be turned; can: {', '.join(allowed)}")


def named(recordings: Sequence[Recording]) -> Named:
    """Recorded runs with labels that mean the same in each of them; runs without facts are left
    out, and counted.
    """
    usable = [(one, one.file.facts) for one in recordings]
    whole = [(one, facts) for one, facts in usable if facts is not None]
    ids: dict[bytes, int] = {}
    domains: dict[str, int] = {}
    pasts = []
    for one, facts in whole:
        experts = _labels(one.file.expert_ids, ids)
        of_domain = np.array(
            [domains.setdefault(name, len(domains)) for name in facts.domains], np.int64
        )
        pasts.append(_past(one, facts, experts, of_domain[facts.task_domain]))
    return Named(
        pasts=tuple(pasts),
        experts=tuple(UUID(bytes=raw) for raw in ids),
        domains=tuple(domains),
        left_out=len(recordings) - len(whole),
    )


def _labels(ids: Ids, known: dict[bytes, int]) -> Int64:
    return np.array([known.setdefault(row.tobytes(), len(known)) for row in ids], np.int64)


def _past(one: Recording, facts: Facts, experts: Int64, groups: Int64) -> "Past":
    # The solver takes long to load, and only jobs need it.
    from matching.past import Came, Past

    problem, assignment = one.file.problem, one.file.assignment
    chance, taken = np.zeros(problem.pairs), np.zeros(problem.pairs, np.bool_)
    chance[assignment.marginal_pair] = assignment.marginal
    taken[assignment.chosen] = True
    columns = {
        name: np.zeros(problem.pairs)
        for name in ("accepted", "stump", "cost", "wait", "age", "delay")
    }
    # What was chosen and could not be offered any more came to nothing, and this is known.
    known = np.ones(problem.pairs, np.bool_)
    place = _places(one.file)
    for came in one.outcomes:
        pair = place.get((came.task_id, came.expert_id))
        if pair is None:
            continue
        known[pair] = came.known
        for name, amount in (
            ("accepted", float(came.accepted)),
            ("stump", float(came.stump)),
            ("cost", float(came.cost_minor)),
            ("wait", came.wait_h),
            ("age", came.age_h),
            ("delay", came.delay_h),
        ):
            columns[name][pair] = amount
    return Past(
        problem=problem,
        parts=facts.parts,
        chance=chance,
        said=facts.said,
        newcomer=facts.newcomer,
        expert_label=experts,
        task_group=groups,
        came=Came(taken=taken, known=known, **columns),
    )


def _places(file: Recorded) -> dict[tuple[UUID, UUID], int]:
    problem = file.problem
    chosen = file.assignment.chosen
    return {
        (
            UUID(bytes=file.task_ids[task].tobytes()),
            UUID(bytes=file.expert_ids[expert].tobytes()),
        ): int(pair)
        for pair, task, expert in zip(
            chosen.tolist(), problem.task[chosen], problem.expert[chosen], strict=True
        )
    }


def preview_told(
    told: "Preview",
    names: Named,
    wire: Callable[[UUID], str],
    *,
    before: RunPolicy,
    after: RunPolicy,
) -> Json:
    """A preview as JSON: figures side by side, who gains and loses, and what cannot be told."""
    from matching.preview import UNITS

    figures = [
        {
            "name": name,
            "kind": kind,
            "unit": UNITS[name],
            "today": _estimate(sides.today),
            "candidate": _estimate(sides.candidate),
            "change": _estimate(sides.change),
        }
        for kind, all_sides in (("planned", told.planned), ("realised", told.realised))
        for name, sides in all_sides.items()
    ]
    shift = told.experts
    change = shift.pay_after - shift.pay_before
    order = np.lexsort((shift.label, -change))
    gain = [at for at in order.tolist() if change[at] > 0][:LISTED]
    lose = [at for at in order[::-1].tolist() if change[at] < 0][:LISTED]

    def person(at: int) -> Json:
        return {
            "expert_id": wire(names.experts[int(shift.label[at])]),
            "seats_before": round(float(shift.seats_before[at]), 4),
            "seats_after": round(float(shift.seats_after[at]), 4),
            "pay_before_minor": round(float(shift.pay_before[at])),
            "pay_after_minor": round(float(shift.pay_after[at])),
        }

    groups = told.groups
    return {
        "runs": told.runs,
        "runs_left_out": names.left_out,
        "seats": told.seats,
        "pairs": told.pairs,
        "differences": [one.sentence for one in differences(before, after)],
        "figures": figures,
        "refusal": told.refusal,
        "effective": round(told.effective, 1),
        "unsupported": round(told.unsupported, 4),
        "stumps_at_worst": _number(told.bounds[0]),
        "stumps_at_best": _number(told.bounds[1]),
        "gain_count": int((change > 0).sum()),
        "lose_count": int((change < 0).sum()),
        "gain": [person(at) for at in gain],
        "lose": [person(at) for at in lose],
        "domains": [
            {
                "domain": names.domains[int(label)],
                "seats": int(told.group_seats[at]),
                "fill_before": float(groups.seats_before[at] / max(told.group_seats[at], 1)),
                "fill_after": float(groups.seats_after[at] / max(told.group_seats[at], 1)),
            }
            for at, label in enumerate(groups.label.tolist())
        ],
        "sentence": sentence(told),
    }


def sentence(told: "Preview") -> str:
    """What a preview comes to, for whoever reads one line."""
    fill, stumps = told.planned["fill"], told.realised["stumps"]
    plan = (
        f"The plan fills {fill.candidate.value:.1%} of {told.seats} seats,"
        f" {fill.today.value:.1%} before"
    )
    if told.refusal is not None:
        return f"{plan}. What would have come of it cannot be told: {told.refusal}."
    low, high = stumps.change.low, stumps.change.high
    span = f"({low:+.1f} to {high:+.1f})"
    if low <= 0 <= high:
        return f"{plan}; whether it brings more stumps cannot be told {span}."
    way = "more" if low > 0 else "fewer"
    return f"{plan}; it brings {way} stumps, by {abs(stumps.change.value):.1f} {span}."


def frontier_told(
    told: "Frontier", today: RunPolicy, *, goal_fill: float, domain: str | None
) -> Json:
    """A search as JSON: choices from the most stumps to the most fill, each told in words."""
    where = f"in {domain}" if domain else "over all"
    if told.reached:
        reached = f"{goal_fill:.0%} {where} can be reached"
    else:
        reached = (
            f"{goal_fill:.0%} {where} was not reached; {told.most_fill:.1%} was the most found"
        )
    return {
        "sentence": f"{reached}. {told.evaluations} policies were tried.",
        "reached": told.reached,
        "most_fill": told.most_fill,
        "evaluations": told.evaluations,
        "today": _choice(told.today, today),
        "choices": [_choice(choice, today) for choice in told.choices],
    }


def _choice(choice: "Choice", today: RunPolicy) -> Json:
    found = RunPolicy(matcher=choice.policy, default_interest=today.default_interest)
    return {
        "fill": choice.fill,
        "fill_all": choice.fill_all,
        "stumps": choice.stumps,
        "cost_minor": round(choice.cost),
        "meets": choice.meets,
        "is_today": choice.is_today,
        "document": found.to_dict(),
        "differences": [one.sentence for one in differences(today, found)],
    }


def _estimate(told: "Estimate") -> Mapping[str, float | None]:
    return {name: _number(getattr(told, name)) for name in ("value", "low", "high")}


def _number(amount: float) -> float | None:
    """A number that JSON can hold; what is not known at all is null."""
    return float(amount) if np.isfinite(amount) else None
