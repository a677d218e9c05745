"""Recorded runs: what each chose from, and what came of it, as rows that estimators read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from matching.arrays import ArrayInvalid
from matching.problem import Bool, Float64, Int64, Problem
from matching.replay import Log, known_by_now
from matching.value import PairParts


@dataclass(frozen=True, slots=True, eq=False)
class Came:
    """What came of the pairs that a run took, and of which this is known by now.

    Shapes: all (pairs,); read where `taken`.
    Units: accepted and stump 0 or 1; cost in minor units paid; wait in hours until acceptance;
        age and delay, since the offer and until its outcome, in hours.
    """

    taken: Bool
    known: Bool
    accepted: Float64
    stump: Float64
    cost: Float64
    wait: Float64
    age: Float64
    delay: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """One recorded run: what it saw, what it believed then, how it drew, and what came of it.

    Shapes: chance, said (pairs,); newcomer, expert_label (experts,); task_group (tasks,).
    Units: chance, the recorded probability of each pair; said, whether interest was stated;
        labels of experts and of groups of tasks (domains) are the same ones in every run.
    """

    problem: Problem
    parts: PairParts
    chance: Float64
    said: Bool
    newcomer: Bool
    expert_label: Int64
    task_group: Int64
    came: Came

    def __post_init__(self) -> None:
        sizes = {
            "chance": (self.chance, self.problem.pairs),
            "said": (self.said, self.problem.pairs),
            "newcomer": (self.newcomer, self.problem.experts),
            "expert_label": (self.expert_label, self.problem.experts),
            "task_group": (self.task_group, self.problem.tasks),
            "taken": (self.came.taken, self.problem.pairs),
        }
        for name, (given, size) in sizes.items():
            if given.shape != (size,):
                raise ArrayInvalid(name, None, f"has shape {given.shape}, not ({size},)")
        if self.parts.pairs != self.problem.pairs:
            raise ArrayInvalid("parts", None, "are of other pairs")


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The pairs of all runs that either policy may take, end to end.

    Shapes: all (rows,), covariates (rows, covariates).
    """

    today: Float64
    after: Float64
    decision: Int64
    expert: Int64
    group: Int64
    newcomer: Bool
    cost: Float64
    stump: Float64
    covariates: Float64
    came: Came
    seats: int

    def log(self, outcome: Float64) -> Log:
        """The record as replay reads it, with one of its outcomes."""
        came, arrived = self.came, np.ones(len(self.decision))
        on = np.flatnonzero(came.taken)
        if len(on) and not came.known[on].all():
            arrived[on] = known_by_now(came.age[on], came.delay[on], came.known[on])
        return Log(
            decision=self.decision,
            probability=self.today,
            taken=came.taken & (self.today > 0),
            outcome=outcome,
            # What is known although, by the delays seen, it could not be yet, teaches nothing.
            known=came.known & (arrived > 0),
            known_probability=arrived,
        )


def rows_of(pasts: Sequence[Past], after: Sequence[Float64]) -> Rows:
    """The pairs of all runs that were taken or have a chance, then or by another policy: `after`.

    Shapes: after, for each run (pairs,).
    """
    kept = [
        np.flatnonzero((past.chance > 0) | (chance > 0) | past.came.taken)
        for past, chance in zip(pasts, after, strict=True)
    ]
    both = list(zip(pasts, kept, strict=True))

    def numbers(each: Callable[[Past, Int64], Float64]) -> Float64:
        return np.concatenate([each(past, on) for past, on in both]).astype(np.float64)

    def labels(each: Callable[[Past, Int64], Int64]) -> Int64:
        return np.concatenate([each(past, on) for past, on in both]).astype(np.int64)

    def truths(each: Callable[[Past, Int64], Bool]) -> Bool:
        return np.concatenate([each(past, on) for past, on in both]).astype(np.bool_)

    def measured(name: str) -> Float64:
        return numbers(lambda past, on: _part(getattr(past.parts, name), on))

    first = np.cumsum([0, *(past.problem.tasks for past in pasts)])
    decision = [
        past.problem.task[on] + start for (past, on), start in zip(both, first, strict=False)
    ]
    return Rows(
        today=numbers(lambda past, on: np.minimum(past.chance[on], 1.0)),
        after=np.concatenate([chance[on] for chance, on in zip(after, kept, strict=True)]),
        decision=np.concatenate(decision).astype(np.int64),
        expert=labels(lambda past, on: past.expert_label[past.problem.expert[on]]),
        group=labels(lambda past, on: past.task_group[past.problem.task[on]]),
        newcomer=truths(lambda past, on: past.newcomer[past.problem.expert[on]]),
        cost=measured("cost"),
        stump=measured("stump"),
        covariates=np.column_stack(
            [measured(name) for name in ("stump", "quality", "interest", "affinity", "learning")]
        ),
        came=Came(
            taken=truths(lambda past, on: past.came.taken[on]),
            known=truths(lambda past, on: past.came.known[on]),
            accepted=numbers(lambda past, on: past.came.accepted[on]),
            stump=numbers(lambda past, on: past.came.stump[on]),
            cost=numbers(lambda past, on: past.came.cost[on]),
            wait=numbers(lambda past, on: past.came.wait[on]),
            age=numbers(lambda past, on: past.came.age[on]),
            delay=numbers(lambda past, on: past.came.delay[on]),
        ),
        seats=int(sum(int(past.problem.demand.sum()) for past in pasts)),
    )


def _part(part: Float64 | None, on: Int64) -> Float64:
    return np.zeros(len(on)) if part is None else part[on]
