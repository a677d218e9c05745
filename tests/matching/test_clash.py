"""Hard rules that cannot hold together are told as a set of which none can be left out."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from matching import clash
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


def test_no_fewer_rules_clash_than_those_told() -> None:
    # Two clashes stand side by side: three rules about experts 0 and 1, two about expert 2. Which
    # of them the solver meets first must not matter.
    problem = Problem(
        expert=np.array([0, 1, 2], np.int32),
        task=np.array([0, 0, 1], np.int32),
        value=np.ones(3),
        demand=np.array([2, 1], np.int32),
        capacity=np.array([1, 1, 1], np.int32),
        project=np.array([0, 1], np.int32),
        cost=np.array([5, 5, 9]),
        budget=np.array([9, 8]),
        quotas=(
            Quota(0, group(0), at_least=1, name="first"),
            Quota(0, group(1), at_least=1, name="second"),
            Quota(1, group(2), at_least=1, name="third"),
        ),
    )
    found = feasible_plan(problem)
    assert found.is_smallest
    assert found.chosen is None
    assert sorted("third" in rule or "budget of 8" in rule for rule in found.rules) == [True, True]


@pytest.mark.parametrize("seed", range(12))
def test_every_smaller_choice_of_rules_has_a_plan(seed: int) -> None:
    rng = np.random.default_rng(seed)
    quotas = tuple(
        Quota(
            0,
            group(*rng.choice(5, 3, replace=False)),
            at_least=int(rng.integers(2, 5)),
            name=str(n),
        )
        for n in range(3)
    )
    problem = Problem(
        expert=np.tile(np.arange(5, dtype=np.int32), 2),
        task=np.repeat(np.arange(2, dtype=np.int32), 5),
        value=np.ones(10),
        demand=np.array([2, 2], np.int32),
        capacity=np.ones(5, np.int32),
        quotas=quotas,
    )
    found = feasible_plan(problem)
    if found.chosen is not None:
        assert not found.rules
        return
    assert found.is_smallest
    at = np.arange(problem.pairs)
    limits = clash._limits(problem, at)
    for size in range(len(found.rules)):
        for some in combinations(range(len(limits)), size):
            kept, _ = clash._ask(at, limits, list(some))
            assert kept is not None, [limits[n].words for n in some]
