"""The upper bound that a set of prices proves, straight from the problem; no solver in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.assignment import Prices, member_mask, micro_price, micro_value, totals
from matching.problem import MICRO, Bool, Float64, Int64, Problem

SLACK = 1e-9
"""Hours beyond a limit that count as rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Left:
    """What the locked pairs leave of a problem: the pairs still possible, and the limits left.

    Shapes: locked, live (pairs,) bool; demand (tasks,), capacity (experts,) int64; hours
        (experts,), money (projects,) float64, infinite where nothing limits them.
    """

    locked: Bool
    live: Bool
    demand: Int64
    capacity: Int64
    hours: Float64
    money: Float64


def left_after_locked(problem: Problem) -> Left:
    """The limits after the locked pairs, and the pairs that could still be added to them.

    An expert's seats are cut to the number of tasks that fit into the hours left, shortest first:
    no plan is lost by it, and the bound gets tighter.
    """
    locked = np.zeros(problem.pairs, np.bool_)
    locked[problem.locked] = True
    task, expert = problem.task[problem.locked], problem.expert[problem.locked]
    demand = problem.demand.astype(np.int64)
    capacity = problem.capacity.astype(np.int64)
    live = ~locked
    if len(task):
        demand -= np.bincount(task, minlength=problem.tasks)
        capacity -= np.bincount(expert, minlength=problem.experts)
        live &= ~_clashing(problem)
    hours = np.full(problem.experts, np.inf)
    if problem.hours is not None and problem.hours_available is not None:
        spent = totals(expert, problem.hours[problem.locked], problem.experts)
        hours = np.maximum(problem.hours_available - spent, 0.0) + SLACK
        live &= problem.hours <= hours[problem.expert]
        capacity = np.minimum(capacity, _tasks_that_fit(problem, live, hours))
    money = np.full(problem.projects, np.inf)
    if problem.budget is not None and problem.cost is not None:
        project = problem.task_project()
        cost = problem.cost.astype(np.float64)
        money = problem.budget - totals(project[task], cost[problem.locked], problem.projects)
        live &= cost <= money[project[problem.task]]
    if not bool(capacity.all()):
        live &= (capacity > 0)[problem.expert]
    if not bool(demand.all()):
        live &= (demand > 0)[problem.task]
    return Left(locked, live, demand, capacity, hours, money)


def _tasks_that_fit(problem: Problem, live: Bool, hours: Float64) -> Int64:
    assert problem.hours is not None
    at = np.flatnonzero(live)
    order = at[np.lexsort((problem.hours[at], problem.expert[at]))]
    expert, time = problem.expert[order], problem.hours[order]
    first = np.searchsorted(expert, np.arange(problem.experts))
    # Sums restart at each expert; the running total is taken back to where the expert begins.
    # Rounding in it is far below the slack that hours are given.
    running = np.cumsum(time)
    before = np.concatenate([[0.0], running])[first]
    fits = running - before[expert] <= hours[expert] + 1e-6
    return np.bincount(expert[fits], minlength=problem.experts).astype(np.int64)


def _clashing(problem: Problem) -> Bool:
    """Pairs whose expert is in conflict with a locked expert of the same task, (pairs,)."""
    out = np.zeros(problem.pairs, np.bool_)
    if not len(problem.conflicts):
        return out
    against: dict[int, list[int]] = {}
    for first, second in problem.conflicts.tolist():
        against.setdefault(first, []).append(second)
        against.setdefault(second, []).append(first)
    stride = problem.experts
    codes = [
        int(problem.task[pair]) * stride + other
        for pair in problem.locked.tolist()
        for other in against.get(int(problem.expert[pair]), ())
    ]
    barred = np.array(sorted(codes), np.int64)
    return np.isin(problem.task.astype(np.int64) * stride + problem.expert, barred)


