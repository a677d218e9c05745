"""What a matching run answers: the chosen pairs, what they are worth, and the proof of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from matching.problem import MICRO, Bool, Float64, Int32, Int64, Problem


def micro_value(problem: Problem, pairs: Int64 | None = None) -> Int64:
    """The value of all or some pairs in whole micro-units, the grid on which plans are compared."""
    value = problem.value if pairs is None else problem.value[pairs]
    return np.rint(value * MICRO).astype(np.int64)


def micro_price(price: Float64 | float) -> Int64:
    """Prices in whole micro-units, on the same grid as the values."""
    return np.rint(np.asarray(price, np.float64) * MICRO).astype(np.int64)


def totals(group: NDArray[np.integer], weight: NDArray[np.generic], size: int) -> Float64:
    """The sum of the weights in each group, added in the order given, shape (size,)."""
    return np.asarray(np.bincount(group, weight, size), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """Shadow prices: what one more unit of each limit would be worth. Any prices prove a bound.

    Shapes: task (tasks,); expert, hour (experts,); budget (projects,); quota (quotas,);
        share_key (any, 2) int32 of expert and project, share (any,) beside it; clash_key (any, 3)
        int32 of task and two experts, clash (any,) beside it.
    Units: units of value for a seat of a task, a seat or an hour of an expert, a minor unit of a
        budget, a seat of a quota (positive where at_most binds, negative where at_least does), a
        seat under a share cap, and a seat under a conflict.
    """

    task: Float64
    expert: Float64
    budget: Float64
    hour: Float64
    quota: Float64
    share_key: Int32 = field(default_factory=lambda: np.zeros((0, 2), np.int32))
    share: Float64 = field(default_factory=lambda: np.zeros(0))
    clash_key: Int32 = field(default_factory=lambda: np.zeros((0, 3), np.int32))
    clash: Float64 = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, slots=True, eq=False)
class OpenSeats:
    """Seats that nobody takes, by task, each with the rule that kept the best candidate away.

    Shapes: task, seats (open tasks,) int32; rule (open tasks,) of words, see `blocking.RULES`.
    """

    task: Int32
    seats: Int32
    rule: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """The pairs that one run chose, with objective, certified upper bound and draw probabilities.

    The objective is the value of the chosen pairs less the prices of open seats, missed minimum
    loads and missed soft quotas. No plan that keeps the hard rules is worth more than `bound`;
    `gap` is (bound - objective) / |bound|, and 0 is a proof of optimality. `proof` says how the
    bound is known: "flow" and "prices" are checked by `verify` from the prices alone, "search"
    rests on a finished branch and bound. For a drawn plan the objective is that of the draw, and
    the bound still that of the best plan there is. `floor` is set when the worst-off task came
    first: every task that asks for seats gets at least that, and the bound is one for plans that
    give it. `ceiling` is the most that the chance of any pair was allowed to be, locked ones aside.

    Shapes: chosen (seats filled,) int64, pairs in ascending order; probability beside it;
        marginal_pair, marginal (support,) every pair that could have been drawn, and its chance.
    Units: objective, bound, expected, floor in units of value; probability 0 to 1; gap a share.
    """

    chosen: Int64
    probability: Float64
    objective: float
    bound: float
    gap: float
    proof: str
    prices: Prices
    open_seats: OpenSeats
    seed: int
    rounds: int
    marginal_pair: Int64
    marginal: Float64
    expected: float
    floor: float | None = None
    ceiling: float = 1.0

    @property
    def task_price(self) -> Float64:
        """What one more seat of each task would add, units of value, shape (tasks,)."""
        return self.prices.task

    @property
    def expert_price(self) -> Float64:
        """What one more seat of each expert would add, units of value, shape (experts,)."""
        return self.prices.expert

    @property
    def budget_price(self) -> Float64:
        """What one more minor unit of each budget would add, units of value, (projects,)."""
        return self.prices.budget


def objective_micro(problem: Problem, chosen: Int64) -> int:
    """What a plan is worth in micro-units: values less every price it has to pay."""
    total = int(micro_value(problem, chosen).sum())
    filled = np.bincount(problem.task[chosen], minlength=problem.tasks)
    missing = np.maximum(problem.demand - filled, 0)
    if problem.open_seat_price is not None:
        total -= int((micro_price(problem.seat_price()) * missing).sum())
    if problem.min_load is not None and problem.min_load_price is not None:
        load = np.bincount(problem.expert[chosen], minlength=problem.experts)
        short = np.maximum(problem.min_load - load, 0)
        total -= int(micro_price(problem.min_load_price)) * int(short.sum())
    project = problem.task_project()[problem.task[chosen]] if problem.quotas else None
    for quota in problem.quotas:
        if quota.price is None:
            continue
        held = int(
            member_mask(problem, quota.members)[problem.expert[chosen]][
                project == quota.project
            ].sum()
        )
        excess = 0 if quota.at_most is None else max(held - quota.at_most, 0)
        off = max(quota.at_least - held, 0) + excess
        total -= int(micro_price(quota.price)) * off
    return total


def member_mask(problem: Problem, members: Int32) -> Bool:
    """Which experts belong to a group, shape (experts,)."""
    inside = np.zeros(problem.experts, np.bool_)
    inside[members] = True
    return inside


def plan_gap(objective: float, bound: float) -> float:
    """How far a plan may be from the best, as a share of the bound; 0 when they meet."""
    if bound <= objective:
        return 0.0
    return (bound - objective) / max(abs(bound), 1e-12)
