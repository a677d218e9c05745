"""Plans against brute force, against properties, and against published optima."""

import threading
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from matching.assign import (
    Assignment,
    Cancelled,
    Effort,
    Infeasible,
    Prices,
    Progress,
    assign,
)
from matching.policy import Policy
from matching.problem import Problem, ProblemInvalid, Quota
from matching.synthetic import SIZES, Size, make_problem
from matching.verify import verify
from tests.matching.brute import EVERYTHING, Shape, best_by_trying, small_problem

SHAPES = {
    "seats": Shape(),
    "floors, locked pairs and priced seats": Shape(floors=True, locked=True, seat_price=True),
    "budgets": Shape(budgets=True),
    "hours": Shape(hours=True),
    "conflicts": Shape(conflicts=True),
    "share caps": Shape(share_cap=True),
    "soft quotas": Shape(quotas=True),
    "hard quotas": Shape(hard_quotas=True),
    "everything": EVERYTHING,
}
EXACT = Effort(target_gap=0.0)
BY_PRICES = Effort(core_pairs=0, neighbourhoods=4, descents=30)


def equal_trying_everything(name: str, seeds: range) -> None:
    """Small problems of a shape: the plan is the best there is, and proved."""
    for seed in seeds:
        problem = small_problem(1000 * seed + len(name), SHAPES[name])
        best = best_by_trying(problem)
        if best is None:
            with pytest.raises(Infeasible):
                assign(problem, effort=EXACT)
            continue
        answer = assign(problem, effort=EXACT)
        assert verify(problem, answer) == [], seed
        assert answer.objective == pytest.approx(best, abs=1e-9), seed
        assert answer.bound >= best - 1e-6, seed
        assert answer.gap <= 1e-6, seed


@pytest.mark.parametrize("name", SHAPES)
def test_the_plan_is_the_best_that_trying_everything_finds(name: str) -> None:
    equal_trying_everything(name, range(120))


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_so_it_is_in_thousands_of_problems(name: str) -> None:
    equal_trying_everything(name, range(120, 720))


def test_larger_problems_of_seats_alone_are_proved_by_their_prices() -> None:
    for seed in range(5):
        problem = make_problem(SIZES["XS"], seed=seed, floors=seed % 2 == 1)
        answer = assign(problem)
        assert answer.proof == "flow"
        assert answer.gap == 0
        assert verify(problem, answer) == []


def test_one_more_seat_or_dollar_never_lowers_the_objective() -> None:
    for seed in range(40):
        problem = small_problem(seed, EVERYTHING)
        if best_by_trying(problem) is None:
            continue
        before = assign(problem, effort=EXACT).objective
        wider = replace(problem, capacity=problem.capacity + 1)
        assert assign(wider, effort=EXACT).objective >= before - 1e-9
        assert problem.budget is not None
        richer = replace(problem, budget=problem.budget + 3)
        assert assign(richer, effort=EXACT).objective >= before - 1e-9


def relabelled(problem: Problem, rng: np.random.Generator) -> tuple[Problem, np.ndarray]:
    """The same people and tasks under other numbers, pairs shuffled; where each pair went."""
    tasks, experts = rng.permutation(problem.tasks), rng.permutation(problem.experts)
    order = rng.permutation(problem.pairs)

    def moved(values: Any, places: np.ndarray) -> Any:
        if values is None or np.ndim(values) == 0:
            return values
        out = np.empty_like(values)
        out[places] = values
        return out

    def picked(values: Any) -> Any:
        return None if values is None else values[order]

    return (
        Problem(
            expert=experts[problem.expert[order]].astype(np.int32),
            task=tasks[problem.task[order]].astype(np.int32),
            value=problem.value[order],
            demand=moved(problem.demand, tasks),
            capacity=moved(problem.capacity, experts),
            hours=picked(problem.hours),
            hours_available=moved(problem.hours_available, experts),
            cost=picked(problem.cost),
            project=moved(problem.project, tasks),
            budget=problem.budget,
            locked=np.argsort(order)[problem.locked],
            conflicts=experts[problem.conflicts].astype(np.int32),
            min_load=moved(problem.min_load, experts),
            min_load_price=problem.min_load_price,
            share_cap=problem.share_cap,
            quotas=tuple(
                replace(q, members=experts[q.members].astype(np.int32)) for q in problem.quotas
            ),
            open_seat_price=moved(problem.open_seat_price, tasks),
            tie_break=picked(problem.tie_break),
        ),
        order,
    )


