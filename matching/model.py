"""A problem made ready for solving: what is settled taken out, the rest in an order of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.assignment import Prices, micro_price, micro_value
from matching.bound import Left, left_after_locked
from matching.flow import SeatPlan, Seats, solve_seats
from matching.problem import MICRO, Bool, Float64, Int64, Problem, UInt64
from matching.rows import Rows, Rule, side_rows


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Seats, side rows and profits of the pairs that are still open, in canonical order.

    With a tie-break the order depends on the hashes alone, and so does every choice between equal
    plans: numbering the same experts and tasks otherwise leads to the same plan.

    Shapes: pair (model pairs,) int64, where each stands in the problem; task_rank (tasks,),
        expert_rank (experts,) int64, where each stands in the model; profit (model pairs,) int64.
    Units: profit in micro-units.
    """

    problem: Problem
    left: Left
    pair: Int64
    task_rank: Int64
    expert_rank: Int64
    seats: Seats
    rows: Rows
    profit: Int64


def make_model(problem: Problem) -> Model:
    """The model of a problem; the problem itself stays as it was."""
    left = left_after_locked(problem)
    live = np.flatnonzero(left.live)
    task_rank = _ranks(problem.task, problem.tasks, problem.tie_break)
    expert_rank = _ranks(problem.expert, problem.experts, problem.tie_break)
    task, expert = task_rank[problem.task[live]], expert_rank[problem.expert[live]]
    if problem.tie_break is not None or bool((task[1:] < task[:-1]).any()):
        order = np.lexsort((expert, task))
        live, task, expert = live[order], task[order], expert[order]
    floor = np.zeros(problem.experts, np.int64)
    bonus = 0
    if problem.min_load is not None and problem.min_load_price is not None:
        held = np.bincount(problem.expert[problem.locked], minlength=problem.experts)
        floor = np.clip(problem.min_load - held, 0, left.capacity)
        bonus = int(micro_price(problem.min_load_price))
    seats = Seats(
        task=task.astype(np.int32),
        expert=expert.astype(np.int32),
        demand=_moved(left.demand, task_rank),
        capacity=_moved(left.capacity, expert_rank),
        open_cost=_moved(micro_price(problem.seat_price()), task_rank),
        floor=_moved(floor, expert_rank) if bonus else np.zeros(problem.experts, np.int64),
        bonus=bonus,
    )
    rows = side_rows(problem, left.live, left.locked)
    place = np.zeros(problem.pairs, np.int64)
    place[live] = np.arange(len(live))
    local = Rows(
        place[rows.pair], rows.row, rows.weight, rows.limit, rows.price, rows.kind, rows.key
    )
    profit = micro_value(problem)[live]
    return Model(problem, left, live, task_rank, expert_rank, seats, local, profit)


def solve_priced(model: Model, charge: Float64 | None) -> SeatPlan:
    """The best seats when pairs pay this charge for the side rules, micro-units."""
    profit = model.profit
    if charge is not None:
        profit = np.rint(profit - charge).astype(np.int64)
    return solve_seats(model.seats, profit)


def model_prices(
    model: Model, task_price: Int64, expert_price: Int64, row_price: Float64
) -> Prices:
    """The prices of a model under the names of its problem, in units of value."""
    problem, rows = model.problem, model.rows
    budget, hour = np.zeros(problem.projects), np.zeros(problem.experts)
    quota = np.zeros(len(problem.quotas))
    value = row_price / MICRO
    for rule, out in ((Rule.BUDGET, budget), (Rule.HOURS, hour)):
        mine = rows.kind == rule
        out[rows.key[mine, 0]] = value[mine]
    for rule, sign in ((Rule.QUOTA_MOST, 1.0), (Rule.QUOTA_LEAST, -1.0)):
        mine = rows.kind == rule
        np.add.at(quota, rows.key[mine, 0], sign * value[mine])
    share = (rows.kind == Rule.SHARE_CAP) & (value > 0)
    clash = (rows.kind == Rule.CONFLICT) & (value > 0)
    return Prices(
        task=task_price[model.task_rank] / MICRO,
        expert=expert_price[model.expert_rank] / MICRO,
        budget=budget,
        hour=hour,
        quota=quota,
        share_key=rows.key[share, :2],
        share=value[share],
        clash_key=rows.key[clash],
        clash=value[clash],
    )


def row_prices(model: Model, prices: Prices) -> Float64:
    """The prices of the side rows, micro-units, from those under the names of the problem."""
    rows = model.rows
    out = np.zeros(rows.count)
    for rule, known in ((Rule.BUDGET, prices.budget), (Rule.HOURS, prices.hour)):
        mine = rows.kind == rule
        out[mine] = known[rows.key[mine, 0]]
    for rule, sign in ((Rule.QUOTA_MOST, 1.0), (Rule.QUOTA_LEAST, -1.0)):
        mine = rows.kind == rule
        out[mine] = np.maximum(sign * prices.quota[rows.key[mine, 0]], 0)
    for rule, width, keys, known in (
        (Rule.SHARE_CAP, 2, prices.share_key, prices.share),
        (Rule.CONFLICT, 3, prices.clash_key, prices.clash),
    ):
        price_of = dict(zip(map(tuple, keys.tolist()), known.tolist(), strict=True))
        for row in np.flatnonzero(rows.kind == rule).tolist() if price_of else []:
            out[row] = price_of.get(tuple(rows.key[row, :width].tolist()), 0.0)
    return out * MICRO


def chosen_pairs(model: Model, on: Bool) -> Int64:
    """The pairs of the problem that a choice of the model stands for, locked ones included."""
    return np.sort(np.concatenate([model.pair[on], model.problem.locked]))


def model_choice(model: Model, chosen: Int64) -> Bool:
    """The choice of the model that some chosen pairs of the problem stand for."""
    taken = np.zeros(model.problem.pairs, np.bool_)
    taken[chosen] = True
    return taken[model.pair]


def _ranks(group: np.ndarray, size: int, tie_break: UInt64 | None) -> Int64:
    """Where each group stands when groups are ordered by their smallest hash."""
    if tie_break is None:
        return np.arange(size)
    least = np.full(size, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(least, group, tie_break)
    rank = np.empty(size, np.int64)
    rank[np.argsort(least, kind="stable")] = np.arange(size)
    return rank


def _moved(values: Int64, rank: Int64) -> Int64:
    moved = np.empty(len(values), np.int64)
    moved[rank] = values
    return moved
