"""What a living plan knows of pairs, tasks and experts beyond seats, and takes in of new ones."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from matching.assignment import Prices
from matching.problem import (
    MICRO,
    VALUE_LIMIT,
    Float64,
    Int32,
    Int64,
    Problem,
    ProblemInvalid,
)

HOURS_LIMIT = 1e6
"""The most hours that a pair may take, as in a problem."""

SPARE = 1024
"""Entries that a column grows by at least."""


Entry = TypeVar("Entry", bound=np.generic)


class Column(Generic[Entry]):
    """An array that grows at its end in constant time on average."""

    def __init__(self, values: NDArray[Entry]) -> None:
        self._room = np.array(values)
        self._size = len(values)

    @property
    def all(self) -> NDArray[Entry]:
        """What is in it, as a view that the next growth leaves behind."""
        return self._room[: self._size]

    def grow(self, values: NDArray[Entry]) -> None:
        """Put values at the end."""
        last = self._size + len(values)
        if last > len(self._room):
            room = np.zeros(max(last + SPARE, len(self._room) * 9 // 8), self._room.dtype)
            room[: self._size] = self._room[: self._size]
            self._room = room
        self._room[self._size : last] = values
        self._size = last


class Facts:
    """What is known of pairs, tasks and experts beyond seats, and grows with them.

    Shapes: task, expert, value, hours, cost (pairs,); project (tasks,); hours_available,
        min_load (experts,).
    Units: value in micro-units; hours in hours; cost in minor units; min_load in seats.
    """

    def __init__(self, problem: Problem, value: Int64) -> None:
        experts = problem.experts
        self.task, self.expert = Column(problem.task), Column(problem.expert)
        self.value = Column(value)
        self.has_hours, self.has_cost = problem.hours is not None, problem.cost is not None
        none = np.zeros(problem.pairs if self.has_hours else 0)
        self.hours = Column(none if problem.hours is None else problem.hours)
        self.cost = Column(np.zeros(0, np.int64) if problem.cost is None else problem.cost)
        self.project = Column(problem.task_project())
        available = problem.hours_available
        self.hours_available = Column(np.full(experts, np.inf) if available is None else available)
        load = problem.min_load
        self.min_load = Column(np.zeros(experts, np.int32) if load is None else load)

    def check_new(
        self,
        name: str,
        others: Int32,
        known: int,
        value: Float64,
        hours: Float64 | None,
        cost: Int64 | None,
    ) -> None:
        """Refuse what cannot be pairs of something new with others that are known.

        Shapes: others, value, hours, cost (new pairs,).
        Raises: ProblemInvalid.
        """
        _refuse_where((others < 0) | (others >= known), name, others, "does not exist")
        if len(np.unique(others)) != len(others):
            raise ProblemInvalid(name, None, "a pair is given twice")
        for what, given, asked in (
            ("value", value, True),
            ("hours", hours, self.has_hours),
            ("cost", cost, self.has_cost),
        ):
            if asked and (given is None or given.shape != others.shape):
                raise ProblemInvalid(
                    what, None, f"has not one entry for each of {len(others)} pairs"
                )
        # Not a number is in no range.
        _refuse_where(~(np.abs(value) <= VALUE_LIMIT), "value", value, "is no value")
        if self.has_hours and hours is not None:
            wrong = ~((hours >= 0) & (hours <= HOURS_LIMIT))
            _refuse_where(wrong, "hours", hours, "is no number of hours")
        if self.has_cost and cost is not None:
            _refuse_where(cost < 0, "cost", cost, "is negative")

    def grow_pairs(
        self,
        task: Int32,
        expert: Int32,
        value: Float64,
        hours: Float64 | None,
        cost: Int64 | None,
        prices: Prices,
    ) -> Int64:
        """Take in new pairs; what each is worth beyond the prices of hours and money.

        Shapes: task, expert, value, hours, cost, and what is returned (new pairs,).
        Units: value in units, what is returned in micro-units.
        """
        worth = np.rint(value * MICRO).astype(np.int64)
        charge = np.zeros(len(task))
        self.task.grow(task)
        self.expert.grow(expert)
        self.value.grow(worth)
        if self.has_hours and hours is not None:
            self.hours.grow(hours)
            hour = padded(prices.hour, len(self.hours_available.all))[expert]
            charge += np.where(hours > 0, hours * hour, 0)
        if self.has_cost and cost is not None:
            self.cost.grow(cost)
            charge += cost * prices.budget[self.project.all[task]]
        profit: Int64 = worth - np.rint(charge * MICRO).astype(np.int64)
        return profit


def _refuse_where(
    wrong: NDArray[np.bool_], name: str, given: NDArray[np.generic], reason: str
) -> None:
    at = np.flatnonzero(wrong)
    if len(at):
        raise ProblemInvalid(name, int(at[0]), f"{given[at[0]]} {reason}")


def padded(values: Float64, size: int) -> Float64:
    """The values with noughts behind, up to a size."""
    return np.concatenate([values, np.zeros(size - len(values))])
