"""A new target model: what to expect of it, which tasks to run first, and what they say.

    prior = ModelBelief.of(earlier, dates, vendors, release_date=today, release_vendor="v")
    chosen = calibration_set(prior, base, level, size=20, seed=7)
    after = prior.seen(base[chosen], stumped, level[chosen])
    after.level_rates(base, level)              # with intervals; after.stump_rate by task

`base` is the log-odds that a task stumps a model of ability nought; a model of ability A is
stumped with log-odds base - A.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit, log_expit

from matching.arrays import ArrayInvalid, groups_of, number_within, real_array
from matching.assignment import totals
from matching.problem import Float64, Int64

ABILITY = np.linspace(-10.0, 10.0, 401)
"""Abilities in logits at which what is known of a model is kept."""

BEST_SD = 0.6
"""How far a release may lie from the best earlier model of its vendor, logits."""

MOST_TREND_SD = 0.8
"""The trend is believed at least this closely, logits: a line through few models knows too little
of its own scatter, and what it leaves open costs every prediction before the first run."""

TREND_FLOOR = 0.15
"""Squared logits by which a release may lie off the line even where all earlier ones lie on it."""

SURPRISE = 0.02
SURPRISE_SD = 3.5
"""Share of belief, and its width in logits, that is kept for a release unlike any before it."""

LEVEL_SD = 0.5
"""How far the ability shown at one level lies from the model's own, logits."""

HALF = 0.5
PROBIT = np.pi / 8

KERNEL = np.exp(-0.5 * ((ABILITY[:, None] - ABILITY) / LEVEL_SD) ** 2)
KERNEL /= KERNEL.sum(axis=1, keepdims=True)


