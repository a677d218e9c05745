"""Rows that tell hardly anything, given to every estimator: an answer that says how unsure it is.

A story is a few rows of somebody who did something; an estimator is a function that makes of them
what it would say next, as `Told`. Each is asked of each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from matching.ability import Attempts, StumpModel
from matching.adaptive import Exposure, Sitting, Tables, TestRules
from matching.agreement import Consensus
from matching.arm_sums import cluster_sums
from matching.baseline import compare
from matching.calibration import Platt
from matching.complexity import productive_experts
from matching.concentration import concentration
from matching.credit import ExpertRate, places
from matching.drift import CalibrationWatch
from matching.experiment import effect_of
from matching.forecaster import Forecaster, Prediction
from matching.frontier import FrontierTracker
from matching.goldwatch import GoldWatch
from matching.graded import GradedJudgement, Grades
from matching.itembank import ItemBank
from matching.kappa import agreements
from matching.outcomes import cross_fit
from matching.pairwise import Comparisons, PairwiseRanking
from matching.problem import Float64, Int64
from matching.release import ModelBelief, calibration_set
from matching.replay import Log, evaluate
from matching.responses import Responses
from matching.style import Styled, fit_style
from matching.tail import fit_tail
from matching.votes import Votes

ROWS = 40


@dataclass(frozen=True)
class Told:
    """What was said: figures, and what each may be besides; `scale` is where a doubt is wide."""

    value: Float64
    low: Float64
    high: Float64
    scale: float = 1.0


def told(value: object, low: object, high: object, scale: float = 1.0) -> Told:
    """Figures of any shape as rows."""
    first, second, third = (
        np.atleast_1d(np.asarray(one, np.float64)).ravel() for one in (value, low, high)
    )
    return Told(first, second, third, scale)


# --- Who answered what ----------------------------------------------------------------------------


def story(
    subject: object = None,
    item: object = None,
    outcome: object = None,
    day: object = None,
    rows: int = ROWS,
    covariate: object = None,
) -> Responses:
    """Rows of five people on eight items; what is given is so for all of them."""
    place = np.arange(rows)
    rng = np.random.default_rng(5)

    def column(given: object, usual: Int64) -> Int64:
        return usual if given is None else np.broadcast_to(np.asarray(given), rows).copy()

    return Responses(
        subject=column(subject, place % 5),
        item=column(item, place % 8),
        outcome=column(outcome, rng.integers(0, 2, rows)).astype(float),
        time=column(day, place).astype(float),
        covariates=column(covariate, rng.integers(0, 9, rows)).astype(float)[:, None],
    )


STORIES = {
    "one respondent": story(subject=3),
    "one item": story(item=3),
    "one respondent at one item": story(subject=3, item=3),
    "one row": story(rows=1),
    "two rows that differ": story(rows=2, outcome=[0, 1], subject=0, item=0),
    "all right": story(outcome=1),
    "all wrong": story(outcome=0),
    "one right answer": story(rows=1, outcome=1),
    "one respondent, all wrong": story(subject=3, outcome=0),
    "constant covariates": story(covariate=4),
    "unknown covariates": story(covariate=np.nan),
    "times out of order": story(day=np.arange(ROWS)[::-1]),
    "all at once": story(day=7),
    "repeated rows": story(subject=1, item=2, outcome=1, day=7),
}
THIN = {"one row", "one right answer", "two rows that differ"}


def of_prediction(said: Prediction) -> Told:
    """A prediction's probabilities; every one is of something that may still happen."""
    assert (said.logit_sd > 0).all()
    assert ((said.mean > 0) & (said.mean < 1)).all()
    return told(said.mean, said.low, said.high, 0.3)


def forecast(rows: Responses) -> Told:
    return of_prediction(Forecaster().fit(rows).run(rows))


def stump(rows: Responses) -> Told:
    nought = np.zeros(len(rows), np.int64)
    attempts = Attempts(
        expert=rows.subject, task=rows.item, domain=nought, model=nought, level=nought,
        day=rows.time, start=np.ones(len(rows)), fooled=rows.outcome,
        valid=np.where(rows.outcome > 0, rows.outcome, np.nan), covariates=rows.covariates,
    )  # fmt: skip
    model = StumpModel().fit(attempts)
    assert np.isfinite(model.shared_sd(attempts)).all()
    return of_prediction(model.predict(attempts).stump)


def rate(rows: Responses) -> Told:
    found = ExpertRate(6).fit(rows.subject, rows.outcome)
    said = found.rates()
    stands = places(found.draw(seed=1, draws=200))
    assert ((stands.top >= 0) & (stands.top <= 1)).all()
    return told(said.mean, said.mean - 2 * said.sd, said.mean + 2 * said.sd, 0.2)


