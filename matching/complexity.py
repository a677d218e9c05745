"""Which complexity brings the experts back: who is productive at each level, and what comes next.

pool = productive_experts(logit, sd)                # E(c), who can still stump at each level
propose_level(logit, sd, minutes=minutes, current=0, opening=100)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtr, ndtri
from scipy.special import logit as logit_of

from matching.arrays import ArrayInvalid, number_within, real_array
from matching.problem import Float64

PROBIT = np.pi / 8


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """How many experts can be expected to stump at each level, with what is not known of it.

    Shapes: all (levels,); Units: experts; rate a share of attempts of the productive ones.
    """

    count: Float64
    low: Float64
    high: Float64
    rate: Float64
    rate_low: Float64
    rate_high: Float64


@dataclass(frozen=True, slots=True)
class Proposal:
    """The next complexity, or the words why none will do.

    Units: level a column of the input, None when the model has no level left; productive, low and
        high in experts; rate, rate_low and rate_high a share of attempts; per_hour valid stumps.
    """

    level: int | None
    productive: float
    low: float
    high: float
    rate: float
    rate_low: float
    rate_high: float
    per_hour: float
    reason: str

    @property
    def is_saturated(self) -> bool:
        """Whether no level is left at which the pool still stumps the model often enough."""
        return self.level is None


def productive_experts(
    logit: object,
    sd: object,
    *,
    shared_sd: object = 0.0,
    attempts: int = 10,
    share: float = 0.8,
) -> Pool:
    """E(c): the expected number whose chance of a valid stump in so many attempts is over one half.

    `sd` is each expert's own doubt, `shared_sd` that of the model's ability at each level, which
    moves everybody at once; the bounds hold `share` of what both leave open.

    Shapes: logit, sd (experts, levels); shared_sd (levels,) or one number.
    Units: log-odds of a valid stump an attempt.
    Raises: ArrayInvalid.
    """
    mean, own = _table("logit", logit), _table("sd", sd)
    own = np.broadcast_to(own, mean.shape) if own.size == 1 else own
    if own.shape != mean.shape:
        raise ArrayInvalid("sd", None, f"has shape {own.shape}, not {mean.shape}")
    if (own < 0).any():
        at = int(np.flatnonzero((own < 0).any(axis=1))[0])
        raise ArrayInvalid("sd", at, "is negative")
    common = np.broadcast_to(np.asarray(shared_sd, np.float64), (mean.shape[1],))
    common = real_array("shared_sd", common, low=0.0, high=20.0)
    tries = int(number_within("attempts", attempts, 1, 1e6))
    reach = float(ndtri((1 + number_within("share", share, 0.01, 0.9999)) / 2))
    middle, rate, luck = _counted(mean, own, tries)
    worse, rate_low, _ = _counted(mean - reach * common, own, tries)
    better, rate_high, _ = _counted(mean + reach * common, own, tries)
    # What moves everybody, and who happens to be above the line, in quadrature.
    low = middle - np.hypot(middle - worse, reach * luck)
    high = middle + np.hypot(better - middle, reach * luck)
    return Pool(
        count=middle,
        low=np.clip(low, 0.0, len(mean)),
        high=np.clip(high, 0.0, len(mean)),
        rate=rate,
        rate_low=rate_low,
        rate_high=rate_high,
    )


def propose_level(
    logit: object,
    sd: object,
    *,
    minutes: object,
    current: int,
    opening: float,
    shared_sd: object = 0.0,
    least_per_hour: float = 0.0,
    keep: float = 0.8,
    fallen: float = 0.5,
    attempts: int = 10,
    cautious: bool = False,
) -> Proposal:
    """The smallest complexity that brings the pool back, when the current one has lost it.

    Levels are columns in the order of complexity. Nothing is proposed while the productive
    experts of the current level are `fallen` of the opening count or more. The next level must be
    expected to have `keep` of the opening count, and `least_per_hour` valid stumps an hour; when
    cautious, both counts are taken at the lower bound.

    Shapes: logit, sd (experts, levels); minutes (levels,), expected expert minutes an attempt.
    Raises: ArrayInvalid.
    """
    pool = productive_experts(logit, sd, shared_sd=shared_sd, attempts=attempts)
    levels = len(pool.count)
    effort = real_array("minutes", minutes, levels, low=1e-6, high=1e9)
    if not 0 <= current < levels:
        raise ArrayInvalid("current", None, f"{current} is not from 0 to {levels - 1}")
    began = number_within("opening", opening, 0.0, 1e12)
    per_hour = pool.rate / effort * 60

    def told(level: int, reason: str, chosen: int | None) -> Proposal:
        return Proposal(
            level=chosen,
            productive=float(pool.count[level]),
            low=float(pool.low[level]),
            high=float(pool.high[level]),
            rate=float(pool.rate[level]),
            rate_low=float(pool.rate_low[level]),
            rate_high=float(pool.rate_high[level]),
            per_hour=float(per_hour[level]),
            reason=reason,
        )

    count = pool.low if cautious else pool.count
    here = float(count[current])
    if here >= fallen * began and here > 0:
        return told(current, f"{here:.0f} of {began:.0f} experts still stump here", current)
    for level in range(current + 1, levels):
        if count[level] >= max(keep * began, 1) and per_hour[level] >= least_per_hour:
            said = (
                f"{here:.0f} of {began:.0f} experts are left at this level; {level - current} up,"
                f" {pool.count[level]:.0f} are expected ({pool.low[level]:.0f} to"
                f" {pool.high[level]:.0f})"
            )
            return told(level, said, level)
    best = int(np.argmax(pool.count))
    return told(best, f"no level is expected to bring back {keep:.0%} of the pool", None)


@dataclass(frozen=True, slots=True)
class Ladder:
    """Log-odds of a stump as a line in the logarithm of expert minutes, learned from levels seen.

    For levels that nobody has tried yet. A level is four times the minutes of the one below.

    Units: slope in logits a doubling of minutes; deviation how far a level may lie off the line.
    """

    slope: float = 0.45
    slope_sd: float = 0.2
    deviation: float = 0.35

    def forecast(
        self, minutes: object, logit: object, sd: object, *, ahead: object
    ) -> tuple[Float64, Float64]:
        """Log-odds and their sd at `ahead` minutes, given those of the levels seen.

        The slope is kept from falling below nought: more work never makes a task easier for a
        model. Shapes: minutes, logit, sd (levels,); ahead and the results (levels ahead,).
        Raises: ArrayInvalid.
        """
        x = np.log2(real_array("minutes", minutes, low=1e-6, high=1e9))
        y = real_array("logit", logit, len(x), low=-50.0, high=50.0)
        doubt = real_array("sd", sd, len(x), low=0.0, high=50.0)
        wanted = np.log2(real_array("ahead", ahead, low=1e-6, high=1e9))
        centre = float(x.mean()) if len(x) else 0.0
        table = np.column_stack([np.ones(len(x)), x - centre])
        weight = 1 / (doubt**2 + self.deviation**2)
        keep = np.diag([1e-2, 1 / self.slope_sd**2])
        inverse = np.linalg.inv((table * weight[:, None]).T @ table + keep)
        line = inverse @ ((table * weight[:, None]).T @ y + keep @ np.array([0.0, self.slope]))
        line[1] = max(float(line[1]), 0.0)
        rows = np.column_stack([np.ones(len(wanted)), wanted - centre])
        spread = np.einsum("ij,jk,ik->i", rows, inverse, rows) + self.deviation**2
        return np.asarray(rows @ line, np.float64), np.asarray(np.sqrt(spread), np.float64)


def _table(name: str, given: object) -> Float64:
    values = np.asarray(given, np.float64)
    values = values.reshape(1, 1) if values.ndim == 0 else values
    if values.ndim != 2:
        raise ArrayInvalid(name, None, f"has shape {values.shape}, not two dimensions")
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise ArrayInvalid(name, int(np.flatnonzero(wrong.any(axis=1))[0]), "is not a number")
    return values


def _counted(mean: Float64, own: Float64, tries: int) -> tuple[Float64, Float64, Float64]:
    """Expected productive experts, the rate among them (or all, where nobody is), and the sd.

    An expert is productive where (1 - p)^tries is below one half. Counting those whose mean is
    beyond that would call everybody productive of whom little is known.
    """
    limit = float(logit_of(1 - 0.5 ** (1 / tries)))
    able = ndtr((mean - limit) / np.maximum(own, 1e-9))
    once = expit(mean / np.sqrt(1 + PROBIT * own**2))
    count = np.asarray(able.sum(axis=0), np.float64)
    inside = (able * once).sum(axis=0) / np.maximum(count, 1e-12)
    everyone = once.mean(axis=0) if len(once) else np.zeros(mean.shape[1])
    spread = np.asarray(np.sqrt((able * (1 - able)).sum(axis=0)), np.float64)
    return count, np.asarray(np.where(count > 1e-9, inside, everyone), np.float64), spread
