"""Side rules by prices: sell every limit, solve the seats, move the prices, mend what is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from matching.assignment import totals
from matching.flow import SeatPlan, solve_seats
from matching.model import Model
from matching.problem import Bool, Float64, Int64
from matching.repair import entries_by_pair, repaired, worth


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """The best plan found, and the prices that gave the best bound.

    Shapes: on (model pairs,) bool or nothing when no plan was found; task_price, expert_price
        int64; row_price (rows,) float64.
    Units: prices, worth and bound in micro-units.
    """

    on: Bool | None
    worth: int
    bound: float
    task_price: Int64
    expert_price: Int64
    row_price: Float64
    rounds: int


def search_prices(
    model: Model,
    *,
    rounds: int,
    target_gap: float,
    start: Float64 | None = None,
    report: Callable[[int, float, float], None],
) -> Priced:
    """Plan and bound under side rows, by bisecting the price of every row.

    What a row uses falls as its own price rises and depends little on other prices, so each price
    is bracketed and bisected on its own; brackets widen a little each round because experts do
    couple the rows. A bracket starts at the price that would make the first plan affordable if
    nothing replaced what is dropped.

    Units: target_gap a share of the bound; start, prices of the rows in micro-units.
    Source: Fisher, Management Science 27 (1981), for the relaxation; bracketing is our own.
    """
    rows, pairs = model.rows, len(model.profit)
    entries = entries_by_pair(model)
    top = np.where(np.isinf(rows.price), np.inf, rows.price)
    low, high = np.zeros(rows.count), top.copy()
    price = np.zeros(rows.count) if start is None else np.minimum(start, top)
    best_on: Bool | None = None
    best, bound = -(1 << 60), np.inf
    proof: tuple[SeatPlan, Float64] | None = None
    unit = np.full(rows.count, 0.0)
    done = 0
    for number in range(rounds):
        done = number + 1
        charge = rows.charge(price, pairs)
        net = model.profit - charge
        plan = solve_seats(model.seats, np.rint(net).astype(np.int64))
        proved = seat_bound(model, plan, net) + float((price * rows.limit).sum())
        if proved < bound:
            bound, proof = proved, (plan, price.copy())
        used = rows.used(plan.on)
        reduced = net - plan.task_price[model.seats.task] - plan.expert_price[model.seats.expert]
        mended = repaired(model, entries, plan.on, reduced)
        if mended is not None:
            value = worth(model, mended)
            if best_on is None or value > best:
                best, best_on = value, mended
        report(done, -np.inf if best_on is None else float(best), bound)
        if best_on is not None and bound - best <= target_gap * abs(bound):
            break
        over = used > rows.limit
        low, high = np.where(over, price, low), np.where(over, high, price)
        if number == 0 and start is None:
            unit = _first_prices(model, plan.on, over)
            price = np.minimum(np.where(over, 0.5 * unit, 0.0), top)
            continue
        width = np.where(np.isfinite(high), np.maximum(high - low, 0), 0)
        low, high = np.maximum(low - 0.1 * width, 0), np.minimum(high + 0.1 * width, top)
        further = np.maximum(2 * price, np.maximum(0.25 * unit, 1e-3))
        price = np.where(np.isfinite(high), (low + high) / 2, further)
        price[(low == 0) & (high < 1e-3 * unit)] = 0
    assert proof is not None
    plan, row_price = proof
    return Priced(best_on, best, bound, plan.task_price, plan.expert_price, row_price, done)


def seat_bound(model: Model, plan: SeatPlan, net: Float64) -> float:
    """The most the seats can earn at these profits, from the plan's prices, micro-units."""
    seats = model.seats
    reduced = net - plan.task_price[seats.task] - plan.expert_price[seats.expert]
    total = float(np.maximum(reduced, 0).sum())
    total += float((seats.demand * np.maximum(plan.task_price, -seats.open_cost)).sum())
    price = plan.expert_price
    at_floor = seats.floor * (price + seats.bonus)
    at_top = at_floor + (seats.capacity - seats.floor) * price
    total += float(np.maximum(np.maximum(at_floor, at_top), 0).sum())
    return total - seats.bonus * float(seats.floor.sum())


def _first_prices(model: Model, on: Bool, over: Bool) -> Float64:
    """For each broken row, the price at which enough of its pairs would not pay, micro-units."""
    rows = model.rows
    out = np.zeros(rows.count)
    inside = np.flatnonzero(over[rows.row] & on[rows.pair] & (rows.weight > 0))
    if not len(model.profit):
        return out
    ratio = model.profit[rows.pair[inside]] / rows.weight[inside]
    order = inside[np.lexsort((-ratio, rows.row[inside]))]
    row, weight = rows.row[order], rows.weight[order]
    running = np.cumsum(weight)
    first = np.searchsorted(row, row)
    taken = running - (running - weight)[first]
    ratio = model.profit[rows.pair[order]] / weight
    beyond = taken > rows.limit[row]
    np.maximum.at(out, row[beyond], ratio[beyond])
    mean = totals(rows.row, np.abs(model.profit)[rows.pair], rows.count)
    count = np.maximum(np.bincount(rows.row, minlength=rows.count), 1)
    return np.where(over & (out <= 0), mean / count, out)
