"""Adaptive qualification: the next item, when to stop, and the result as evidence.

sitting = Sitting(bank, TestRules(cut=0.3), seed=7, prior_mean=0.2, seen=asked_before)
while (ask := sitting.next_item(exposure)) is not None:
    sitting.answer(ask.item, right=put(ask.item))
sitting.evidence()                  # mean and sd for the stump model, not a verdict
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from matching.arrays import ArrayInvalid, number_within, real_array, truth_array, whole_array
from matching.itembank import GRID, ItemBank
from matching.problem import Bool, Float64, Int64

NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
"""Points and weights at which information is averaged over a posterior."""

INFLATION = 1.75
"""Factor on the posterior variance of a result: a test is about something narrower than the work,
and ability moves; agreement of tests with the full record was .85 where theory said .95."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRules:
    """How a test chooses and ends.

    Units: cut in ability standard deviations, None to measure without one; least and longest in
        scored items; sure the posterior probability at which the side of the cut is settled;
        precise in ability standard deviations; shortlist the number of best items drawn from;
        exposure_cap the largest share of takers who may see an item; pretest_share the share of
        asked items that are there to be calibrated and do not score; calibrated the answers from
        which an item scores; shares (domains,) of the test, None for the bank's own make-up.
    """

    __test__ = False

    cut: float | None = None
    least: int = 8
    longest: int = 25
    sure: float = 0.95
    precise: float = 0.35
    shortlist: int = 10
    exposure_cap: float = 0.25
    pretest_share: float = 0.1
    calibrated: int = 20
    shares: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.cut is not None:
            number_within("cut", self.cut, -4.0, 4.0)
        number_within("longest", self.longest, 1, 1000)
        number_within("least", self.least, 0, self.longest)
        number_within("sure", self.sure, 0.5, 1.0)
        number_within("precise", self.precise, 0.0, 10.0)
        number_within("shortlist", self.shortlist, 1, 1e6)
        number_within("exposure_cap", self.exposure_cap, 1e-6, 1.0)
        number_within("pretest_share", self.pretest_share, 0.0, 0.9)
        if self.shares is not None:
            real_array("shares", self.shares, low=0.0, high=1e9)


