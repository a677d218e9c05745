"""Which weights reach a goal at the least loss of stumps, searched over recorded runs.

    told = search([past], Candidate(policy), goal=Goal(group=2, fill=0.95), seed=1)
    [(choice.fill, choice.stumps, choice.meets) for choice in told.choices]

The answer is a frontier: choices of which none is better than another in both fill and stumps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from scipy.optimize import Bounds, OptimizeResult, differential_evolution

from matching.arrays import number_within
from matching.assign import Effort
from matching.assignment import totals
from matching.past import Past
from matching.policy import Policy, Weights
from matching.preview import QUICK, Candidate, NothingRecorded, replayed
from matching.problem import Float64

WEIGHT_SPAN = 3.0
"""A weight is searched from an eighth to eight times what it is; powers of two."""

FROM_NOUGHT = 1.0
"""How far a weight or a price that is nought is searched."""

EVALUATIONS = 60
"""Policies that are tried, unless more are asked for."""

POPULATION = 12
"""Policies in each generation of the search."""

SHORT = 10.0
"""What falling short of the goal counts, against the loss of all stumps as one."""

LISTED = 8
"""Choices that are answered at most."""


class KnobUnknown(ValueError):
    """A setting that cannot be searched over."""

    def __init__(self, knob: str) -> None:
        self.knob = knob
        super().__init__(f"{knob} is not a weight of a policy, open_seat_price or newcomer_share")


@dataclass(frozen=True, slots=True)
class Goal:
    """Fill at least this share of the seats of one group of tasks; of all, without a group.

    Units: fill a share from 0 to 1.
    """

    fill: float
    group: int | None = None

    def __post_init__(self) -> None:
        number_within("fill", self.fill, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """One policy, and what the recorded runs would have planned under it.

    Units: fill, of the goal's group, and fill_all shares of seats; stumps as predicted then; cost
        in minor units.
    """

    policy: Policy
    fill: float
    fill_all: float
    stumps: float
    cost: float
    meets: bool
    is_today: bool


@dataclass(frozen=True, slots=True)
class Frontier:
    """Choices from the most stumps to the most fill, and today's policy among all that was tried.

    `reached` says whether any choice meets the goal; `most_fill` is the best that was found.
    """

    today: Choice
    choices: tuple[Choice, ...]
    evaluations: int
    reached: bool
    most_fill: float


def search(
    pasts: Sequence[Past],
    start: Candidate,
    *,
    goal: Goal,
    knobs: Sequence[str] = (),
    evaluations: int = EVALUATIONS,
    seed: int = 0,
    effort: Effort = QUICK,
    progress: Callable[[int, int], None] | None = None,
) -> Frontier:
    """Try policies about the one given, and answer those that none beats in fill and in stumps.

    Without knobs it turns every weight that counts now, cost, and the price of an open seat. Plans
    are compared before the lot: randomness costs each of them about the same.

    Raises: NothingRecorded; KnobUnknown; ArrayInvalid.
    Source: differential evolution, Storn, Price, J. Global Optimization 11 (1997), by SciPy.
    """
    pasts = [past for past in pasts if past.problem.pairs]
    if not pasts:
        raise NothingRecorded()
    number_within("evaluations", evaluations, 1, 100_000)
    names = tuple(knobs) or _usual_knobs(start.policy)
    spans = [_span(start.policy, name) for name in names]
    tried: dict[str, Choice] = {}

    def at(policy: Policy) -> Choice:
        digest = policy.digest()
        if digest not in tried:
            is_today = not tried
            tried[digest] = _planned(pasts, replace(start, policy=policy), goal, effort, is_today)
            if progress is not None:
                progress(len(tried), evaluations)
        return tried[digest]

    today = at(start.policy)
    scale = max(today.stumps, 1e-9)

    def loss(place: Float64) -> float:
        policy = start.policy
        for name, (low, high), x in zip(names, spans, place.tolist(), strict=True):
            policy = _turned(policy, name, low + (high - low) * x)
        if len(tried) >= evaluations and policy.digest() not in tried:
            return float("inf")
        choice = at(policy)
        return -choice.stumps / scale + SHORT * max(goal.fill - choice.fill, 0.0)

    def enough(intermediate_result: OptimizeResult) -> None:
        del intermediate_result
        if len(tried) >= evaluations:
            raise StopIteration

    now = np.array(
        [_place(start.policy, name, span) for name, span in zip(names, spans, strict=True)]
    )
    population = np.clip(_first(now, seed), 0.0, 1.0)
    differential_evolution(
        loss,
        Bounds(np.zeros(len(names)), np.ones(len(names))),
        init=population,
        maxiter=max(evaluations // POPULATION, 1),
        rng=np.random.default_rng(seed),
        polish=False,
        tol=0,
        callback=enough,
    )
    found = list(tried.values())
    choices = _frontier(found)
    return Frontier(
        today=today,
        choices=_thinned(choices, goal),
        evaluations=len(found),
        reached=any(choice.meets for choice in choices),
        most_fill=max(choice.fill for choice in found),
    )


def _usual_knobs(policy: Policy) -> tuple[str, ...]:
    counted = [f"weights.{f.name}" for f in fields(Weights) if getattr(policy.weights, f.name) > 0]
    extra = [n for n in ("weights.cost", "open_seat_price") if n not in counted]
    return (*counted, *extra)


def _value(policy: Policy, knob: str) -> float:
    head, _, name = knob.partition(".")
    if head == "weights" and name in {each.name for each in fields(Weights)}:
        return float(getattr(policy.weights, name))
    if knob in ("open_seat_price", "newcomer_share"):
        return float(getattr(policy, knob))
    raise KnobUnknown(knob)


def _span(policy: Policy, knob: str) -> tuple[float, float]:
    """The range of a knob: powers of two about a weight that counts, a plain range from nought."""
    now = _value(policy, knob)
    if knob == "newcomer_share":
        return 0.0, max(0.3, now)
    return (-WEIGHT_SPAN, WEIGHT_SPAN) if now > 0 else (0.0, FROM_NOUGHT)


def _place(policy: Policy, knob: str, span: tuple[float, float]) -> float:
    now, (low, high) = _value(policy, knob), span
    return (0.0 - low) / (high - low) if low < 0 else (now - low) / (high - low)


def _turned(policy: Policy, knob: str, to: float) -> Policy:
    now = _value(policy, knob)
    _, _, name = knob.partition(".")
    if knob == "newcomer_share":
        return replace(policy, newcomer_share=round(to, 4))
    amount = round(min(now * 2.0**to, 1000.0) if now > 0 else to, 6)
    if name:
        return replace(policy, weights=replace(policy.weights, **{name: amount}))
    return replace(policy, open_seat_price=amount)


def _first(now: Float64, seed: int) -> Float64:
    """The first generation: each knob by itself up and down from today, then anywhere."""
    rng = np.random.default_rng([seed, 5])
    size = max(POPULATION, 5)
    drawn = rng.random((size, len(now)))
    for row in range(min(size, 2 * len(now))):
        knob, up = divmod(row, 2)
        drawn[row] = now
        drawn[row, knob] = now[knob] + (0.75 - now[knob] if up else 0.25 - now[knob])
    return drawn


def _planned(
    pasts: Sequence[Past], candidate: Candidate, goal: Goal, effort: Effort, is_today: bool
) -> Choice:
    plain = replace(candidate, policy=replace(candidate.policy, randomness=1.0, floor=False))
    wanted, wanted_here, filled, filled_here, stumps, cost = 0, 0, 0.0, 0.0, 0.0, 0.0
    for past in pasts:
        problem = past.problem
        chosen = replayed(past, plain, effort=effort)[0].chosen
        here = np.ones(problem.tasks, np.bool_)
        if goal.group is not None:
            here = past.task_group == goal.group
        load = totals(problem.task[chosen], np.ones(len(chosen)), problem.tasks)
        wanted += int(problem.demand.sum())
        filled += float(load.sum())
        wanted_here += int(problem.demand[here].sum())
        filled_here += float(load[here].sum())
        stumps += 0.0 if past.parts.stump is None else float(past.parts.stump[chosen].sum())
        cost += 0.0 if past.parts.cost is None else float(past.parts.cost[chosen].sum())
    reached = filled_here / max(wanted_here, 1)
    return Choice(
        policy=candidate.policy,
        fill=reached,
        fill_all=filled / max(wanted, 1),
        stumps=stumps,
        cost=cost,
        meets=reached >= goal.fill,
        is_today=is_today,
    )


def _frontier(found: list[Choice]) -> list[Choice]:
    """What nothing beats in both, from the most stumps to the most fill."""
    kept: list[Choice] = []
    for choice in sorted(found, key=lambda one: (-one.stumps, -one.fill, one.policy.digest())):
        if not kept or choice.fill > kept[-1].fill + 1e-12:
            kept.append(choice)
    return kept


def _thinned(choices: list[Choice], goal: Goal) -> tuple[Choice, ...]:
    """Some of many: both ends, the first that meets the goal, and others evenly between."""
    if len(choices) <= LISTED:
        return tuple(choices)
    meeting = [at for at, choice in enumerate(choices) if choice.fill >= goal.fill]
    must = {0, len(choices) - 1, *(meeting[:1])}
    spread = np.rint(np.linspace(0, len(choices) - 1, LISTED)).astype(int).tolist()
    room = [at for at in spread if at not in must][: LISTED - len(must)]
    return tuple(choices[at] for at in sorted(must | set(room)))
