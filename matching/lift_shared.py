"""Lift of many contributors from few batches: each drawn to what an item adds on the average.

dealt = deal_items(contributor, batches=24, seed=7)     # into which batch each item goes
shared = SharedLift().fit(counts, metric)               # one row for each batch that was tried
shared.relative_, shared.low_, shared.high_             # against the average item, with intervals
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, stdtrit

from matching.lift import LEAST_FREE, LiftNotIdentified, checked_batches, draw_batches
from matching.problem import Float64, Int64
from matching.votes import checked_index

SHARES = np.concatenate([[0.0], np.linspace(0.02, 0.98, 25)])
"""Shares of the variance of batches that contributors may make, each as likely beforehand."""


def deal_items(group: Int64, batches: int, *, seed: int) -> Int64:
    """The batch of each item, shape (items,): each group's items at random over about half of them.

    Shapes: group (items,), whose item each is, from nought.
    Raises: CreditInvalid, VotesInvalid.
    """
    whose = np.asarray(group)
    known = checked_index("group", whose, int(whose.max(initial=-1)) + 1)
    counts = np.bincount(known)
    drawn = draw_batches(counts, batches, seed=seed)
    rng = np.random.default_rng([seed, 1])
    result = np.empty(len(known), np.int64)
    for one in range(len(counts)):
        result[known == one] = rng.permutation(np.repeat(np.arange(batches), drawn[:, one]))
    return result


@dataclass(frozen=True, slots=True)
class _Fit:
    """The posterior under one ratio of the two variances."""

    evidence: float
    common: float
    effect: Float64
    common_variance: float
    effect_variance: Float64
    sum_variance: Float64
    noise: float
    spread: float


class SharedLift:
    """What an item adds to a metric on the average, and how much more or less each group's do.

    A batch's metric is a common start, plus for each item what an item adds, plus what its group's
    add beyond that, plus noise. Groups are drawn from one normal law whose width is averaged over,
    so that groups may be more than batches, and few batches leave all of them near the average. A
    batch without items tells the start; without it the average cannot be told from the start.

    What `fit` learns: common_, common_sd_, noise_, of the metric; added_, added_sd_ (groups,), what
    an item of each group adds; relative_, low_, high_ (groups,), how much more than the average, on
    the scale of the average's size, and nine tenths of belief.
    Source: Henderson, Biometrics 31 (1975), for the equations; a prior that is even in the share of
        variance, Daniels, Canadian J. of Statistics 27 (1999).
    """

    def fit(self, batch: Float64, metric: Float64) -> SharedLift:
        """Learn from batches that were tried.

        Shapes: batch (batches, groups), items of each group; metric (batches,).
        Raises: LiftNotIdentified, CreditInvalid.
        """
        design, told = checked_batches(batch, metric)
        sizes = design.sum(axis=1)
        free = len(told) - 2
        if free < LEAST_FREE or np.ptp(sizes) == 0:
            raise LiftNotIdentified(len(told), design.shape[1])
        # Scaled, so that the grid of ratios means the same for any metric.
        scale = float(np.ptp(told)) or 1.0
        y = (told - told.mean()) / scale
        fixed = np.column_stack([np.ones(len(y)), sizes])
        size = float((design**2).sum() / len(y)) or 1.0
        fits = [_solve(y, fixed, design, s / (1 - s) / size, free) for s in SHARES]
        log = np.array([one.evidence for one in fits])
        weight = np.exp(log - logsumexp(log))
        common = float(weight @ [one.common for one in fits])
        effect = weight @ np.array([one.effect for one in fits])
        added = weight @ np.array([one.common + one.effect for one in fits])
        common_variance = float(
            weight @ [one.common_variance + (one.common - common) ** 2 for one in fits]
        )
        effect_variance = weight @ np.array(
            [one.effect_variance + (one.effect - effect) ** 2 for one in fits]
        )
        added_variance = weight @ np.array(
            [one.sum_variance + (one.common + one.effect - added) ** 2 for one in fits]
        )
        spread = float(weight @ [one.spread for one in fits])
        # Where items add next to nothing, or nobody knows what, "twice the average" means nothing.
        unit = np.sqrt(common**2 + common_variance + spread)
        reach = float(stdtrit(free, 0.95)) * np.sqrt(effect_variance)
        self.common_, self.common_sd_ = common * scale, float(np.sqrt(common_variance)) * scale
        self.noise_ = float(np.sqrt(weight @ [one.noise for one in fits])) * scale
        self.added_: Float64 = added * scale
        self.added_sd_: Float64 = np.sqrt(added_variance) * scale
        self.relative_: Float64 = effect / unit
        self.low_: Float64 = (effect - reach) / unit
        self.high_: Float64 = (effect + reach) / unit
        self.free_ = free
        return self


def _solve(y: Float64, fixed: Float64, design: Float64, ratio: float, free: int) -> _Fit:
    """Best linear prediction under a ratio of the groups' variance to the noise's."""
    groups = design.shape[1]
    cover = np.eye(len(y)) + ratio * design @ design.T
    inverse = np.linalg.inv(cover)
    inner = fixed.T @ inverse @ fixed
    known = np.linalg.pinv(inner)
    start = known @ (fixed.T @ inverse @ y)
    left = y - fixed @ start
    rest = max(float(left @ inverse @ left), 1e-18)
    evidence = -0.5 * (
        np.linalg.slogdet(cover)[1] + np.linalg.slogdet(inner)[1] + free * np.log(rest)
    )
    # The mean of the noise's posterior; for few batches wider than the plain estimate.
    noise = rest / max(free - 2, 1)
    weighed = ratio * design.T @ inverse
    effect = weighed @ left
    # Of what is left unexplained of groups, and how it hangs together with the average.
    shift = weighed @ fixed @ known
    own = ratio * np.eye(groups) - ratio * weighed @ design + shift @ (fixed.T @ weighed.T)
    effect_variance = np.maximum(np.diag(own), 0.0)
    together = -shift[:, 1]
    common_variance = max(float(known[1, 1]), 0.0)
    summed = np.maximum(effect_variance + common_variance + 2 * together, 0.0)
    return _Fit(
        float(evidence),
        float(start[1]),
        effect,
        noise * common_variance,
        noise * effect_variance,
        noise * summed,
        noise,
        noise * ratio,
    )
