"""Explanations agree with the plan they explain, in numbers and in words."""

import numpy as np
import pytest

from matching.assign import Effort, assign
from matching.blocking import RULES
from matching.explain import explain_idle_expert, explain_open_seat, explain_pair
from matching.policy import Policy
from matching.problem import Problem
from matching.synthetic import SIZES, make_problem
from matching.value import PairParts, pair_value


def test_every_chosen_pair_beats_its_prices_and_no_other_does() -> None:
    problem = make_problem(SIZES["XS"], seed=4)
    answer = assign(problem)
    chosen = set(answer.chosen.tolist())
    for pair in range(0, problem.pairs, 37):
        told = explain_pair(problem, answer, None, pair)
        assert told.chosen == (pair in chosen)
        assert told.margin >= -1e-9 if told.chosen else told.margin <= 1e-9
        assert told.margin == pytest.approx(told.value - sum(p.amount for p in told.prices))
        assert told.rule in RULES
        assert told.sentence.endswith(".")


def test_the_parts_of_the_value_are_listed() -> None:
    parts = PairParts(stump=np.array([0.5, 0.2]), interest=np.array([1.0, 0.0]))
    value = pair_value(parts, Policy())
    problem = Problem(
        np.array([0, 1]), np.array([0, 0]), value.total, np.array([1]), np.array([1, 1])
    )
    told = explain_pair(problem, assign(problem), value, 0)
    assert told.chosen
    assert dict(told.parts) == {"stump": 0.5, "interest": 0.1}
    assert sum(dict(told.parts).values()) == pytest.approx(told.value)
    lost = explain_pair(problem, assign(problem), value, 1)
    assert lost.margin == pytest.approx(0.2 - 0.2)
    assert lost.rule == "task full"


def test_a_budget_is_named_where_it_keeps_a_seat_open() -> None:
    problem = Problem(
        expert=np.array([0, 1]),
        task=np.array([0, 1]),
        value=np.array([5.0, 3.0]),
        demand=np.array([1, 1]),
        capacity=np.array([1, 1]),
        cost=np.array([60, 60]),
        budget=np.array([100]),
    )
    answer = assign(problem, effort=Effort(target_gap=0))
    assert answer.chosen.tolist() == [0]
    told = explain_open_seat(problem, answer, None, 1)
    assert told.rule == "project budget spent"
    assert told.open_seats == 1
    assert told.candidates[0].expert == 1
    assert "budget" in told.sentence
    assert answer.budget_price[0] > 0
    with pytest.raises(ValueError, match="no open seat"):
        explain_open_seat(problem, answer, None, 0)


def test_an_idle_expert_hears_which_task_was_nearest_and_by_how_much() -> None:
    problem = Problem(
        expert=np.array([0, 1, 1]),
        task=np.array([0, 0, 1]),
        value=np.array([5.0, 3.0, -1.0]),
        demand=np.array([1, 1]),
        capacity=np.array([1, 1, 2]),
    )
    answer = assign(problem)
    told = explain_idle_expert(problem, answer, None, 1)
    assert (told.load, told.capacity) == (0, 1)
    assert told.candidates[0].task == 0
    assert told.candidates[0].margin <= 0
    assert "task, 0" in told.sentence
    alone = explain_idle_expert(problem, answer, None, 2)
    assert alone.rule == "no eligible expert"
    with pytest.raises(ValueError, match="seats taken"):
        explain_idle_expert(problem, answer, None, 0)


def test_there_is_no_explanation_of_what_does_not_exist() -> None:
    problem = make_problem(SIZES["XS"], seed=4)
    answer = assign(problem)
    for asked in (explain_pair, explain_open_seat, explain_idle_expert):
        with pytest.raises(IndexError):
            asked(problem, answer, None, -1)
        with pytest.raises(IndexError):
            asked(problem, answer, None, 10**7)