def frontier(rows: Responses) -> Told:
    tracker = FrontierTracker()
    cell = tracker.open()
    for outcome, day in zip(rows.outcome.tolist(), rows.time.tolist(), strict=True):
        tracker.observe(cell, outcome, at=day / 7)
    said = tracker.rate(cell, at=10.0)
    return told(said.mean, said.low, said.high, 0.3)


def release(rows: Responses) -> Told:
    base, level = np.zeros(len(rows)), rows.item
    belief = ModelBelief.of([], [], release_date=2026.0).seen(base, rows.outcome, level)
    chosen = calibration_set(belief, base, level, size=10, seed=1)
    assert len(np.unique(chosen)) == len(chosen) <= 10
    _, middle, low, high = belief.level_rates(base, level)
    return told(middle, low, high, 0.2)


def pool(rows: Responses) -> Told:
    logit = np.where(rows.outcome > 0, 3.0, -3.0)[:, None]
    said = productive_experts(logit, 2.0, shared_sd=0.5)
    return told(said.count / len(rows), said.low / len(rows), said.high / len(rows), 0.05)


def qualification(rows: Responses) -> Told:
    bank = ItemBank().fit(rows.subject, rows.item, rows.outcome > 0, domain=np.zeros(9))
    assert np.isfinite(np.concatenate([bank.slope_, bank.ease_])).all()
    sitting = Sitting(Tables(bank), TestRules(calibrated=0), seed=1)
    exposure = Exposure(bank.items)
    while (ask := sitting.next_item(exposure)) is not None:
        sitting.answer(ask.item, right=bool(rows.outcome[0]))
    said = sitting.evidence()
    return told(said.mean, said.mean - 2 * said.sd, said.mean + 2 * said.sd, 0.5)


def replayed(rows: Responses) -> Told:
    edges = np.repeat(np.arange(len(rows)), 2)
    taken = np.tile([True, False], len(rows))
    log = Log(edges, np.full(len(edges), 0.5), taken, np.repeat(rows.outcome, 2))
    direct = cross_fit(log, factors=(np.repeat(rows.subject, 2),))
    said = evaluate(log, np.full(len(edges), 0.5), direct)
    assert said.refusal is not None, "so few outcomes judge no policy"
    values = (said.ips, said.snips, said.direct, said.robust, said.switch)
    return told([v.value for v in values], [v.low for v in values], [v.high for v in values], 0.0)


def trial(rows: Responses) -> Told:
    arms = cluster_sums(
        rows.subject, rows.subject % 2, rows.outcome, covariate=np.nan_to_num(rows.covariates[:, 0])
    )
    said = effect_of(arms, planned_se=0.05)
    assert 0 <= said.p_value <= 1
    return told(said.estimate, said.low, said.high, 0.5)


def saturation(rows: Responses) -> Told:
    table = np.full((5, 8), np.nan)
    table[rows.subject, rows.item] = rows.outcome
    said = compare(table, np.ones(8))
    every = [said.model, said.human, *said.people]
    return told([e.value for e in every], [e.low for e in every], [e.high for e in every], 0.01)


def drift(rows: Responses) -> Told:
    watch, platt, said = CalibrationWatch(), Platt(), []
    for outcome in rows.outcome.tolist():
        watch.observe(0.5, outcome)
        platt.learn(0.0, outcome)
        said.append(platt.look(0.0))
    return told(said, -10.0 + np.zeros(len(said)), 10.0 + np.zeros(len(said)))


def spread(rows: Responses) -> Told:
    each = np.bincount(rows.subject, rows.outcome, 6).astype(np.float64)
    said = concentration(each, draws=100)
    fit_tail(each)
    known = [one for one in (said.gini, said.top_10, said.top_20) if one.value is not None]
    assert known or not each.any()
    return told([e.value for e in known], [e.low for e in known], [e.high for e in known], 0.0)


ESTIMATORS: dict[str, Callable[[Responses], Told]] = {
    "forecaster": forecast,
    "stump model": stump,
    "expert rate": rate,
    "frontier": frontier,
    "release": release,
    "productive pool": pool,
    "qualification": qualification,
    "replay": replayed,
    "trial": trial,
    "saturation": saturation,
    "drift and calibration": drift,
    "concentration": spread,
}


def sound(said: Told, *, is_thin: bool) -> None:
    """Nothing is NaN, each figure lies in its interval, and little is known from little."""
    for column in (said.value, said.low, said.high):
        assert not np.isnan(column).any()
    assert np.isfinite(said.value).all()
    assert (said.low <= said.value + 1e-9).all()
    assert (said.value <= said.high + 1e-9).all()
    if is_thin and len(said.value):
        assert (said.high - said.low).max() >= said.scale


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_rows_that_tell_hardly_anything_get_an_answer_with_its_doubt(
    estimator: str, name: str
) -> None:
    sound(ESTIMATORS[estimator](STORIES[name]), is_thin=name in THIN)


