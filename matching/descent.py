"""Better prices for a proof: steps downhill on the bound, each expert packing whole tasks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.assignment import totals
from matching.bound import pack_tasks
from matching.model import Model
from matching.problem import Bool, Float64, Int64
from matching.rows import Rule

LEFT_TO_GO = 1e-3
"""Share of the bound that at most is thought to be left to go down when steps begin."""

INERTIA = 0.6
"""Share of the last direction that a step keeps; plain subgradients zigzag."""

FIRST_LENGTH, SHORTER, TRIES = 1.0, 0.6, 8
"""Length of a step as a share of Polyak's, what it shrinks by, and bad steps before it does."""

WIDEST = 8
"""Tasks up to which all subsets of an expert's are looked at side by side."""

NEAR = 4
"""Pairs a seat that steps look at; the others are far from being worth their prices."""

NEVER = -1e18
"""Less than any packing is worth, micro-units."""


@dataclass(frozen=True, slots=True, eq=False)
class Descended:
    """Prices of a lower bound, in the form that `model_prices` takes.

    Shapes: task_price (tasks,), expert_price (experts,) int64; row_price (rows,) float64.
    Units: micro-units.
    """

    task_price: Int64
    expert_price: Int64
    row_price: Float64
    bound: float


def descend(
    model: Model, task_price: Int64, row_price: Float64, *, worth: int, steps: int
) -> Descended:
    """Lower the bound by moving the prices of tasks and rows; seats and hours are packed exactly.

    At given prices of tasks and of all rows but hours, every expert takes the best whole tasks
    that fit into their seats and hours. What tasks and rows then use beyond or below their limits
    is a subgradient of the bound. This bound is at least as strong as the one with a price for
    each hour, and often stronger, because nobody sells half a task.

    Units: worth, that of the best plan known, which limits the length of the steps; micro-units.
    Source: Held, Wolfe and Crowder, Mathematical Programming 6 (1974), for the steps; Geoffrion,
        Mathematical Programming Study 2 (1974), for why the packed bound is stronger.
    """
    search = _Descent(model, row_price)
    search.look_near(task_price.astype(np.float64), row_price)
    seats, rows = model.seats, model.rows
    low = -seats.open_cost.astype(np.float64)
    top = np.where(np.isinf(rows.price), np.inf, rows.price)
    task, row = task_price.astype(np.float64), row_price.copy()
    best, goal, kept, length, failed = np.inf, -np.inf, (task, row), FIRST_LENGTH, 0
    push_task, push_row = np.zeros(seats.tasks), np.zeros(rows.count)
    for _ in range(steps):
        bound, taken = search.bound(task, row)
        if not np.isfinite(best):
            goal = max(float(worth), bound - LEFT_TO_GO * abs(bound))
        if bound < best:
            best, kept, failed = bound, (task, row), 0
        else:
            failed += 1
            if failed >= TRIES:
                length, failed = length * SHORTER, 0
        spare_task = seats.demand - np.bincount(seats.task[taken], minlength=seats.tasks)
        spare_task = np.where((task <= low) & (spare_task > 0), 0.0, spare_task)
        spare_row = search.spare(taken)
        spare_row[(row <= 0) & (spare_row > 0)] = 0
        push_task = spare_task + INERTIA * push_task
        push_row = spare_row + INERTIA * push_row
        norm = float((push_task**2).sum() + (search.slowness * push_row**2).sum())
        if norm <= 0 or bound <= goal:
            break
        step = length * (bound - goal) / norm
        task = np.maximum(task - step * push_task, low)
        move = step * search.slowness * push_row / search.unit
        row = np.where(search.priced, np.clip(row - move, 0, top), row)
    whole = np.rint(kept[0]).astype(np.int64)
    search = _Descent(model, row_price)
    return Descended(whole, search.expert_price(whole, kept[1]), kept[1], best)


