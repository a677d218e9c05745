"""The frontier: rates by level, alarms, releases, calibration sets, and the next complexity."""

import math

import numpy as np
import pytest
from scipy.special import expit

from matching.arrays import ArrayInvalid
from matching.complexity import Ladder, productive_experts, propose_level
from matching.frontier import FrontierTracker
from matching.release import ModelBelief, calibration_set


def feed(tracker: FrontierTracker, cell: int, rate: float, count: int, seed: int) -> int | None:
    """So many attempts at a rate; after how many the alarm came."""
    outcomes = np.random.default_rng(seed).random(count) < rate
    for n, stumped in enumerate(outcomes.tolist()):
        if tracker.observe(cell, float(stumped), at=0.0):
            return n + 1
    return None


def test_a_level_s_rate_is_found_with_an_interval_that_narrows_and_widens_again() -> None:
    inside = 0
    for seed in range(60):
        tracker = FrontierTracker()
        cell = tracker.open()
        wide = tracker.rate(cell, at=0.0)
        feed(tracker, cell, 0.7, 80, seed)
        told, later = tracker.rate(cell, at=0.0), tracker.rate(cell, at=20.0)
        assert told.high - told.low < 0.5 * (wide.high - wide.low)
        assert later.sd > told.sd
        inside += told.low <= 0.7 <= told.high
    assert inside >= 48


def test_an_alarm_comes_soon_after_a_fall_and_seldom_without_one() -> None:
    delays, early = [], 0
    for seed in range(80):
        tracker = FrontierTracker()
        cell = tracker.open()
        if feed(tracker, cell, 0.74, 100, seed):
            early += 1
            continue
        delays.append(feed(tracker, cell, 0.3, 400, seed + 1000) or 400)
    assert np.median(delays) <= 15
    assert early / 80 < 0.5


def test_an_alarm_is_raised_once_until_the_level_opens_anew() -> None:
    tracker = FrontierTracker(opening=10)
    cell = tracker.open()
    feed(tracker, cell, 1.0, 20, 0)
    assert feed(tracker, cell, 0.0, 50, 0) is not None
    assert feed(tracker, cell, 0.0, 50, 0) is None
    tracker.restart(cell)
    assert tracker.rate(cell, at=0.0).opening is None
    assert feed(tracker, cell, 0.0, 50, 0) is None


@pytest.mark.parametrize("opening_rate", [None, 0.7])
def test_a_cell_goes_on_from_what_was_put_away(opening_rate: float | None) -> None:
    whole, away = FrontierTracker(), FrontierTracker()
    cell = whole.open(opening_rate=opening_rate)
    feed(whole, cell, 0.6, 35, 1)
    kept = whole.kept(cell)
    # A column of floats takes nothing else, a whole number neither.
    assert {type(number) for number in kept} == {float}
    again = away.take_up(kept)
    feed(whole, cell, 0.5, 20, 2)
    feed(away, again, 0.5, 20, 2)
    assert away.kept(again) == whole.kept(cell)
    with pytest.raises(ArrayInvalid):
        away.take_up(kept[1:])


def test_a_level_that_gets_easier_for_experts_raises_no_alarm() -> None:
    tracker = FrontierTracker()
    cell = tracker.open(opening_rate=0.4)
    assert feed(tracker, cell, 0.7, 500, 4) is None


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_level_where_all_is_right_or_all_is_wrong_stays_finite(rate: float) -> None:
    tracker = FrontierTracker()
    cell = tracker.open()
    feed(tracker, cell, rate, 2000, 1)
    told = tracker.rate(cell, at=1e6)
    assert 0 < told.low < told.mean < told.high < 1
    assert abs(told.mean - rate) < 0.4


def test_attempts_that_come_late_or_are_doubtful_count_and_do_no_harm() -> None:
    tracker = FrontierTracker()
    cell = tracker.open(at=5.0)
    tracker.observe(cell, 0.5, at=9.0, weight=0.2)
    before = tracker.rate(cell, at=9.0)
    tracker.observe(cell, 1.0, at=2.0)
    after = tracker.rate(cell, at=9.0)
    assert after.mean > before.mean
    assert after.sd < before.sd
    tracker.release(cell, at=10.0, sd=1.5)
    assert tracker.rate(cell, at=10.0).sd > 1.5
    with pytest.raises(ArrayInvalid, match="stumped"):
        tracker.observe(cell, math.nan, at=9.0)
    with pytest.raises(ArrayInvalid, match="cell"):
        tracker.observe(7, 1.0, at=9.0)


def test_before_any_run_a_release_is_expected_near_the_best_earlier_one_or_the_trend() -> None:
    prior = ModelBelief.of([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], release_date=3.0)
    assert 1.5 < prior.mean < 3.0
    own = ModelBelief.of(
        [0.0, 1.0, 4.0], [0.0, 1.0, 2.0], ["a", "a", "b"], release_date=3.0, release_vendor="a"
    )
    other = ModelBelief.of(
        [0.0, 1.0, 4.0], [0.0, 1.0, 2.0], ["a", "a", "b"], release_date=3.0, release_vendor="b"
    )
    assert own.mean < other.mean
    assert ModelBelief.of([], [], release_date=1.0).sd > 1.5


