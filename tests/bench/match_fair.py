"""The worst-off task first, on conferences: `python -m tests.bench match-fair [--seeds N]`.

Made-up conferences of the size of MIDL 2019: 177 reviewers, 118 papers, three a paper, four a
reviewer at most. What `assign` found is proved once more by other means: that no plan has a higher
floor, by what each task's best experts would give it together or, where that leaves room, by a
solver of whole numbers; that no plan under the floor is worth more, by a linear program.
"""

import argparse
import json
import time
from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from matching.assign import Assignment, assign
from matching.policy import Policy
from matching.problem import MICRO, Float64, Int32, Problem
from matching.verify import verify
from tests.matching.conferences import conference, worst

SEEDS = 5
FAIR = Policy(floor=True)
GAP = 1e-4
"""How far below the best total under its floor a plan may be: a hundredth of a per cent."""

STEP = 0.5 / MICRO
"""Half the least difference of values, so that sums of floats are on the right side."""


INFEASIBLE = 2
"""How `milp` says that there is no solution."""


@dataclass(frozen=True)
class Proved:
    """No plan has a higher floor, and none that keeps it is worth more. Units: value."""

    floor: float
    total: float


def proved(problem: Problem, fair: Assignment) -> Proved:
    """What other means prove of the floor of a plan and of the total under it."""
    if fair.floor is None:
        raise ValueError("a plan without a floor")
    most = _best_of_each(problem)
    if most > fair.floor + STEP and _is_there(problem, fair.floor + 2 * STEP):
        return Proved(most, _most_under(problem, fair.floor - STEP))
    return Proved(fair.floor, _most_under(problem, fair.floor - STEP))


def _best_of_each(problem: Problem) -> float:
    """What the worst-off task would get if each had its best experts to itself."""
    gets = np.zeros(problem.tasks)
    order = np.lexsort((-problem.value, problem.task))
    task = problem.task[order]
    place = np.arange(problem.pairs) - np.searchsorted(task, task)
    best = order[place < problem.demand[task]]
    np.add.at(gets, problem.task[best], np.maximum(problem.value[best], 0))
    return float(gets[problem.demand > 0].min())


def _rows(problem: Problem, floor: float) -> tuple[csr_array, Float64]:
    """Seats of tasks, loads of experts and the floor of each task, as rows that stay below."""

    def each(side: Int32, count: int, weight: Float64) -> csr_array:
        return csr_array((weight, (side, np.arange(problem.pairs))), (count, problem.pairs))

    one = np.ones(problem.pairs)
    matrix = vstack(
        [
            each(problem.task, problem.tasks, one),
            each(problem.expert, problem.experts, one),
            each(problem.task, problem.tasks, -problem.value),
        ]
    )
    least = np.full(problem.tasks, -floor)
    return csr_array(matrix), np.concatenate([problem.demand, problem.capacity, least])


def _is_there(problem: Problem, floor: float) -> bool:
    """Whether some plan gives every task the floor; yes, where that is not disproved."""
    matrix, limit = _rows(problem, floor)
    one = np.ones(problem.pairs, np.int64)
    rule = LinearConstraint(matrix, -np.inf, limit)
    found = milp(np.zeros(problem.pairs), constraints=rule, integrality=one, bounds=Bounds(0, 1))
    return bool(found.status != INFEASIBLE)


def _most_under(problem: Problem, floor: float) -> float:
    """No plan that gives every task the floor is worth more, and none of parts of pairs either."""
    matrix, limit = _rows(problem, floor)
    rule = LinearConstraint(matrix, -np.inf, limit)
    found = milp(-problem.value, constraints=rule, bounds=Bounds(0, 1))
    if found.fun is None:
        raise RuntimeError(f"the linear program ended without an answer: {found.message}")
    return -float(found.fun)


def main(argv: list[str]) -> int:
    """Run and print; nought when every floor is the best and every total within the gap."""
    parser = argparse.ArgumentParser(prog="match-fair")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="conferences")
    asked = parser.parse_args(argv)
    good = 0
    for seed in range(1, asked.seeds + 1):
        problem = conference(seed)
        plain = assign(problem)
        begun = time.perf_counter()
        fair = assign(problem, FAIR)
        seconds = time.perf_counter() - begun
        bounds = proved(problem, fair)
        is_best = fair.floor is not None and bounds.floor <= fair.floor + STEP
        below = max(1 - fair.objective / bounds.total, 0.0)
        good += is_best and below <= GAP and not verify(problem, fair)
        told = {
            "conference": seed,
            "floor": fair.floor,
            "floor_is_best": is_best,
            "floor_without": worst(problem, plain.chosen) / MICRO,
            "total": fair.objective,
            "below_best_pct": round(100 * below, 6),
            "total_without": plain.objective,
            "seconds": round(seconds, 2),
        }
        print(json.dumps(told), flush=True)
    print(json.dumps({"bench": "match-fair", "conferences": asked.seeds, "as_wanted": good}))
    return 0 if good == asked.seeds else 1
