"""After every event the plan is as good as a fresh solve, and keeps every rule."""

import numpy as np
import pytest

from matching.assign import Effort, assign
from matching.incremental import Plan
from matching.problem import Problem, ProblemInvalid
from matching.synthetic import SIZES, Size, make_problem
from matching.verify import verify
from tests.matching.brute import Shape, small_problem


def in_order(problem: Problem) -> Problem:
    """Problems from brute force stand in order of task already; this says so."""
    assert (np.diff(problem.task) >= 0).all()
    return problem


def happen(plan: Plan, rng: np.random.Generator, *, limited: bool = False) -> str:
    """One random event; its name. New pairs cost money and hours where these are limited."""
    network = plan.network
    chosen = np.flatnonzero(network.used[: network.pairs])
    task = int(rng.integers(network.tasks))
    expert = int(rng.integers(network.experts))
    kind = str(
        rng.choice(
            [
                "accept",
                "decline",
                "decline other",
                "demand",
                "capacity",
                "add task",
                "add expert",
                "remove task",
                "remove expert",
            ],
            p=[0.1, 0.15, 0.05, 0.15, 0.2, 0.13, 0.12, 0.05, 0.05],
        )
    )
    try:
        if kind == "accept" and len(chosen):
            plan.accept(int(rng.choice(chosen)))
        elif kind == "decline" and len(chosen):
            plan.decline(int(rng.choice(chosen)))
        elif kind == "decline other":
            plan.decline(int(rng.integers(network.pairs)))
        elif kind == "demand":
            plan.set_demand(task, int(rng.integers(0, 4)))
        elif kind == "capacity":
            plan.set_capacity(expert, int(rng.integers(0, 4)))
        elif kind in ("add task", "add expert"):
            size = network.experts if kind == "add task" else network.tasks
            others = np.flatnonzero(rng.random(size) < 0.6).astype(np.int32)
            value = np.round(rng.normal(1, 1, len(others)), 2)
            hours = rng.choice([0.5, 1.0, 1.5], len(others)) if limited else None
            cost = rng.integers(1, 9, len(others)) if limited else None
            seats = int(rng.integers(0, 3))
            if kind == "add task":
                plan.add_task(
                    others, value, demand=seats, open_seat_price=0.4, hours=hours, cost=cost
                )
            else:
                free = float(rng.choice([1.0, 3.0])) if limited else float("inf")
                plan.add_expert(
                    others,
                    value,
                    capacity=seats,
                    min_load=1,
                    hours_available=free,
                    hours=hours,
                    cost=cost,
                )
        elif kind == "remove task":
            plan.remove_task(task)
        elif kind == "remove expert":
            plan.remove_expert(expert)
    except ProblemInvalid as refusal:
        if "accepted already" not in refusal.reason:
            raise
    return kind


@pytest.mark.parametrize(
    "shape", [Shape(), Shape(seat_price=True), Shape(seat_price=True, floors=True, locked=True)]
)
def test_after_any_events_the_plan_equals_a_fresh_solve(shape: Shape) -> None:
    for seed in range(25):
        rng = np.random.default_rng(seed)
        problem = in_order(small_problem(seed, shape, tasks=6, experts=6))
        plan = Plan(problem, assign(problem))
        for step in range(30):
            kind = happen(plan, rng)
            taken = plan.snapshot()
            fresh = assign(taken.problem)
            where = (seed, step, kind)
            assert taken.assignment.objective == pytest.approx(fresh.objective, abs=1e-9), where
            assert verify(taken.problem, taken.assignment) == [], where
            assert taken.assignment.gap <= 1e-9, where


def keep_within_the_gap(seeds: range) -> int:
    """Sequences of events under budgets and hours; how often a fresh solve was compared with."""
    compared = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        shape = Shape(budgets=True, hours=True, seat_price=True, floors=seed % 2 == 1)
        problem = in_order(small_problem(seed, shape, tasks=5, experts=5))
        assert problem.budget is not None
        plan = Plan(problem, assign(problem))
        for step in range(1, 13):
            kind = happen(plan, rng, limited=True)
            if step % 6 == 5:
                project = int(rng.integers(problem.projects))
                assert plan.limits.budget is not None
                more = int(plan.limits.budget[project]) + int(rng.integers(0, 6))
                plan.set_budget(project, more)
            if step % 4:
                continue
            taken = plan.snapshot()
            where = (seed, step, kind)
            assert verify(taken.problem, taken.assignment) == [], where
            fresh = assign(taken.problem, effort=Effort(target_gap=0.0))
            # Neither is better than the other's proof allows.
            assert fresh.objective <= taken.assignment.bound + 1e-6, where
            assert taken.assignment.objective <= fresh.bound + 1e-6, where
            compared += 1
    return compared


