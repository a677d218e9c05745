"""Coefficients of agreement against published figures, hidden gold, and odd inputs."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from matching.confusion import coins
from matching.goldwatch import GoldWatch, first_alert, free_gold
from matching.kappa import Distance, agreements, cohen
from matching.votes import Votes, VotesInvalid
from tests.matching.crowds import crowd


def table(rows: Sequence[Sequence[int | None]], classes: int) -> Votes:
    """Votes from a row for each reviewer, a place for each item."""
    cells = [
        (item, reviewer, label)
        for reviewer, row in enumerate(rows)
        for item, label in enumerate(row)
        if label is not None
    ]
    item, reviewer, label = (np.array(column) for column in zip(*cells, strict=True))
    return Votes(item, reviewer, label, len(rows[0]), len(rows), classes)


N = None
KRIPPENDORFF = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
    [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
]
"""The example of Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), part C."""


@pytest.mark.parametrize(
    ("distance", "alpha"),
    [(Distance.NOMINAL, 0.743), (Distance.ORDINAL, 0.815), (Distance.INTERVAL, 0.849)],
)
def test_alpha_is_that_of_krippendorffs_own_example(distance: Distance, alpha: float) -> None:
    rows = [[None if x is None else x - 1 for x in row] for row in KRIPPENDORFF]
    found = agreements(table(rows, 5), distance=distance).alpha
    assert found.value == pytest.approx(alpha, abs=5e-4)
    assert found.items == 11
    assert found.low is not None
    assert found.high is not None
    assert found.low <= alpha <= found.high


def test_fleiss_kappa_is_that_of_the_textbook_table() -> None:
    # Ten subjects, fourteen raters, five classes: the table that is quoted with kappa 0.210.
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    columns = [[label for label, times in enumerate(row) for _ in range(times)] for row in counts]
    rows = [list(column) for column in zip(*columns, strict=True)]
    found = agreements(table(rows, 5))
    assert found.fleiss.value == pytest.approx(0.210, abs=1e-3)


def test_cohens_kappa_and_ac1_against_figures_by_hand() -> None:
    # 50 items: both yes 20, both no 15, 5 and 10 apart: kappa 0.4.
    first = [1] * 25 + [0] * 25
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    votes = table([first, second], 2)
    assert cohen(votes, 0, 1).value == pytest.approx(0.4)
    # AC1: observed .7; share of yes .55, so chance 2 x .55 x .45 = .495.
    assert agreements(votes).ac1.value == pytest.approx((0.7 - 0.495) / (1 - 0.495))


def test_kappa_collapses_where_one_label_is_common_and_ac1_does_not() -> None:
    # Of a hundred items five divide the two; the rest are all yes.
    votes = table([[1] * 95 + [0] * 5, [1] * 90 + [0] * 5 + [1] * 5], 2)
    found = agreements(votes)
    assert found.fleiss.value is not None
    assert found.ac1.value is not None
    assert found.fleiss.value < 0.1
    assert found.ac1.value > 0.85


def test_intervals_of_alpha_hold_the_large_sample_value_nine_times_in_ten() -> None:
    chance = coins(np.full(6, 0.8), 3)
    big, _ = crowd(chance, items=20_000, each=3, seed=1)
    real = agreements(big, draws=10).alpha.value
    assert real is not None
    held = 0
    for seed in range(60):
        votes, _ = crowd(chance, items=60, each=3, seed=100 + seed)
        found = agreements(votes, draws=300, seed=seed).alpha
        assert found.low is not None
        assert found.high is not None
        held += found.low <= real <= found.high
    assert 0.8 <= held / 60 <= 0.99


def test_what_cannot_be_told_is_none_and_never_not_a_number() -> None:
    nothing = np.zeros(0, np.int64)
    empty = agreements(Votes(nothing, nothing, nothing, 3, 2, 2))
    lone = agreements(table([[0, 1, N], [N, N, 1]], 2))
    same = agreements(table([[1, 1, 1], [1, 1, 1]], 2))
    for found in (empty.alpha, empty.fleiss, empty.ac1, lone.alpha, same.alpha, same.fleiss):
        assert found.value is None
    assert same.observed.value == 1
    assert same.ac1.value == 1
    one = agreements(table([[1], [0]], 2))
    assert one.observed.value == 0
    assert (one.observed.low, one.observed.high) == (-1, 1)
    assert cohen(table([[1, N], [N, 1]], 2), 0, 1).value is None
    assert cohen(table([[1, 1], [1, 1]], 2), 0, 1).value is None
    with pytest.raises(VotesInvalid, match="reviewer"):
        cohen(table([[1, 1], [1, 1]], 2), 0, 5)


def test_a_good_reviewer_is_left_alone_and_a_poor_one_is_found_soon() -> None:
    rng = np.random.default_rng(2)
    alarms = [first_alert((rng.random(100) < 0.9).astype(float)) for _ in range(400)]
    assert np.mean([alarm is not None for alarm in alarms]) < 0.03
    found = [first_alert((rng.random(100) < 0.5).astype(float)) for _ in range(400)]
    assert all(place is not None for place in found)
    assert np.median([place for place in found if place is not None]) <= 20


def test_one_slip_at_the_start_is_no_alert_and_the_record_can_be_counted_again() -> None:
    watch = GoldWatch().after(False)
    assert not watch.is_alert
    answers = [1.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0]
    for answer in answers[1:]:
        watch = watch.after(answer)
    counted = GoldWatch(sum(answers) - 1, len(answers) - sum(answers) + 1)
    assert watch.poor == pytest.approx(counted.poor)
    assert watch.is_alert
    assert 0 < watch.accuracy < 0.7
    assert math.isclose(GoldWatch().accuracy, 0.85)


def test_gold_is_not_shown_twice_to_one_person_and_retires() -> None:
    shown = np.array([200, 5, 3, 0])
    seen = np.array([False, False, True, False])
    assert free_gold(shown, seen).tolist() == [3, 1]


@pytest.mark.parametrize("wrong", [{"right": -1.0}, {"wrong": math.nan}, {"least": 1.0}])
def test_a_senseless_watch_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(VotesInvalid):
        GoldWatch(**wrong)
    with pytest.raises(VotesInvalid):
        GoldWatch().after(2.0)