@dataclass(frozen=True, slots=True, eq=False)
class ModelBelief:
    """What is believed of a model's ability, as probabilities on `ABILITY`, before and after runs.

    Half of the prior is that the vendor matched the best it had, half that the trend by date goes
    on; ten to thirty runs then decide between them. A model is a little better at some levels than
    its ability says, and worse at others, by `LEVEL_SD`: runs of one level tell more of that level
    than of the rest.

    Shapes: prior (abilities,); labels the levels that were run; told (levels, abilities), log
        likelihoods of the ability shown at each.
    """

    prior: Float64
    labels: tuple[object, ...] = ()
    told: Float64 = field(default_factory=lambda: np.zeros((0, len(ABILITY))))

    @classmethod
    def of(
        cls,
        ability: object,
        date: object,
        vendor: object = None,
        *,
        release_date: float,
        release_vendor: object = None,
        shift: float = 0.0,
    ) -> ModelBelief:
        """From earlier models; without any, anything within a few logits is likely.

        `shift` moves the whole, for an agent or an endpoint known to be weaker or stronger.

        Shapes: ability, date, vendor (models,).
        Units: ability in logits; dates in years.
        Raises: ArrayInvalid.
        """
        known = real_array("ability", ability, low=-50.0, high=50.0)
        when = real_array("date", date, len(known), low=-1e6, high=1e6)
        number_within("release_date", release_date, -1e6, 1e6)
        if not len(known):
            return cls(_bell(shift, 2.0))
        own = np.ones(len(known), np.bool_)
        if vendor is not None:
            labels = np.asarray(vendor)
            groups_of("vendor", labels, len(known))
            own = labels == release_vendor
            own = own if own.any() else np.ones(len(known), np.bool_)
        best = float(known[own].max())
        middle, sd = _trend(known, when, release_date)
        mixed = HALF * _bell(best + shift, BEST_SD) + (1 - HALF) * _bell(middle + shift, sd)
        mixed = (1 - SURPRISE) * mixed + SURPRISE * _bell(middle + shift, SURPRISE_SD)
        return cls(np.asarray(mixed / mixed.sum(), np.float64))

    @classmethod
    def normal(cls, mean: float, sd: float) -> ModelBelief:
        """A belief from elsewhere, such as the ability model's own forecast, logits."""
        number_within("mean", mean, -9.0, 9.0)
        number_within("sd", sd, 0.05, 10.0)
        return cls(_bell(mean, sd))

    @property
    def weight(self) -> Float64:
        """Probabilities of ability, all runs taken in, shape (abilities,)."""
        return _normal(np.log(np.maximum(self.prior, 1e-300)) + self._spread_out().sum(axis=0))

    @property
    def mean(self) -> float:
        """Expected ability, logits."""
        return float(self.weight @ ABILITY)

    @property
    def sd(self) -> float:
        """Standard deviation of ability, logits."""
        weight = self.weight
        middle = float(weight @ ABILITY)
        return math.sqrt(max(float(weight @ (ABILITY - middle) ** 2), 0.0))

    def seen(
        self, base: object, stumped: object, level: object = None, *, base_sd: object = None
    ) -> ModelBelief:
        """What is believed after runs on these tasks; doubt about a task makes it count less.

        Several runs of one task are not several tasks: they share its error. Pass their mean, as
        one run. Runs without a level are taken to be of one level, the same for all.

        Shapes: base, stumped, level, base_sd (runs,); levels are labels of any kind.
        Units: base and base_sd in logits; stumped 0 to 1, a share or P(valid) where soft.
        Raises: ArrayInvalid.
        """
        eta = _shown(base, base_sd)
        y = real_array("stumped", stumped, len(eta), low=0.0, high=1.0)[:, None]
        each = y * log_expit(eta) + (1 - y) * log_expit(-eta)
        runs = np.zeros(len(eta), np.int64) if level is None else np.asarray(level)
        place, _ = groups_of("level", runs, len(eta))
        names = np.unique(runs).tolist()
        labels = [*self.labels, *(name for name in names if name not in self.labels)]
        told = np.zeros((len(labels), len(ABILITY)))
        told[: len(self.labels)] = self.told
        where = np.array([labels.index(name) for name in names], np.int64)
        if len(eta):
            np.add.at(told, where[place], each)
        return ModelBelief(self.prior, tuple(labels), told)

    def at_level(self, level: object = 0) -> Float64:
        """Probabilities of the ability that the model shows at one level, shape (abilities,)."""
        others = self._spread_out()
        log_weight = np.log(np.maximum(self.prior, 1e-300)) + others.sum(axis=0)
        if level not in self.labels:
            return np.asarray(_normal(log_weight) @ KERNEL, np.float64)
        row = self.labels.index(level)
        rest = _normal(log_weight - others[row]) @ KERNEL
        return _normal(np.log(np.maximum(rest, 1e-300)) + self.told[row])

    def stump_rate(self, base: object, level: object = None, *, base_sd: object = None) -> Float64:
        """P(stump) of each task against this model, shape (tasks,); shapes as in `seen`."""
        told = expit(_shown(base, base_sd))
        place, weights = self._by_level(level, len(told))
        return np.asarray(np.einsum("ij,ij->i", told, weights[place]), np.float64)

    def level_rates(
        self, base: object, level: object, *, base_sd: object = None, share: float = 0.8
    ) -> tuple[np.ndarray, Float64, Float64, Float64]:
        """Labels of levels, and the rate of each with the bounds that hold this share of belief.

        The bounds are those of the ability shown at the level; errors of single tasks average out.
        """
        shown = expit(_shown(base, base_sd))
        place, weights = self._by_level(level, len(shown))
        number_within("share", share, 0.01, 0.9999)
        rate = np.zeros(weights.shape)
        np.add.at(rate, place, shown)
        rate /= totals(place, np.ones(len(place)), len(rate))[:, None]
        edge = np.cumsum(weights, axis=1)
        # The rate falls as ability rises, so that the bounds change places.
        first = (edge < (1 - share) / 2).sum(axis=1).clip(max=len(ABILITY) - 1)
        last = (edge < (1 + share) / 2).sum(axis=1).clip(max=len(ABILITY) - 1)
        row = np.arange(len(rate))
        middle = np.asarray(np.einsum("ij,ij->i", rate, weights), np.float64)
        return np.unique(np.asarray(level)), middle, rate[row, last], rate[row, first]

    def _by_level(self, level: object, size: int) -> tuple[Int64, Float64]:
        labels = np.zeros(size, np.int64) if level is None else np.asarray(level)
        place, _ = groups_of("level", labels, size)
        names = np.unique(labels).tolist()
        weights = [self.at_level(name) for name in names]
        return place, np.array(weights).reshape(len(names), len(ABILITY))

    def _spread_out(self) -> Float64:
        """Log likelihood of ability by level, the level's own deviation averaged over."""
        if not len(self.told):
            return np.zeros((0, len(ABILITY)))
        top = self.told.max(axis=1, keepdims=True)
        return np.asarray(np.log(np.maximum(np.exp(self.told - top) @ KERNEL, 1e-300)), np.float64)