def price_bound(problem: Problem, prices: Prices, left: Left | None = None) -> float:
    """The most that any plan within the hard rules can be worth, as these prices prove it.

    Every limit is sold at its price, and every pair and seat then decides for itself. Whatever
    the prices, no plan is worth more; good prices come close. Prices of the wrong sign, or above
    what a soft rule costs to break, are cut back first, so that the bound never lies.

    Units: units of value.
    Source: Lagrangian duality; Fisher, Management Science 27 (1981), section 2.
    """
    left = left_after_locked(problem) if left is None else left
    task_price, expert_price = micro_price(prices.task), micro_price(prices.expert)
    charge, total = side_terms(problem, prices, left)
    live = np.flatnonzero(left.live)
    task, expert = problem.task[live], problem.expert[live]
    profit = micro_value(problem, live) - task_price[task] - expert_price[expert]
    total += float(np.maximum(profit - charge[live], 0).sum())
    total += float(micro_value(problem, problem.locked).sum())
    total -= _hours_relief(problem, prices, left, live, profit - charge[live], expert_price)
    open_cost = micro_price(problem.seat_price())
    total += float((left.demand * np.maximum(task_price, -open_cost)).sum())
    total += _expert_terms(problem, left, expert_price)
    return total / MICRO


def _expert_terms(problem: Problem, left: Left, price: Int64) -> float:
    seats = left.capacity
    if problem.min_load is None or problem.min_load_price is None:
        return float((seats * np.maximum(price, 0)).sum())
    missing = int(micro_price(problem.min_load_price))
    held = np.bincount(problem.expert[problem.locked], minlength=problem.experts)
    floor = np.maximum(problem.min_load - held, 0)
    first = np.minimum(floor, seats)
    at_floor = first * (price + missing)
    at_top = at_floor + (seats - first) * price
    best = np.maximum(np.maximum(at_floor, at_top), 0)
    return float((best - missing * floor).sum())


def side_terms(problem: Problem, prices: Prices, left: Left) -> tuple[Float64, float]:
    """What each pair pays for the side rules, and what the rules' limits sell for, micro-units."""
    charge, total = np.zeros(problem.pairs), 0.0
    project = problem.task_project()
    held_project = project[problem.task[problem.locked]]
    held_expert = problem.expert[problem.locked]
    if problem.budget is not None and problem.cost is not None:
        price = np.maximum(prices.budget, 0) * MICRO
        charge += problem.cost * price[project[problem.task]]
        total += float((price * left.money).sum())
    if problem.hours is not None and problem.hours_available is not None:
        price = np.maximum(prices.hour, 0) * MICRO
        charge += problem.hours * price[problem.expert]
        total += float((price * left.hours).sum())
    for index, quota in enumerate(problem.quotas):
        members = member_mask(problem, quota.members)
        held = int((members[held_expert] & (held_project == quota.project)).sum())
        limit = np.inf if quota.price is None else quota.price
        price_one = float(np.clip(prices.quota[index], -limit, limit)) * MICRO
        if price_one > 0 and quota.at_most is not None:
            total += price_one * (quota.at_most - held)
        elif price_one < 0:
            price_one = 0.0 if held >= quota.at_least else price_one
            total += price_one * (quota.at_least - held)
        else:
            continue
        charge += price_one * (members[problem.expert] & (project[problem.task] == quota.project))
    if problem.share_cap is not None and len(prices.share):
        code = problem.expert.astype(np.int64) * problem.projects + project[problem.task]
        names = prices.share_key[:, 0].astype(np.int64) * problem.projects + prices.share_key[:, 1]
        price = np.maximum(prices.share, 0) * MICRO
        charge += _looked_up(code, names, price)
        held_code = held_expert.astype(np.int64) * problem.projects + held_project
        held_seats = _looked_up(names, *np.unique(held_code, return_counts=True))
        total += float((price * (problem.share_limit()[prices.share_key[:, 1]] - held_seats)).sum())
    if len(prices.clash):
        price = np.maximum(prices.clash, 0) * MICRO
        stride = np.int64(problem.experts)
        code = problem.task.astype(np.int64) * stride + problem.expert
        for side in (1, 2):
            names = prices.clash_key[:, 0].astype(np.int64) * stride + prices.clash_key[:, side]
            known, place = np.unique(names, return_inverse=True)
            charge += _looked_up(code, known, totals(place, price, len(known)))
        total += float(price.sum())
    return charge, total


