"""Which rule stands in the way of a pair, given a plan; for explanations and for open seats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.assignment import OpenSeats, member_mask, micro_price, micro_value, totals
from matching.problem import Bool, Float64, Int32, Int64, Problem

RULES = (
    "chosen",
    "task full",
    "expert has no seat left",
    "not enough hours left",
    "project budget spent",
    "share cap of the project reached",
    "in conflict with an expert on the task",
    "quota reached",
    "worth less than an open seat",
    "outbid",
)
"""What may keep a pair from being added to a plan, in the order in which rules are looked at."""

CHOSEN, TASK_FULL, NO_SEAT, NO_HOURS, NO_BUDGET, SHARE, CLASH, QUOTA, NOT_WORTH, OUTBID = range(10)

NO_CANDIDATE = "no eligible expert"
"""Why a seat stays open when nobody else is in the list of pairs."""

SLACK = 1e-9
"""Hours beyond a limit that count as rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """What a plan uses of each limit.

    Shapes: seats (tasks,), load (experts,) int64; hours (experts,), spent (projects,) float64.
    """

    seats: Int64
    load: Int64
    hours: Float64
    spent: Float64


def plan_use(problem: Problem, chosen: Int64) -> Use:
    """Seats, load, hours and money that a plan takes."""
    task, expert = problem.task[chosen], problem.expert[chosen]
    hours = np.zeros(problem.experts)
    if problem.hours is not None:
        hours = totals(expert, problem.hours[chosen], problem.experts)
    spent = np.zeros(problem.projects)
    if problem.cost is not None:
        project = problem.task_project()[task]
        spent = totals(project, problem.cost[chosen], problem.projects)
    seats = np.bincount(task, minlength=problem.tasks)
    load = np.bincount(expert, minlength=problem.experts)
    return Use(seats, load, hours, spent)


def first_rules(problem: Problem, chosen: Int64, pairs: Int64, *, seats: bool = True) -> Int64:
    """The first rule that keeps each of these pairs out of the plan, as an index of RULES.

    Shapes: pairs (any,) indices of pairs; result beside it. With `seats` false a full task does
        not count, which tells what else stands in the way.
    """
    use = plan_use(problem, chosen)
    task, expert = problem.task[pairs], problem.expert[pairs]
    project = problem.task_project()
    out = np.full(len(pairs), OUTBID)
    # The last rule is written first, so that an earlier one overrides it.
    out[micro_value(problem, pairs) <= -micro_price(problem.seat_price())[task]] = NOT_WORTH
    _mark_quotas(problem, chosen, pairs, out)
    if len(problem.conflicts):
        out[_barred(problem, chosen, pairs)] = CLASH
    if problem.share_cap is not None:
        code = problem.expert.astype(np.int64) * problem.projects + project[problem.task]
        known, count = np.unique(code[chosen], return_counts=True)
        place = np.searchsorted(known, code[pairs])
        held = np.zeros(len(pairs), np.int64)
        if len(known):
            hit = known[np.minimum(place, len(known) - 1)] == code[pairs]
            held[hit] = count[place[hit]]
        out[held >= problem.share_limit()[project[task]]] = SHARE
    if problem.budget is not None and problem.cost is not None:
        out[use.spent[project[task]] + problem.cost[pairs] > problem.budget[project[task]]] = (
            NO_BUDGET
        )
    if problem.hours_available is not None and problem.hours is not None:
        needed = use.hours[expert] + problem.hours[pairs]
        out[needed > problem.hours_available[expert] + SLACK] = NO_HOURS
    out[use.load[expert] >= problem.capacity[expert]] = NO_SEAT
    if seats:
        out[use.seats[task] >= problem.demand[task]] = TASK_FULL
    mine = np.zeros(problem.pairs, np.bool_)
    mine[chosen] = True
    out[mine[pairs]] = CHOSEN
    return out


def open_seats(problem: Problem, chosen: Int64) -> OpenSeats:
    """The seats that a plan leaves open, and what kept the best other candidate of each away."""
    filled = np.bincount(problem.task[chosen], minlength=problem.tasks)
    missing = np.maximum(problem.demand - filled, 0)
    tasks = np.flatnonzero(missing)
    if not len(tasks):
        return OpenSeats(np.zeros(0, np.int32), np.zeros(0, np.int32), ())
    unused = missing[problem.task] > 0
    unused[chosen] = False
    at = np.flatnonzero(unused)
    best = _best_of_each(problem.task[at], problem.value[at], at)
    rule = dict.fromkeys(tasks.tolist(), NO_CANDIDATE)
    for pair, code in zip(best.tolist(), first_rules(problem, chosen, best).tolist(), strict=True):
        rule[int(problem.task[pair])] = RULES[code]
    return OpenSeats(tasks.astype(np.int32), missing[tasks].astype(np.int32), tuple(rule.values()))


def _best_of_each(group: Int32, value: Float64, at: Int64) -> Int64:
    order = np.lexsort((at, -value, group))
    first = np.ones(len(order), np.bool_)
    first[1:] = group[order[1:]] != group[order[:-1]]
    return at[order[first]]


def _mark_quotas(problem: Problem, chosen: Int64, pairs: Int64, out: Int64) -> None:
    project = problem.task_project()[problem.task]
    for quota in problem.quotas:
        if quota.at_most is None or quota.price is not None:
            continue
        inside = member_mask(problem, quota.members)[problem.expert] & (project == quota.project)
        if int(inside[chosen].sum()) >= quota.at_most:
            out[inside[pairs]] = QUOTA


def _barred(problem: Problem, chosen: Int64, pairs: Int64) -> Bool:
    """Pairs whose expert conflicts with someone whom the plan puts on the same task."""
    stride = np.int64(problem.experts)
    both = np.concatenate([problem.conflicts, problem.conflicts[:, ::-1]]).astype(np.int64)
    both = both[np.argsort(both[:, 0], kind="stable")]
    expert = problem.expert[chosen]
    start = np.searchsorted(both[:, 0], expert)
    size = np.searchsorted(both[:, 0], expert, side="right") - start
    step = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
    other = both[np.repeat(start, size) + step, 1]
    barred = np.repeat(problem.task[chosen].astype(np.int64), size) * stride + other
    code = problem.task[pairs].astype(np.int64) * stride + problem.expert[pairs]
    return np.isin(code, barred)
