"""The worst-off task first, then the total: proved on small and on conference-sized inputs."""

from dataclasses import replace

import pytest

from matching.assign import assign
from matching.floor import FloorTooLarge
from matching.policy import Policy
from matching.problem import MICRO
from matching.synthetic import SIZES, make_problem
from matching.verify import verify
from tests.bench.match_fair import proved
from tests.matching.brute import Shape, feasible_plans, small_problem
from tests.matching.conferences import conference, worst

FAIR = Policy(floor=True)


def test_floor_and_total_are_those_that_trying_everything_finds() -> None:
    for seed in range(24):
        shape = Shape(budgets=seed % 3 == 1, locked=seed % 3 == 2, conflicts=seed % 2 == 1)
        problem = small_problem(seed, shape)
        plans = feasible_plans(problem)
        floor = max(worst(problem, plan) for plan in plans)
        total = max(
            float(problem.value[plan].sum()) for plan in plans if worst(problem, plan) == floor
        )
        answer = assign(problem, FAIR)
        assert verify(problem, answer) == [], seed
        assert answer.floor == pytest.approx(floor / MICRO), seed
        assert answer.objective == pytest.approx(total), seed
        assert answer.gap <= 1e-9, seed


def test_a_conference_gets_a_floor_and_a_total_that_other_means_prove_best() -> None:
    problem = conference(4)
    plain, fair = assign(problem), assign(problem, FAIR)
    assert verify(problem, fair) == []
    assert fair.floor is not None
    assert fair.floor > worst(problem, plain.chosen) / MICRO
    assert fair.gap <= 1e-4
    found = proved(problem, fair)
    assert found.floor == fair.floor
    assert found.total == pytest.approx(fair.objective, rel=1e-4)
    too_high = replace(fair, floor=fair.floor + 0.5)
    assert any("below the floor" in one for one in verify(problem, too_high))


def test_a_problem_too_large_for_a_proof_is_refused() -> None:
    with pytest.raises(FloorTooLarge):
        assign(make_problem(SIZES["S"], seed=1), Policy(floor=True))