def test_other_numbers_for_the_same_people_change_nothing() -> None:
    rng = np.random.default_rng(0)
    for seed in range(40):
        problem = small_problem(seed, Shape(floors=True, seat_price=True))
        other, order = relabelled(problem, rng)
        first, second = assign(problem), assign(other)
        assert second.objective == first.objective
        assert second.bound == pytest.approx(first.bound)
        # With a tie-break, equal plans are told apart as well.
        assert sorted(order[second.chosen].tolist()) == first.chosen.tolist()
    for seed in range(20):
        problem = small_problem(seed, EVERYTHING)
        if best_by_trying(problem) is not None:
            other, _ = relabelled(problem, rng)
            first, second = assign(problem, effort=EXACT), assign(other, effort=EXACT)
            assert second.objective == pytest.approx(first.objective)


def test_the_same_input_and_seed_give_the_same_answer() -> None:
    problem = make_problem(SIZES["XS"], seed=3, budgets=True, hours=True, floors=True)
    first, second = (
        assign(problem, seed=9, effort=Effort(rounds=6, core_pairs=0)) for _ in range(2)
    )
    assert (first.chosen == second.chosen).all()
    assert (first.bound, first.gap) == (second.bound, second.gap)
    for name in ("task", "expert", "budget", "hour"):
        assert (getattr(first.prices, name) == getattr(second.prices, name)).all()


def test_a_locked_pair_stays_however_little_it_is_worth() -> None:
    problem = Problem(
        expert=np.array([0, 1]),
        task=np.array([0, 0]),
        value=np.array([-5.0, 9.0]),
        demand=np.array([1]),
        capacity=np.array([1, 1]),
        locked=np.array([0]),
    )
    answer = assign(problem)
    assert answer.chosen.tolist() == [0]
    assert answer.objective == -5.0
    assert verify(problem, answer) == []


def test_a_problem_without_pairs_or_seats_has_an_empty_plan() -> None:
    none = np.zeros(0, np.int32)
    answer = assign(Problem(none, none, np.zeros(0), none, none))
    assert len(answer.chosen) == 0
    problem = Problem(none, none, np.zeros(0), np.array([2, 1]), np.array([3]))
    answer = assign(problem, Policy(open_seat_price=1.5))
    assert answer.objective == -4.5
    assert answer.open_seats.rule == ("no eligible expert", "no eligible expert")


def test_a_policy_prices_open_seats_and_caps_shares() -> None:
    problem = Problem(
        expert=np.array([0, 0]),
        task=np.array([0, 1]),
        value=np.array([-0.5, 2.0]),
        demand=np.array([1, 1]),
        capacity=np.array([2]),
    )
    assert assign(problem).chosen.tolist() == [1]
    assert assign(problem, Policy(open_seat_price=1.0)).chosen.tolist() == [0, 1]
    both = Policy(open_seat_price=1.0, share_cap=0.5)
    capped = assign(problem, both)
    assert capped.chosen.tolist() == [1]
    assert capped.open_seats.rule == ("share cap of the project reached",)


def test_progress_is_told_and_a_run_can_be_cancelled() -> None:
    problem = make_problem(SIZES["XS"], seed=1, budgets=True, hours=True)
    told: list[Progress] = []
    assign(problem, effort=Effort(rounds=4, core_pairs=0), progress=told.append)
    numbers = [one.round for one in told]
    assert numbers[:4] == [1, 2, 3, 4]
    assert numbers == list(range(1, len(told) + 1))
    assert len(told) <= told[0].rounds
    assert all(one.objective <= one.bound for one in told)
    assert all(a.objective <= b.objective for a, b in pairwise(told))
    stop = threading.Event()

    def watch(_one: Progress) -> None:
        stop.set()

    with pytest.raises(Cancelled) as refusal:
        assign(problem, progress=watch, cancelled=stop.is_set)
    assert refusal.value.rounds == 1


def test_the_input_stays_as_it_was() -> None:
    problem = small_problem(5, EVERYTHING)
    before = {name: np.copy(getattr(problem, name)) for name in ("expert", "value", "capacity")}
    assign(problem)
    for name, values in before.items():
        assert (getattr(problem, name) == values).all()


def test_budgets_hours_and_floors_at_once_come_with_a_small_certified_gap() -> None:
    size = Size(tasks=600, experts=5000, projects=8)
    problem = make_problem(size, seed=5, budgets=True, hours=True, floors=True, share_cap=0.2)
    answer = assign(problem, effort=Effort(rounds=14, core_pairs=0))
    assert verify(problem, answer) == []
    assert answer.gap < 0.02


def spoiled(problem: Problem, answer: Assignment) -> list[tuple[str, Assignment]]:
    """Assignments with one thing wrong each."""
    extra = np.setdiff1d(np.arange(problem.pairs), answer.chosen)
    greedy = np.sort(np.append(answer.chosen, extra[:200]))
    return [
        ("seats", replace(answer, chosen=greedy, probability=np.ones(len(greedy)))),
        ("objective", replace(answer, objective=answer.objective + 1)),
        ("bound", replace(answer, bound=answer.objective - 1)),
        ("bound", replace(answer, bound=answer.bound - 0.5 * (answer.bound - answer.objective))),
        ("gap", replace(answer, gap=answer.gap / 2)),
        ("price", replace(answer, prices=replace(answer.prices, task=answer.prices.task * 0.5))),
        ("probab", replace(answer, probability=answer.probability * 0.5)),
        ("twice", replace(answer, chosen=np.append(answer.chosen, answer.chosen[:1]))),
    ]


