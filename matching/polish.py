"""A good plan made better: parts of it taken apart and put together again in the best way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from ortools.linear_solver import pywraplp

from matching.model import Model
from matching.problem import MICRO, Bool, Float64, Int64
from matching.repair import Entries, entries_by_pair, keeps_rows, worth

NEAR = 2
"""Pairs a seat that are looked at; the others are far from being worth their prices."""

TASKS = 150
"""Tasks that are taken apart at once, at most, in the first pass."""

JOINED = 3
"""Groups that are taken apart together in later passes."""

CALM, PATIENCE = 1e-5, 25
"""Share of a group's part of the plan's worth below which it brought nothing, and how many of
these end it. A part goes by tasks, so that in a large plan a group need not bring more.
"""

ROOT_ONLY = "limits/nodes = 1\nlimits/gap = 0.0001\nrandomization/randomseedshift = 0\n"
"""SCIP's limits, counted in work: the root node, its cuts and its heuristics."""


def polish(
    model: Model,
    on: Bool,
    reduced: Float64,
    *,
    neighbourhoods: int,
    good_enough: Callable[[int], bool],
    report: Callable[[int, int], None],
) -> Bool:
    """Take tasks out of a plan, a group at a time, and seat them again as well as can be.

    A group is what shares a wide limit, a budget above all, cut to a size that the solver handles
    in a tenth of a second. Everything outside the group stays and uses up limits. The groups
    whose seats lie furthest from their prices come first; a second pass joins groups at random.

    Shapes: on, reduced (model pairs,), what a pair is worth beyond all prices.
    Units: reduced, and the plan's worth that good_enough and report are told, in micro-units;
        report is told the number of the group first.
    Source: Shaw, CP 1998, for large neighbourhoods; here around prices, so that few pairs matter.
    """
    solve = _Neighbourhood(model, reduced, on)
    value, calm = worth(model, on), 0
    for number, tasks in enumerate(_groups(model, on, reduced, neighbourhoods), start=1):
        if good_enough(value) or calm >= PATIENCE:
            break
        before = value
        trial = solve.best(on, tasks)
        if trial is not None and keeps_rows(model, trial):
            gained = worth(model, trial)
            if gained > value:
                on, value = trial, gained
        part = abs(value) * len(tasks) / model.seats.tasks
        calm = calm + 1 if value - before <= CALM * part else 0
        report(number, value)
    return on


