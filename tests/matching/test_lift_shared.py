"""Lift of many contributors from few batches."""

import numpy as np
import pytest

from matching.credit import CreditInvalid
from matching.lift import LiftNotIdentified
from matching.lift_shared import SharedLift, deal_items
from matching.problem import Float64, Int64


def batches(who: Int64, count: int, seed: int) -> Float64:
    """The items of each contributor in each batch, an empty one first."""
    placed = deal_items(who, count, seed=seed)
    table = np.zeros((count + 1, int(who.max()) + 1))
    np.add.at(table, (placed + 1, who), 1)
    return table


def test_more_contributors_than_batches_are_told_apart_with_intervals_that_hold() -> None:
    held, right = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        who = np.repeat(np.arange(30), rng.integers(5, 40, 30))
        real = 0.01 * (1 + rng.normal(0, 0.8, 30))
        table = batches(who, 24, seed)
        found = SharedLift().fit(table, 5 + table @ real + rng.normal(0, 0.05, 25))
        held.append(np.abs(found.added_ - real) < 1.72 * found.added_sd_)
        right.append(np.corrcoef(found.relative_, real)[0, 1])
    assert 0.85 <= np.mean(held) <= 0.98
    assert np.mean(right) > 0.3


def test_contributors_who_are_alike_are_kept_near_the_average() -> None:
    rng = np.random.default_rng(2)
    table = batches(np.repeat(np.arange(10), 30), 20, 2)
    found = SharedLift().fit(table, 0.02 * table.sum(axis=1) + rng.normal(0, 0.05, 21))
    assert np.abs(found.relative_).max() < 0.2
    assert ((found.low_ < 0) & (found.high_ > 0)).all()
    assert found.common_ == pytest.approx(0.02, abs=0.01)


def test_one_contributor_a_metric_that_never_moves_and_one_that_is_noise_are_answered() -> None:
    alone = batches(np.zeros(40, np.int64), 8, 1)
    for metric in (np.zeros(9), np.full(9, 7.0), np.random.default_rng(0).normal(size=9) * 1e9):
        found = SharedLift().fit(alone, metric)
        told = [found.relative_, found.low_, found.high_, found.added_, found.added_sd_]
        assert np.isfinite(np.array(told)).all()


def test_what_cannot_be_told_is_refused() -> None:
    table = batches(np.repeat(np.arange(4), 10), 8, 1)
    with pytest.raises(LiftNotIdentified):
        SharedLift().fit(table[:4], np.zeros(4))
    with pytest.raises(LiftNotIdentified):
        SharedLift().fit(np.ones((9, 4)), np.arange(9.0))
    with pytest.raises(CreditInvalid, match="finite"):
        SharedLift().fit(table, np.full(9, np.inf))
    with pytest.raises(CreditInvalid, match="fit batches"):
        SharedLift().fit(table, np.zeros(3))


def test_items_are_dealt_alike_from_one_seed_and_every_one_goes_somewhere() -> None:
    who = np.repeat(np.arange(5), 20)
    placed = deal_items(who, 10, seed=3)
    assert (placed == deal_items(who, 10, seed=3)).all()
    assert (placed != deal_items(who, 10, seed=4)).any()
    assert 0 <= placed.min() <= placed.max() < 10
    assert all(len(set(placed[who == one].tolist())) <= 5 for one in range(5))
