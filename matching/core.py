"""Branch and bound on a small model, by OR-Tools' CP-SAT: the last word where prices fall short."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matching.model import Model
from matching.problem import Bool, Float64, Int64
from matching.repair import keeps_rows

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import CpSolver, CpSolverStatus

WEIGHT_SCALE = 1_000_000
"""Parts of an hour, or of a minor unit, that a row's weights are rounded to."""


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """What branch and bound found.

    Shapes: on (model pairs,) bool or nothing.
    Units: proved_micro, an upper bound on the worth of any choice of the problem in micro-units,
        or nothing when the model was cut down or nothing is proved.
    """

    on: Bool | None
    proved_micro: float | None
    infeasible: bool


def finish_by_search(model: Model, hint: Bool | None, *, limit: float) -> Searched:
    """The best choice by CP-SAT, one worker and a deterministic limit, so that it can be repeated.

    Weights that are not whole are first rounded so that no true choice is lost: the bound is one
    for the true rows. Only when the choice found so breaks a true row, a second search rounds
    the other way.

    Units: limit in OR-Tools' deterministic time.
    """
    loose = _solve(model, hint, limit, relaxed=True)
    if loose.on is None or keeps_rows(model, loose.on):
        return loose
    strict = _solve(model, hint, limit, relaxed=False)
    return Searched(strict.on, loose.proved_micro, strict.infeasible)


def highest_floor(
    model: Model, gain: Float64, held: Int64, high: int, hint: Bool, *, limit: float
) -> tuple[int, int, Bool] | None:
    """The most that the worst-off task can be given, a bound on it, and a choice that gives it.

    Nothing when the limit is reached before any choice is known.

    Shapes: gain (model pairs,), what a pair gives its task; held (tasks,), what a task has.
    Units: gain, held, high and the results in micro-units; limit in deterministic time.
    """
    from ortools.sat.python import cp_model

    program = _Program(model, relaxed=False)
    level = program.model.new_int_var(-(1 << 50), high, "")
    whole = np.rint(gain).astype(np.int64)
    for task in np.flatnonzero((model.seats.demand > 0) | (held > 0)).tolist():
        mine = np.flatnonzero(model.seats.task == task)
        pairs = [program.pairs[n] for n in mine.tolist()]
        total = cp_model.LinearExpr.weighted_sum(pairs, whole[mine].tolist())
        program.model.add(total + int(held[task]) >= level)
    program.model.maximize(level)
    solver, status = program.solve(hint, limit)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    return solver.value(level), int(solver.best_objective_bound), program.choice(solver)


class _Program:
    """A model as CP-SAT has it: seats, floors of experts, side rows and the objective."""

    def __init__(self, model: Model, *, relaxed: bool) -> None:
        # CP-SAT takes a third of a second to load, and most runs never need it.
        from ortools.sat.python import cp_model

        seats = model.seats
        self.model = cp_model.CpModel()
        self.pairs = [self.model.new_bool_var("") for _ in range(len(model.profit))]
        self._extra: list[object] = []
        self._price: list[int] = []
        for group, size, most in (
            (seats.task, seats.tasks, seats.demand),
            (seats.expert, seats.experts, seats.capacity),
        ):
            for name, mine in _groups(group, size):
                if len(mine) > most[name]:
                    self.model.add(sum(self.pairs[n] for n in mine) <= int(most[name]))
        if seats.bonus:
            loads = dict(_groups(seats.expert, seats.experts))
            for expert in np.flatnonzero(seats.floor > 0).tolist():
                missing = self.model.new_int_var(0, int(seats.floor[expert]), "")
                held = [self.pairs[n] for n in loads.get(expert, np.zeros(0, np.int64))]
                self.model.add(sum(held) + missing >= int(seats.floor[expert]))
                self._extra.append(missing)
                self._price.append(-seats.bonus)
        self._add_rows(model, relaxed)
        profit = model.profit + seats.open_cost[seats.task]
        self.constant = -int((seats.demand * seats.open_cost).sum())
        self.model.maximize(
            cp_model.LinearExpr.weighted_sum(
                [*self.pairs, *self._extra], [*profit.tolist(), *self._price]
            )
        )

    def _add_rows(self, model: Model, relaxed: bool) -> None:
        rows = model.rows
        entries = dict(_groups(rows.row, rows.count))
        for row in range(rows.count):
            mine = entries.get(row, np.zeros(0, np.int64))
            scale = 1 if _whole_row(rows.weight[mine]) else WEIGHT_SCALE
            weight = rows.weight[mine] * scale
            top = rows.limit[row] * scale
            if relaxed:
                whole, bound = np.floor(weight + 1e-9), int(np.ceil(top - 1e-9))
            else:
                whole, bound = np.ceil(weight - 1e-6), int(np.floor(top + 1e-6))
            terms = [int(w) * self.pairs[rows.pair[n]] for w, n in zip(whole, mine, strict=True)]
            if np.isfinite(rows.price[row]):
                most = max(int(np.maximum(whole, 0).sum()) - bound, 0)
                excess = self.model.new_int_var(0, most, "")
                self.model.add(sum(terms) - excess <= bound)
                self._extra.append(excess)
                self._price.append(-int(rows.price[row]))
            else:
                self.model.add(sum(terms) <= bound)

    def solve(self, hint: Bool | None, limit: float) -> tuple[CpSolver, CpSolverStatus]:
        """Search with one worker, so that the answer does not hang on the machine."""
        from ortools.sat.python import cp_model

        if hint is not None:
            for pair, used in zip(self.pairs, hint.tolist(), strict=True):
                self.model.add_hint(pair, used)
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = 0
        solver.parameters.max_deterministic_time = limit
        return solver, solver.solve(self.model)

    def choice(self, solver: CpSolver) -> Bool:
        """The pairs that a finished search takes."""
        return np.array([solver.boolean_value(pair) for pair in self.pairs], np.bool_)


def _solve(model: Model, hint: Bool | None, limit: float, *, relaxed: bool) -> Searched:
    from ortools.sat.python import cp_model

    program = _Program(model, relaxed=relaxed)
    solver, status = program.solve(hint, limit)
    if status == cp_model.INFEASIBLE:
        return Searched(None, None, True)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Searched(None, None, False)
    proved = float(solver.best_objective_bound) + program.constant
    return Searched(program.choice(solver), proved, False)


def _whole_row(weight: np.ndarray) -> bool:
    return bool((weight == np.rint(weight)).all())


def _groups(group: np.ndarray, size: int) -> list[tuple[int, Int64]]:
    """Each group that has members, with the places of its members."""
    order = np.argsort(group, kind="stable")
    start = np.searchsorted(group[order], np.arange(size + 1))
    return [(n, order[start[n] : start[n + 1]]) for n in np.flatnonzero(np.diff(start)).tolist()]
