"""Probabilities instead of a plan: as even as a ceiling, the seats and a total allow."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ortools.graph.python import min_cost_flow
from scipy.optimize import minimize

from matching.assignment import totals
from matching.flow import FlowFailed, Seats
from matching.problem import Float64, Int64

LEVELS = 14
"""Halvings of a probability: probabilities are whole multiples of two to the minus this."""

UNIT = 1 << LEVELS
"""Units in a certainty."""

STEPS = 4000
"""Steps of the descent on the prices; it ends earlier when nothing moves."""

SLOPE = 1_000_000
"""Whole numbers for one unit of slope in the flow."""

TIGHTENINGS = 8
"""Flows that may be needed until the rounded probabilities reach the total."""


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """The probability of each pair, in whole units, and of each seat of being left open.

    Shapes: units (pairs,), open_units (tasks,) int64.
    Units: units of 1 / UNIT; total, the expected profit less open seats, in micro-units.
    """

    units: Int64
    open_units: Int64
    total: float


def ceiling_units(ceiling: float) -> int:
    """A ceiling in whole units, at least one; a millionth short of a unit counts as it."""
    return max(int(np.floor((ceiling + 1e-6) * UNIT)), 1)


def best_under_ceiling(seats: Seats, profit: Int64, ceiling: float) -> Spread:
    """The greatest expected profit when no pair may have more than a probability.

    Units: ceiling a probability.
    Source: probability-limited randomised assignment; Jecmen et al., NeurIPS 2020.
    """
    whole = np.full(len(profit), ceiling_units(ceiling), np.int64)
    at = np.flatnonzero(profit + seats.open_cost[seats.task] > 0)
    pushed, opened = _flow(seats, at, whole[at], -profit[at], seats.open_cost, seats.demand * UNIT)
    units = np.zeros(len(profit), np.int64)
    units[at] = pushed
    return Spread(units, opened, _total(seats, profit, units, opened))


def spread(seats: Seats, profit: Int64, ceiling: float, total: float) -> Spread:
    """The most even probabilities under a ceiling whose expected profit reaches a total.

    Even is the entropy, the sum of -x ln x: the perturbation is as large as the total allows.
    Seats are filled as the best plan under the ceiling fills them. Prices are found by descent
    on the dual, which is smooth; the probabilities are then rounded to whole units by a flow
    whose arcs follow the entropy around them, so that seats and capacities hold exactly.

    Units: ceiling a probability; total in micro-units, of expected profit less open seats.
    Source: Xu, Jecmen, Song, Fang, NeurIPS 2023, arXiv 2310.05995 (PM with the entropy as f).
    """
    best = best_under_ceiling(seats, profit, ceiling)
    if best.total <= total:
        return best
    top = ceiling_units(ceiling) / UNIT
    at = np.flatnonzero(
        (profit + seats.open_cost[seats.task] >= 0)
        & (seats.capacity[seats.expert] > 0)
        & (seats.demand[seats.task] > 0)
    )
    filled = seats.demand * UNIT - best.open_units
    wanted = total + float((seats.open_cost * best.open_units).sum()) / UNIT
    scale = float(np.abs(profit[at]).max(initial=1))
    chance, weight = _descend(seats, at, profit[at] / scale, top, filled / UNIT, wanted / scale)
    for _ in range(TIGHTENINGS):
        units = np.zeros(len(profit), np.int64)
        units[at] = _rounded(seats, at, profit[at] / scale, chance, weight, top, filled)
        answer = Spread(units, best.open_units, _total(seats, profit, units, best.open_units))
        if answer.total >= total:
            return answer
        weight *= 1.1
    return best


def _descend(
    seats: Seats, at: Int64, value: Float64, top: float, filled: Float64, wanted: float
) -> tuple[Float64, float]:
    """Probabilities of greatest entropy, by the prices of tasks, experts and total that give them.

    At prices a, b and the total's price w a pair has the probability exp(w v - a - b - 1), cut
    at the ceiling.
    """
    task, expert = seats.task[at], seats.expert[at]
    tasks, experts = seats.tasks, seats.experts
    capacity = seats.capacity.astype(np.float64)
    least = top * np.log(top)

    def dual(prices: Float64, *_: object) -> tuple[float, Float64]:
        a, b, w = prices[:tasks], prices[tasks:-1], prices[-1]
        z = w * value - a[task] - b[expert]
        x = np.exp(np.minimum(z - 1, np.log(top)))
        gain = np.where(x < top, x, z * top - least)
        cost = float(gain.sum() + filled @ a + capacity @ b - w * wanted)
        slope = np.empty_like(prices)
        slope[:tasks] = filled - totals(task, x, tasks)
        slope[tasks:-1] = capacity - totals(expert, x, experts)
        slope[-1] = float(value @ x) - wanted
        return cost, slope

    begin = np.zeros(tasks + experts + 1)
    begin[-1] = 1.0
    bounds = [(None, None)] * tasks + [(0, None)] * (experts + 1)
    found = minimize(
        dual,
        begin,
        args=(),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={
            "maxiter": STEPS,
            "maxfun": 2 * STEPS,
            "maxcor": 40,
            "ftol": 1e-15,
            "gtol": 1e-7,
        },
    )
    prices = np.asarray(found.x, np.float64)
    a, b, w = prices[:tasks], prices[tasks:-1], float(prices[-1])
    chance = np.exp(np.minimum(w * value - a[task] - b[expert] - 1, np.log(top)))
    return chance, w


def _rounded(
    seats: Seats,
    at: Int64,
    value: Float64,
    chance: Float64,
    weight: float,
    top: float,
    filled: Int64,
) -> Int64:
    """Whole units near the probabilities, of greatest weighed value plus entropy, by a flow."""
    most = round(top * UNIT)
    low = np.minimum(np.floor(chance * UNIT + 1e-6).astype(np.int64), most)
    edges = [
        np.zeros_like(low),
        low // 2,
        low,
        np.minimum(low + 1, most),
        np.minimum(low + 2 + low // 2, most),
        np.full_like(low, most),
    ]
    pair, size, cost = [], [], []
    for first, last in pairwise(edges):
        keep = np.flatnonzero(last > first)
        begin, end = first[keep] / UNIT, last[keep] / UNIT
        slope = weight * value[keep] + (_entropy(end) - _entropy(begin)) / (end - begin)
        pair.append(keep)
        size.append(last[keep] - first[keep])
        cost.append(-np.rint(slope * SLOPE).astype(np.int64))
    arcs = np.concatenate(pair)
    pushed, opened = _flow(
        seats, at[arcs], np.concatenate(size), np.concatenate(cost), None, filled
    )
    if opened.any():
        raise FlowFailed("INFEASIBLE")
    units: Int64 = totals(arcs, pushed, len(at)).astype(np.int64)
    return units


def _flow(
    seats: Seats, at: Int64, size: Int64, cost: Int64, open_cost: Int64 | None, supply: Int64
) -> tuple[Int64, Int64]:
    """Units pushed through each of these arcs, and units of each task that stay open."""
    tasks, experts = seats.tasks, seats.experts
    sink = tasks + experts
    solver = min_cost_flow.SimpleMinCostFlow()
    add = solver.add_arcs_with_capacity_and_unit_cost
    arcs = add(seats.task[at], seats.expert[at] + np.int32(tasks), size, cost)
    rows = np.arange(tasks, dtype=np.int32)
    # Without a price of its own, a seat stays open only where nothing else is possible.
    dear = (
        np.full(tasks, int(np.abs(cost).max(initial=0)) * 4 + 1) if open_cost is None else open_cost
    )
    bypass = add(rows, np.full(tasks, sink, np.int32), supply, dear)
    ends = np.arange(tasks, sink, dtype=np.int32)
    capacity = seats.capacity * UNIT
    add(ends, np.full(experts, sink, np.int32), capacity, np.zeros(experts, np.int64))
    solver.set_nodes_supplies(rows, supply)
    solver.set_node_supply(sink, -int(supply.sum()))
    status = solver.solve()
    if status != solver.OPTIMAL:
        raise FlowFailed(str(status))
    return solver.flows(arcs), solver.flows(bypass)


def _total(seats: Seats, profit: Int64, units: Int64, opened: Int64) -> float:
    return float((profit * units).sum() - (seats.open_cost * opened).sum()) / UNIT


def _entropy(chance: Float64) -> Float64:
    return np.where(chance > 0, -chance * np.log(np.maximum(chance, 1e-300)), 0.0)


def entropy(units: Int64) -> float:
    """The entropy of probabilities in whole units, the sum of -x ln x over pairs."""
    return float(_entropy(units / UNIT).sum())
