"""A good plan made better: parts of it taken apart and put together again in the best way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from ortools.linear_solver import pywraplp

from matching.assignment import totals
from matching.descent import packed_seats
from matching.model import Model
from matching.priced import Priced
from matching.problem import MICRO, Bool, Float64, Int32, Int64
from matching.repair import ROUNDING, Entries, entries_by_pair, worth

FREE = 1.0
"""Pairs a seat, of those not chosen, that may be taken up; chosen ones as near their prices may go.

Nearly every seat of a good plan is right: its pair is worth more than its prices by far more than
all that is left to gain.
"""

WIDE, HOT = 3.0, 0.005
"""Pairs a seat that are looked at around a task that loses more than this share of a usual pair."""

GROUP = 500
"""Free pairs that are seated anew at once; the solver takes some hundredths of a second."""

CALM, PATIENCE = 1e-5, 2
"""Share of the plan's worth below which a pass brought nothing, and how many of these end it."""

ROOT_ONLY = "limits/nodes = 1\nlimits/gap = 0.0001\nrandomization/randomseedshift = 0\n"
"""SCIP's limits, counted in work: the root node, its cuts and its heuristics."""


def polish(
    model: Model,
    on: Bool,
    prices: Priced,
    *,
    neighbourhoods: int,
    good_enough: Callable[[int], bool],
    report: Callable[[int, int], None],
) -> Bool:
    """Take the doubtful pairs out of a plan, a group at a time, and seat them as well as can be.

    The prices tell which pairs are in doubt: those near what their seats cost, and those around a
    task or an expert that the plan serves worse than the proof does. The others stay and use up
    limits. A group is what shares a wide limit, a budget above all, in parts of one size; the
    groups that lose most come first, and each later pass groups anew at random.

    Shapes: on (model pairs,).
    Units: the plan's worth that good_enough and report are told, in micro-units; report is told
        the number of the group first.
    Source: Shaw, CP 1998, for large neighbourhoods; here around prices, so that few pairs matter.
    """
    loss = _Losses(model, prices)
    free = _doubtful(model, on, prices.reduced, loss)
    state = _State(model, on, free)
    rng = np.random.default_rng(0)
    home = _homes(model)
    number, calm, first = 0, 0, True
    while number < neighbourhoods and calm < PATIENCE and len(free):
        before = state.worth
        for tasks in _groups(state, home, loss.by_task(state.on), None if first else rng):
            if number >= neighbourhoods or good_enough(state.worth):
                return state.on
            number += 1
            state.seat_anew(tasks)
            report(number, state.worth)
        calm = calm + 1 if state.worth - before <= CALM * abs(before) else 0
        first = False
    return state.on


class _Losses:
    """Where a plan falls short of what is proved, task by task."""

    def __init__(self, model: Model, prices: Priced) -> None:
        self.model = model
        self.gain, self.wanted = packed_seats(model, prices.task_price, prices.row_price)
        self.best = self._earned(self.wanted)
        self.seat = np.maximum(prices.task_price + model.seats.open_cost, 0)

    def _earned(self, on: Bool) -> Float64:
        """What each expert is left with, less the floor that is missed, micro-units, (experts,)."""
        seats = self.model.seats
        expert = seats.expert[on]
        earned = totals(expert, self.gain[on], seats.experts)
        load: Int64 = np.bincount(expert, minlength=seats.experts)
        missed: Int64 = np.maximum(seats.floor - load, 0)
        return earned - float(seats.bonus) * missed

    def by_task(self, on: Bool) -> Float64:
        """What open seats and experts lose, put to the tasks that it is about, micro-units."""
        seats = self.model.seats
        filled: Int64 = np.bincount(seats.task[on], minlength=seats.tasks)
        lost = self.best - self._earned(on)
        other = np.flatnonzero(on != self.wanted)
        share = np.bincount(seats.expert[other], minlength=seats.experts)
        about = lost[seats.expert[other]] / share[seats.expert[other]]
        by_task = totals(seats.task[other], about, seats.tasks)
        still_open: Int64 = seats.demand - filled
        return np.asarray(by_task + still_open * self.seat, np.float64)


