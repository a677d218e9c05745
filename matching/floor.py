"""Fairness: the worst-off task first, and the total among all plans that serve it as well."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from matching.assignment import micro_value, totals
from matching.core import finish_by_search, highest_floor
from matching.model import Model
from matching.problem import Bool, Float64, Int64
from matching.rows import Rows, Rule

LARGEST = 40_000
"""Pairs up to which the floor is searched for."""


class FloorTooLarge(ValueError):
    """The problem is too large for a proven floor; carries its pairs and the most there may be."""

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs
        self.most = LARGEST
        super().__init__(f"a floor is proved for up to {LARGEST} pairs, not for {pairs}")


@dataclass(frozen=True, slots=True, eq=False)
class Raised:
    """The floor found, and the best choice that keeps it.

    Shapes: on (model pairs,).
    Units: floor, ceiling (no floor is above it) and proved (no choice under the floor is worth
        more) in micro-units.
    """

    on: Bool
    floor: int
    ceiling: int
    proved: float


def raise_floor(model: Model, on: Bool, *, limit: float) -> Raised:
    """Lexicographic: the highest floor under every task that asks for seats, then the total.

    What a task gets is the value of its experts together. No task can get more than its best
    eligible experts give, so the least of these ceilings is tried before anything is searched for.

    Units: limit in deterministic time for each of the searches.
    Raises: FloorTooLarge.
    Source: maximin objective as in Kobren, Saha, McCallum 2019 and Stelmakh, Shah, Singh 2021;
        solved here by branch and bound.
    """
    if len(model.profit) > LARGEST:
        raise FloorTooLarge(len(model.profit))
    gain, held = model.profit.astype(np.float64), _held(model)
    asking = (model.problem.demand > 0)[np.argsort(model.task_rank)]
    if not asking.any():
        return Raised(on, 0, 0, np.inf)
    ceiling = int(_ceilings(model, gain, held)[asking].min())
    got = totals(model.seats.task[on], gain[on], model.seats.tasks) + held
    best = int(got[asking].min())
    if best < ceiling:
        reached = finish_by_search(with_floor(model, held, ceiling, asking), on, limit=limit)
        if reached.on is not None:
            return Raised(reached.on, ceiling, ceiling, _proved(reached.proved_micro))
        found = highest_floor(model, gain, held, ceiling, on, limit=limit)
        if found is not None and found[0] > best:
            best, ceiling, on = found
        elif found is not None:
            ceiling = found[1]
    done = finish_by_search(with_floor(model, held, best, asking), on, limit=limit)
    chosen = on if done.on is None else done.on
    return Raised(chosen, best, ceiling, _proved(done.proved_micro))


def with_floor(model: Model, held: Int64, floor: int, asking: Bool) -> Model:
    """The model with a row for each task that asks for seats: it gets at least the floor."""
    rows, seats = model.rows, model.seats
    tasks = np.flatnonzero(asking)
    number = np.full(seats.tasks, -1)
    number[tasks] = np.arange(len(tasks)) + rows.count
    inside = np.flatnonzero(asking[seats.task])
    count = len(tasks)
    names = np.full((count, 3), -1, np.int32)
    names[:, 0] = tasks
    more = Rows(
        np.concatenate([rows.pair, inside]),
        np.concatenate([rows.row, number[seats.task[inside]]]).astype(np.int32),
        np.concatenate([rows.weight, -model.profit[inside].astype(np.float64)]),
        np.concatenate([rows.limit, held[tasks] - float(floor)]),
        np.concatenate([rows.price, np.full(count, np.inf)]),
        np.concatenate([rows.kind, np.full(count, int(Rule.TASK_FLOOR), np.int8)]),
        np.concatenate([rows.key, names]),
    )
    return replace(model, rows=more)


def _held(model: Model) -> Int64:
    """What each task has from locked pairs, micro-units, in the order of the model."""
    problem = model.problem
    held = np.zeros(problem.tasks, np.int64)
    value = micro_value(problem, problem.locked)
    np.add.at(held, model.task_rank[problem.task[problem.locked]], value)
    return held


def _ceilings(model: Model, gain: Float64, held: Int64) -> Int64:
    """The most that each task could get with all experts to itself, micro-units."""
    seats = model.seats
    order = np.lexsort((-gain, seats.task))
    task = seats.task[order]
    rank = np.arange(len(task)) - np.searchsorted(task, task)
    best = order[(rank < seats.demand[task]) & (gain[order] > 0)]
    return held + totals(seats.task[best], gain[best], seats.tasks).astype(np.int64)


def _proved(proved: float | None) -> float:
    return np.inf if proved is None else proved
