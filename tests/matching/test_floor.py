"""The worst-off task first, then the total: proved on small and on conference-sized inputs."""

from dataclasses import replace

import numpy as np
import pytest

from matching.assign import assign
from matching.floor import FloorTooLarge
from matching.policy import Policy
from matching.problem import MICRO, Problem
from matching.synthetic import SIZES, make_problem
from matching.verify import verify
from tests.matching.brute import Shape, feasible_plans, small_problem

FAIR = Policy(floor=True)


def worst(problem: Problem, plan: np.ndarray) -> int:
    """What the worst-off task that asks for seats gets, micro-units."""
    got = np.zeros(problem.tasks, np.int64)
    np.add.at(got, problem.task[plan], np.rint(problem.value[plan] * MICRO).astype(np.int64))
    asking = problem.demand > 0
    return int(got[asking].min()) if asking.any() else 0


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


def conference(seed: int) -> Problem:
    """118 papers and 177 reviewers with topics, three a paper, four a reviewer at most."""
    rng = np.random.default_rng(seed)
    papers, reviewers = 118, 177
    of_reviewer = rng.dirichlet(np.full(20, 0.15), reviewers)
    of_paper = rng.dirichlet(np.full(20, 0.15), papers)
    near = np.sqrt(of_paper @ of_reviewer.T) * rng.uniform(0.5, 1.1, (papers, reviewers))
    value = np.clip(0.2 + 0.7 * near + rng.normal(0, 0.05, near.shape), 0, 1)
    task, expert = (side.astype(np.int32) for side in np.nonzero(value > 0.05))
    return Problem(
        expert=expert,
        task=task,
        value=np.round(value[task, expert], 4),
        demand=np.full(papers, 3, np.int32),
        capacity=np.full(reviewers, 4, np.int32),
    )


def test_a_conference_gets_a_proven_floor_at_little_cost_to_the_total() -> None:
    problem = conference(3)
    plain, fair = assign(problem), assign(problem, FAIR)
    assert verify(problem, fair) == []
    assert fair.floor is not None
    assert fair.floor >= worst(problem, plain.chosen) / MICRO
    assert fair.gap <= 1e-4
    assert fair.objective >= 0.99 * plain.objective
    too_high = replace(fair, floor=fair.floor + 0.5)
    assert any("below the floor" in one for one in verify(problem, too_high))


def test_a_problem_too_large_for_a_proof_is_refused() -> None:
    with pytest.raises(FloorTooLarge):
        assign(make_problem(SIZES["S"], seed=1), Policy(floor=True))
