"""Banks of test items: ease and slope by domain, and items whose key looks wrong.

bank = ItemBank().fit(person, item, right, domain=domain_of_item)
bank.suspects()                     # items that the able get wrong: look at their keys
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit, log_expit, ndtr

from matching.arrays import (
    ArrayInvalid,
    groups_of,
    number_within,
    real_array,
    truth_array,
    whole_array,
)
from matching.assignment import totals
from matching.problem import Bool, Float64, Int64

GRID = np.linspace(-4.0, 4.0, 81)
"""Abilities in prior standard deviations, at which posteriors are kept."""

FLOOR_SLOPE = 0.2
"""Least slope of a scoring item: one that goes against ability is for `suspects` to find."""

WIDE_SLOPE = 1.5
WIDE_EASE = 3.0
"""Standard deviations of the priors about nought under which an item's own slope is judged."""

TOLERANCE = 1e-3

TYPICAL_INFORMATION = 0.2
"""Squared logits to the minus one that an answer to a fitting item is worth: P (1 - P) about."""
CHUNK = 100_000


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


@dataclass(frozen=True, slots=True, eq=False)
class Anchors:
    """What was known of items before their answers: a calibration from elsewhere, or a guess.

    Shapes: slope, ease, answers (items,).
    Units: ease NaN where nothing is known; answers, on how many the rest rests, 0 for a guess.
    """

    slope: Float64
    ease: Float64
    answers: Int64


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
        self._answers: _Answers | None = None

    @classmethod
    def of(cls, slope: object, ease: object, answers: object, *, domain: object) -> ItemBank:
        """A bank whose parameters were fitted before, to ask from and to grade by.

        Shapes: slope, ease, answers (items,); domain (items,) labels of any kind.
        Raises: ArrayInvalid.
        """
        bank = cls()
        bank.slope_ = real_array("slope", slope, low=0.0, high=100.0)
        size = len(bank.slope_)
        bank.ease_ = real_array("ease", ease, size, low=-100.0, high=100.0)
        bank.answers_ = whole_array("answers", answers, size, below=2**62)
        bank.domain_, _ = groups_of("domain", np.asarray(domain), size)
        bank.labels_ = np.unique(np.asarray(domain))
        return bank

    @property
    def items(self) -> int:
        """Items in the bank, with or without answers."""
        return len(self.slope_)

    def fit(
        self,
        person: object,
        item: object,
        right: object,
        *,
        domain: object,
        anchors: Anchors | None = None,
    ) -> ItemBank:
        """Learn from answers; the same person may answer an item again, each answer counts.

        With `anchors` an item starts from what was known of it, with the weight of as many
        answers as that rests on.

        Shapes: person, item, right (answers,); domain (items,) labels of any kind.
        Raises: ArrayInvalid.
        """
        correct = truth_array("right", right)
        labels = np.asarray(domain)
        self.domain_, _ = groups_of("domain", labels, len(labels) if labels.ndim == 1 else 0)
        self.labels_ = np.unique(labels)
        items = len(self.domain_)
        if not items:
            raise ArrayInvalid("domain", None, "holds no items")
        if not len(correct):
            raise ArrayInvalid("right", None, "holds no answers")
        at = whole_array("item", item, len(correct), below=items)
        who, persons = groups_of("person", person, len(correct))
        self.answers_ = np.bincount(at, minlength=items).astype(np.int64)
        self._answers = _Answers.of(who, at, correct, persons, items)
        centre = _domain_ease(self.domain_, at, correct)
        known: Float64 = np.zeros(items)
        weight_of: Float64 = np.zeros(items)
        if anchors is not None:
            centre = np.where(np.isfinite(anchors.ease), anchors.ease, centre)
            known = np.where(anchors.answers > 0, anchors.slope, 0.0)
            weight_of = TYPICAL_INFORMATION * anchors.answers.astype(np.float64)
            self.answers_ = self.answers_ + anchors.answers
        slope, ease, middle = np.where(known > 0, known, 1.0), centre.copy(), 1.0
        strength, sure = self.strength + weight_of, 1 / self.spread**2 + weight_of
        seen = self.answers_ > 0
        for _ in range(self.rounds):
            weight = _normal(_person_weight(self._answers, slope, ease))
            success = self._answers.up.T @ weight
            count = success + self._answers.down.T @ weight
            before = slope
            slope, ease = _maximise(
                count,
                success,
                slope,
                ease,
                (strength, np.where(known > 0, known, middle)),
                (sure, centre),
            )
            slope = np.maximum(slope, FLOOR_SLOPE)
            middle = float(np.clip(slope[seen].mean(), 0.3, 3.0))
            if np.abs(slope - before).max() < TOLERANCE:
                break
        self.slope_ = np.where(seen, slope, middle)
        self.ease_ = np.where(seen, ease, centre)
        return self

    def chance(self, ability: Float64, items: Int64 | None = None) -> Float64:
        """P(right) of each listed item at each ability, shape (items, abilities)."""
        slope = self.slope_ if items is None else self.slope_[items]
        ease = self.ease_ if items is None else self.ease_[items]
        return np.asarray(expit(slope[:, None] * ability[None, :] + ease[:, None]), np.float64)

    def share_right(self, ability: float, items: Int64) -> float:
        """What share of the listed items somebody of an ability gets right, on average."""
        return float(self.chance(np.array([ability]), items).mean())

    def ability_at(self, share: float, items: Int64, *, reach: float = 3.0) -> float | None:
        """The ability whose share of the listed items is this; None beyond `reach` either way.

        Units: ability standard deviations.
        """
        low, high = -reach, reach
        if not self.share_right(low, items) < share < self.share_right(high, items):
            return None
        for _ in range(60):
            middle = (low + high) / 2
            if self.share_right(middle, items) < share:
                low = middle
            else:
                high = middle
        return high

    def statistics(self) -> ItemStatistics:
        """What the answers that the bank was fitted on say of each item's own discrimination.

        Raises: ArrayInvalid, before `fit`.
        """
        if self._answers is None:
            raise ArrayInvalid("bank", None, "has not been fitted")
        count, success = _without_own(self._answers, self.slope_, self.ease_)
        slope, ease = np.zeros(self.items), self.ease_.copy()
        loose = (1 / WIDE_SLOPE**2, 0.0)
        for _ in range(10):
            slope, ease = _maximise(
                count, success, slope, ease, loose, (1 / WIDE_EASE**2, np.zeros(self.items))
            )
        p = expit(slope[:, None] * GRID + ease[:, None])
        h = count * p * (1 - p)
        a, b = h @ GRID**2 + loose[0], h @ GRID
        sd = np.sqrt(1 / (a - b**2 / (h.sum(axis=1) + 1 / WIDE_EASE**2)))
        share = success.sum(axis=1) / np.maximum(count.sum(axis=1), 1e-12)
        own = np.bincount(self._answers.item, minlength=self.items).astype(np.int64)
        return ItemStatistics(own, share, slope, sd, ndtr(-slope / sd))

    def suspects(self, *, sure: float = 0.95, least: int = 20) -> Int64:
        """Items that the able get wrong more often than the others: a wrong key, or a bad item.

        To be looked at by a person, then re-keyed or withdrawn, and every sitting re-graded
        (`adaptive.regrade`). `least` is the number of answers below which nothing is said.
        """
        told = self.statistics()
        wrong = (told.chance_negative > sure) & (told.answers >= least)
        return np.flatnonzero(wrong).astype(np.int64)