def calibration_set(
    prior: ModelBelief,
    base: object,
    stratum: object,
    *,
    size: int = 20,
    seed: int,
    base_sd: object = None,
    excluded: object = (),
) -> Int64:
    """Tasks to run a new model on first, ten to thirty: telling ones, from every stratum.

    A stratum is a level, or a domain and a level. Each gives in turn the task that is expected to
    say most about ability, of what is believed of it; all but equal ones are drawn by lot.

    Shapes: base, stratum, base_sd (tasks,); excluded (any,) indices; the result (at most size,).
    Raises: ArrayInvalid.
    """
    eta = _shown(base, base_sd)
    place, strata = groups_of("stratum", stratum, len(eta))
    wanted = int(number_within("size", size, 1, 1e6))
    rng = np.random.default_rng(seed)
    p = expit(eta)
    telling = (p * (1 - p)) @ prior.weight
    # Differences below a tenth are drawn by lot: a fixed set would soon be known.
    telling *= rng.uniform(0.9, 1.0, len(telling))
    gone = np.asarray(excluded, np.int64)
    if len(gone) and (gone.min() < 0 or gone.max() >= len(telling)):
        raise ArrayInvalid("excluded", None, "names a task that is not there")
    telling[gone] = -1.0
    order = np.lexsort((-telling, place))
    rank = np.empty(len(order), np.int64)
    first = np.searchsorted(place[order], np.arange(strata))
    rank[order] = np.arange(len(order)) - first[place[order]]
    by_turn = np.lexsort((-telling, rank))
    chosen = by_turn[telling[by_turn] > 0][:wanted]
    return np.asarray(chosen, np.int64)


def _shown(base: object, base_sd: object) -> Float64:
    """Log-odds of a stump of each task at each ability, doubt about the task taken in."""
    logit = real_array("base", base, low=-50.0, high=50.0)
    spread = np.zeros(len(logit))
    if base_sd is not None:
        spread = real_array("base_sd", base_sd, len(logit), low=0.0, high=50.0)
    return (logit[:, None] - ABILITY) / np.sqrt(1 + PROBIT * spread[:, None] ** 2)


def _normal(log_weight: Float64) -> Float64:
    weight = np.exp(log_weight - float(np.max(log_weight)))
    return np.asarray(weight / weight.sum(), np.float64)


def _bell(mean: float, sd: float) -> Float64:
    weight = np.exp(-0.5 * ((ABILITY - np.clip(mean, -9.0, 9.0)) / sd) ** 2)
    return np.asarray(weight / weight.sum(), np.float64)


def _trend(ability: Float64, date: Float64, at: float) -> tuple[float, float]:
    """A line through earlier models, its slope held towards nought, and its own doubt.

    Source: ridge regression on years with a precision of .3 on the slope.
    """
    start = float(date.min())
    table = np.column_stack([np.ones(len(date)), date - start])
    inverse = np.linalg.inv(table.T @ table + np.diag([1e-3, 0.3]))
    line = inverse @ table.T @ ability
    rest = ability - table @ line
    spread = float((rest**2).sum() / max(len(ability) - 2, 1)) + TREND_FLOOR
    row = np.array([1.0, at - start])
    doubt = spread * (1 + float(row @ inverse @ row))
    return float(row @ line), min(math.sqrt(doubt), MOST_TREND_SD)
