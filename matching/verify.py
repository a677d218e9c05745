"""Every rule again, without the solver: the judge of a plan in tests and in jobs."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np

from matching.assignment import Assignment, micro_price, micro_value
from matching.bound import left_after_locked, price_bound
from matching.problem import MICRO, Problem

HOURS_SLACK = 1e-6
"""Hours beyond a limit that count as rounding."""

TOLERANCE = 1e-6
"""Units of value by which sums of prices may differ, beside a relative part of the same size."""


def verify(problem: Problem, assignment: Assignment) -> list[str]:
    """What is wrong with an assignment, a sentence each; nothing when it keeps every rule.

    Looks at hard rules, objective, bound, gap, prices and probabilities. Counts are made anew
    from the pairs, one at a time where rules concern few, so that a mistake in the solver's own
    arrays cannot hide here. The problem must be the one that was solved, with the prices and
    caps that a policy added.
    """
    wrong = _pairs_wrong(problem, assignment)
    if wrong:
        return wrong
    wrong += _seats_wrong(problem, assignment)
    wrong += _sums_wrong(problem, assignment)
    wrong += _groups_wrong(problem, assignment)
    wrong += _worth_wrong(problem, assignment)
    wrong += _prices_wrong(problem, assignment)
    wrong += _chances_wrong(problem, assignment)
    return wrong


def _pairs_wrong(problem: Problem, assignment: Assignment) -> list[str]:
    chosen = assignment.chosen
    if chosen.ndim != 1 or (len(chosen) and chosen.dtype.kind not in "iu"):
        return ["chosen is not a list of pair indices"]
    if len(chosen) and (chosen.min() < 0 or chosen.max() >= problem.pairs):
        return ["chosen names a pair that is not in the problem"]
    wrong = []
    if len(np.unique(chosen)) != len(chosen):
        wrong.append("a pair is chosen twice")
    missing = np.setdiff1d(problem.locked, chosen)
    wrong += [f"locked pair {pair} is not chosen" for pair in missing.tolist()]
    return wrong


def _seats_wrong(problem: Problem, assignment: Assignment) -> list[str]:
    chosen, wrong = assignment.chosen, []
    filled = Counter(problem.task[chosen].tolist())
    load = Counter(problem.expert[chosen].tolist())
    for task, seats in filled.items():
        if seats > problem.demand[task]:
            wrong.append(f"task {task} has {seats} experts for {problem.demand[task]} seats")
    for expert, seats in load.items():
        if seats > problem.capacity[expert]:
            wrong.append(f"expert {expert} has {seats} tasks for {problem.capacity[expert]} seats")
    told = dict(
        zip(assignment.open_seats.task.tolist(), assignment.open_seats.seats.tolist(), strict=True)
    )
    true = {
        task: seats - filled[task]
        for task, seats in enumerate(problem.demand.tolist())
        if seats > filled[task]
    }
    if told != true:
        wrong.append("the open seats reported are not those of the plan")
    return wrong


def _sums_wrong(problem: Problem, assignment: Assignment) -> list[str]:
    wrong: list[str] = []
    chosen = assignment.chosen.tolist()
    if problem.hours is not None and problem.hours_available is not None:
        hours: dict[int, float] = defaultdict(float)
        for pair in chosen:
            hours[int(problem.expert[pair])] += float(problem.hours[pair])
        for expert, used in hours.items():
            if used > problem.hours_available[expert] + HOURS_SLACK:
                has = problem.hours_available[expert]
                wrong.append(f"expert {expert} works {used:g} hours of {has:g}")
    if problem.budget is not None and problem.cost is not None:
        project = problem.task_project()
        spent: dict[int, int] = defaultdict(int)
        for pair in chosen:
            spent[int(project[problem.task[pair]])] += int(problem.cost[pair])
        for name, amount in spent.items():
            if amount > problem.budget[name]:
                wrong.append(f"project {name} spends {amount} of {problem.budget[name]}")
    return wrong


def _groups_wrong(problem: Problem, assignment: Assignment) -> list[str]:
    wrong: list[str] = []
    project = problem.task_project()
    seats = [
        (int(problem.expert[pair]), int(problem.task[pair])) for pair in assignment.chosen.tolist()
    ]
    if problem.share_cap is not None:
        limit = problem.share_limit()
        for (expert, name), held in Counter((e, int(project[t])) for e, t in seats).items():
            if held > limit[name]:
                wrong.append(f"expert {expert} holds {held} seats of project {name}'s share cap")
    if len(problem.conflicts):
        on_task: dict[int, set[int]] = defaultdict(set)
        tasks_of: dict[int, set[int]] = defaultdict(set)
        for expert, task in seats:
            on_task[task].add(expert)
            tasks_of[expert].add(task)
        for first, second in problem.conflicts.tolist():
            wrong += [
                f"experts {first} and {second} conflict on task {task}"
                for task in tasks_of.get(first, set())
                if second in on_task[task]
            ]
    for index, quota in enumerate(problem.quotas):
        if quota.price is not None:
            continue
        members = set(quota.members.tolist())
        held = sum(1 for e, t in seats if e in members and project[t] == quota.project)
        if held < quota.at_least or (quota.at_most is not None and held > quota.at_most):
            wrong.append(f"quota {index} ({quota.name}) holds {held} seats")
    return wrong


def _worth_wrong(problem: Problem, assignment: Assignment) -> list[str]:
    """The objective, added up a seat at a time."""
    total = sum(micro_value(problem, assignment.chosen).tolist())
    filled = Counter(problem.task[assignment.chosen].tolist())
    load = Counter(problem.expert[assignment.chosen].tolist())
    price = micro_price(problem.seat_price()).tolist()
    for task, seats in enumerate(problem.demand.tolist()):
        total -= max(seats - filled[task], 0) * price[task]
    if problem.min_load is not None and problem.min_load_price is not None:
        missing = int(micro_price(problem.min_load_price))
        for expert in np.flatnonzero(problem.min_load).tolist():
            total -= max(int(problem.min_load[expert]) - load[expert], 0) * missing
    project = problem.task_project()
    for quota in problem.quotas:
        if quota.price is None:
            continue
        members = set(quota.members.tolist())
        held = sum(
            1
            for pair in assignment.chosen.tolist()
            if int(problem.expert[pair]) in members and project[problem.task[pair]] == quota.project
        )
        off = max(quota.at_least - held, 0)
        off += 0 if quota.at_most is None else max(held - quota.at_most, 0)
        total -= int(micro_price(quota.price)) * off
    wrong = []
    if assignment.floor is not None:
        got = [0] * problem.tasks
        value = micro_value(problem, assignment.chosen).tolist()
        for task, one in zip(problem.task[assignment.chosen].tolist(), value, strict=True):
            got[task] += one
        wrong += [
            f"task {task} gets {got[task] / MICRO}, below the floor"
            for task in np.flatnonzero(problem.demand).tolist()
            if got[task] < assignment.floor * MICRO - 0.5
        ]
    if abs(total / MICRO - assignment.objective) > _room(assignment.objective):
        wrong.append(f"objective is {assignment.objective}, the pairs are worth {total / MICRO}")
    if assignment.bound < assignment.objective - _room(assignment.objective):
        wrong.append(f"bound {assignment.bound} is below objective {assignment.objective}")
    gap = max(assignment.bound - assignment.objective, 0) / max(abs(assignment.bound), 1e-12)
    if abs(gap - assignment.gap) > 1e-9:
        wrong.append(f"gap is {assignment.gap}, bound and objective make it {gap}")
    return wrong


def _prices_wrong(problem: Problem, assignment: Assignment) -> list[str]:
    """Whether the prices prove the bound, and lie with the plan within the gap."""
    prices = assignment.prices
    shapes = {
        "task": problem.tasks,
        "expert": problem.experts,
        "hour": problem.experts,
        "budget": problem.projects,
        "quota": len(problem.quotas),
        "share": len(prices.share_key),
        "clash": len(prices.clash_key),
    }
    wrong = [
        f"{name} prices have shape {getattr(prices, name).shape}, not ({size},)"
        for name, size in shapes.items()
        if getattr(prices, name).shape != (size,)
    ]
    if wrong:
        return wrong
    wrong += [
        f"a {name} price is not a number"
        for name in shapes
        if not bool(np.isfinite(getattr(prices, name)).all())
    ]
    wrong += [
        f"a {name} price is negative"
        for name in ("budget", "hour", "share", "clash")
        if bool((getattr(prices, name) < 0).any())
    ]
    if wrong:
        return wrong
    left = left_after_locked(problem)
    proved = price_bound(problem, prices, left)
    room = _room(assignment.bound)
    if assignment.proof in ("flow", "prices") and proved > assignment.bound + room:
        wrong.append(f"the prices prove {proved}, not the bound {assignment.bound}")
    slack = proved - assignment.objective
    if slack < -room:
        wrong.append(f"the prices prove {proved}, but the plan is worth more")
    # Each term of the proof is at least what the plan earns by it; no term may differ by more
    # than the whole gap, which is complementary slackness within the gap.
    filled = np.bincount(problem.task[assignment.chosen], minlength=problem.tasks)
    idle = np.maximum(problem.demand - filled, 0) * (prices.task + problem.seat_price())
    if float(idle.max(initial=0)) > max(slack, 0) + room:
        wrong.append("an open seat has a price above the gap")
    return wrong


def _chances_wrong(problem: Problem, assignment: Assignment) -> list[str]:
    wrong = []
    if assignment.probability.shape != assignment.chosen.shape:
        return ["there is not one probability for each chosen pair"]
    chance = dict(zip(assignment.marginal_pair.tolist(), assignment.marginal.tolist(), strict=True))
    if any(not 0 < one <= 1 + 1e-9 for one in chance.values()):
        wrong.append("a probability is not above 0 and up to 1")
    locked = set(problem.locked.tolist())
    if any(one > assignment.ceiling + 2e-6 for pair, one in chance.items() if pair not in locked):
        wrong.append(f"a probability is above the ceiling {assignment.ceiling}")
    for pair, one in zip(assignment.chosen.tolist(), assignment.probability.tolist(), strict=True):
        if abs(chance.get(pair, 0.0) - one) > 1e-9:
            wrong.append(f"pair {pair} was drawn with another probability than the marginal one")
    spread = np.zeros(problem.pairs)
    spread[assignment.marginal_pair] = assignment.marginal
    if (np.bincount(problem.task, spread, problem.tasks) > problem.demand + 1e-6).any():
        wrong.append("probabilities fill a task more than its seats")
    if (np.bincount(problem.expert, spread, problem.experts) > problem.capacity + 1e-6).any():
        wrong.append("probabilities fill an expert more than their seats")
    return wrong


def _room(amount: float) -> float:
    return TOLERANCE * (1 + abs(amount))
