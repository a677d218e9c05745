"""What a problem refuses, and in which words."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from matching.problem import Problem, ProblemInvalid, Quota, newcomer_quotas


def plain(**changes: Any) -> Problem:
    """Two tasks, two experts, four pairs, everything in order."""
    given: dict[str, Any] = {
        "expert": np.array([0, 1, 0, 1], np.int32),
        "task": np.array([0, 0, 1, 1], np.int32),
        "value": np.array([1.0, 2.0, 3.0, 4.0]),
        "demand": np.array([1, 2], np.int32),
        "capacity": np.array([1, 2], np.int32),
    }
    return Problem(**(given | changes))


BAD: list[tuple[dict[str, Any], str, int | None]] = [
    ({"value": np.array([1.0, np.nan, 3, 4])}, "value", 1),
    ({"value": np.array([1.0, 2, np.inf, 4])}, "value", 2),
    ({"value": np.array([1.0, 2, 3, -2e6])}, "value", 3),
    ({"value": np.array([1.0, 2, 3])}, "value", None),
    ({"value": np.array(["a", "b", "c", "d"])}, "value", None),
    ({"expert": np.array([0, 1, 0, 2])}, "expert", 3),
    ({"expert": np.array([0, -1, 0, 1])}, "expert", 1),
    ({"expert": np.array([0.0, 1, 0, 1])}, "expert", None),
    ({"expert": np.array([[0, 1], [0, 1]])}, "expert", None),
    ({"task": np.array([0, 0, 1, 5])}, "task", 3),
    ({"expert": np.array([0, 0, 0, 1])}, "expert", 1),
    ({"task": np.array([1, 0, 1, 1])}, "expert", 2),
    ({"demand": np.array([1, -1])}, "demand", 1),
    ({"capacity": np.array([-3, 1])}, "capacity", 0),
    ({"capacity": np.array([1 << 40, 1])}, "capacity", 0),
    ({"hours": np.array([1.0, -1, 1, 1])}, "hours", 1),
    ({"hours_available": np.array([1.0, 1.0])}, "hours", None),
    ({"hours": np.ones(4), "hours_available": np.array([1.0, np.nan])}, "hours_available", 1),
    ({"cost": np.array([1.5, 1, 1, 1])}, "cost", None),
    ({"cost": np.array([1, 1, -1, 1])}, "cost", 2),
    ({"budget": np.array([5])}, "cost", None),
    ({"cost": np.ones(4, int), "budget": np.array([5, 5])}, "project", None),
    (
        {"cost": np.ones(4, int), "budget": np.array([5]), "project": np.array([0, 1])},
        "project",
        1,
    ),
    ({"locked": np.array([4])}, "locked", 0),
    ({"locked": np.array([1, 1])}, "locked", 1),
    ({"locked": np.array([0, 1])}, "locked", 1),
    ({"locked": np.array([0, 2])}, "locked", 1),
    (
        {"locked": np.array([2]), "hours": np.full(4, 2.0), "hours_available": np.ones(2)},
        "locked",
        0,
    ),
    ({"locked": np.array([3]), "cost": np.full(4, 7), "budget": np.array([6])}, "locked", 0),
    ({"locked": np.array([2, 3]), "conflicts": np.array([[1, 0]])}, "locked", 1),
    (
        {"locked": np.array([1, 3]), "share_cap": 0.4, "capacity": np.array([2, 2])},
        "locked",
        1,
    ),
    ({"locked": np.array([2]), "quotas": (Quota(0, np.array([0]), at_most=0),)}, "locked", 0),
    ({"conflicts": np.array([[0, 0]])}, "conflicts", 0),
    ({"conflicts": np.array([[0, 1], [0, 9]])}, "conflicts", 1),
    ({"conflicts": np.array([0, 1])}, "conflicts", None),
    ({"min_load": np.array([2, 0])}, "min_load", 0),
    ({"min_load_price": float("nan")}, "min_load_price", 0),
    ({"share_cap": 0.0}, "share_cap", None),
    ({"share_cap": float("nan")}, "share_cap", None),
    ({"open_seat_price": np.array([1.0, -1.0])}, "open_seat_price", 1),
    ({"quotas": (Quota(3, np.array([0])),)}, "quotas", 0),
    ({"quotas": (Quota(0, np.array([7])),)}, "quotas", 0),
    ({"quotas": (Quota(0, np.array([0]), at_least=3, at_most=2),)}, "quotas", 0),
    ({"quotas": (Quota(0, np.array([0]), price=float("nan")),)}, "quotas", 0),
    ({"tie_break": np.array([1, 2, 3, 4])}, "tie_break", None),
]


@pytest.mark.parametrize(("changes", "array", "index"), BAD)
def test_a_bad_array_is_refused_by_name_and_index(
    changes: dict[str, Any], array: str, index: int | None
) -> None:
    with pytest.raises(ProblemInvalid) as refusal:
        plain(**changes)
    assert (refusal.value.array, refusal.value.index) == (array, index)
    assert array in str(refusal.value)


@pytest.mark.parametrize(
    "breaking",
    [
        lambda arrays: arrays["value"].__setitem__(0, np.nan),
        lambda arrays: arrays["expert"].__setitem__(1, 99),
        lambda arrays: arrays["task"].__setitem__(1, -4),
        lambda arrays: arrays["demand"].__setitem__(0, -1),
    ],
)
def test_every_single_broken_entry_is_found(
    breaking: Callable[[dict[str, np.ndarray]], None],
) -> None:
    arrays = {
        "expert": np.array([0, 1, 0, 1]),
        "task": np.array([0, 0, 1, 1]),
        "value": np.arange(4.0),
        "demand": np.ones(2, np.int64),
    }
    breaking(arrays)
    with pytest.raises(ProblemInvalid):
        plain(**arrays)


def test_a_problem_keeps_views_that_cannot_be_written() -> None:
    value = np.arange(4.0)
    problem = plain(value=value)
    with pytest.raises(ValueError, match="read-only"):
        problem.value[0] = 3
    value[0] = 5.0  # The caller's own array stays theirs.


def test_an_empty_problem_is_a_problem() -> None:
    none = np.zeros(0, np.int32)
    problem = Problem(none, none, np.zeros(0), none, none)
    assert (problem.pairs, problem.tasks, problem.experts, problem.projects) == (0, 0, 0, 1)


def test_a_share_cap_never_bans_an_expert() -> None:
    problem = plain(share_cap=0.1)
    assert problem.share_limit().tolist() == [1]
    assert replace(problem, share_cap=0.67).share_limit().tolist() == [2]


def test_newcomer_quotas_never_ask_for_more_than_newcomers_could_take() -> None:
    problem = plain()
    quotas = newcomer_quotas(problem, np.array([True, False]), 1.0, price=None)
    assert [(quota.project, quota.at_least) for quota in quotas] == [(0, 2)]
    assert newcomer_quotas(problem, np.array([False, False]), 1.0, price=None) == ()
