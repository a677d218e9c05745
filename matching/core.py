"""Branch and bound on a small model, by OR-Tools' CP-SAT: the last word where prices fall short."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.model import Model
from matching.problem import Bool, Int64
from matching.repair import keeps_rows

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


def _solve(model: Model, hint: Bool | None, limit: float, *, relaxed: bool) -> Searched:
    # CP-SAT takes a third of a second to load, and most runs never need it.
    from ortools.sat.python import cp_model

    seats, rows = model.seats, model.rows
    program = cp_model.CpModel()
    pairs = [program.new_bool_var("") for _ in range(len(model.profit))]
    worth: list[object] = []
    price: list[int] = []
    for task, mine in _groups(seats.task, seats.tasks):
        if len(mine) > seats.demand[task]:
            program.add(sum(pairs[n] for n in mine) <= int(seats.demand[task]))
    for expert, mine in _groups(seats.expert, seats.experts):
        if len(mine) > seats.capacity[expert]:
            program.add(sum(pairs[n] for n in mine) <= int(seats.capacity[expert]))
    profit = model.profit + seats.open_cost[seats.task]
    none = np.zeros(0, np.int64)
    constant = -int((seats.demand * seats.open_cost).sum())
    if seats.bonus:
        loads = dict(_groups(seats.expert, seats.experts))
        for expert in np.flatnonzero(seats.floor > 0).tolist():
            missing = program.new_int_var(0, int(seats.floor[expert]), "")
            held = [pairs[n] for n in loads.get(expert, none)]
            program.add(sum(held) + missing >= int(seats.floor[expert]))
            worth.append(missing)
            price.append(-seats.bonus)
    entries = dict(_groups(rows.row, rows.count))
    for row in range(rows.count):
        mine = entries.get(row, none)
        scale = 1 if _whole_row(rows.weight[mine]) else WEIGHT_SCALE
        weight = rows.weight[mine] * scale
        top = rows.limit[row] * scale
        if relaxed:
            whole, bound = np.floor(weight + 1e-9), int(np.ceil(top - 1e-9))
        else:
            whole, bound = np.ceil(weight - 1e-6), int(np.floor(top + 1e-6))
        terms = [int(w) * pairs[rows.pair[n]] for w, n in zip(whole, mine, strict=True)]
        if np.isfinite(rows.price[row]):
            most = max(int(np.maximum(whole, 0).sum()) - bound, 0)
            excess = program.new_int_var(0, most, "")
            program.add(sum(terms) - excess <= bound)
            worth.append(excess)
            price.append(-int(rows.price[row]))
        else:
            program.add(sum(terms) <= bound)
    program.maximize(cp_model.LinearExpr.weighted_sum([*pairs, *worth], [*profit.tolist(), *price]))
    if hint is not None:
        for pair, used in zip(pairs, hint.tolist(), strict=True):
            program.add_hint(pair, used)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = limit
    status = solver.solve(program)
    if status == cp_model.INFEASIBLE:
        return Searched(None, None, True)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Searched(None, None, False)
    on = np.array([solver.boolean_value(pair) for pair in pairs], np.bool_)
    return Searched(on, float(solver.best_objective_bound) + constant, False)


def _whole_row(weight: np.ndarray) -> bool:
    return bool((weight == np.rint(weight)).all())


def _groups(group: np.ndarray, size: int) -> list[tuple[int, Int64]]:
    """Each group that has members, with the places of its members."""
    order = np.argsort(group, kind="stable")
    start = np.searchsorted(group[order], np.arange(size + 1))
    return [(n, order[start[n] : start[n + 1]]) for n in np.flatnonzero(np.diff(start)).tolist()]
