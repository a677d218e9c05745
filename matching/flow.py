"""The seats of a problem as a min-cost flow: pruned, solved by OR-Tools, and priced afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ortools.graph.python import min_cost_flow

from matching.problem import Bool, Int32, Int64

FAR = np.int64(1) << 60
"""A cost that no path has."""

PRUNE_ROUNDS = 4
"""Passes of pruning; later ones remove little."""


class FlowFailed(RuntimeError):
    """OR-Tools refused a flow that a checked problem cannot produce; carries its status."""

    def __init__(self, status: str) -> None:
        self.status = status
        super().__init__(f"min-cost flow ended as {status}")


@dataclass(frozen=True, slots=True, eq=False)
class Seats:
    """The part of a problem that is a flow: who could sit where, and how many seats there are.

    Pairs stand in order of task, so that a task's pairs are one slice.

    Shapes: task, expert (pairs,) int32; demand, open_cost (tasks,) int64; capacity, floor
        (experts,) int64.
    Units: open_cost, the price of an open seat, and bonus, the price of a missing seat of the
        floor, in micro-units.
    """

    task: Int32
    expert: Int32
    demand: Int64
    capacity: Int64
    open_cost: Int64
    floor: Int64
    bonus: int

    @property
    def tasks(self) -> int:
        """Tasks, open or not."""
        return len(self.demand)

    @property
    def experts(self) -> int:
        """Experts, idle or not."""
        return len(self.capacity)


@dataclass(frozen=True, slots=True, eq=False)
class SeatPlan:
    """An optimal choice among the pairs of `Seats`, with prices that prove it.

    Shapes: on (pairs,) bool; task_price (tasks,), expert_price (experts,) int64 micro-units.
    """

    on: Bool
    task_price: Int64
    expert_price: Int64


def solve_seats(seats: Seats, profit: Int64) -> SeatPlan:
    """The choice of pairs with the greatest total profit, exactly, and its shadow prices.

    Shapes: profit (pairs,) int64, micro-units.
    Source: min-cost flow by cost scaling (Goldberg 1997), as OR-Tools implements it; prices are
        shortest distances to the sink in the residual graph (Ahuja, Magnanti, Orlin, ch. 9).
    """
    useful = _useful(seats, profit)
    kept = _worth_keeping(seats, profit, useful)
    on = np.zeros(len(profit), np.bool_)
    on[kept] = _push(seats, seats.task[kept], seats.expert[kept], profit[kept])
    # Prices look at every useful pair: those pruned away are no part of the plan, but they are
    # still what a seat could turn to.
    return SeatPlan(on, *_prices(seats, profit, on, useful))


def _useful(seats: Seats, profit: Int64) -> Int64:
    """Pairs that are worth more than leaving their seat open."""
    hope = profit + seats.open_cost[seats.task]
    if seats.bonus:
        hope = hope + np.where(seats.floor > 0, seats.bonus, 0)[seats.expert]
    if not bool(seats.capacity.all()):
        hope[(seats.capacity == 0)[seats.expert]] = 0
    if not bool(seats.demand.all()):
        hope[(seats.demand == 0)[seats.task]] = 0
    return np.flatnonzero(hope > 0)


def _worth_keeping(seats: Seats, profit: Int64, useful: Int64) -> Int64:
    """Pairs that some optimal choice may need; the others are dropped before the flow is built.

    An expert with no more pairs than seats is never short of seats. Once a task has as many such
    sure experts as seats, nothing that is worth less than all of them is needed. Dropping pairs
    makes more experts sure, hence a few passes.
    """
    live = useful
    hope = profit[live]
    if seats.bonus:
        hope = hope + np.where(seats.floor > 0, seats.bonus, 0)[seats.expert[live]]
    top, low = int(hope.max(initial=0)), int(hope.min(initial=0))
    if not len(live) or top - low + 1 >= FAR // max(seats.tasks, 1):
        return live
    # One key sorts by task, and within a task by falling hope.
    order = np.argsort(seats.task[live] * np.int64(top - low + 1) + (top - hope))
    live = live[order]
    for _ in range(PRUNE_ROUNDS):
        task, expert = seats.task[live], seats.expert[live]
        degree = np.bincount(expert, minlength=seats.experts)
        sure = (degree <= seats.capacity)[expert]
        if seats.bonus:
            # A bonus is not sure to be paid, so such an expert is not counted on.
            sure &= seats.floor[expert] == 0
        count = np.cumsum(sure)
        first = np.searchsorted(task, np.arange(seats.tasks))
        offset = np.concatenate([[0], count])[first]
        needed = count - sure - offset[task] < seats.demand[task]
        if needed.all():
            break
        live = live[needed]
    return np.sort(live)


def _push(seats: Seats, task: Int32, pair_expert: Int32, gain: Int64) -> Bool:
    """Which of these pairs the flow uses, shape (pairs,); experts without a pair get no node."""
    if not len(task):
        return np.zeros(0, np.bool_)
    seen = np.zeros(seats.experts, np.bool_)
    seen[pair_expert] = True
    named = np.flatnonzero(seen)
    expert = (np.cumsum(seen, dtype=np.int32) - np.int32(1))[pair_expert]
    capacity, floor = seats.capacity[named], seats.floor[named]
    tasks, experts = seats.tasks, len(capacity)
    sink = tasks + experts
    solver = min_cost_flow.SimpleMinCostFlow()
    add = solver.add_arcs_with_capacity_and_unit_cost
    pairs = add(task, expert + np.int32(tasks), np.ones(len(task), np.int64), -gain)
    rows = np.arange(tasks, dtype=np.int32)
    columns = np.arange(tasks, sink, dtype=np.int32)
    add(rows, np.full(tasks, sink, np.int32), seats.demand, seats.open_cost)
    add(columns, np.full(experts, sink, np.int32), capacity - floor, np.zeros(experts, np.int64))
    asked = np.flatnonzero(floor > 0)
    if len(asked):
        ends, bonus = np.full(len(asked), sink, np.int32), np.full(len(asked), -seats.bonus)
        add(columns[asked], ends, floor[asked], bonus)
    solver.set_nodes_supplies(rows, seats.demand)
    solver.set_node_supply(sink, -int(seats.demand.sum()))
    status = solver.solve()
    if status != solver.OPTIMAL:
        raise FlowFailed(str(status))
    used: Bool = solver.flows(pairs) > 0
    return used


def _prices(seats: Seats, profit: Int64, on: Bool, useful: Int64) -> tuple[Int64, Int64]:
    """What a seat of each task and of each expert is worth, from distances to the sink.

    An expert with a free seat has the price of that seat, nought or minus the bonus. A full one
    costs what its cheapest task would lose. A task is worth its best way to one more seat.
    """
    task, expert, gain, used = seats.task[useful], seats.expert[useful], profit[useful], on[useful]
    load = np.bincount(expert[used], minlength=seats.experts)
    full = load >= seats.capacity
    away = np.where(full, FAR, np.where(load < seats.floor, -seats.bonus, 0)).astype(np.int64)
    reach = seats.open_cost.copy()
    # An expert at their floor may cost less than nought to add to, by way of whom they free.
    tight = (full | (seats.floor > 0))[expert]
    calm = np.flatnonzero(~used & ~tight)
    np.minimum.at(reach, task[calm], away[expert[calm]] - gain[calm])
    # Only these pairs change from here on.
    wait = np.flatnonzero(~used & tight)
    np.minimum.at(reach, task[wait], away[expert[wait]] - gain[wait])
    wait_task, wait_expert, wait_gain = task[wait], expert[wait], gain[wait]
    held = np.flatnonzero(used & tight)
    held_task, held_expert, held_gain = task[held], expert[held], gain[held]
    while True:
        further = away.copy()
        np.minimum.at(further, held_expert, held_gain + reach[held_task])
        fell = further < away
        if not bool(fell.any()):
            break
        away = further
        changed = np.flatnonzero(fell[wait_expert])
        at = wait_task[changed]
        np.minimum.at(reach, at, away[wait_expert[changed]] - wait_gain[changed])
    # Nobody is near an expert without seats: their price is nought, as they sell nothing.
    away[seats.capacity == 0] = 0
    return -reach, away