# --- Who voted what -------------------------------------------------------------------------------


def votes(item: object, reviewer: object, label: object, classes: int = 2) -> Votes:
    """Votes of at most nine reviewers on at most ten items."""
    first, second, third = (
        np.array(np.atleast_1d(one), np.int64)
        for one in np.broadcast_arrays(np.asarray(item), np.asarray(reviewer), np.asarray(label))
    )
    return Votes(first, second, third, 10, 9, classes)


TEN, THREE = np.repeat(np.arange(10), 3), np.tile(np.arange(3), 10)
HALF = (TEN % 2).astype(np.int64)

QUEUES = {
    "a reviewer who always says yes": votes(TEN, THREE, np.where(THREE == 0, 1, HALF)),
    "everybody always says yes": votes(TEN, THREE, 1),
    "a single class": votes(TEN, THREE, 0, classes=1),
    "a worker with one label": votes(np.append(TEN, 0), np.append(THREE, 8), np.append(HALF, 1)),
    "one reviewer": votes(np.arange(10), 0, np.arange(10) % 2),
    "one item": votes(0, np.arange(9), np.arange(9) % 2),
    "one vote": votes(0, 0, 1),
    "repeated votes": votes(np.zeros(12), np.zeros(12), np.ones(12)),
    "a reviewer against all others": votes(TEN, THREE, np.where(THREE == 0, 1 - HALF, HALF)),
    "no votes": votes([], [], []),
}


def consensus(queue: Votes) -> Told:
    both = [Consensus(ordered=ordered).fit(queue) for ordered in (False, True)]
    for model in both:
        assert model.posterior_.sum(axis=1) == pytest.approx(np.ones(queue.items))
        if queue.classes > 1:
            # What few votes say is never beyond doubt.
            assert model.posterior_.max() < 1
    known = [model.reliability_ for model in both]
    low, high = [one.low for one in known], [one.high for one in known]
    return told([one.accuracy for one in known], low, high, 0.1)


def agreement(queue: Votes) -> Told:
    said = agreements(queue, draws=50)
    known = [
        one
        for one in (said.alpha, said.fleiss, said.ac1, said.observed)
        if one.value is not None and one.low is not None and one.high is not None
    ]
    return told([k.value for k in known], [k.low for k in known], [k.high for k in known], 0.0)


def graded(queue: Votes) -> Told:
    said = GradedJudgement().fit(
        Grades(queue.item, queue.reviewer, queue.label.astype(float), queue.items, queue.reviewers)
    )
    assert np.isfinite(said.mildness_).all()
    doubt = 2 * said.worth_sd_
    return told(said.worth_, said.worth_ - doubt, said.worth_ + doubt, 0.0)


def ranked(queue: Votes) -> Told:
    other = (queue.item + 1) % queue.items
    said = PairwiseRanking().fit(
        Comparisons(
            queue.item,
            other,
            queue.reviewer,
            queue.label.astype(float),
            queue.items,
            queue.reviewers,
        )
    )
    doubt = 2 * said.worth_sd_
    return told(said.worth_, said.worth_ - doubt, said.worth_ + doubt, 1.0)


def dressed(queue: Votes) -> Told:
    other, style = (queue.item + 1) % queue.items, np.ones((len(queue.item), 1))
    said = fit_style(
        Styled(queue.item, other, queue.reviewer, queue.label.astype(float), style, queue.items)
    )
    assert not np.isnan(np.concatenate([said.effect_low, said.effect_high, said.p_value])).any()
    return told(said.worth, said.low, said.high, 1.0)


def gold(queue: Votes) -> Told:
    watch = GoldWatch()
    for label in queue.label.tolist():
        watch = watch.after(label > 0)
    return told([watch.accuracy, watch.poor], [0, 0], [1, 1])


ON_VOTES: dict[str, Callable[[Votes], Told]] = {
    "consensus": consensus,
    "agreement": agreement,
    "graded judgement": graded,
    "pairwise ranking": ranked,
    "style": dressed,
    "gold": gold,
}


@pytest.mark.parametrize("name", QUEUES)
@pytest.mark.parametrize("estimator", ON_VOTES)
def test_votes_that_tell_hardly_anything_get_an_answer_with_its_doubt(
    estimator: str, name: str
) -> None:
    sound(ON_VOTES[estimator](QUEUES[name]), is_thin=name in {"one vote", "no votes"})
