"""What a fit does not know of everybody at once."""

import numpy as np
import pytest

from matching.ability import Attempts, StumpModel
from matching.design import Factor
from matching.shared import Shared, shared_covariance
from tests.bench.simulations.productive import asked


def made(rows: int, experts: int, seed: int, *, levels: int = 2) -> Attempts:
    """Claims of experts who differ, at some levels against two models; all claims hold."""
    rng = np.random.default_rng(seed)
    who, level = rng.integers(0, experts, rows), rng.integers(0, levels, rows)
    skill = rng.normal(0, 1, experts)
    fooled = (rng.random(rows) < 1 / (1 + np.exp(-skill[who] - 0.5 * level))).astype(np.float64)
    return Attempts(
        expert=who,
        task=np.arange(rows),
        domain=np.ones(rows, np.int64),
        model=rng.integers(1, 3, rows),
        level=level,
        day=np.sort(rng.random(rows)),
        start=np.ones(rows),
        fooled=fooled,
        valid=np.where(fooled == 1, 1.0, np.nan),
    )


def test_the_joint_variance_is_that_of_the_whole_curvature_inverted() -> None:
    rng = np.random.default_rng(3)
    rows, people, tasks = 300, 12, 9
    dense = np.column_stack([np.ones(rows), rng.normal(size=rows)])
    factors = [
        Factor(rng.integers(0, tasks, rows), tasks, 0.7),
        Factor(rng.integers(-1, 3, rows), 3, 0.5),
        Factor(rng.integers(0, people, rows), people, 1.2),
    ]
    level = [rng.normal(size=factor.levels) for factor in factors]
    weight, penalty = rng.random(rows), np.array([0.05, 1.0])
    found = shared_covariance(
        dense, factors, [False, True, False], (np.array([0.2, 0.4]), level),
        [factor.variance for factor in factors], weight, penalty,
    )  # fmt: skip
    marks = [(f.at[:, None] == np.arange(f.levels)).astype(float) for f in factors]
    every = np.column_stack([dense, marks[1], marks[0], marks[2]])
    eta = every @ np.concatenate([[0.2, 0.4], level[1], level[0], level[2]])
    p = 1 / (1 + np.exp(-eta))
    prior = [penalty, np.full(3, 2.0), np.full(tasks, 1 / 0.7), np.full(people, 1 / 1.2)]
    whole = (every * (weight * p * (1 - p))[:, None]).T @ every + np.diag(np.concatenate(prior))
    assert found == pytest.approx(np.linalg.inv(whole)[:5, :5], abs=1e-4)


def test_a_level_that_was_never_met_is_as_unsure_as_before_any() -> None:
    held = Shared(1, ("context0",), (np.array([4, 7]),), (0.5,), np.diag([0.1, 0.2, 0.3]))
    wanted = {"context0": np.array([4, 7, 5, -1])}
    assert held.variance_of(np.ones((4, 1)), wanted) == pytest.approx([0.3, 0.4, 0.6, 0.1])


def test_more_is_known_of_everybody_from_more_experts_and_not_from_more_of_the_same() -> None:
    alone = StumpModel().fit(made(400, 4, 1)).shared_sd(asked(1, 0, 1.0, who=-1))[0]
    many = StumpModel().fit(made(400, 100, 1)).shared_sd(asked(1, 0, 1.0, who=-1))[0]
    assert many < 0.7 * alone


def test_what_is_not_known_of_everybody_is_kept_with_the_version() -> None:
    model = StumpModel().fit(made(200, 20, 2))
    pairs = asked(1, 1, 1.0, who=-1)
    assert model.shared_sd(pairs) > 0
    again = StumpModel.from_bytes(model.to_bytes())
    assert np.array_equal(again.shared_sd(pairs), model.shared_sd(pairs))
