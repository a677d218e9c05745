"""Why an expert ranks otherwise for a task in one run, or under one policy, than in another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.problem import Problem
from matching.value import Value


@dataclass(frozen=True, slots=True)
class PartMove:
    """How one named part of a value moved, split into what was measured and what it counts.

    `by_weight` is the change of what a unit counts, at what was measured before; `by_measure` the
    rest. Units: units of value.
    """

    name: str
    before: float
    after: float
    by_weight: float
    by_measure: float

    @property
    def moved(self) -> float:
        """After less before."""
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class RankChange:
    """A pair's place among the candidates of its task, 1 the most valuable, before and after.

    Units: value in units of value.
    """

    rank_before: int
    rank_after: int
    candidates_before: int
    candidates_after: int
    value_before: float
    value_after: float
    parts: tuple[PartMove, ...]
    sentence: str


def rank_change(
    before: tuple[Problem, Value, int], after: tuple[Problem, Value, int]
) -> RankChange:
    """What moved a pair, from a problem and its value to another; each with the pair's number.

    Raises: IndexError, when there is no such pair.
    """
    place_before, of_before = _place(before[0], before[2])
    place_after, of_after = _place(after[0], after[2])
    names = dict.fromkeys([part.name for part in (*before[1].parts, *after[1].parts)])
    moves = tuple(
        sorted(
            (_moved(name, before[1], before[2], after[1], after[2]) for name in names),
            key=lambda move: (-abs(move.moved), move.name),
        )
    )
    value_before = float(before[0].value[before[2]])
    value_after = float(after[0].value[after[2]])
    return RankChange(
        rank_before=place_before,
        rank_after=place_after,
        candidates_before=of_before,
        candidates_after=of_after,
        value_before=value_before,
        value_after=value_after,
        parts=moves,
        sentence=_sentence(
            (place_before, of_before), (place_after, of_after), value_after - value_before, moves
        ),
    )


def _place(problem: Problem, pair: int) -> tuple[int, int]:
    if not 0 <= pair < problem.pairs:
        raise IndexError(pair)
    others = problem.value[problem.task == problem.task[pair]]
    return 1 + int((others > problem.value[pair]).sum()), len(others)


def _moved(name: str, one: Value, at: int, two: Value, to: int) -> PartMove:
    before = next((part for part in one.parts if part.name == name), None)
    after = next((part for part in two.parts if part.name == name), None)
    was = 0.0 if before is None else float(before.weighed[at])
    now = 0.0 if after is None else float(after.weighed[to])
    measured = (
        float(before.measured[at])
        if before is not None
        else (0.0 if after is None else float(after.measured[to]))
    )
    unit_before = 0.0 if before is None else _unit(was, measured, before.weight)
    unit_after = unit_before
    if after is not None:
        unit_after = _unit(now, float(after.measured[to]), after.weight)
    elif before is not None:
        unit_after = 0.0
    by_weight = (unit_after - unit_before) * measured
    return PartMove(name, was, now, by_weight, now - was - by_weight)


def _unit(weighed: float, measured: float, weight: float) -> float:
    """What a unit of a part counts; its weight where nothing was measured."""
    return weighed / measured if measured and np.isfinite(weighed / measured) else weight


SAID = 0.0005
"""What rounds to nothing is left to the numbers."""


def _sentence(
    before: tuple[int, int], after: tuple[int, int], moved: float, parts: tuple[PartMove, ...]
) -> str:
    place = f"{before[0]} of {before[1]} to {after[0]} of {after[1]}"
    if before[0] == after[0]:
        place = f"stays {after[0]} of {after[1]}"
        start = f"The pair {place}"
    else:
        way = "rises" if after[0] < before[0] else "falls"
        start = f"The pair {way} from {place}"
    told = [part for part in parts if abs(part.moved) >= SAID]
    if not told:
        return f"{start}; nothing about it changed, others did."
    most = told[0]
    why = "it counts otherwise" if abs(most.by_weight) >= abs(most.by_measure) else "it changed"
    change = "more" if moved >= 0 else "less"
    return (
        f"{start}: worth {abs(moved):.3f} {change}, most of all for {most.name}"
        f" ({most.before:.3f} to {most.after:.3f}), because {why}."
    )
