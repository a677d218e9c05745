"""Hard rules that cannot hold together are told as a set of which none can be left out."""

from dataclasses import replace

import numpy as np
import pytest

from matching.assign import Infeasible, assign
from matching.clash import feasible_plan
from matching.problem import Problem, Quota
from matching.verify import verify
from tests.matching.brute import Shape, best_by_trying, small_problem


def group(*members: int) -> np.ndarray:
    """Experts of a group."""
    return np.array(members, np.int32)


BASE = Problem(
    expert=np.array([0, 1, 2, 0, 1], np.int32),
    task=np.array([0, 0, 0, 1, 1], np.int32),
    value=np.ones(5),
    demand=np.array([2, 1], np.int32),
    capacity=np.array([2, 1, 1], np.int32),
    cost=np.array([5, 5, 5, 5, 5]),
    budget=np.array([100]),
)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quotas": (Quota(0, group(2), at_least=2),)}, ("at least 2 seats, and 1 eligible",)),
        (
            {"quotas": (Quota(0, group(0, 1, 2), at_least=3),), "budget": np.array([14])},
            ("at least 3 seats", "budget of 14"),
        ),
        (
            {"quotas": (Quota(0, group(1), at_least=2),)},
            ("at least 2 seats", "expert 1 has 1 seat"),
        ),
        (
            {
                "quotas": (
                    Quota(0, group(0, 1), at_least=2, name="north"),
                    Quota(0, group(0, 1, 2), at_most=1, name="all"),
                )
            },
            ("(north)", "(all)"),
        ),
        (
            {
                "quotas": (Quota(0, group(1, 2), at_least=2),),
                "conflicts": np.array([[1, 2]], np.int32),
                "demand": np.array([2, 0], np.int32),
            },
            ("at least 2", "task 1 has 0 seats", "experts 1 and 2 are in conflict"),
        ),
        (
            {"quotas": (Quota(0, group(0), at_least=2),), "share_cap": 0.4},
            ("at least 2", "expert 0 may hold 1 seat"),
        ),
        (
            {
                "quotas": (Quota(0, group(0), at_least=2),),
                "hours": np.full(5, 2.0),
                "hours_available": np.full(3, 3.5),
            },
            ("at least 2", "expert 0 has 3.5 hours"),
        ),
    ],
)
def test_the_clash_is_told_in_words_and_nothing_beside_it(
    change: dict[str, object], words: tuple[str, ...]
) -> None:
    problem = replace(BASE, **change)  # type: ignore[arg-type]  # One change of many types.
    with pytest.raises(Infeasible) as refusal:
        assign(problem)
    assert len(refusal.value.rules) == len(words)
    for part in words:
        assert any(part in rule for rule in refusal.value.rules), (part, refusal.value.rules)


def test_a_clash_is_found_exactly_where_trying_everything_finds_no_plan() -> None:
    clashing = 0
    for seed in range(150):
        problem = small_problem(seed, Shape(hard_quotas=True, conflicts=True, hours=True))
        told = feasible_plan(problem)
        if best_by_trying(problem) is None:
            clashing += 1
            assert told.chosen is None
            assert told.rules
        else:
            assert told.rules == ()
            assert verify(problem, assign(problem)) == []
    assert clashing > 10