@dataclass(frozen=True, slots=True)
class Ask:
    """The item to put next; a pretest item looks like any other and does not score."""

    item: int
    is_pretest: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a test says of ability, for the stump model to start from.

    Units: mean and sd in ability standard deviations, the variance already inflated;
        chance_above the posterior probability that ability is above the cut, inflated too.
    """

    mean: float
    sd: float
    chance_above: float | None
    items: int


class Exposure:
    """How many takers there were, and to how many of them each item was shown.

    An item over the cap is left out while another may be asked. The first few takers see any.
    """

    def __init__(self, items: int, *, slack: float = 1.0) -> None:
        self.takers = 0
        self.shown: Int64 = np.zeros(items, np.int64)
        self.slack = slack

    def allowed(self, cap: float) -> Bool:
        """Items that the taker who sat down last may see, shape (items,)."""
        return np.asarray(self.shown + 1 <= cap * self.takers + self.slack, np.bool_)

    def start(self) -> None:
        """One more taker sits down."""
        self.takers += 1

    def show(self, item: int) -> None:
        """The item was put to the taker."""
        self.shown[item] += 1


class Tables:
    """A bank worked out on the grid once, so that a step of any test takes well under 1 ms.

    Shapes: information (grid, items) float32; up, down (items, grid) float32, log chances.
    """

    def __init__(self, bank: ItemBank) -> None:
        if not bank.items:
            raise ArrayInvalid("bank", None, "has not been fitted")
        logit = bank.slope_[:, None] * GRID + bank.ease_[:, None]
        self.up = (-np.logaddexp(0, -logit)).astype(np.float32)
        self.down = (-np.logaddexp(0, logit)).astype(np.float32)
        chance = np.exp(self.up)
        found = (bank.slope_[:, None] ** 2 * chance * (1 - chance)).T
        self.information = np.ascontiguousarray(found, np.float32)
        self.bank = bank


class Sitting:
    """One person at one test; built again from its stored answers it says the same.

    `seen` are items of earlier sittings: a retake never shows one again. The prior comes from the
    profile, or from the evidence of the earlier sitting.
    """

    def __init__(
        self,
        tables: Tables,
        rules: TestRules,
        *,
        seed: int,
        prior_mean: float = 0.0,
        prior_sd: float = 1.0,
        seen: Iterable[int] = (),
    ) -> None:
        self.tables, self.rules = tables, rules
        bank = tables.bank
        self._log_prior = _log_normal(prior_mean, prior_sd)
        self._log_weight = self._log_prior.copy()
        before = whole_array("seen", np.array(list(seen), np.int64), below=bank.items)
        self._free: Bool = np.ones(bank.items, np.bool_)
        self._free[before] = False
        self._scores: Bool = bank.answers_ >= rules.calibrated
        self._share = self._shares()
        self._asked = np.zeros(len(self._share))
        self._seed = seed
        self._open: Ask | None = None
        self.items: list[int] = []
        self.right: list[bool] = []
        self.scored = 0
        if not (self._free & self._scores).any():
            raise ArrayInvalid("bank", None, "has no calibrated item left for this person")

    def next_item(self, exposure: Exposure) -> Ask | None:
        """The item to put now; None when the test is over. Asking twice gives the same item."""
        if self.stopped is not None:
            return None
        if self._open is None:
            self._open = self._choose(exposure)
            if self._open is not None:
                exposure.show(self._open.item)
        return self._open

    def answer(self, item: int, *, right: bool) -> None:
        """Take the answer to the item that was asked, or to a stored one when a test is rebuilt.

        Raises: ArrayInvalid, for an item that was answered before or is not in the bank.
        """
        whole_array("item", np.array([item]), below=self.tables.bank.items)
        if not self._free[item]:
            raise ArrayInvalid("item", None, f"{item} was put to this person before")
        self._free[item] = False
        self._open = None
        self.items.append(item)
        self.right.append(right)
        if self._scores[item]:
            table = self.tables.up if right else self.tables.down
            self._log_weight += table[item]
            self._asked[self.tables.bank.domain_[item]] += 1
            self.scored += 1

    @property
    def posterior(self) -> Float64:
        """P(ability) on `GRID`, not inflated, shape (grid,)."""
        return _normal(self._log_weight)

    @property
    def stopped(self) -> str | None:
        """Why the test is over, in words; None while it goes on."""
        rules = self.rules
        if self.scored >= rules.longest:
            return f"{rules.longest} items were asked"
        if not (self._free & self._scores).any():
            return "no item is left that this person has not seen"
        if self.scored < rules.least:
            return None
        mean, sd = _moments(self.posterior)
        if rules.cut is not None:
            above = float(self.posterior[rules.cut < GRID].sum())
            if not 1 - rules.sure <= above <= rules.sure:
                return f"ability is {'above' if above > 0.5 else 'below'} the cut, at {above:.3f}"
        if sd < rules.precise:
            return f"ability {mean:.2f} is known to {sd:.2f}"
        return None

    def evidence(self, *, inflation: float = INFLATION) -> Evidence:
        """The result, with its variance inflated for what a test cannot know."""
        return _evidence(self._log_weight, self.rules.cut, self.scored, inflation)

    def _shares(self) -> Float64:
        domains = len(self.tables.bank.labels_)
        if self.rules.shares is None:
            held = np.bincount(self.tables.bank.domain_[self._scores], minlength=domains)
            return np.asarray(held / max(held.sum(), 1), np.float64)
        share = real_array("shares", self.rules.shares, domains, low=0.0, high=1e9)
        if share.sum() <= 0:
            raise ArrayInvalid("shares", None, "are all nought")
        return np.asarray(share / share.sum(), np.float64)

    def _choose(self, exposure: Exposure) -> Ask | None:
        # A draw of its own for each step, so that a test built again goes on as it would have.
        rng = np.random.default_rng([self._seed, len(self.items)])
        if rng.random() < self.rules.pretest_share:
            waiting = np.flatnonzero(self._free & ~self._scores)
            if len(waiting):
                # The one with the fewest answers first: that is where a calibration is short.
                count = self.tables.bank.answers_[waiting] + exposure.shown[waiting]
                return Ask(int(waiting[np.argmin(count + rng.random(len(count)))]), True)
        free = self._free & self._scores
        free = self._balanced(free)
        below = free & exposure.allowed(self.rules.exposure_cap)
        if not below.any():
            # A bank too small for its cap: the least seen items, rather than no test.
            least = exposure.shown[free].min()
            below = free & (exposure.shown <= least)
        candidates = np.flatnonzero(below)
        value = self._information(candidates)
        keep = min(self.rules.shortlist, len(candidates))
        best = np.argpartition(-value, keep - 1)[:keep]
        return Ask(int(candidates[rng.choice(np.sort(best))]), False)

    def _balanced(self, free: Bool) -> Bool:
        """Only items of the domain that is furthest behind its share, where it has one left."""
        if len(self._share) == 1:
            return free
        behind = self._share * (self.scored + 1) - self._asked
        for domain in np.argsort(-behind, kind="stable"):
            inside: Bool = free & (self.tables.bank.domain_ == domain)
            if self._share[domain] > 0 and inside.any():
                return inside
        return free

    def _information(self, items: Int64) -> Float64:
        """Fisher information of the items, averaged over the posterior by five points."""
        mean, sd = _moments(self.posterior)
        place = (mean + sd * NODES - GRID[0]) / (GRID[1] - GRID[0])
        rows = np.clip(np.rint(place), 0, len(GRID) - 1).astype(np.int64)
        weights = (NODE_WEIGHTS / NODE_WEIGHTS.sum()).astype(np.float32)
        told = self.tables.information
        total = sum(w * told[row][items] for w, row in zip(weights, rows, strict=True))
        return np.asarray(total, np.float64)


def regrade(
    tables: Tables,
    items: object,
    right: object,
    *,
    rules: TestRules,
    withdrawn: Iterable[int] = (),
    prior_mean: float = 0.0,
    prior_sd: float = 1.0,
    inflation: float = INFLATION,
) -> Evidence:
    """Score stored answers again, under the bank of today, leaving out what was withdrawn.

    A corrected key shows in `right`, which the caller marks anew; the order of answers does not
    matter. Items that have never been calibrated do not score.

    Raises: ArrayInvalid.
    """
    bank = tables.bank
    answers = truth_array("right", right)
    at = whole_array("items", items, len(answers), below=bank.items)
    gone = whole_array("withdrawn", np.array(list(withdrawn), np.int64), below=bank.items)
    kept = ~np.isin(at, gone) & (bank.answers_[at] >= rules.calibrated)
    told = np.where(answers[kept, None], tables.up[at[kept]], tables.down[at[kept]])
    log_weight = _log_normal(prior_mean, prior_sd) + told.sum(axis=0, dtype=np.float64)
    return _evidence(log_weight, rules.cut, int(kept.sum()), inflation)


class ItemWatch:
    """Whether items have become easier (leaked) or harder than their calibration, one by one.

    Two one-sided sums of standardised residuals an item; `limit_` is the height that is passed by
    chance once in `quiet` answers of an item.

    Source: Page, Biometrika 41 (1954); Siegmund, Annals of Statistics 13 (1985), for the limit.
    """

    def __init__(self, items: int, *, slack: float = 0.25, quiet: float = 2000.0) -> None:
        self.slack = number_within("slack", slack, 0.01, 2.0)
        self.quiet = number_within("quiet", quiet, 10.0, 1e9)
        self.easier: Float64 = np.zeros(items)
        self.harder: Float64 = np.zeros(items)
        self.limit_ = _cusum_limit(self.slack, self.quiet)

    def observe(self, item: int, expected: float, *, right: bool) -> str | None:
        """Take one answer, with the chance that the calibration gave it; the alarm in words."""
        # A right answer to what everybody knows says nothing; a wrong one must not say all.
        chance = min(max(expected, 0.05), 0.95)
        step = (float(right) - chance) / np.sqrt(chance * (1 - chance))
        self.easier[item] = max(0.0, self.easier[item] + step - self.slack)
        self.harder[item] = max(0.0, self.harder[item] - step - self.slack)
        if self.easier[item] > self.limit_:
            return "easier than calibrated: it may have leaked"
        if self.harder[item] > self.limit_:
            return "harder than calibrated: its key or its subject may have changed"
        return None


def _cusum_limit(slack: float, quiet: float) -> float:
    """The height whose mean time between false alarms is `quiet`, for unit normal steps."""

    def quiet_at(height: float) -> float:
        reach = min(2 * slack * (height + 1.166), 600.0)
        return float((math.exp(reach) - reach - 1) / (2 * slack**2))

    low, high = 0.0, 200.0 / slack
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if quiet_at(middle) < quiet else (low, middle)
    return (low + high) / 2


def _log_normal(mean: float, sd: float) -> Float64:
    number_within("prior_mean", mean, -4.0, 4.0)
    number_within("prior_sd", sd, 0.05, 10.0)
    return np.asarray(-0.5 * ((GRID - mean) / sd) ** 2, np.float64)


def _normal(log_weight: Float64) -> Float64:
    weight = np.exp(log_weight - float(np.max(log_weight)))
    return np.asarray(weight / weight.sum(), np.float64)


def _moments(weight: Float64) -> tuple[float, float]:
    mean = float(weight @ GRID)
    return mean, math.sqrt(max(float(weight @ (GRID - mean) ** 2), 1e-12))


def _evidence(log_weight: Float64, cut: float | None, items: int, inflation: float) -> Evidence:
    number_within("inflation", inflation, 1.0, 10.0)
    weight = _normal(log_weight)
    mean, sd = _moments(weight)
    above = None
    if cut is not None:
        # A posterior to the power 1 / inflation is wider by that factor about the same place.
        above = float(_normal(log_weight / inflation)[cut < GRID].sum())
    return Evidence(mean, sd * float(np.sqrt(inflation)), above, items)