def test_a_search_that_starts_from_earlier_prices_is_ahead_and_can_be_repeated() -> None:
    before = make_problem(SIZES["XS"], seed=4, budgets=True, hours=True, floors=True)
    earlier = assign(before, effort=BY_PRICES)
    assert before.budget is not None
    rng = np.random.default_rng(6)
    problem = replace(
        before,
        value=before.value * rng.uniform(0.95, 1.05, before.pairs),
        budget=(before.budget * rng.uniform(0.9, 1.1, len(before.budget))).astype(np.int64),
    )

    def first_bound(start: Prices | None) -> float:
        bounds: list[float] = []
        assign(
            problem,
            start=start,
            effort=BY_PRICES,
            progress=lambda step: bounds.append(step.bound),
        )
        return bounds[0]

    warm, again = (assign(problem, start=earlier.prices, effort=BY_PRICES) for _ in range(2))
    assert verify(problem, warm) == []
    assert warm.chosen.tolist() == again.chosen.tolist()
    assert (warm.bound, warm.prices.hour.tolist()) == (again.bound, again.prices.hour.tolist())
    # Where a search without prices begins, the bound is that of no limits at all.
    assert first_bound(earlier.prices) - warm.bound < 0.5 * (first_bound(None) - warm.bound)
    assert warm.gap < 0.05


def test_prices_of_another_problem_are_refused_and_wild_ones_do_no_harm() -> None:
    problem = small_problem(3, EVERYTHING)
    prices = assign(problem, effort=EXACT).prices
    nought = np.zeros(99)
    for name, wrong in (
        ("budget", replace(prices, budget=nought)),
        ("hour", replace(prices, hour=nought)),
        ("quota", replace(prices, quota=nought)),
        ("hour", replace(prices, hour=prices.hour * np.nan)),
    ):
        with pytest.raises(ProblemInvalid, match=f"start.{name}: is not"):
            assign(problem, start=wrong)
    rng = np.random.default_rng(2)
    for seed in range(60):
        problem = small_problem(seed, EVERYTHING)
        best = best_by_trying(problem)
        if best is None:
            continue
        prices = assign(problem, effort=EXACT).prices
        wild = replace(
            prices,
            budget=rng.choice([-1.0, 0.0, 1e-9, 1e6], len(prices.budget)),
            hour=rng.choice([-1.0, 0.0, 1e-9, 1e6], len(prices.hour)),
        )
        answer = assign(problem, start=wild, effort=EXACT)
        assert verify(problem, answer) == []
        assert answer.objective == pytest.approx(best, abs=1e-9)


def test_the_judge_finds_each_thing_that_is_wrong() -> None:
    problem = make_problem(SIZES["XS"], seed=2, budgets=True)
    answer = assign(problem, effort=Effort(rounds=6, core_pairs=0))
    assert verify(problem, answer) == []
    for word, wrong in spoiled(problem, answer):
        found = verify(problem, wrong)
        assert found, word
        assert any(word in sentence for sentence in found) or word == "seats", (word, found)


def test_the_judge_finds_each_broken_rule() -> None:
    problem = make_problem(SIZES["XS"], seed=2)
    answer = assign(problem)
    expert, task = problem.expert[answer.chosen], problem.task[answer.chosen]
    stranger = int(np.setdiff1d(np.arange(problem.pairs), answer.chosen)[0])
    shared = np.flatnonzero(np.bincount(task) >= 2)[0]
    both = expert[task == shared][:2]
    members = np.arange(problem.experts, dtype=np.int32)
    rules: list[tuple[str, dict[str, Any]]] = [
        ("hours", {"hours": np.full(problem.pairs, 5.0), "hours_available": np.ones(2000)}),
        ("spends", {"cost": np.full(problem.pairs, 9), "budget": np.array([8])}),
        ("conflict", {"conflicts": both[None, :]}),
        ("share cap", {"share_cap": 1e-6}),
        ("quota 0", {"quotas": (Quota(0, members, at_most=3),)}),
    ]
    for word, change in rules:
        assert any(word in one for one in verify(replace(problem, **change), answer)), word
    # A locked pair that the plan left out; nothing else is changed.
    locked = replace(problem, locked=np.array([stranger]), demand=problem.demand + 1)
    assert any("locked" in one for one in verify(locked, answer))
