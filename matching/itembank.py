"""Banks of test items: difficulty and slope by domain, and items whose key looks wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from matching.arrays import ArrayInvalid, groups_of, number_within, truth_array, whole_array
from matching.assignment import totals
from matching.problem import Float64, Int64

GRID = np.linspace(-4.0, 4.0, 81)
"""Abilities in prior standard deviations, at which posteriors are kept."""

FLOOR_SLOPE = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class ItemStatistics:
    """What the responses say of each item, apart from the bank's own shrunk parameters.

    Shapes: answers, share_right, slope, slope_sd, chance_negative (items,).
    Units: slope in logits an ability standard deviation, with a wide prior about nought, so that
        its sign is the data's own; chance_negative the posterior probability that it is below it.
    """

    answers: Int64
    share_right: Float64
    slope: Float64
    slope_sd: Float64
    chance_negative: Float64


class ItemBank:
    """A two-parameter bank: P(right) = sigma(slope * ability + ease), ability in prior sds.

    Slopes are shrunk towards the bank's own mean, with the weight of `strength` answers' worth of
    information; ease is shrunk towards the mean of the item's domain. Persons are integrated out
    on a grid, so that a bank of few persons does not take their noise for discrimination.

    What `fit` learns: `slope_`, `ease_`, `answers_` (items,) and `domain_` (items,), the places of
    the domains in `labels_`.
    Source: Bock, Aitkin, Psychometrika 46 (1981), EM over quadrature points, with normal priors.
    """

    def __init__(self, *, strength: float = 6.0, spread: float = 1.2, rounds: int = 30) -> None:
        self.strength = number_within("strength", strength, 0.0, 1e6)
        self.spread = number_within("spread", spread, 0.05, 10.0)
        self.rounds = int(number_within("rounds", rounds, 1, 1000))
        self.slope_: Float64 = np.zeros(0)
        self.ease_: Float64 = np.zeros(0)
        self.answers_: Int64 = np.zeros(0, np.int64)
        self.domain_: Int64 = np.zeros(0, np.int64)
        self.labels_: np.ndarray = np.zeros(0)

    @property
    def items(self) -> int:
        """Items in the bank, with or without answers."""
        return len(self.slope_)

    def fit(self, person: object, item: object, right: object, *, domain: object) -> ItemBank:
        """Learn from answers; the same person may answer an item again, each answer counts.

        Shapes: person, item, right (answers,); domain (items,) labels of any kind.
        Raises: ArrayInvalid.
        """
        correct = truth_array("right", right).astype(np.float64)
        self.labels_ = np.unique(np.asarray(domain))
        self.domain_, _ = groups_of("domain", domain, len(np.asarray(domain)))
        items = len(self.domain_)
        if not items:
            raise ArrayInvalid("domain", None, "holds no items")
        if not len(correct):
            raise ArrayInvalid("right", None, "holds no answers")
        at = whole_array("item", item, len(correct), below=items)
        who, persons = groups_of("person", person, len(correct))
        self.answers_ = np.bincount(at, minlength=items)
        answers = _Answers(who, at, correct, persons, items)
        centre = _domain_ease(self.domain_, at, correct, items)
        slope, ease = np.ones(items), centre.copy()
        middle = 1.0
        for _ in range(self.rounds):
            weight = _person_posterior(answers, slope, ease)
            count, success = _expected_counts(answers, weight)
            before = slope.copy()
            slope, ease = self._maximise(count, success, slope, ease, centre, middle)
            seen = self.answers_ > 0
            middle = float(np.clip(slope[seen].mean(), 0.3, 3.0))
            if np.abs(slope - before).max() < 1e-3:
                break
        seen = self.answers_ > 0
        self.slope_ = np.where(seen, slope, middle)
        self.ease_ = np.where(seen, ease, centre)
        return self

    def chance(self, ability: Float64, items: Int64 | None = None) -> Float64:
        """P(right) of each listed item at each ability, shape (items, abilities)."""
        slope = self.slope_ if items is None else self.slope_[items]
        ease = self.ease_ if items is None else self.ease_[items]
        return np.asarray(expit(slope[:, None] * ability[None, :] + ease[:, None]), np.float64)

    def _maximise(
        self,
        count: Float64,
        success: Float64,
        slope: Float64,
        ease: Float64,
        centre: Float64,
        middle: float,
    ) -> tuple[Float64, Float64]:
        """Newton steps for all items at once; two unknowns an item."""
        keep = 1 / self.spread**2
        for _ in range(3):
            p = expit(slope[:, None] * GRID + ease[:, None])
            h = count * p * (1 - p)
            rest = success - count * p
            g_slope = rest @ GRID - self.strength * (slope - middle)
            g_ease = rest.sum(axis=1) - keep * (ease - centre)
            a = h @ GRID**2 + self.strength + 1e-6
            b = h @ GRID
            c = h.sum(axis=1) + keep
            det = a * c - b * b
            slope = slope + np.clip((c * g_slope - b * g_ease) / det, -0.7, 0.7)
            ease = ease + np.clip((a * g_ease - b * g_slope) / det, -1.5, 1.5)
            slope = np.maximum(slope, FLOOR_SLOPE)
        return slope, ease


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """Checked answers as arrays; see `ItemBank.fit`."""

    person: Int64
    item: Int64
    right: Float64
    persons: int
    items: int


def _domain_ease(domain: Int64, item: Int64, right: Float64, items: int) -> Float64:
    """The log-odds of a right answer in each item's domain, pulled to the whole bank's."""
    mean = (right.sum() + 1) / (len(right) + 2)
    size = int(domain.max()) + 1
    count = totals(domain[item], np.ones(len(item)), size)
    share = (totals(domain[item], right, size) + 10 * mean) / (count + 10)
    return np.asarray(np.log(share / (1 - share))[domain], np.float64).reshape(items)


def _person_posterior(answers: _Answers, slope: Float64, ease: Float64) -> Float64:
    """P(ability | answers) of each person on the grid, shape (persons, grid)."""
    up = log_expit(slope[:, None] * GRID + ease[:, None])
    down = log_expit(-(slope[:, None] * GRID + ease[:, None]))
    told = np.where(answers.right[:, None] > 0, up[answers.item], down[answers.item])
    order = np.argsort(answers.person, kind="stable")
    start = np.searchsorted(answers.person[order], np.arange(answers.persons))
    log_weight = np.add.reduceat(told[order], start, axis=0) - GRID**2 / 2
    log_weight -= log_weight.max(axis=1, keepdims=True)
    weight = np.exp(log_weight)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), np.float64)


def _expected_counts(answers: _Answers, weight: Float64) -> tuple[Float64, Float64]:
    order = np.argsort(answers.item, kind="stable")
    item = answers.item[order]
    present, start = np.unique(item, return_index=True)
    each = weight[answers.person[order]]
    count = np.zeros((answers.items, len(GRID)))
    success = np.zeros_like(count)
    count[present] = np.add.reduceat(each, start, axis=0)
    success[present] = np.add.reduceat(each * answers.right[order][:, None], start, axis=0)
    return count, success
