"""From a plan that is too dear for its limits to one that keeps every hard rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.assignment import totals
from matching.model import Model
from matching.problem import Bool, Float64, Int64

DROP_PASSES = 6
"""Passes over the broken rows; one is nearly always enough."""

ROUNDING = 1e-7
"""What a sum of weights may pass its limit by, as rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """The side rows of each pair: `row[start[n]:start[n + 1]]` are those of pair n.

    Shapes: start (pairs + 1,) int64; row int64, weight float64 (entries,).
    """

    start: Int64
    row: Int64
    weight: Float64


def entries_by_pair(model: Model) -> Entries:
    """The rows' entries turned round, so that the rows of one pair stand together."""
    order = np.argsort(model.rows.pair, kind="stable")
    start = np.searchsorted(model.rows.pair[order], np.arange(len(model.profit) + 1))
    return Entries(start, model.rows.row[order].astype(np.int64), model.rows.weight[order])


def worth(model: Model, on: Bool) -> int:
    """What a choice is worth in micro-units: profits less open seats, missed floors and excess."""
    seats = model.seats
    total = int(model.profit[on].sum())
    filled = np.bincount(seats.task[on], minlength=seats.tasks)
    total -= int((seats.open_cost * (seats.demand - filled)).sum())
    if seats.bonus:
        load = np.bincount(seats.expert[on], minlength=seats.experts)
        total -= seats.bonus * int(np.maximum(seats.floor - load, 0).sum())
    soft = np.isfinite(model.rows.price)
    if soft.any():
        excess = np.maximum(model.rows.used(on) - model.rows.limit, 0)
        total -= int(np.rint((excess[soft] * model.rows.price[soft]).sum()))
    return total


def keeps_rows(model: Model, on: Bool) -> bool:
    """Whether every hard side row holds."""
    hard = np.isinf(model.rows.price)
    return bool((model.rows.used(on) <= model.rows.limit + ROUNDING)[hard].all())


def repaired(model: Model, entries: Entries, on: Bool, score: Float64) -> Bool | None:
    """A plan near this one within every hard row, or nothing when none is found near by.

    Pairs are dropped where a row is broken, those first that cost least of the score for what
    they free; then open seats are filled, best score first, within every limit.

    Shapes: on, score (model pairs,).
    Units: score in micro-units, what is lost by dropping a pair.
    """
    on = _dropped(model, on, score)
    on = _forced(model, entries, on, score)
    on = _filled(model, entries, on, score)
    return on if keeps_rows(model, on) else None


def _dropped(model: Model, on: Bool, score: Float64) -> Bool:
    rows, on = model.rows, on.copy()
    hard = np.isinf(rows.price)
    for _ in range(DROP_PASSES):
        excess = rows.used(on) - rows.limit
        broken = hard & (excess > ROUNDING)
        take = np.flatnonzero(broken[rows.row] & on[rows.pair] & (rows.weight > 0))
        if not len(take):
            break
        ratio = score[rows.pair[take]] / rows.weight[take]
        take = take[np.lexsort((rows.pair[take], ratio, rows.row[take]))]
        row, weight = rows.row[take], rows.weight[take]
        running = np.cumsum(weight)
        first = np.searchsorted(row, row)
        freed = running - weight - (running - weight)[first]
        on[rows.pair[take[freed < excess[row] - ROUNDING]]] = False
    return on


def _forced(model: Model, entries: Entries, on: Bool, score: Float64) -> Bool:
    """Seats given to pairs that a hard floor asks for, at the cost of weaker pairs in their way."""
    rows, seats = model.rows, model.seats
    hard = np.isinf(rows.price)
    for row in np.flatnonzero(hard & (rows.used(on) > rows.limit + ROUNDING)).tolist():
        mine = rows.pair[(rows.row == row) & (rows.weight < 0)]
        member = np.zeros(len(on), np.bool_)
        member[mine] = True
        wanted = mine[~on[mine]]
        for pair in wanted[np.lexsort((wanted, -score[wanted]))].tolist():
            if rows.used(on)[row] <= rows.limit[row] + ROUNDING:
                break
            trial = on.copy()
            same_task = np.flatnonzero(trial & (seats.task == seats.task[pair]))
            if len(same_task) >= seats.demand[seats.task[pair]]:
                weak = same_task[~member[same_task]]
                if not len(weak):
                    continue
                trial[weak[np.argmin(score[weak])]] = False
            same_expert = np.flatnonzero(trial & (seats.expert == seats.expert[pair]))
            if len(same_expert) >= seats.capacity[seats.expert[pair]]:
                weak = same_expert[~member[same_expert]]
                if not len(weak):
                    continue
                trial[weak[np.argmin(score[weak])]] = False
            trial[pair] = True
            own = entries.row[entries.start[pair] : entries.start[pair + 1]]
            over = rows.used(trial) > rows.limit + ROUNDING
            if not bool((over[own] & hard[own] & (own != row)).any()):
                on = trial
    return on


def _filled(model: Model, entries: Entries, on: Bool, score: Float64) -> Bool:
    rows, seats, on = model.rows, model.seats, on.copy()
    open_seat = seats.demand - np.bincount(seats.task[on], minlength=seats.tasks)
    open_load = seats.capacity - np.bincount(seats.expert[on], minlength=seats.experts)
    room = np.where(np.isinf(rows.price), rows.limit - rows.used(on) + ROUNDING, np.inf)
    gain = model.profit + seats.open_cost[seats.task]
    free = ~on & (gain > 0) & (open_seat[seats.task] > 0) & (open_load[seats.expert] > 0)
    too_much = rows.weight > np.maximum(room, 0)[rows.row]
    free &= totals(rows.pair, too_much & free[rows.pair], len(on)) == 0
    order = np.flatnonzero(free)
    order = order[np.lexsort((order, -score[order]))]
    task, expert = seats.task[order].tolist(), seats.expert[order].tolist()
    seat_left, load_left, row_room = open_seat.tolist(), open_load.tolist(), room.tolist()
    start, stop = entries.start[order].tolist(), entries.start[order + 1].tolist()
    for n, pair in enumerate(order.tolist()):
        if not seat_left[task[n]] or not load_left[expert[n]]:
            continue
        own = entries.row[start[n] : stop[n]].tolist()
        need = entries.weight[start[n] : stop[n]].tolist()
        if any(w > 0 and w > row_room[r] for r, w in zip(own, need, strict=True)):
            continue
        seat_left[task[n]] -= 1
        load_left[expert[n]] -= 1
        for r, w in zip(own, need, strict=True):
            row_room[r] -= w
        on[pair] = True
    return on
