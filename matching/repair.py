"""From a plan that is too dear for its limits to one that keeps every hard rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.assignment import totals
from matching.model import Model
from matching.problem import Bool, Float64, Int64
from matching.rows import Rule

DROP_PASSES = 6
"""Passes over the broken rows; one is nearly always enough."""

EXCHANGES = 200_000
"""Exchanges of one expert for another that are looked at, the most promising first."""

FIRST = 1e15
"""More than any worth in micro-units."""

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

    def of(self, pairs: Int64) -> tuple[Int64, Int64]:
        """Where the entries of these pairs stand, and which pair of the list each belongs to."""
        start, stop = self.start[pairs], self.start[pairs + 1]
        size = stop - start
        place = np.repeat(np.arange(len(pairs)), size)
        step = np.arange(len(place)) - np.repeat(np.cumsum(size) - size, size)
        return start[place] + step, place


def entries_by_pair(model: Model, some: Int64 | None = None) -> Entries:
    """The rows' entries turned round, so that the rows of one pair stand together.

    Shapes: some (any,) pairs in rising order, of which alone the entries are kept; all if not
        given. A pair is then named by its place among them.
    """
    rows, pairs = model.rows, len(model.profit)
    pair, row, weight = rows.pair, rows.row, rows.weight
    if some is not None:
        place = np.full(pairs, -1)
        place[some] = np.arange(len(some))
        inside = np.flatnonzero(place[pair] >= 0)
        pair, row, weight, pairs = place[pair[inside]], row[inside], weight[inside], len(some)
    order = np.argsort(pair, kind="stable")
    start = np.searchsorted(pair[order], np.arange(pairs + 1))
    return Entries(start, row[order].astype(np.int64), weight[order])


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


def repaired(
    model: Model,
    entries: Entries,
    on: Bool,
    score: Float64,
    *,
    barred: Bool | None = None,
    exchange: bool = True,
) -> Bool | None:
    """A plan near this one within every hard row, or nothing when none is found near by.

    Pairs are dropped where a row is broken; then open seats are filled, best score first, within
    every limit, and what room is left goes to exchanges, the slow part, where those are asked
    for. Barred pairs are not taken up.

    Shapes: on, score (model pairs,), as for `without_excess`; barred (model pairs,).
    """
    free = np.ones(len(on), np.bool_) if barred is None else ~barred
    on = without_excess(model, on, score)
    on = _forced(model, entries, on, score, free)
    on = _filled(model, entries, on, score, free)
    if exchange:
        on = exchanged(model, entries, on, score, free)
    return on if keeps_rows(model, on) else None


def without_excess(model: Model, on: Bool, score: Float64) -> Bool:
    """The choice less the pairs that its broken rows can best do without.

    Where one pair is enough to mend an expert's hours, the one of least score goes; otherwise
    pairs go by score for what they free, lowest first.

    Shapes: on, score (model pairs,).
    Units: score, what a pair is worth beyond all prices, micro-units.
    """
    rows, on = model.rows, on.copy()
    hard = np.isinf(rows.price)
    for _ in range(DROP_PASSES):
        excess = rows.used(on) - rows.limit
        broken = hard & (excess > ROUNDING)
        take = np.flatnonzero(broken[rows.row] & on[rows.pair] & (rows.weight > 0))
        if not len(take):
            break
        narrow = rows.kind[rows.row[take]] == Rule.HOURS
        enough = narrow & (rows.weight[take] >= excess[rows.row[take]] - ROUNDING)
        ratio = score[rows.pair[take]] / rows.weight[take]
        # Below all ratios, so that these come first; among them the least score.
        ratio = np.where(enough, score[rows.pair[take]] - FIRST, ratio)
        take = take[np.lexsort((rows.pair[take], ratio, rows.row[take]))]
        row, weight = rows.row[take], rows.weight[take]
        running = np.cumsum(weight)
        first = np.searchsorted(row, row)
        freed = running - weight - (running - weight)[first]
        on[rows.pair[take[freed < excess[row] - ROUNDING]]] = False
    return on


def _forced(model: Model, entries: Entries, on: Bool, score: Float64, allowed: Bool) -> Bool:
    """Seats given to pairs that a hard floor asks for, at the cost of weaker pairs in their way."""
    rows, seats = model.rows, model.seats
    hard = np.isinf(rows.price)
    for row in np.flatnonzero(hard & (rows.used(on) > rows.limit + ROUNDING)).tolist():
        mine = rows.pair[(rows.row == row) & (rows.weight < 0)]
        member = np.zeros(len(on), np.bool_)
        member[mine] = True
        wanted = mine[~on[mine] & allowed[mine]]
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


def _filled(model: Model, entries: Entries, on: Bool, score: Float64, allowed: Bool) -> Bool:
    rows, seats, on = model.rows, model.seats, on.copy()
    open_seat = seats.demand - np.bincount(seats.task[on], minlength=seats.tasks)
    open_load = seats.capacity - np.bincount(seats.expert[on], minlength=seats.experts)
    room = np.where(np.isinf(rows.price), rows.limit - rows.used(on) + ROUNDING, np.inf)
    gain = model.profit + seats.open_cost[seats.task]
    if seats.bonus:
        load = seats.capacity - open_load
        gain = gain + np.where(load < seats.floor, seats.bonus, 0)[seats.expert]
    free = allowed & ~on & (gain > 0) & (open_seat[seats.task] > 0) & (open_load[seats.expert] > 0)
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


def exchanged(model: Model, entries: Entries, on: Bool, score: Float64, allowed: Bool) -> Bool:
    """The plan after better experts with time to spare took over seats that limits leave room for.

    What a limit leaves unused is worth its price; a task whose weakest expert can make way for
    one who is worth more, and still fits, uses it.
    """
    rows, seats = model.rows, model.seats
    held = np.flatnonzero(on)
    order = held[np.lexsort((held, -model.profit[held], seats.task[held]))]
    weakest = np.full(seats.tasks, -1)
    weakest[seats.task[order]] = order
    load = np.bincount(seats.expert[on], minlength=seats.experts)
    other = weakest[seats.task]
    better = allowed & ~on & (other >= 0) & (load < seats.capacity)[seats.expert]
    better &= model.profit > model.profit[other]
    if seats.bonus:
        # Taking a seat from an expert at their floor may cost more than it brings.
        above = (load > seats.floor) | (seats.floor == 0)
        better &= above[seats.expert[other]]
    room = np.where(np.isinf(rows.price), rows.limit - rows.used(on) + ROUNDING, np.inf)
    # A cheap test first, that counts as if all of a row were freed: it leaves few to look at.
    most = totals(rows.row, np.where(on[rows.pair], np.maximum(rows.weight, 0), 0), rows.count)
    never = rows.weight > room[rows.row] + most[rows.row]
    better &= totals(rows.pair, never, len(on)) == 0
    asked = np.flatnonzero(better)
    lost = score[other[asked]] - score[asked]
    gain = model.profit[asked] - model.profit[other[asked]]
    asked = asked[np.lexsort((asked, lost - gain))][:EXCHANGES]
    on, left, row_room = on.copy(), (seats.capacity - load).tolist(), room.tolist()
    done: set[int] = set()
    for pair in asked.tolist():
        task, expert, out = int(seats.task[pair]), int(seats.expert[pair]), int(other[pair])
        if task in done or not left[expert]:
            continue
        change: dict[int, float] = {}
        for sign, one in ((1.0, pair), (-1.0, out)):
            for at in range(int(entries.start[one]), int(entries.start[one + 1])):
                row = int(entries.row[at])
                change[row] = change.get(row, 0.0) + sign * float(entries.weight[at])
        if any(amount > 0 and amount > row_room[row] for row, amount in change.items()):
            continue
        for row, amount in change.items():
            row_room[row] -= amount
        on[pair], on[out] = True, False
        left[expert] -= 1
        left[int(seats.expert[out])] += 1
        done.add(task)
    return on
