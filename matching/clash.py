"""When hard rules leave no plan: a plan if there is one, else the fewest rules that clash."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matching.assignment import member_mask
from matching.problem import Int64, Problem
from matching.rows import clashes

SCALE = 1_000_000
"""Parts of an hour that hours are counted in, rounded to the nearest."""

NAMED = 3
"""Rules of one kind that are named one by one; more are told together."""

LIMIT = 20.0
"""Deterministic time of OR-Tools for one question."""


@dataclass(frozen=True, slots=True)
class Limit:
    """One hard rule: a weighted sum over pairs, and the least and the most it may be."""

    kind: str
    words: str
    who: int
    pairs: tuple[int, ...]
    weights: tuple[int, ...]
    low: int | None
    high: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Feasible:
    """A plan within the hard rules, or the rules that allow none; neither when time ran out."""

    chosen: Int64 | None
    rules: tuple[str, ...]


def feasible_plan(problem: Problem) -> Feasible:
    """Some plan within every hard rule; where there is none, an irreducible set that clashes.

    Only hard floors ask for seats; every other rule is kept by leaving seats open. So only pairs
    of experts whom a hard floor counts are looked at, and locked ones. Irreducible means that
    without any one of the rules told a plan would exist.
    """
    asked = [quota for quota in problem.quotas if quota.price is None and quota.at_least > 0]
    if not asked:
        return Feasible(np.sort(problem.locked), ())
    project = problem.task_project()[problem.task]
    wanted = np.zeros(problem.pairs, np.bool_)
    for quota in asked:
        wanted |= member_mask(problem, quota.members)[problem.expert] & (project == quota.project)
    wanted[problem.locked] = True
    at = np.flatnonzero(wanted)
    limits = _limits(problem, at)
    everyone = list(range(len(limits)))
    chosen, core = _ask(at, limits, everyone)
    if chosen is not None or core is None:
        return Feasible(chosen, ())
    kept = list(core)
    for one in core:
        fewer = [other for other in kept if other != one]
        found, again = _ask(at, limits, fewer)
        if found is None and again is not None:
            kept = [other for other in fewer if other in again]
    return Feasible(None, _told([limits[n] for n in kept]))


def _limits(problem: Problem, at: Int64) -> list[Limit]:
    project = problem.task_project()
    found: list[Limit] = []

    def add(
        kind: str, words: str, who: int, pairs: Int64, weight: NDArray[np.generic] | None, top: int
    ) -> None:
        weights = np.ones(len(pairs), np.int64) if weight is None else weight[pairs]
        if int(weights.sum()) > top:
            whole = tuple(int(one) for one in weights.tolist())
            found.append(Limit(kind, words, who, tuple(pairs.tolist()), whole, None, top))

    for task, mine in _grouped(problem.task, at):
        seats = int(problem.demand[task])
        add("task", f"task {task} has {_seats(seats)}", task, mine, None, seats)
    hours = None
    if problem.hours is not None:
        hours = np.rint(problem.hours * SCALE).astype(np.int64)
    for expert, mine in _grouped(problem.expert, at):
        seats = int(problem.capacity[expert])
        add("expert", f"expert {expert} has {_seats(seats)}", expert, mine, None, seats)
        if hours is not None and problem.hours_available is not None:
            has = float(problem.hours_available[expert])
            words = f"expert {expert} has {has:g} hours"
            add("hours", words, expert, mine, hours, int(np.rint(has * SCALE)))
    if problem.budget is not None and problem.cost is not None:
        for name, mine in _grouped(project[problem.task], at):
            budget = int(problem.budget[name])
            words = f"project {name} has a budget of {budget}"
            add("budget", words, name, mine, problem.cost, budget)
    if problem.share_cap is not None:
        most = problem.share_limit()
        code = problem.expert.astype(np.int64) * problem.projects + project[problem.task]
        for key, mine in _grouped(code, at):
            expert, name = divmod(key, problem.projects)
            top = int(most[name])
            words = f"expert {expert} may hold {_seats(top)} of project {name} under the share cap"
            add("share", words, expert, mine, None, top)
    if len(problem.conflicts):
        where, first, second, one, other = clashes(problem, at)
        for n in range(len(where)):
            words = f"experts {first[n]} and {second[n]} are in conflict (on task {where[n]})"
            add("conflict", words, int(first[n]), np.array([one[n], other[n]]), None, 1)
    for index, quota in enumerate(problem.quotas):
        if quota.price is not None:
            continue
        inside = member_mask(problem, quota.members)[problem.expert[at]]
        mine = at[inside & (project[problem.task[at]] == quota.project)]
        quoted = f"quota {index} ({quota.name}) of project {quota.project}"
        if quota.at_most is not None:
            top = quota.at_most
            add("most", f"{quoted} allows at most {_seats(top)}", index, mine, None, top)
        if quota.at_least > 0:
            words = f"{quoted} asks for at least {_seats(quota.at_least)}"
            words += f", and {len(mine)} eligible pairs count for it"
            ones = (1,) * len(mine)
            pairs = tuple(mine.tolist())
            found.append(Limit("least", words, index, pairs, ones, quota.at_least, None))
    for pair in problem.locked.tolist():
        words = f"expert {problem.expert[pair]} is locked on task {problem.task[pair]}"
        found.append(Limit("locked", words, pair, (pair,), (1,), 1, None))
    return found


def _ask(at: Int64, limits: list[Limit], used: list[int]) -> tuple[Int64 | None, list[int] | None]:
    """A plan under some of the limits, or a part of them that allows none; neither if unsure."""
    from ortools.sat.python import cp_model

    program = cp_model.CpModel()
    takes = {pair: program.new_bool_var("") for pair in at.tolist()}
    switch = {}
    for n in used:
        limit = limits[n]
        total = cp_model.LinearExpr.weighted_sum(
            [takes[pair] for pair in limit.pairs], list(limit.weights)
        )
        on = program.new_bool_var("")
        switch[on.index] = n
        if limit.high is not None:
            program.add(total <= limit.high).only_enforce_if(on)
        if limit.low is not None:
            program.add(total >= limit.low).only_enforce_if(on)
        program.add_assumption(on)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = LIMIT
    status = solver.solve(program)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        chosen = [pair for pair, take in takes.items() if solver.boolean_value(take)]
        return np.array(chosen, np.int64), None
    if status != cp_model.INFEASIBLE:
        return None, None
    core = [switch[index] for index in solver.sufficient_assumptions_for_infeasibility()]
    return None, sorted(core)


def _told(limits: Iterable[Limit]) -> tuple[str, ...]:
    """A sentence a rule, or one for a kind of which there are many."""
    by_kind: dict[str, list[Limit]] = defaultdict(list)
    for limit in limits:
        by_kind[limit.kind].append(limit)
    said: list[str] = []
    for kind in (
        "least",
        "most",
        "locked",
        "task",
        "expert",
        "hours",
        "budget",
        "share",
        "conflict",
    ):
        mine = by_kind.get(kind, [])
        said += [limit.words for limit in mine[:NAMED]]
        if len(mine) > NAMED:
            said[-1] += f" (and {len(mine) - NAMED} more like it)"
    return tuple(said)


def _seats(number: int) -> str:
    return "1 seat" if number == 1 else f"{number} seats"


def _grouped(group: NDArray[np.integer], at: Int64) -> list[tuple[int, Int64]]:
    """Each group that some of these pairs are in, with those pairs."""
    mine = group[at]
    order = np.argsort(mine, kind="stable")
    edges = np.flatnonzero(np.diff(mine[order], prepend=-1, append=-1))
    return [
        (int(mine[order[start]]), at[order[start:stop]])
        for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]
