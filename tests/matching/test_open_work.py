"""Open work: ranking by pairs, graded judgement, and honest disagreement that costs nothing."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from matching.graded import GradedJudgement, Grades, QueueKind, spread_of_set
from matching.pairwise import Comparisons, PairwiseRanking
from matching.problem import Float64, Int64
from matching.scoring import log_score, quadratic_score, vote_merit
from matching.votes import VotesInvalid

NOTHING = np.zeros(0, np.int64)


def compare(worth: Float64, sharp: Float64, *, number: int, ties: float, seed: int) -> Comparisons:
    """Seeded comparisons of random pairs by random reviewers."""
    rng = np.random.default_rng(seed)
    left = rng.integers(0, len(worth), number)
    right = (left + rng.integers(1, len(worth), number)) % len(worth)
    reviewer = rng.integers(0, len(sharp), number)
    gap = sharp[reviewer] * (worth[left] - worth[right])
    weight = np.exp(np.stack([gap / 2, np.full(number, ties), -gap / 2], axis=1))
    heap = np.cumsum(weight / weight.sum(axis=1, keepdims=True), axis=1)
    said = (rng.random((number, 1)) > heap).sum(axis=1)
    outcome = np.array([1.0, 0.5, 0.0])[np.minimum(said, 2)]
    return Comparisons(left, right, reviewer, outcome, len(worth), len(sharp))


def test_the_order_is_found_through_ties_and_noisy_reviewers() -> None:
    rng = np.random.default_rng(1)
    worth = rng.normal(0, 1.5, 25)
    sharp = np.r_[np.full(6, 1.5), np.full(6, 0.05)]
    seen = compare(worth, sharp, number=900, ties=-0.5, seed=2)
    model = PairwiseRanking().fit(seen)
    assert spearmanr(model.worth_, worth).statistic > 0.9
    assert model.sharpness_[:6].min() > model.sharpness_[6:].max()
    assert abs(model.tie_ + 0.5) < 0.4
    assert model.order()[0] == model.worth_.argmax()
    # The worths' errors are what the model says they are.
    scale = float(worth @ model.worth_ / (worth @ worth))
    error = model.worth_ / scale - (worth - worth.mean())
    assert 0.4 < float(np.mean(error**2 / (model.worth_sd_ / scale) ** 2)) < 2.5
    win = model.win_chance(np.array([int(worth.argmax())]), np.array([int(worth.argmin())]))
    assert win[0] > 0.85


def test_the_gradient_is_that_of_the_loss() -> None:
    rng = np.random.default_rng(3)
    seen = compare(rng.normal(0, 1, 5), np.ones(3), number=40, ties=-0.3, seed=4)
    model, x = PairwiseRanking(), rng.normal(0, 0.5, 9)
    _, slope = model._loss(x, seen)
    for place in range(9):
        step = np.zeros(9)
        step[place] = 1e-6
        up, down = model._loss(x + step, seen)[0], model._loss(x - step, seen)[0]
        assert slope[place] == pytest.approx((up - down) / 2e-6, abs=1e-5)


def test_a_reviewer_of_another_taste_neither_turns_the_order_nor_is_turned() -> None:
    worth = np.linspace(-2, 2, 10)
    seen = compare(worth, np.r_[np.full(5, 1.5), -1.5], number=600, ties=-1.0, seed=5)
    model = PairwiseRanking().fit(seen)
    assert spearmanr(model.worth_, worth).statistic > 0.95
    assert 0 <= model.sharpness_[5] < 0.5


def test_little_or_lopsided_evidence_gives_wide_answers() -> None:
    empty = PairwiseRanking().fit(Comparisons(NOTHING, NOTHING, NOTHING, np.zeros(0), 3, 2))
    assert empty.worth_.tolist() == [0, 0, 0]
    assert (empty.worth_sd_ > 1).all()
    always = Comparisons(np.zeros(50, int), np.ones(50, int), np.zeros(50, int), np.ones(50), 3, 1)
    won = PairwiseRanking().fit(always)
    assert np.isfinite(won.worth_).all()
    assert won.worth_[0] > won.worth_[2] > won.worth_[1]
    assert won.worth_sd_[2] > 1
    # The unknown third is asked about next, not the pair that is settled.
    pairs = np.array([0, 0]), np.array([1, 2])
    assert won.most_informative(*pairs) == 1
    assert won.most_informative(NOTHING, NOTHING) is None


@pytest.mark.parametrize(
    ("left", "right", "outcome", "what"),
    [([0], [0], [1.0], "itself"), ([0], [1], [0.3], "0.5 or 1"), ([0], [9], [1.0], "right")],
)
def test_senseless_comparisons_are_refused(
    left: list[int], right: list[int], outcome: list[float], what: str
) -> None:
    with pytest.raises(VotesInvalid, match=what):
        Comparisons(np.array(left), np.array(right), np.zeros(1, int), np.array(outcome), 2, 1)


def grades_of(worth: Float64, mild: Float64, noise: float, each: int, seed: int) -> Grades:
    rng = np.random.default_rng(seed)
    item = np.repeat(np.arange(len(worth)), each)
    reviewer = np.concatenate([rng.choice(len(mild), each, replace=False) for _ in worth])
    grade = 3 + worth[item] + mild[reviewer] + rng.normal(0, noise, len(item))
    return Grades(item, reviewer, grade, len(worth), len(mild))


def test_severity_is_taken_out_of_graded_work() -> None:
    rng = np.random.default_rng(6)
    worth, mild = rng.normal(0, 1, 60), rng.normal(0, 1.2, 12)
    grades = grades_of(worth, mild, 0.5, 3, 7)
    model = GradedJudgement().fit(grades)
    raw = np.bincount(grades.item, grades.grade) / np.bincount(grades.item)
    ours = spearmanr(model.worth_, worth).statistic
    assert ours > spearmanr(raw, worth).statistic + 0.05
    assert np.corrcoef(model.mildness_, mild)[0, 1] > 0.9
    assert 0.35 < model.noise_ < 0.7
    inside = np.abs(model.worth_ - (worth - worth.mean())) < 2 * model.worth_sd_
    assert inside.mean() > 0.75


def test_work_that_divides_reviewers_is_named_and_nobody_is_blamed() -> None:
    rng = np.random.default_rng(8)
    grades = grades_of(rng.normal(0, 1, 40), rng.normal(0, 0.3, 10), 0.3, 5, 9)
    grade = grades.grade.copy()
    divided = np.flatnonzero(grades.item == 7)
    grade[divided] = [1, 5, 1, 5, 1]
    model = GradedJudgement().fit(Grades(grades.item, grades.reviewer, grade, 40, 10))
    assert model.contested_[7]
    assert model.contested_.sum() <= 4


def test_graded_work_without_grades_or_spread_has_an_answer() -> None:
    empty = GradedJudgement().fit(Grades(NOTHING, NOTHING, np.zeros(0), 2, 2))
    assert empty.worth_.tolist() == [0, 0]
    same = GradedJudgement().fit(Grades(np.arange(4), np.zeros(4, int), np.full(4, 3.0), 4, 1))
    assert np.isfinite(same.worth_).all()
    assert np.abs(same.worth_).max() < 1e-3
    with pytest.raises(VotesInvalid, match=r"grade\[1\]"):
        Grades(np.arange(2), np.arange(2), np.array([1.0, np.nan]), 2, 2)


def merit(kind: QueueKind, label: list[int], gold: list[int]) -> Float64:
    others = np.tile([0.95, 0.05], (len(label), 1))
    told: Int64 = np.array(gold)
    return vote_merit(kind, others, np.array(label), told)


def test_a_reviewer_far_from_the_majority_loses_on_closed_items_and_nothing_on_open_ones() -> None:
    closed = merit(QueueKind.CLOSED, [0, 1], [-1, -1])
    assert closed[0] > 0 > closed[1]
    assert merit(QueueKind.OPEN, [0, 1], [-1, -1]).tolist() == [0, 0]
    # What is not a matter of taste is gold, and counts on either.
    for kind in QueueKind:
        assert merit(kind, [1, 0], [1, 1]).tolist() == [0.5, -0.5]


def test_honesty_is_the_best_forecast_under_both_scores() -> None:
    belief = np.array([0.7, 0.3])
    for score in (quadratic_score, log_score):
        expected = {
            said: sum(
                belief[came] * float(score(np.array([[said, 1 - said]]), np.array([came]))[0])
                for came in (0, 1)
            )
            for said in (0.0, 0.5, 0.6, 0.7, 0.8, 1.0)
        }
        assert max(expected, key=lambda said: expected[said]) == 0.7
    assert np.isfinite(log_score(np.array([[1.0, 0.0]]), np.array([1]))).all()


def test_forecasts_that_are_none_are_refused() -> None:
    one = np.array([0])
    with pytest.raises(VotesInvalid, match=r"forecast\[0\]"):
        quadratic_score(np.array([[0.5, 0.6]]), one)
    with pytest.raises(VotesInvalid, match="numbers"):
        log_score(np.array([[np.nan, 1.0]]), one)
    with pytest.raises(VotesInvalid, match="outcome"):
        log_score(np.array([[0.5, 0.5]]), np.array([2]))
    with pytest.raises(VotesInvalid, match="gold"):
        vote_merit(QueueKind.OPEN, np.array([[0.5, 0.5]]), one, np.array([5]))


def test_two_hundred_near_same_poems_have_a_low_spread() -> None:
    same = np.full((200, 200), 0.95)
    apart = np.full((200, 200), 0.05)
    assert spread_of_set(same) < 0.1 < 0.9 < spread_of_set(apart)
    assert spread_of_set(np.ones((1, 1))) == 1
    with pytest.raises(VotesInvalid, match="square"):
        spread_of_set(np.ones((2, 3)))
