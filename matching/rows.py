"""The rules beyond seats, as sparse rows: what each pair uses of a limit, and what the limit is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from matching.assignment import member_mask, micro_price, totals
from matching.problem import Bool, Float64, Int32, Int64, Problem

SLACK = 1e-9
"""Hours beyond a limit that count as rounding."""


class Rule(IntEnum):
    """The kind of a row."""

    BUDGET = 0
    HOURS = 1
    SHARE_CAP = 2
    CONFLICT = 3
    QUOTA_MOST = 4
    QUOTA_LEAST = 5
    TASK_FLOOR = 6


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows `sum of weight over chosen pairs <= limit`, each hard or with a price for the excess.

    Entries stand in order of row. A floor (at least) is a row of negative weights.

    Shapes: pair int64, row int32, weight (entries,); limit, price (rows,); kind (rows,) int8;
        key (rows, 3) int32: project; expert; expert and project; task and both experts; quota;
        task.
    Units: weight and limit in the unit of the rule (minor units, hours, seats); price in
        micro-units of value for one unit of excess, infinite where the row is hard.
    """

    pair: Int64
    row: Int32
    weight: Float64
    limit: Float64
    price: Float64
    kind: np.ndarray[tuple[int], np.dtype[np.int8]]
    key: Int32

    @property
    def count(self) -> int:
        """Rows."""
        return len(self.limit)

    def used(self, on: Bool) -> Float64:
        """What a choice of pairs uses of each row, shape (rows,)."""
        inside = on[self.pair]
        return totals(self.row[inside], self.weight[inside], self.count)

    def charge(self, price: Float64, pairs: int) -> Float64:
        """What each pair pays at these row prices, shape (pairs,)."""
        return totals(self.pair, self.weight * price[self.row], pairs)


@dataclass(slots=True)
class _Draft:
    pair: list[Int64]
    row: list[Int64]
    weight: list[Float64]
    limit: list[Float64]
    price: list[Float64]
    kind: list[Int64]
    key: list[Int64]
    count: int = 0

    def add(
        self,
        rule: Rule,
        pair: Int64,
        group: Int64,
        weight: Float64,
        limit: Float64,
        key: Int64,
        price: Float64 | float = np.inf,
    ) -> None:
        """Rows for the groups; entry n belongs to group[n], whose limit is limit[group[n]]."""
        order = np.argsort(group, kind="stable")
        self.pair.append(pair[order])
        self.row.append(group[order] + self.count)
        self.weight.append(weight[order].astype(np.float64))
        self.limit.append(limit.astype(np.float64))
        self.price.append(np.broadcast_to(np.asarray(price, np.float64), limit.shape))
        self.kind.append(np.full(len(limit), int(rule)))
        wide = np.full((len(limit), 3), -1, np.int64)
        wide[:, : key.shape[1]] = key
        self.key.append(wide)
        self.count += len(limit)


def side_rows(problem: Problem, live: Bool, locked: Bool) -> Rows:
    """Every side rule that a choice among the live pairs could break, locked pairs used up first.

    Rows that even the greediest choice keeps are left out, and so cost nothing.

    Shapes: live, locked (pairs,) bool.
    """
    draft = _Draft([], [], [], [], [], [], [])
    at = np.flatnonzero(live)
    project = problem.task_project()[problem.task]
    if problem.budget is not None and problem.cost is not None:
        cost = problem.cost.astype(np.float64)
        spent = totals(project[locked], cost[locked], problem.projects)
        _limit(draft, Rule.BUDGET, at, project[at], cost[at], problem.budget - spent)
    if problem.hours_available is not None and problem.hours is not None:
        spent = totals(problem.expert[locked], problem.hours[locked], problem.experts)
        left = np.maximum(problem.hours_available - spent, 0) + SLACK
        _limit(draft, Rule.HOURS, at, problem.expert[at], problem.hours[at], left, problem.capacity)
    if problem.share_cap is not None:
        _share_rows(draft, problem, at, project, locked)
    if len(problem.conflicts):
        _conflict_rows(draft, problem, at)
    _quota_rows(draft, problem, at, project, locked)
    return _finish(draft)


def _finish(draft: _Draft) -> Rows:
    if not draft.pair:
        none = np.zeros(0, np.int64)
        return Rows(
            none,
            none.astype(np.int32),
            np.zeros(0),
            np.zeros(0),
            np.zeros(0),
            np.zeros(0, np.int8),
            np.zeros((0, 3), np.int32),
        )
    return Rows(
        np.concatenate(draft.pair),
        np.concatenate(draft.row).astype(np.int32),
        np.concatenate(draft.weight),
        np.concatenate(draft.limit),
        np.concatenate(draft.price),
        np.concatenate(draft.kind).astype(np.int8),
        np.concatenate(draft.key).astype(np.int32),
    )