def _groups(model: Model, on: Bool, reduced: Float64, most: int) -> Iterator[Int64]:
    """Groups of tasks to take apart, most promising first; later ones are some joined."""
    seats, rows = model.seats, model.rows
    size = np.bincount(rows.row, minlength=rows.count)
    # The widest row that a task's pairs stand in keeps tasks together that compete for it.
    home = np.full(seats.tasks, -1)
    by_width = np.argsort(size[rows.row], kind="stable")
    home[seats.task[rows.pair[by_width]]] = rows.row[by_width]
    order = np.lexsort((np.arange(seats.tasks), home))
    order = order[seats.demand[order] > 0]
    edge = np.flatnonzero(np.diff(home[order], prepend=-2))
    groups = [
        part
        for block in np.split(order, edge[1:])
        for part in np.array_split(block, max(-(-len(block) // TASKS), 1))
        if len(part)
    ]
    if not groups:
        return
    loss = np.where(on, np.maximum(-reduced, 0), np.maximum(reduced, 0))
    missed = np.bincount(seats.task, loss, seats.tasks)
    filled = np.bincount(seats.task[on], minlength=seats.tasks)
    missed += np.where(filled < seats.demand, missed.mean() * (seats.demand - filled), 0)
    hope = [float(missed[part].sum()) for part in groups]
    first = sorted(range(len(groups)), key=lambda n: (-hope[n], n))
    yield from (groups[n] for n in first[:most])
    rng = np.random.default_rng(0)
    left = most - len(groups)
    while left > 0 and len(groups) > 1:
        mixed = rng.permutation(len(groups)).tolist()
        joined = [mixed[n : n + JOINED] for n in range(0, len(mixed), JOINED)][:left]
        yield from (np.concatenate([groups[n] for n in some]) for some in joined)
        left -= len(joined)


class _Neighbourhood:
    """The pairs worth looking at, and the part of the problem that some tasks make of them."""

    def __init__(self, model: Model, reduced: Float64, on: Bool) -> None:
        self.model = model
        self.entries: Entries = entries_by_pair(model)
        seats = model.seats
        most = NEAR * int(seats.demand.sum())
        near = np.ones(len(reduced), np.bool_)
        if most < len(reduced):
            near = reduced >= np.partition(reduced, -most)[-most]
        live = np.flatnonzero(near | on)
        # Pairs stand in order of task, and so do these.
        self.live = live
        self.first = np.searchsorted(seats.task[live], np.arange(seats.tasks + 1))

    def best(self, on: Bool, tasks: Int64) -> Bool | None:
        """The plan with these tasks seated anew, or nothing when the solver finds no plan."""
        seats, rows = self.model.seats, self.model.rows
        pairs = np.concatenate(
            [self.live[self.first[one] : self.first[one + 1]] for one in tasks.tolist()]
        )
        rest = on.copy()
        rest[pairs] = False
        room = rows.limit - rows.used(rest)
        load = np.bincount(seats.expert[rest], minlength=seats.experts)
        program = pywraplp.Solver.CreateSolver("SCIP")
        program.SetSolverSpecificParametersAsString(ROOT_ONLY)
        gain = (self.model.profit[pairs] + seats.open_cost[seats.task[pairs]]) / MICRO
        goal = program.Objective()
        goal.SetMaximization()
        taken = [program.BoolVar("") for _ in range(len(pairs))]
        for one, amount in zip(taken, gain.tolist(), strict=True):
            goal.SetCoefficient(one, amount)

        def limit(inside: Int64, weight: list[float], most: float) -> None:
            row = program.Constraint(-program.infinity(), most)
            for place, amount in zip(inside.tolist(), weight, strict=True):
                row.SetCoefficient(taken[place], amount)

        for task, inside in _places(seats.task[pairs]):
            if len(inside) > seats.demand[task]:
                limit(inside, [1.0] * len(inside), float(seats.demand[task]))
        for expert, inside in _places(seats.expert[pairs]):
            free = int(seats.capacity[expert] - load[expert])
            if len(inside) > free:
                limit(inside, [1.0] * len(inside), float(free))
            short = int(seats.floor[expert] - load[expert])
            if seats.bonus and short > 0:
                missing = program.NumVar(0, short, "")
                goal.SetCoefficient(missing, -seats.bonus / MICRO)
                row = program.Constraint(short, program.infinity())
                row.SetCoefficient(missing, 1)
                for place in inside.tolist():
                    row.SetCoefficient(taken[place], 1)
        entry, place = self._entries(pairs)
        row_of, weight_of = self.entries.row[entry], self.entries.weight[entry]
        for row_name, inside in _places(row_of):
            weight = weight_of[inside]
            soft = float(rows.price[row_name])
            if np.maximum(weight, 0).sum() <= room[row_name]:
                continue
            limit(place[inside], weight.tolist(), float(room[row_name]))
            if np.isfinite(soft):
                excess = program.NumVar(0, program.infinity(), "")
                goal.SetCoefficient(excess, -soft / MICRO)
                program.constraints()[-1].SetCoefficient(excess, -1)
        program.SetHint(taken, on[pairs].astype(np.float64).tolist())
        if program.Solve() not in (program.OPTIMAL, program.FEASIBLE):
            return None
        rest[pairs] = [one.solution_value() > 0.5 for one in taken]
        return rest

    def _entries(self, pairs: Int64) -> tuple[Int64, Int64]:
        """Where the entries of these pairs stand, and which pair of the list each belongs to."""
        start, stop = self.entries.start[pairs], self.entries.start[pairs + 1]
        size = stop - start
        place = np.repeat(np.arange(len(pairs)), size)
        step = np.arange(len(place)) - np.repeat(np.cumsum(size) - size, size)
        return start[place] + step, place


def _places(name: np.ndarray) -> Iterator[tuple[int, Int64]]:
    """Each name that occurs, with the places where it does."""
    order = np.argsort(name, kind="stable")
    known = name[order]
    edge = np.flatnonzero(np.diff(known, prepend=-1))
    for inside in np.split(order, edge[1:]) if len(order) else ():
        yield int(name[inside[0]]), inside