def test_under_budgets_a_fresh_solve_lies_within_the_certified_gap() -> None:
    assert keep_within_the_gap(range(30)) == 90


@pytest.mark.slow
def test_two_thousand_sequences_under_budgets_lie_within_the_certified_gap() -> None:
    assert keep_within_the_gap(range(1000, 3000)) == 6000


def test_changes_tell_exactly_what_the_plan_took_up_and_let_go() -> None:
    problem = make_problem(SIZES["XS"], seed=7)
    plan = Plan(problem, assign(problem))
    rng = np.random.default_rng(1)
    mine = set(plan.chosen().tolist())
    for _ in range(60):
        change = plan.decline(int(rng.choice(plan.chosen())))
        mine = (mine - set(change.removed)) | set(change.added)
        assert mine == set(plan.chosen().tolist())


def test_under_budgets_and_hours_every_rule_holds_and_the_gap_stays_small() -> None:
    size = Size(tasks=300, experts=3000, projects=4)
    problem = make_problem(size, seed=5, budgets=True, hours=True, floors=True, share_cap=0.3)
    answer = assign(problem, effort=Effort(rounds=14, core_pairs=0))
    plan = Plan(problem, answer)
    assert sorted(plan.chosen().tolist()) == answer.chosen.tolist()
    rng = np.random.default_rng(2)
    for step in range(80):
        chosen = np.flatnonzero(plan.network.used[: plan.network.pairs])
        if step % 4 == 0:
            plan.accept(int(rng.choice(chosen)))
        elif step % 4 == 1:
            plan.decline(int(rng.choice(chosen)))
        elif step % 4 == 2:
            plan.set_capacity(int(problem.expert[rng.choice(chosen)]), 1)
        else:
            plan.remove_expert(int(plan.network.expert[rng.choice(chosen)]))
        if step % 10 == 9:
            taken = plan.snapshot()
            assert verify(taken.problem, taken.assignment) == []
    fresh = assign(taken.problem, effort=Effort(rounds=14, core_pairs=0))
    assert taken.assignment.objective >= 0.97 * fresh.objective
    assert problem.budget is not None
    before = plan.chosen()
    plan.set_budget(0, int(problem.budget[0] * 0.8))
    assert len(plan.chosen()) <= len(before)
    taken = plan.snapshot()
    assert verify(taken.problem, taken.assignment) == []


def test_events_that_make_no_sense_are_refused_and_change_nothing() -> None:
    problem = make_problem(SIZES["XS"], seed=7)
    plan = Plan(problem, assign(problem))
    before = plan.chosen().tolist()
    spare = int(np.setdiff1d(np.arange(problem.pairs), plan.chosen())[0])
    with pytest.raises(ProblemInvalid):
        plan.accept(spare)
    with pytest.raises(ProblemInvalid):
        plan.add_task(np.array([1, 1], np.int32), np.ones(2), demand=1)
    with pytest.raises(ProblemInvalid):
        plan.add_task(np.array([99999], np.int32), np.ones(1), demand=1)
    with pytest.raises(ProblemInvalid):
        plan.add_expert(np.array([0], np.int32), np.array([np.nan]), capacity=1)
    with pytest.raises(ProblemInvalid):
        plan.set_budget(0, 5)
    with pytest.raises(ProblemInvalid):
        plan.decline(-1)
    assert plan.chosen().tolist() == before


@pytest.mark.parametrize(
    ("hours", "cost", "words"),
    [
        ([-1.0], [5], "hours[0]"),
        ([np.nan], [5], "hours[0]"),
        ([1.0], [-5], "cost[0]"),
        (None, [5], "hours"),
    ],
)
def test_who_comes_later_has_hours_and_a_cost_or_is_refused(
    hours: list[float] | None, cost: list[int], words: str
) -> None:
    problem = in_order(small_problem(3, Shape(budgets=True, hours=True)))
    plan = Plan(problem, assign(problem))
    before = plan.chosen().tolist()
    with pytest.raises(ProblemInvalid) as refusal:
        plan.add_task(
            np.array([0], np.int32),
            np.ones(1),
            demand=1,
            hours=None if hours is None else np.array(hours),
            cost=np.array(cost),
        )
    assert str(refusal.value).startswith(words)
    assert plan.chosen().tolist() == before