def test_thirty_runs_place_a_model_that_nobody_expected() -> None:
    rng = np.random.default_rng(3)
    prior = ModelBelief.of([0.0], [0.0], release_date=0.5)
    base = rng.normal(4.0, 2.0, 200)
    level = np.digitize(base, [2.0, 4.0, 6.0])
    chosen = calibration_set(prior, base, level, size=30, seed=1)
    stumped = rng.random(30) < expit(base[chosen] - 4.5)
    after = prior.seen(base[chosen], stumped, level[chosen])
    assert abs(after.mean - 4.5) < 1.2
    assert abs(prior.mean - 4.5) > 3
    assert after.sd < 0.8 * prior.sd
    labels, middle, low, high = after.level_rates(base, level)
    assert labels.tolist() == [0, 1, 2, 3]
    assert (low <= middle).all()
    assert (middle <= high).all()
    told = after.stump_rate(base, level)
    assert told[level == 3].mean() == pytest.approx(middle[3])
    # Runs of a level, taken in two parts, say the same as taken at once.
    half = prior.seen(base[chosen[:15]], stumped[:15], level[chosen[:15]])
    parts = half.seen(base[chosen[15:]], stumped[15:], level[chosen[15:]])
    assert parts.mean == pytest.approx(after.mean)


def test_a_calibration_set_takes_telling_tasks_of_every_stratum_and_each_once() -> None:
    prior = ModelBelief.normal(0.0, 1.0)
    base = np.concatenate([np.linspace(-8, 8, 100), np.linspace(-8, 8, 100)])
    stratum = np.repeat(["law", "chemistry"], 100)
    chosen = calibration_set(prior, base, stratum, size=20, seed=5)
    assert len(set(chosen.tolist())) == 20
    assert (stratum[chosen] == "law").sum() == 10
    assert np.abs(base[chosen]).max() < 2.5
    assert set(chosen) != set(calibration_set(prior, base, stratum, size=20, seed=6))
    again = calibration_set(prior, base, stratum, size=500, seed=5, excluded=chosen)
    assert not set(again) & set(chosen)
    assert len(again) == 180


def test_who_can_still_stump_is_counted_with_what_is_not_known() -> None:
    logit = np.column_stack([np.full(50, 3.0), np.full(50, -6.0)])
    pool = productive_experts(logit, np.full((50, 2), 0.3), shared_sd=0.2)
    assert pool.count.round().tolist() == [50.0, 0.0]
    doubtful = productive_experts(np.full((50, 1), -2.6), np.full((50, 1), 1.0), shared_sd=1.0)
    assert 15 < doubtful.count[0] < 35
    assert doubtful.low[0] < doubtful.count[0] < doubtful.high[0]


def test_the_smallest_level_that_brings_the_pool_back_is_proposed() -> None:
    skill = np.linspace(-2, 2, 100)
    minutes = 15.0 * 4.0 ** np.arange(5)
    logit = skill[:, None] - 4.0 + 1.5 * np.arange(5)
    sd = np.full(logit.shape, 0.2)
    told = propose_level(logit, sd, minutes=minutes, current=0, opening=100)
    assert told.level == 2
    assert told.low <= told.productive <= told.high
    assert "2 up" in told.reason
    cautious = propose_level(
        logit, sd, minutes=minutes, current=0, opening=100, shared_sd=0.8, cautious=True
    )
    assert cautious.level is not None
    assert cautious.level > 2
    stay = propose_level(logit, sd, minutes=minutes, current=3, opening=100)
    assert stay.level == 3


def test_a_pool_that_no_level_brings_back_is_called_saturated() -> None:
    logit = np.full((40, 3), -7.0)
    told = propose_level(logit, np.full((40, 3), 0.1), minutes=[15, 60, 240], current=0, opening=40)
    assert told.is_saturated
    assert "no level" in told.reason
    # A level that would bring them back, but at too few stumps an hour for the lab, is none.
    able = np.column_stack([np.full(40, -7.0), np.full(40, 2.0)])
    slow = propose_level(
        able, np.full((40, 2), 0.1), minutes=[15, 6000], current=0, opening=40, least_per_hour=0.5
    )
    assert slow.is_saturated
    alone = propose_level([[0.0]], [[1.0]], minutes=[15], current=0, opening=1)
    assert alone.level == 0


def test_untried_levels_lie_on_a_rising_line_with_growing_doubt() -> None:
    minutes, seen = np.array([15.0, 60.0, 240.0]), np.array([-3.0, -2.0, -1.0])
    logit, sd = Ladder().forecast(minutes, seen, np.full(3, 0.2), ahead=[960.0, 3840.0])
    assert -0.5 < logit[0] < 0.5
    assert logit[1] > logit[0]
    assert sd[1] > sd[0]
    falling, _ = Ladder().forecast(minutes, -10 * seen, np.full(3, 0.01), ahead=minutes)
    assert (np.diff(falling) >= 0).all()
    empty, wide = Ladder().forecast([], [], [], ahead=[15.0])
    assert math.isfinite(empty[0])
    assert wide[0] > 5


def test_what_is_refused_names_the_array_and_the_place() -> None:
    with pytest.raises(ArrayInvalid, match=r"logit\[1\]"):
        productive_experts([[0.0], [math.nan]], [[1.0], [1.0]])
    with pytest.raises(ArrayInvalid, match="sd"):
        productive_experts([[0.0], [1.0]], [[1.0, 1.0]])
    with pytest.raises(ArrayInvalid, match="current"):
        propose_level([[0.0]], [[1.0]], minutes=[15], current=3, opening=1)
    with pytest.raises(ArrayInvalid, match=r"stumped\[0\]"):
        ModelBelief.normal(0.0, 1.0).seen([0.0], [2.0])
    with pytest.raises(ArrayInvalid, match="excluded"):
        calibration_set(ModelBelief.normal(0.0, 1.0), [0.0], ["a"], seed=1, excluded=[4])