def packed_seats(model: Model, task_price: Int64, row_price: Float64) -> tuple[Float64, Bool]:
    """What each pair leaves its expert at these prices, and the pairs that experts would take.

    Hours have no price here: every expert takes the best whole tasks that fit into them, as in
    the bound of `descend`.

    Shapes: both (model pairs,).
    Units: what a pair leaves, in micro-units.
    """
    search = _Descent(model, row_price)
    task = task_price.astype(np.float64)
    _, taken = search.bound(task, row_price)
    wanted = np.zeros(len(model.profit), np.bool_)
    wanted[taken] = True
    return search.gains(task, row_price), wanted


class _Descent:
    """What stays the same from step to step: which rows are packed, and how rows are weighed."""

    def __init__(self, model: Model, row_price: Float64) -> None:
        rows, seats = model.rows, model.seats
        self.model = model
        key = rows.kind == Rule.HOURS
        inside = key[rows.row]
        pair, row = rows.pair[inside], rows.row[inside]
        # An expert with a floor keeps a price by the hour, as `price_bound` leaves it at that.
        plain = seats.floor[seats.expert[pair]] == 0
        packed = np.zeros(rows.count, np.bool_)
        packed[row[plain]] = True
        self.priced = ~packed
        self.hours = np.zeros(len(model.profit))
        self.hours[pair[plain]] = rows.weight[inside][plain]
        self.time = np.full(seats.experts, np.inf)
        self.time[seats.expert[pair[plain]]] = rows.limit[row[plain]]
        self.live = np.arange(len(model.profit))
        self.charged = np.flatnonzero(self.priced[rows.row])
        self.place = rows.pair[self.charged]
        self.hour_price = np.where(packed, row_price, 0.0)
        # A row counts in pairs of a usual weight, and moves more slowly the more pairs it has.
        size = np.maximum(np.bincount(rows.row, minlength=rows.count), 1)
        mean = totals(rows.row, np.abs(rows.weight), rows.count) / size
        self.unit = np.where(mean > 0, mean, 1.0)
        per_pair = seats.demand.sum() / max(len(model.profit), 1)
        self.slowness = 1.0 / np.maximum(size * min(per_pair, 1.0), 1.0)

    def look_near(self, task: Float64, row: Float64) -> None:
        """Leave the pairs aside that are far from worth these prices; the end looks at all."""
        seats, rows = self.model.seats, self.model.rows
        most = NEAR * int(seats.demand.sum())
        gain = self.gains(task, row) + np.where(seats.floor > 0, seats.bonus, 0)[seats.expert]
        if most < len(gain):
            self.live = np.flatnonzero(gain >= np.partition(gain, -most)[-most])
            place = np.full(len(gain), -1)
            place[self.live] = np.arange(len(self.live))
            self.charged = self.charged[place[rows.pair[self.charged]] >= 0]
            self.place = place[rows.pair[self.charged]]

    def gains(self, task: Float64, row: Float64) -> Float64:
        """What each live pair leaves its expert beyond the prices of its task and priced rows."""
        model, rows = self.model, self.model.rows
        weight = rows.weight[self.charged] * row[rows.row[self.charged]]
        charge = totals(self.place, weight, len(self.live))
        return model.profit[self.live] - task[model.seats.task[self.live]] - charge

    def spare(self, taken: Int64) -> Float64:
        """What is left of each priced row by these pairs, in pairs of a usual weight."""
        rows = self.model.rows
        used = np.zeros(len(self.model.profit), np.bool_)
        used[taken] = True
        inside = self.charged[used[rows.pair[self.charged]]]
        total = totals(rows.row[inside], rows.weight[inside], rows.count)
        return np.where(self.priced, (rows.limit - total) / self.unit, 0.0)

    def bound(self, task: Float64, row: Float64) -> tuple[float, Int64]:
        """The bound at these prices, micro-units, and the pairs that experts take for it."""
        model, seats = self.model, self.model.seats
        gain = self.gains(task, row)
        expert = seats.expert[self.live]
        hope = gain + np.where(seats.floor > 0, seats.bonus, 0)[expert] if seats.bonus else gain
        at = np.flatnonzero(hope > 0)
        at = at[np.lexsort((-gain[at], expert[at]))]
        order, expert, own = self.live[at], expert[at], gain[at]
        start = np.flatnonzero(np.diff(expert, prepend=-1))
        count = np.diff(np.append(start, len(expert)))
        rank = np.arange(len(expert)) - np.repeat(start, count)
        own = own + np.where(rank < seats.floor[expert], seats.bonus, 0)
        take = (rank < seats.capacity[expert]) & (own > 0)
        who = expert[start]
        wanted = np.add.reduceat(np.where(take, self.hours[order], 0), start) if len(start) else own
        tight = wanted > self.time[who] + 1e-6
        self._packed(order, own, start, count, np.flatnonzero(tight), take)
        total = float(own[take].sum()) - seats.bonus * float(seats.floor.sum())
        total += float((seats.demand * np.maximum(task, -seats.open_cost)).sum())
        total += float((row * model.rows.limit)[self.priced].sum())
        return total, order[take]

    def _packed(
        self,
        order: Int64,
        own: Float64,
        start: Int64,
        count: Int64,
        tight: Int64,
        take: Bool,
    ) -> None:
        """Put the best whole tasks into `take` for experts whose best tasks do not fit."""
        seats = self.model.seats
        who = seats.expert[order[start[tight]]]
        for width in range(2, WIDEST + 1):
            mine = count[tight] == width if width > 2 else count[tight] <= width
            chosen, people = tight[mine], who[mine]
            if not len(chosen):
                continue
            place = start[chosen][:, None] + np.arange(width)
            real = np.arange(width) < count[chosen][:, None]
            place = np.where(real, place, start[chosen][:, None])
            subset = (np.arange(1 << width)[:, None] >> np.arange(width)) & 1
            worth = np.where(real, own[place], NEVER) @ subset.T
            hours = np.where(real, self.hours[order[place]], 0.0) @ subset.T
            fits = hours <= self.time[people][:, None] + 1e-6
            fits &= subset.sum(axis=1) <= seats.capacity[people][:, None]
            best = np.where(fits, worth, NEVER).argmax(axis=1)
            take[place[real]] = (subset[best] == 1)[real]
        for group, expert in zip(tight.tolist(), who.tolist(), strict=True):
            if count[group] <= WIDEST:
                continue
            at = slice(int(start[group]), int(start[group] + count[group]))
            hours = self.hours[order[at]].tolist()
            room, time = int(seats.capacity[expert]), float(self.time[expert])
            packing = pack_tasks(own[at].tolist(), hours, room, time)
            if packing is not None:
                take[at] = False
                take[[at.start + one for one in packing.at]] = True

    def expert_price(self, task: Int64, row: Float64) -> Int64:
        """What one more seat of each expert is worth at these prices, micro-units, (experts,)."""
        seats = self.model.seats
        gain = self.gains(task.astype(np.float64), row)
        charge = np.zeros(len(gain))
        rows = self.model.rows
        inside = ~self.priced[rows.row]
        charge[rows.pair[inside]] = rows.weight[inside] * self.hour_price[rows.row[inside]]
        gain = gain - charge
        hope = gain + np.where(seats.floor > 0, seats.bonus, 0)[seats.expert]
        at = np.flatnonzero(hope > 0)
        order = at[np.lexsort((-gain[at], seats.expert[at]))]
        expert = seats.expert[order]
        rank = np.arange(len(order)) - np.searchsorted(expert, expert)
        price = np.zeros(seats.experts)
        next_seat = rank == seats.capacity[expert]
        price[expert[next_seat]] = np.maximum(gain[order[next_seat]], 0)
        if seats.bonus:
            # Short of the floor a seat is worth losing the bonus; at it, what the last one costs.
            held = np.bincount(expert, minlength=seats.experts)
            price[(seats.floor > 0) & (held < seats.floor)] = -seats.bonus
            last = (rank == seats.floor[expert] - 1) & (gain[order] < 0)
            price[expert[last]] = gain[order[last]]
        price[seats.capacity == 0] = 0
        return np.rint(price).astype(np.int64)