def _limit(
    draft: _Draft,
    rule: Rule,
    at: Int64,
    group: Int32,
    weight: Float64,
    limit: Float64,
    seats: Int32 | None = None,
) -> None:
    """Rows for groups that could pass their limit, an expert's with their seats in mind."""
    total = totals(group, weight, len(limit))
    if seats is not None:
        largest = np.zeros(len(limit))
        np.maximum.at(largest, group, weight)
        total = np.minimum(total, largest * seats)
    tight = total > limit
    inside = tight[group]
    number = np.cumsum(tight) - 1
    key = np.flatnonzero(tight)[:, None]
    draft.add(rule, at[inside], number[group[inside]], weight[inside], limit[tight], key)


def _share_rows(draft: _Draft, problem: Problem, at: Int64, project: Int32, locked: Bool) -> None:
    code = problem.expert.astype(np.int64) * problem.projects + project
    key, group = np.unique(code[at], return_inverse=True)
    held_key, held = np.unique(code[locked], return_counts=True)
    limit = problem.share_limit()[key % problem.projects].astype(np.float64)
    place = np.searchsorted(held_key, key)
    if len(held_key):
        found = held_key[np.minimum(place, len(held_key) - 1)] == key
        limit -= np.where(found, held[np.minimum(place, len(held) - 1)], 0)
    tight = totals(group, np.ones(len(group)), len(key)) > limit
    inside = tight[group]
    number = np.cumsum(tight) - 1
    names = np.stack([key // problem.projects, key % problem.projects], axis=1)[tight]
    one = np.ones(int(inside.sum()))
    draft.add(Rule.SHARE_CAP, at[inside], number[group[inside]], one, limit[tight], names)


def _conflict_rows(draft: _Draft, problem: Problem, at: Int64) -> None:
    task, first, second, pair_first, pair_second = clashes(problem, at)
    rows = len(task)
    if not rows:
        return
    pair = np.concatenate([pair_first, pair_second])
    group = np.concatenate([np.arange(rows), np.arange(rows)])
    names = np.stack([task, first, second], axis=1)
    draft.add(Rule.CONFLICT, pair, group, np.ones(2 * rows), np.ones(rows), names)


def clashes(problem: Problem, at: Int64) -> tuple[Int64, Int64, Int64, Int64, Int64]:
    """Each task, expert, expert, pair and pair where two eligible experts are in conflict.

    Shapes: at (any,) indices of the pairs to look at; each result (clashes,).
    """
    stride = np.int64(max(problem.tasks, 1))
    code = problem.expert[at].astype(np.int64) * stride + problem.task[at]
    order = np.argsort(code, kind="stable")
    code, pair = code[order], at[order]
    low, high = problem.conflicts.min(axis=1), problem.conflicts.max(axis=1)
    both = np.unique(np.stack([low, high], axis=1).astype(np.int64), axis=0)
    start = np.searchsorted(code, both[:, 0] * stride)
    stop = np.searchsorted(code, (both[:, 0] + 1) * stride)
    size = stop - start
    which = np.repeat(np.arange(len(both)), size)
    step = np.arange(len(which)) - np.repeat(np.cumsum(size) - size, size)
    mine = start[which] + step
    task = code[mine] % stride
    wanted = both[which, 1] * stride + task
    place = np.minimum(np.searchsorted(code, wanted), max(len(code) - 1, 0))
    hit = code[place] == wanted if len(code) else np.zeros(0, np.bool_)
    which, mine, place = which[hit], mine[hit], place[hit]
    return task[hit], both[which, 0], both[which, 1], pair[mine], pair[place]


def _quota_rows(draft: _Draft, problem: Problem, at: Int64, project: Int32, locked: Bool) -> None:
    for index, quota in enumerate(problem.quotas):
        inside = member_mask(problem, quota.members)[problem.expert] & (project == quota.project)
        held = int((inside & locked).sum())
        mine = at[inside[at]]
        price = np.inf if quota.price is None else float(micro_price(quota.price))
        group, key = np.zeros(len(mine), np.int64), np.array([[index]])
        one = np.ones(len(mine))
        if quota.at_most is not None and len(mine) > quota.at_most - held:
            most = np.array([quota.at_most - held], np.float64)
            draft.add(Rule.QUOTA_MOST, mine, group, one, most, key, price)
        if quota.at_least > held:
            least = np.array([held - quota.at_least], np.float64)
            draft.add(Rule.QUOTA_LEAST, mine, group, -one, least, key, price)