def _maximise(
    count: Float64,
    success: Float64,
    slope: Float64,
    ease: Float64,
    slope_prior: tuple[float | Float64, float | Float64],
    ease_prior: tuple[float | Float64, Float64],
) -> tuple[Float64, Float64]:
    """Newton steps for all items at once, two unknowns an item; priors are precision and centre."""
    for _ in range(3):
        p = expit(slope[:, None] * GRID + ease[:, None])
        h = count * p * (1 - p)
        rest = success - count * p
        g_slope = rest @ GRID - slope_prior[0] * (slope - slope_prior[1])
        g_ease = rest.sum(axis=1) - ease_prior[0] * (ease - ease_prior[1])
        a = h @ GRID**2 + slope_prior[0] + 1e-9
        b = h @ GRID
        c = h.sum(axis=1) + ease_prior[0]
        det = a * c - b * b
        slope = slope + np.clip((c * g_slope - b * g_ease) / det, -0.7, 0.7)
        ease = ease + np.clip((a * g_ease - b * g_slope) / det, -1.5, 1.5)
    return slope, ease


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """Checked answers as sparse tables of right and wrong, (persons, items); see `ItemBank.fit`."""

    person: Int64
    item: Int64
    right: Bool
    up: csr_array
    down: csr_array

    @classmethod
    def of(cls, person: Int64, item: Int64, right: Bool, persons: int, items: int) -> _Answers:
        """Count answers of one person to one item together."""
        size = (persons, items)
        sides = [
            csr_array((np.ones(int(one.sum())), (person[one], item[one])), shape=size)
            for one in (right, ~right)
        ]
        return cls(person, item, right, sides[0], sides[1])


def _domain_ease(domain: Int64, item: Int64, right: Bool) -> Float64:
    """The log-odds of a right answer in each item's domain, pulled to the whole bank's."""
    mean = (right.sum() + 1) / (len(right) + 2)
    size = int(domain.max()) + 1
    count = totals(domain[item], np.ones(len(item)), size)
    share = (totals(domain[item], right.astype(np.float64), size) + 10 * mean) / (count + 10)
    return np.asarray(np.log(share / (1 - share))[domain], np.float64)


def _log_chances(slope: Float64, ease: Float64) -> tuple[Float64, Float64]:
    """Logarithms of P(right) and P(wrong) on the grid, each (items, grid)."""
    logit = slope[:, None] * GRID + ease[:, None]
    return log_expit(logit), log_expit(-logit)


def _person_weight(answers: _Answers, slope: Float64, ease: Float64) -> Float64:
    """Log P(ability | answers) of each person on the grid, up to a constant, (persons, grid)."""
    up, down = _log_chances(slope, ease)
    told = answers.up @ up + answers.down @ down - GRID**2 / 2
    return np.asarray(told, np.float64)


def _normal(log_weight: Float64) -> Float64:
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), np.float64)


def _without_own(answers: _Answers, slope: Float64, ease: Float64) -> tuple[Float64, Float64]:
    """Expected answers and right ones by item and ability, an answer never placing its own person.

    An item that helped to say how able its takers are would look as if it went with ability.
    """
    up, down = _log_chances(slope, ease)
    told = _person_weight(answers, slope, ease)
    items = len(slope)
    count, success = np.zeros((items, len(GRID))), np.zeros((items, len(GRID)))
    for first in range(0, len(answers.item), CHUNK):
        part = slice(first, first + CHUNK)
        item, right = answers.item[part], answers.right[part]
        own = np.where(right[:, None], up[item], down[item])
        weight = _normal(told[answers.person[part]] - own)
        row = np.arange(len(item))
        to_item = csr_array((np.ones(len(item)), (item, row)), shape=(items, len(item)))
        to_right = csr_array((right.astype(np.float64), (item, row)), shape=(items, len(item)))
        count += np.asarray(to_item @ weight)
        success += np.asarray(to_right @ weight)
    return count, success
