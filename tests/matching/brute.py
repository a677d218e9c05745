"""Small random problems with every rule, and their best plans by trying everything."""

from dataclasses import dataclass, replace

import numpy as np

from matching.assignment import objective_micro
from matching.problem import MICRO, Problem, Quota


@dataclass(frozen=True)
class Shape:
    """Which rules a random problem has."""

    floors: bool = False
    budgets: bool = False
    hours: bool = False
    share_cap: bool = False
    conflicts: bool = False
    quotas: bool = False
    hard_quotas: bool = False
    locked: bool = False
    seat_price: bool = False


EVERYTHING = Shape(
    floors=True,
    budgets=True,
    hours=True,
    share_cap=True,
    conflicts=True,
    quotas=True,
    locked=True,
    seat_price=True,
)


def small_problem(seed: int, shape: Shape, *, tasks: int = 4, experts: int = 4) -> Problem:
    """A problem that brute force can finish; locked pairs are taken from a plan that holds."""
    rng = np.random.default_rng(seed)
    full = rng.random((tasks, experts)) < 0.75
    task, expert = (side.astype(np.int32) for side in np.nonzero(full))
    pairs = len(task)
    # Few distinct values make ties, and some are not worth a seat.
    value = np.where(
        rng.random(pairs) < 0.3, rng.integers(-1, 4, pairs), np.round(rng.normal(1, 1, pairs), 3)
    ).astype(np.float64)
    project = rng.integers(0, 2, tasks).astype(np.int32)
    project[-1] = 1
    capacity = rng.integers(0, 3, experts).astype(np.int32)
    cost = rng.integers(1, 9, pairs)
    quotas: list[Quota] = []
    if shape.quotas or shape.hard_quotas:
        members = np.flatnonzero(rng.random(experts) < 0.6).astype(np.int32)
        least = int(rng.integers(0, 3))
        most = int(rng.integers(least, 4))
        price = None if shape.hard_quotas else float(rng.integers(0, 3))
        quotas.append(Quota(0, members, at_least=least, at_most=most, price=price))
    conflicts = np.zeros((0, 2), np.int32)
    if shape.conflicts:
        both = rng.integers(0, experts, (2, 2))
        conflicts = both[both[:, 0] != both[:, 1]].astype(np.int32)
    problem = Problem(
        expert=expert,
        task=task,
        value=value,
        demand=rng.integers(0, 3, tasks).astype(np.int32),
        capacity=capacity,
        hours=rng.choice([0.5, 1.0, 1.5, 2.25], pairs) if shape.hours else None,
        hours_available=rng.choice([1.0, 2.0, 3.0, 4.5], experts) if shape.hours else None,
        cost=cost if shape.budgets else None,
        project=project if shape.budgets or shape.share_cap or quotas else None,
        budget=rng.integers(3, 20, 2) if shape.budgets else None,
        conflicts=conflicts,
        min_load=np.minimum(capacity, 1).astype(np.int32) if shape.floors else None,
        min_load_price=float(rng.choice([0.25, 1.0, 2.0])) if shape.floors else None,
        share_cap=0.5 if shape.share_cap else None,
        quotas=tuple(quotas),
        open_seat_price=np.round(rng.random(tasks) * 2, 2) if shape.seat_price else None,
        tie_break=rng.integers(0, 1 << 63, pairs).astype(np.uint64),
    )
    if not shape.locked:
        return problem
    plans = [plan for plan in feasible_plans(replace(problem, quotas=())) if len(plan)]
    if not plans:
        return problem
    plan = plans[int(rng.integers(len(plans)))]
    return replace(problem, locked=plan[: int(rng.integers(1, 3))])


def feasible_plans(problem: Problem) -> list[np.ndarray]:
    """Every set of pairs that keeps the hard rules, by trying pair after pair."""
    found: list[np.ndarray] = []
    locked = set(problem.locked.tolist())
    project = problem.task_project()
    limit = problem.share_limit()
    barred = {frozenset(both) for both in problem.conflicts.tolist()}

    def allowed(chosen: list[int]) -> bool:
        task, expert = problem.task[chosen], problem.expert[chosen]
        if (np.bincount(task, minlength=problem.tasks) > problem.demand).any():
            return False
        if (np.bincount(expert, minlength=problem.experts) > problem.capacity).any():
            return False
        if problem.hours is not None and problem.hours_available is not None:
            used = np.bincount(expert, problem.hours[chosen], problem.experts)
            if (used > problem.hours_available + 1e-9).any():
                return False
        if problem.cost is not None and problem.budget is not None:
            spent = np.bincount(project[task], problem.cost[chosen], problem.projects)
            if (spent > problem.budget).any():
                return False
        if problem.share_cap is not None:
            for one in set(zip(expert.tolist(), project[task].tolist(), strict=True)):
                same = (expert == one[0]) & (project[task] == one[1])
                if same.sum() > limit[one[1]]:
                    return False
        for first in range(len(chosen)):
            for second in range(first):
                same = task[first] == task[second]
                if same and frozenset((int(expert[first]), int(expert[second]))) in barred:
                    return False
        return True

    def go(pair: int, chosen: list[int]) -> None:
        if not allowed(chosen):
            return
        if pair == problem.pairs:
            found.append(np.array(chosen, np.int64))
            return
        go(pair + 1, [*chosen, pair])
        if pair not in locked:
            go(pair + 1, chosen)

    go(0, [])
    return [plan for plan in found if _quotas_hold(problem, plan)]


def best_by_trying(problem: Problem) -> float | None:
    """The best objective there is, units of value; nothing when no plan keeps the hard rules."""
    worths = [objective_micro(problem, plan) for plan in feasible_plans(problem)]
    return max(worths) / MICRO if worths else None


def _quotas_hold(problem: Problem, plan: np.ndarray) -> bool:
    project = problem.task_project()
    for quota in problem.quotas:
        if quota.price is not None:
            continue
        held = sum(
            1
            for pair in plan.tolist()
            if int(problem.expert[pair]) in quota.members.tolist()
            and project[problem.task[pair]] == quota.project
        )
        if held < quota.at_least or (quota.at_most is not None and held > quota.at_most):
            return False
    return True
