"""Why a pair is in a plan or not, a seat open, an expert idle: numbers and one sentence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.assignment import Assignment, member_mask, micro_value
from matching.blocking import CHOSEN, NO_CANDIDATE, OUTBID, RULES, first_rules
from matching.problem import MICRO, Int64, Problem
from matching.value import Value

LISTED = 5
"""Candidates that an explanation of a seat or of an expert lists at most."""


@dataclass(frozen=True, slots=True)
class PricePaid:
    """One price that a pair has to beat. Units: units of value."""

    name: str
    amount: float


@dataclass(frozen=True, slots=True)
class PairExplanation:
    """Why one pair is in a plan or not.

    Units: value, parts, prices and margin in units of value; margin is value less prices, below
        nought by how much the pair lost; probability from 0 to 1.
    """

    pair: int
    expert: int
    task: int
    chosen: bool
    probability: float
    value: float
    parts: tuple[tuple[str, float], ...]
    prices: tuple[PricePaid, ...]
    margin: float
    rule: str
    sentence: str


@dataclass(frozen=True, slots=True)
class OpenSeatExplanation:
    """Why seats of a task stay open, with its best candidates, best first."""

    task: int
    open_seats: int
    demand: int
    seat_price: float
    rule: str
    candidates: tuple[PairExplanation, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class IdleExpertExplanation:
    """Why an expert has no task, with the pairs that came nearest, nearest first."""

    expert: int
    load: int
    capacity: int
    rule: str
    candidates: tuple[PairExplanation, ...]
    sentence: str


def explain_pair(
    problem: Problem, assignment: Assignment, value: Value | None, pair: int
) -> PairExplanation:
    """The parts of a pair's value, the prices it has to beat, and by how much it won or lost.

    Raises: IndexError, when there is no such pair; ValueError, when the value is of other pairs.
    """
    if not 0 <= pair < problem.pairs:
        raise IndexError(pair)
    if value is not None and value.total.shape != (problem.pairs,):
        raise ValueError(f"value has {len(value.total)} pairs, the problem has {problem.pairs}")
    expert, task = int(problem.expert[pair]), int(problem.task[pair])
    paid = _prices_of(problem, assignment, pair)
    worth = int(micro_value(problem, np.array([pair]))[0]) / MICRO
    margin = worth - sum(price.amount for price in paid)
    rule = RULES[int(first_rules(problem, assignment.chosen, np.array([pair]))[0])]
    chosen = rule == RULES[CHOSEN]
    at = int(np.searchsorted(assignment.marginal_pair, pair))
    known = at < len(assignment.marginal_pair) and assignment.marginal_pair[at] == pair
    parts = () if value is None else value.parts
    shown = tuple((part.name, float(part.weighed[pair])) for part in parts)
    who = f"Expert {expert} on task {task}"
    dearest = max(paid, key=lambda price: price.amount)
    if chosen and pair in problem.locked:
        sentence = f"{who} is locked: accepted already, worth {worth:.4g}."
    elif chosen:
        sentence = (
            f"{who} is chosen: worth {worth:.4g}, {abs(margin):.4g} "
            f"{'above' if margin >= 0 else 'below'} the prices of the seats it takes."
        )
    elif margin < 0:
        sentence = (
            f"{who} is not chosen: worth {worth:.4g}, it falls {-margin:.4g} short of the prices, "
            f"most of all {dearest.amount:.4g} for {dearest.name}; first rule in the way: {rule}."
        )
    else:
        sentence = (
            f"{who} is not chosen although worth {margin:.4g} more than its prices, within the "
            f"gap of the plan; first rule in the way: {rule}."
        )
    return PairExplanation(
        pair=pair,
        expert=expert,
        task=task,
        chosen=chosen,
        probability=float(assignment.marginal[at]) if known else 0.0,
        value=worth,
        parts=shown,
        prices=paid,
        margin=margin,
        rule=rule,
        sentence=sentence,
    )


def explain_open_seat(
    problem: Problem, assignment: Assignment, value: Value | None, task: int
) -> OpenSeatExplanation:
    """Why seats of this task are open, by the rule that stops its best remaining candidate.

    Raises: IndexError, when there is no such task; ValueError, when it has no open seat.
    """
    if not 0 <= task < problem.tasks:
        raise IndexError(task)
    where = np.flatnonzero(assignment.open_seats.task == task)
    if not len(where):
        raise ValueError(f"task {task} has no open seat")
    missing = int(assignment.open_seats.seats[where[0]])
    rule = assignment.open_seats.rule[int(where[0])]
    near = _others(problem, assignment, np.flatnonzero(problem.task == task))
    shown = tuple(explain_pair(problem, assignment, value, pair) for pair in near)
    seats = "1 seat is" if missing == 1 else f"{missing} seats are"
    why = rule
    if shown:
        why = (
            f"the best candidate left, expert {shown[0].expert} worth {shown[0].value:.4g}: {rule}"
        )
    demand, price = int(problem.demand[task]), float(problem.seat_price()[task])
    return OpenSeatExplanation(
        task=task,
        open_seats=missing,
        demand=demand,
        seat_price=price,
        rule=rule,
        candidates=shown,
        sentence=f"{seats} open of {demand} on task {task}; {why}.",
    )


def explain_idle_expert(
    problem: Problem, assignment: Assignment, value: Value | None, expert: int
) -> IdleExpertExplanation:
    """Why an expert has no task, or fewer than seats, by the pair that came nearest.

    Raises: IndexError, when there is no such expert; ValueError, when the expert is fully booked.
    """
    if not 0 <= expert < problem.experts:
        raise IndexError(expert)
    load = int((problem.expert[assignment.chosen] == expert).sum())
    capacity = int(problem.capacity[expert])
    if load >= capacity > 0:
        raise ValueError(f"expert {expert} has all {capacity} seats taken")
    near = _others(problem, assignment, np.flatnonzero(problem.expert == expert))
    shown = tuple(explain_pair(problem, assignment, value, pair) for pair in near)
    shown = tuple(sorted(shown, key=lambda one: (-one.margin, one.pair)))
    if capacity == 0:
        rule, why = "expert has no seat", "the expert offers no seats"
    elif not shown:
        rule, why = NO_CANDIDATE, "no task that is not theirs already is open to them"
    else:
        best = shown[0]
        rule = best.rule
        why = (
            f"the nearest task, {best.task}, is worth {best.value:.4g} with them, "
            f"{abs(best.margin):.4g} {'short of' if best.margin < 0 else 'above'} its prices"
        )
        why += "" if rule == RULES[OUTBID] else f" ({rule})"
    return IdleExpertExplanation(
        expert=expert,
        load=load,
        capacity=capacity,
        rule=rule,
        candidates=shown,
        sentence=f"Expert {expert} holds {load} of {capacity} seats; {why}.",
    )


def _others(problem: Problem, assignment: Assignment, pairs: Int64) -> list[int]:
    left = np.setdiff1d(pairs, assignment.chosen)
    order = np.lexsort((left, -problem.value[left]))
    return [int(pair) for pair in left[order[:LISTED]]]


def _prices_of(problem: Problem, assignment: Assignment, pair: int) -> tuple[PricePaid, ...]:
    prices = assignment.prices
    expert, task = int(problem.expert[pair]), int(problem.task[pair])
    project = int(problem.task_project()[task])
    paid = [
        PricePaid(f"a seat of task {task}", float(prices.task[task])),
        PricePaid(f"a seat of expert {expert}", float(prices.expert[expert])),
    ]
    if problem.cost is not None and prices.budget[project]:
        amount = float(prices.budget[project]) * int(problem.cost[pair])
        paid.append(PricePaid(f"the budget of project {project}", amount))
    if problem.hours is not None and prices.hour[expert]:
        amount = float(prices.hour[expert]) * float(problem.hours[pair])
        paid.append(PricePaid(f"the hours of expert {expert}", amount))
    for index, quota in enumerate(problem.quotas):
        if not prices.quota[index] or quota.project != project:
            continue
        if member_mask(problem, quota.members)[expert]:
            name = f"quota {index} ({quota.name}) of project {project}"
            paid.append(PricePaid(name, float(prices.quota[index])))
    for key, amount in zip(prices.share_key.tolist(), prices.share.tolist(), strict=True):
        if key == [expert, project]:
            paid.append(PricePaid(f"the share cap of project {project}", float(amount)))
    for key, amount in zip(prices.clash_key.tolist(), prices.clash.tolist(), strict=True):
        if key[0] == task and expert in key[1:]:
            other = key[2] if key[1] == expert else key[1]
            paid.append(PricePaid(f"the conflict with expert {other}", float(amount)))
    return tuple(paid)
