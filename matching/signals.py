"""What shadow prices say to people: which budget binds, which skill is scarce, whom to recruit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.arrays import ArrayInvalid
from matching.assignment import Assignment, micro_value, totals
from matching.problem import MICRO, Float64, Int64, Problem


@dataclass(frozen=True, slots=True)
class BudgetSignal:
    """What more money would bring to one project.

    Units: price in units of value a hundred minor units; spent and budget in minor units; seats
        open for want of money.
    """

    project: int
    price: float
    spent: int
    budget: int
    open_seats: int

    @property
    def binds(self) -> bool:
        """Whether more money would fill more, or better."""
        return self.price > 0


@dataclass(frozen=True, slots=True)
class SkillSignal:
    """How scarce the experts of one group of tasks are.

    `one_more` is what one more expert like a typical candidate of these tasks would add at most:
    the dual bound of the plan with that expert in it, less what the plan's own prices prove. It
    holds for one such expert, not for each of ten.

    Units: seat_price, the mean price of a wanted seat, and one_more in units of value; seats and
        experts counted; busy the share of seats that its candidates have in use.
    """

    group: int
    seats: int
    open_seats: int
    candidates: int
    busy: float
    seat_price: float
    one_more: float


@dataclass(frozen=True, slots=True)
class Signals:
    """Budgets that bind first, the scarcest skills first."""

    budgets: tuple[BudgetSignal, ...]
    skills: tuple[SkillSignal, ...]


MONEY_STEP = 100
"""Minor units that a budget's price is told for."""


def signals(problem: Problem, assignment: Assignment, group: Int64, *, seats: int = 0) -> Signals:
    """What a plan's prices say.

    An added expert is a typical one: worth on each task what its candidates are worth there on
    the average, with the median seats of the group's candidates, or with `seats`.

    Shapes: group (tasks,), a label of each task.
    Source: weak duality: at prices y any plan is worth at most y b + sum max(0, v - prices), so a
        further expert with c seats adds at most the c best v - price of a seat of a task.
    Raises: ArrayInvalid.
    """
    if group.shape != (problem.tasks,):
        raise ArrayInvalid("group", None, f"has shape {group.shape}, not ({problem.tasks},)")
    return Signals(_budgets(problem, assignment), _skills(problem, assignment, group, seats))


def _budgets(problem: Problem, assignment: Assignment) -> tuple[BudgetSignal, ...]:
    if problem.budget is None or problem.cost is None:
        return ()
    project = problem.task_project()
    chosen = assignment.chosen
    spent = totals(project[problem.task[chosen]], problem.cost[chosen], problem.projects)
    missing = problem.demand - np.bincount(problem.task[chosen], minlength=problem.tasks)
    short = totals(project, np.maximum(missing, 0), problem.projects)
    told = [
        BudgetSignal(
            project=at,
            price=float(assignment.prices.budget[at]) * MONEY_STEP,
            spent=int(spent[at]),
            budget=int(problem.budget[at]),
            open_seats=int(short[at]),
        )
        for at in range(problem.projects)
    ]
    return tuple(sorted(told, key=lambda one: (-one.price, one.project)))


def _skills(
    problem: Problem, assignment: Assignment, group: Int64, seats: int
) -> tuple[SkillSignal, ...]:
    count = np.maximum(np.bincount(problem.task, minlength=problem.tasks), 1)
    worth = micro_value(problem) / MICRO - _money(problem, assignment)
    typical = totals(problem.task, worth, problem.tasks) / count
    known = np.bincount(problem.task, minlength=problem.tasks) > 0
    # A task that nobody can do has no typical candidate; what it is worth is not known.
    gain = np.where(known, typical - assignment.prices.task, 0.0)
    load = np.bincount(problem.expert[assignment.chosen], minlength=problem.experts)
    filled = np.bincount(problem.task[assignment.chosen], minlength=problem.tasks)
    told = []
    for label in np.unique(group).tolist():
        mine = np.flatnonzero(group == label)
        inside = np.isin(problem.task, mine)
        people = np.unique(problem.expert[inside])
        room = seats or (int(np.median(problem.capacity[people])) if len(people) else 1)
        wanted = int(problem.demand[mine].sum())
        price = float((assignment.prices.task[mine] * problem.demand[mine]).sum())
        capacity = int(problem.capacity[people].sum())
        told.append(
            SkillSignal(
                group=int(label),
                seats=wanted,
                open_seats=int(np.maximum(problem.demand[mine] - filled[mine], 0).sum()),
                candidates=len(people),
                busy=float(load[people].sum()) / max(capacity, 1),
                seat_price=price / max(wanted, 1),
                one_more=float(np.sort(np.maximum(gain[mine], 0.0))[::-1][:room].sum()),
            )
        )
    return tuple(sorted(told, key=lambda one: (-one.one_more, -one.open_seats, one.group)))


def _money(problem: Problem, assignment: Assignment) -> Float64:
    """What each pair pays for its project's money at the plan's prices, shape (pairs,)."""
    if problem.cost is None:
        return np.zeros(problem.pairs)
    price = assignment.prices.budget[problem.task_project()[problem.task]]
    return np.asarray(price * problem.cost, np.float64)
