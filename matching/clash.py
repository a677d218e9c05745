"""When hard rules leave no plan: a plan if there is one, else the fewest rules that clash."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from matching.assignment import member_mask
from matching.problem import Int64, Problem
from matching.rows import clashes

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import CpSolver

SCALE = 1_000_000
"""Parts of an hour that hours are counted in, rounded to the nearest."""

NAMED = 3
"""Rules of one kind that are named one by one; more are told together."""

LIMIT = 20.0
"""Deterministic time of OR-Tools for one question."""

QUESTIONS = 60
"""Questions after which a set from which nothing can be left out is told, smallest or not."""


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
    """A plan within the hard rules, or the rules that allow none; neither when time ran out.

    No fewer rules clash when `is_smallest`; otherwise none of the rules told can be left out, and
    whether another set has fewer was not settled within the effort.
    """

    chosen: Int64 | None
    rules: tuple[str, ...]
    is_smallest: bool = True


def feasible_plan(problem: Problem) -> Feasible:
    """Some plan within every hard rule; where there is none, the fewest rules that clash.

    Only hard floors ask for seats; every other rule is kept by leaving seats open. So only pairs
    of experts whom a hard floor counts are looked at, and locked ones. A set from which no rule
    can be left out comes first; then smaller ones are looked for, by the rules that any set must
    have one of.

    Source: Ignatiev, Previti, Liffiton and Marques-Silva, CP 2015, for smallest sets by hitting
        sets.
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
    smallest, is_smallest = _smallest(at, limits, kept)
    return Feasible(None, _told([limits[n] for n in smallest]), is_smallest)


def _smallest(at: Int64, limits: list[Limit], known: list[int]) -> tuple[list[int], bool]:
    """The fewest limits that clash, no more than those known, and whether that is proved.

    What some plan leaves unkept, every clashing set has one of. So a smallest set that meets all
    such leftovers is never larger than the smallest clash, and is one as soon as it clashes.
    """
    leftovers: list[list[int]] = []
    for _ in range(QUESTIONS):
        guess = _meeting(leftovers)
        if guess is None:
            return known, False
        if len(guess) >= len(known):
            return known, True
        chosen, core = _ask(at, limits, guess, wish=True)
        if chosen is None:
            return (guess, True) if core is not None else (known, False)
        kept = set(chosen.tolist())
        leftovers.append([n for n, limit in enumerate(limits) if not _keeps(limit, kept)])
    return known, False


def _meeting(leftovers: list[list[int]]) -> list[int] | None:
    """The fewest limits with one of each of these sets, or nothing when that is not settled."""
    from ortools.sat.python import cp_model

    program = cp_model.CpModel()
    named = sorted({n for some in leftovers for n in some})
    use = {n: program.new_bool_var("") for n in named}
    for some in leftovers:
        program.add_bool_or([use[n] for n in some])
    program.minimize(sum(use.values()))
    solver = _solver()
    if solver.solve(program) != cp_model.OPTIMAL:
        return None
    return [n for n in named if solver.boolean_value(use[n])]


def _keeps(limit: Limit, chosen: set[int]) -> bool:
    total = sum(w for pair, w in zip(limit.pairs, limit.weights, strict=True) if pair in chosen)
    if limit.low is not None and total < limit.low:
        return False
    return limit.high is None or total <= limit.high


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


def _ask(
    at: Int64, limits: list[Limit], used: list[int], *, wish: bool = False
) -> tuple[Int64 | None, list[int] | None]:
    """A plan under some of the limits, or a part of them that allows none; neither if unsure.

    With a wish the plan keeps as many of the other limits as it can.
    """
    from ortools.sat.python import cp_model

    program = cp_model.CpModel()
    takes = {pair: program.new_bool_var("") for pair in at.tolist()}
    switch = {}
    hard, wished = set(used), []
    for n in range(len(limits)) if wish else used:
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
        if not wish:
            program.add_assumption(on)
        elif n in hard:
            program.add(on == 1)
        else:
            wished.append(on)
    if wish:
        program.maximize(sum(wished))
    solver = _solver()
    status = solver.solve(program)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        chosen = [pair for pair, take in takes.items() if solver.boolean_value(take)]
        return np.array(chosen, np.int64), None
    if status != cp_model.INFEASIBLE:
        return None, None
    if wish:
        return None, sorted(used)
    core = [switch[index] for index in solver.sufficient_assumptions_for_infeasibility()]
    return None, sorted(core)


def _solver() -> CpSolver:
    """A solver with one worker and a limit in work, so that its answer can be repeated."""
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = LIMIT
    return solver


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