def _looked_up(code: Int64, names: Int64, amount: Float64 | Int64) -> Float64:
    """The amount under each code, nought where it has no name; names need no order."""
    out = np.zeros(len(code))
    if not len(names):
        return out
    order = np.argsort(names, kind="stable")
    known = names[order]
    place = np.minimum(np.searchsorted(known, code), len(known) - 1)
    hit = known[place] == code
    out[hit] = amount[order[place[hit]]]
    return out


def _hours_relief(
    problem: Problem,
    prices: Prices,
    left: Left,
    live: Int64,
    reduced: Float64,
    expert_price: Int64,
) -> float:
    """How much less experts short of hours can earn than their seats and hours sell for.

    A price by the hour, or none, lets an expert take more than fits. Here each expert whose best
    tasks do not fit packs whole tasks into their seats and hours, worth what the other prices
    leave of them, and the better of the two bounds counts. Experts with a floor, and packings
    that take too long, are left as they are.

    Units: micro-units.
    """
    if problem.hours is None or problem.hours_available is None:
        return 0.0
    able = left.capacity > 0
    if problem.min_load is not None:
        able &= problem.min_load == 0
    mine = np.flatnonzero(able[problem.expert[live]])
    expert = problem.expert[live[mine]]
    hour_price, hours = prices.hour[expert] * MICRO, problem.hours[live[mine]]
    packed = reduced[mine] + hour_price * hours + expert_price[expert]
    useful = packed > 0
    mine, expert, packed = mine[useful], expert[useful], packed[useful]
    hours, sold = hours[useful], np.maximum(reduced[mine], 0)
    order = np.lexsort((-packed, expert))
    expert, packed, hours, sold = expert[order], packed[order], hours[order], sold[order]
    first = np.searchsorted(expert, np.arange(problem.experts))
    best = np.arange(len(expert)) - first[expert] < left.capacity[expert]
    wanted = totals(expert[best], hours[best], problem.experts)
    tight = able & ((wanted > left.hours + 1e-6) | (prices.hour > 0))
    last = np.append(first, len(expert))
    relief = 0.0
    for who in np.flatnonzero(tight).tolist():
        at = slice(int(last[who]), int(last[who + 1]))
        seats, time = int(left.capacity[who]), float(left.hours[who])
        price = float(prices.hour[who]) * MICRO
        relaxed = price * time + float(sold[at].sum()) + seats * max(int(expert_price[who]), 0)
        whole = pack_tasks(packed[at].tolist(), hours[at].tolist(), seats, time)
        if whole is not None:
            relief += max(relaxed - whole.worth, 0.0)
    return relief


@dataclass(frozen=True, slots=True)
class Packing:
    """The best tasks that fit into an expert's seats and hours.

    Units: worth as given; at, places in the lists given.
    """

    worth: float
    at: tuple[int, ...]


def pack_tasks(worth: list[float], hours: list[float], seats: int, time: float) -> Packing | None:
    """The most that whole tasks are worth within seats and time, best tasks listed first.

    Depth first, cut where even the best tasks left, without regard to time, bring no more;
    nothing when that takes more than PACKING_STEPS steps.
    """
    running = [0.0]
    for one in worth:
        running.append(running[-1] + one)
    best, steps = 0.0, 0
    taken: tuple[int, ...] = ()
    stack: list[tuple[int, int, float, float, tuple[int, ...]]] = [(0, seats, time + 1e-6, 0.0, ())]
    while stack:
        first, room, free, gained, at = stack.pop()
        if gained > best:
            best, taken = gained, at
        steps += 1
        if steps > PACKING_STEPS:
            return None
        end = min(first + room, len(worth))
        if first >= len(worth) or gained + running[end] - running[first] <= best:
            continue
        # Without the first task is looked at later than with it: good packings come early.
        stack.append((first + 1, room, free, gained, at))
        if hours[first] <= free:
            more = gained + worth[first]
            stack.append((first + 1, room - 1, free - hours[first], more, (*at, first)))
    return Packing(best, taken)


PACKING_STEPS = 4000
"""Steps after which an expert's hours are left to their price."""
