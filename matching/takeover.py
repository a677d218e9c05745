"""A batch's plan taken over as a network that events can change."""

from __future__ import annotations

import numpy as np

from matching.assignment import Prices, micro_price, micro_value
from matching.bound import Left, side_terms
from matching.paths import NEVER, Network
from matching.problem import Bool, Problem


def network_of(problem: Problem, left: Left, used: Bool, prices: Prices) -> Network:
    """The network of a batch's plan at the batch's prices, without solving anything.

    Where side rules made the plan differ from what its prices alone would choose, the pairs
    concerned are valued as the plan has them, so that it is the best one to start from.

    Shapes: used (pairs,) bool, the plan without locked pairs.
    """
    charge, _ = side_terms(problem, prices, left)
    profit = micro_value(problem) - np.rint(charge).astype(np.int64)
    profit[~left.live] = NEVER
    open_cost = micro_price(problem.seat_price())
    bonus, floor = 0, np.zeros(problem.experts, np.int64)
    # The seats as they are; what hours allow is watched pair by pair.
    capacity = problem.capacity - np.bincount(
        problem.expert[problem.locked], minlength=problem.experts
    )
    if problem.min_load is not None and problem.min_load_price is not None:
        bonus = int(micro_price(problem.min_load_price))
        held = np.bincount(problem.expert[problem.locked], minlength=problem.experts)
        floor = np.clip(problem.min_load - held, 0, capacity).astype(np.int64)
    task_cost = np.minimum(-micro_price(prices.task), open_cost)
    expert_cost = micro_price(prices.expert)
    task, expert = problem.task, problem.expert
    filled = np.bincount(task[used], minlength=problem.tasks)
    load = np.bincount(expert[used], minlength=problem.experts)
    # An open seat and an idle one have the price of their own way to the sink; where the
    # batch left one at another price, it is this price that gives way.
    task_cost = np.where(filled < left.demand, open_cost, task_cost)
    idle = np.where(load < floor, -bonus, 0)
    expert_cost = np.where(load < capacity, np.minimum(expert_cost, idle), expert_cost)
    least = np.where(load > floor, 0, np.where(load > 0, -bonus, -(1 << 60)))
    expert_cost = np.maximum(expert_cost, least)
    reduced = profit + task_cost[task] - expert_cost[expert]
    live = profit > NEVER
    # Chosen pairs must not lose by their prices, and others must not gain.
    wrong = live & np.where(used, reduced < 0, reduced > 0)
    wrong &= (left.demand[task] > 0) & (capacity[expert] > 0)
    profit[wrong] -= reduced[wrong]
    return Network(
        task=problem.task,
        expert=problem.expert,
        profit=profit,
        used=used,
        demand=left.demand,
        capacity=capacity.astype(np.int64),
        open_cost=open_cost,
        floor=floor,
        bonus=bonus,
        task_cost=task_cost.astype(np.int64),
        expert_cost=expert_cost.astype(np.int64),
    )
