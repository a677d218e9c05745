"""Preferences with style held equal: what is recovered, how wide intervals are, what is refused."""

import numpy as np
import pytest

from matching.arrays import ArrayInvalid
from matching.style import LEAST_RATERS, Styled, StyleFit, fit_style


def draw(
    *, raters: int, each: int, worth: list[float], likes: float, seed: int, moods: float = 0.0
) -> Styled:
    """Comparisons by raters who like one feature; the last source has the most of it."""
    rng = np.random.default_rng(seed)
    size = raters * each
    left = rng.integers(0, len(worth), size)
    right = (left + rng.integers(1, len(worth), size)) % len(worth)
    rater = np.repeat(np.arange(raters), each)
    has = rng.uniform(0, 0.6, (size, 2)) + 0.4 * (np.stack([left, right], 1) == len(worth) - 1)
    style = np.stack([has[:, 0] - has[:, 1], rng.uniform(-1, 1, size)], axis=1)
    own = likes + moods * rng.normal(size=raters)
    z = np.array(worth)[left] - np.array(worth)[right] + own[rater] * style[:, 0]
    outcome = (rng.uniform(size=size) < 1 / (1 + np.exp(-z))).astype(np.float64)
    return Styled(left, right, rater, outcome, style, sources=len(worth))


def test_the_raw_winner_is_the_dressed_one_and_the_controlled_winner_the_better_one() -> None:
    seen = draw(raters=60, each=30, worth=[0.8, 0.0, 0.3], likes=4.0, seed=1)
    raw, controlled = fit_style(seen, is_controlled=False), fit_style(seen)
    assert int(raw.worth.argmax()) == 2
    assert int(controlled.worth.argmax()) == 0
    truth = np.array([0.8, 0.0, 0.3]) - np.mean([0.8, 0.0, 0.3])
    assert ((controlled.low < truth) & (truth < controlled.high)).all()
    assert controlled.effect_low[0] < 4.0 < controlled.effect_high[0]
    assert controlled.p_value[0] < 1e-6
    assert controlled.p_value[1] > 0.01
    assert raw.effect.shape == (0,)
    assert (raw.groups, raw.raters) == (1, 60)


def test_intervals_over_raters_cover_what_raters_with_moods_do_on_average() -> None:
    covered, flagged = 0, 0
    for seed in range(60):
        seen = draw(raters=40, each=15, worth=[0.0, 0.0], likes=0.0, moods=1.0, seed=seed)
        fit = fit_style(seen)
        covered += bool(fit.effect_low[0] < 0 < fit.effect_high[0])
        flagged += bool(fit.p_value[0] < 0.05)
    # Nine hundred and fifty in a thousand are promised; of sixty, fewer than 51 are one in 3,000.
    assert covered >= 51
    assert flagged == 60 - covered


def test_ties_are_half_a_win_and_sides_do_not_matter() -> None:
    seen = draw(raters=12, each=20, worth=[0.5, 0.0], likes=1.0, seed=3)
    outcome = seen.outcome.copy()
    outcome[::5] = 0.5
    one = fit_style(Styled(seen.left, seen.right, seen.rater, outcome, seen.style, 2))
    other = fit_style(Styled(seen.right, seen.left, seen.rater, 1 - outcome, -seen.style, 2))
    for name in ("worth", "low", "high", "effect", "p_value"):
        assert np.allclose(getattr(one, name), getattr(other, name), atol=1e-7)


def only(left: list[int], right: list[int], outcome: list[float], sources: int) -> StyleFit:
    size = len(left)
    return fit_style(
        Styled(
            np.array(left, np.int64),
            np.array(right, np.int64),
            np.arange(size),
            np.array(outcome),
            np.zeros((size, 1)),
            sources,
        )
    )


def test_odd_inputs_are_finite_and_say_what_they_do_not_know() -> None:
    nothing = only([], [], [], 1)
    assert (nothing.worth.tolist(), nothing.raters) == ([0.0], 0)
    # Who always wins is ahead by a finite stretch, and few raters give no interval.
    always = only([0] * 5, [1] * 5, [1.0] * 5, 2)
    assert 1 < always.worth[0] < 10
    assert np.isneginf(always.low).all()
    assert np.isposinf(always.high).all()
    enough = only([0] * LEAST_RATERS, [1] * LEAST_RATERS, [1.0, 0.0] * (LEAST_RATERS // 2), 2)
    assert np.isfinite(enough.low).all()
    # What never differs has no effect and no interval; what never met has no order.
    assert (enough.effect[0], enough.p_value[0]) == (0.0, 1.0)
    assert np.isneginf(enough.effect_low[0])
    assert only([0, 2], [1, 3], [1.0, 1.0], 4).groups == 2
    # One source beside itself tells of style alone.
    assert only([0, 0], [0, 0], [1.0, 0.0], 1).worth.tolist() == [0.0]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"left": np.array([0, 2])}, "left"),
        ({"outcome": np.array([0.0, 1.5])}, "outcome"),
        ({"outcome": np.array([0.0, np.nan])}, "outcome"),
        ({"rater": np.array([0])}, "rater"),
        ({"style": np.zeros(2)}, "style"),
        ({"style": np.array([[0.0], [np.inf]])}, "style"),
    ],
)
def test_arrays_that_break_their_contract_are_refused_by_name(
    given: dict[str, np.ndarray], named: str
) -> None:
    whole = {
        "left": np.array([0, 1]),
        "right": np.array([1, 0]),
        "rater": np.array([0, 1]),
        "outcome": np.array([0.0, 1.0]),
        "style": np.zeros((2, 1)),
    }
    with pytest.raises(ArrayInvalid) as refused:
        Styled(**(whole | given), sources=2)
    assert refused.value.array == named