def _doubtful(model: Model, on: Bool, reduced: Float64, loss: _Losses) -> Int64:
    """The pairs that may change, in rising order."""
    seats = model.seats
    demand = int(seats.demand.sum())
    off = np.where(on, -np.inf, reduced)

    def least(share: float) -> float:
        most = min(int(share * demand), len(off) - int(on.sum()))
        return float(np.partition(off, -most)[-most]) if most > 0 else np.inf

    near = min(least(FREE), 0.0)
    free = np.where(on, reduced <= -near, reduced >= near)
    free |= on != loss.wanted
    usual = float(np.abs(model.profit[on]).mean()) if on.any() else 0.0
    hot = loss.by_task(on) > HOT * usual
    free |= hot[seats.task] & (on | (reduced >= least(WIDE)))
    return np.flatnonzero(free)


def _homes(model: Model) -> Int64:
    """The widest row that the pairs of each task stand in, (tasks,): its rivals stand there too."""
    rows, seats = model.rows, model.seats
    size = np.bincount(rows.row, minlength=rows.count)
    home = np.full(seats.tasks, -1)
    by_width = np.argsort(size[rows.row], kind="stable")
    home[seats.task[rows.pair[by_width]]] = rows.row[by_width]
    return home


def _groups(
    state: _State, home: Int64, loss: Float64, rng: np.random.Generator | None
) -> Iterator[Int64]:
    """Groups of tasks with about as many free pairs each, those that lose most first."""
    count = np.diff(state.first)
    order = np.flatnonzero(count)
    if rng is not None:
        order = rng.permutation(order)
    order = order[np.argsort(home[order], kind="stable")]
    blocks = np.split(order, np.flatnonzero(np.diff(home[order])) + 1)
    if rng is not None:
        blocks = [blocks[n] for n in rng.permutation(len(blocks)).tolist()]
    groups: list[list[Int64]] = []
    room = 0
    for block in blocks:
        size = int(count[block].sum())
        if size > GROUP:
            groups += [[part] for part in np.array_split(block, -(-size // GROUP)) if len(part)]
            room = 0
        elif size <= room:
            groups[-1].append(block)
            room -= size
        else:
            groups.append([block])
            room = GROUP - size
    joined = [np.concatenate(group) for group in groups]
    hope = [float(loss[group].sum()) for group in joined]
    yield from (joined[n] for n in sorted(range(len(joined)), key=lambda n: (-hope[n], n)))


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """The free pairs of some tasks, and the rows that they stand in.

    Shapes: free, places among the free pairs, pair, held (part,); row (rows of the part,); place,
        name, weight (entries,): the pair of the part, the row of the part, what it uses; room
        (rows of the part,), what the rest of the plan leaves of each row's limit.
    """

    free: Int64
    pair: Int64
    held: Bool
    row: Int64
    place: Int64
    name: Int64
    weight: Float64
    room: Float64

    def used(self, on: Bool) -> Float64:
        """What a choice of these pairs uses of the rows of the part."""
        return totals(self.name, self.weight * on[self.place], len(self.row))


class _State:
    """A plan, what it uses of every limit, and which pairs of it may change."""

    def __init__(self, model: Model, on: Bool, free: Int64) -> None:
        seats = model.seats
        self.model, self.free, self.on = model, free, on.copy()
        self.entries: Entries = entries_by_pair(model, free)
        # Pairs stand in order of task, and so do these.
        self.first = np.searchsorted(seats.task[free], np.arange(seats.tasks + 1))
        self.used = model.rows.used(on)
        self.load = np.bincount(seats.expert[on], minlength=seats.experts)
        self.filled = np.bincount(seats.task[on], minlength=seats.tasks)
        self.worth = worth(model, on)

    def seat_anew(self, tasks: Int64) -> None:
        """Seat the free pairs of these tasks as well as can be, if that is better than now."""
        part = self._part(tasks)
        found = _solved(self, part)
        if found is None or bool((found == part.held).all()):
            return
        rows = self.model.rows
        used = part.used(found)
        if (used > part.room + ROUNDING)[np.isinf(rows.price[part.row])].any():
            return
        gained = self._gained(part, found, used)
        if gained <= 0:
            return
        seats = self.model.seats
        change = found.astype(np.int64) - part.held
        self.on[part.pair] = found
        self.used[part.row] += used - part.used(part.held)
        np.add.at(self.load, seats.expert[part.pair], change)
        np.add.at(self.filled, seats.task[part.pair], change)
        self.worth += gained

    def _part(self, tasks: Int64) -> _Part:
        free = np.concatenate(
            [np.arange(self.first[one], self.first[one + 1]) for one in tasks.tolist()]
        )
        pair = self.free[free]
        held = self.on[pair]
        entry, place = self.entries.of(free)
        row, name = np.unique(self.entries.row[entry], return_inverse=True)
        weight = self.entries.weight[entry]
        mine = totals(name, weight * held[place], len(row))
        room = self.model.rows.limit[row] - (self.used[row] - mine)
        return _Part(free, pair, held, row, place, name, weight, room)

    def _gained(self, part: _Part, found: Bool, used: Float64) -> int:
        """What the plan is worth more with these pairs of the part, micro-units."""
        seats, rows = self.model.seats, self.model.rows
        change = found.astype(np.int64) - part.held
        worth_one = self.model.profit[part.pair] + seats.open_cost[seats.task[part.pair]]
        gained = int((change * worth_one).sum())
        people, at = np.unique(seats.expert[part.pair], return_inverse=True)
        before = self.load[people]
        after = before + np.rint(np.bincount(at, change, len(people))).astype(np.int64)
        missed = np.maximum(seats.floor[people] - after, 0)
        gained -= seats.bonus * int((missed - np.maximum(seats.floor[people] - before, 0)).sum())
        price = rows.price[part.row]
        price = np.where(np.isinf(price), 0.0, price)
        excess = np.maximum(used - part.room, 0)
        excess -= np.maximum(part.used(part.held) - part.room, 0)
        return gained - int(np.rint((price * excess).sum()))


def _solved(state: _State, part: _Part) -> Bool | None:
    """The best choice of the part's pairs, (part,), or nothing when the solver finds none."""
    model = state.model
    seats, rows = model.seats, model.rows
    program = pywraplp.Solver.CreateSolver("SCIP")
    program.SetSolverSpecificParametersAsString(ROOT_ONLY)
    gain = (model.profit[part.pair] + seats.open_cost[seats.task[part.pair]]) / MICRO
    goal = program.Objective()
    goal.SetMaximization()
    taken = [program.BoolVar("") for _ in range(len(part.pair))]
    for one, amount in zip(taken, gain.tolist(), strict=True):
        goal.SetCoefficient(one, amount)

    def limit(inside: Int64, weight: list[float], most: float) -> pywraplp.Constraint:
        row = program.Constraint(-program.infinity(), most)
        for place, amount in zip(inside.tolist(), weight, strict=True):
            row.SetCoefficient(taken[place], amount)
        return row

    for task, inside in _places(seats.task[part.pair]):
        open_seats = int(seats.demand[task] - state.filled[task] + part.held[inside].sum())
        if len(inside) > open_seats:
            limit(inside, [1.0] * len(inside), float(open_seats))
    for expert, inside in _places(seats.expert[part.pair]):
        load = int(state.load[expert] - part.held[inside].sum())
        open_seats = int(seats.capacity[expert]) - load
        if len(inside) > open_seats:
            limit(inside, [1.0] * len(inside), float(open_seats))
        short = int(seats.floor[expert]) - load
        if seats.bonus and short > 0:
            missing = program.NumVar(0, short, "")
            goal.SetCoefficient(missing, -seats.bonus / MICRO)
            row = program.Constraint(short, program.infinity())
            row.SetCoefficient(missing, 1)
            for place in inside.tolist():
                row.SetCoefficient(taken[place], 1)
    for name, inside in _places(part.name):
        weight, room = part.weight[inside], float(part.room[name])
        if np.maximum(weight, 0).sum() <= room:
            continue
        row = limit(part.place[inside], weight.tolist(), room)
        soft = float(rows.price[part.row[name]])
        if np.isfinite(soft):
            excess = program.NumVar(0, program.infinity(), "")
            goal.SetCoefficient(excess, -soft / MICRO)
            row.SetCoefficient(excess, -1)
    program.SetHint(taken, part.held.astype(np.float64).tolist())
    if program.Solve() not in (program.OPTIMAL, program.FEASIBLE):
        return None
    return np.array([one.solution_value() > 0.5 for one in taken], np.bool_)


def _places(name: Int32 | Int64) -> Iterator[tuple[int, Int64]]:
    """Each name that occurs, with the places where it does."""
    order = np.argsort(name, kind="stable")
    known = name[order]
    edge = np.flatnonzero(np.diff(known, prepend=-1))
    for inside in np.split(order, edge[1:]) if len(order) else ():
        yield int(name[inside[0]]), inside
