"""Predictions that no longer hold are noticed, and those that hold are left alone."""

import numpy as np
import pytest
from scipy.special import expit

from matching.arrays import ArrayInvalid
from matching.drift import CalibrationWatch


def delay(shift: float, seed: int, count: int = 1_500, honest: int = 0) -> int | None:
    """After how many outcomes predictions are called off that are off by a shift of logits."""
    rng = np.random.default_rng(seed)
    at = rng.normal(0.0, 1.0, count)
    off = np.where(np.arange(count) < honest, 0.0, shift)
    came = rng.random(count) < expit(at + off)
    watch = CalibrationWatch()
    for n in range(count):
        if watch.observe(float(expit(at[n])), float(came[n])) is not None:
            return n + 1
    return None


@pytest.mark.parametrize("shift", [0.0, 0.2, -0.2])
def test_predictions_that_hold_or_nearly_so_raise_no_alarm(shift: float) -> None:
    assert [delay(shift, seed) for seed in range(8)].count(None) >= 7


@pytest.mark.parametrize("shift", [1.0, -1.0])
def test_predictions_that_are_off_either_way_are_noticed(shift: float) -> None:
    found = [delay(shift, seed) or 10_000 for seed in range(8)]
    assert np.median(found) < 150


def test_predictions_that_go_wrong_after_a_long_good_time_are_noticed_too() -> None:
    found = [delay(-1.5, seed, honest=800) for seed in range(6)]
    assert all(one is not None and 800 < one < 1_000 for one in found)


def test_an_alarm_is_raised_once_and_tells_what_was_expected_and_what_came() -> None:
    watch = CalibrationWatch()
    drifts = [watch.observe(0.9, 0.0) for _ in range(100)]
    told = [one for one in drifts if one is not None]
    assert len(told) == 1
    assert told[0].came == 0.0
    assert told[0].expected == pytest.approx(0.9)
    assert told[0].evidence >= 100
    assert "90%" in told[0].reason


def test_certain_predictions_and_soft_outcomes_stay_finite() -> None:
    watch = CalibrationWatch()
    for said, came in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (1.0, 1.0)):
        found = watch.observe(said, came)
        assert found is None or np.isfinite(found.evidence)
    with pytest.raises(ArrayInvalid):
        watch.observe(1.5, 0.0)
