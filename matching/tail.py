"""Whether contributions follow a power law, and how steep; or that there are too few to tell."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_ndtr, zeta
from scipy.stats import norm

from matching.credit import CreditInvalid, checked_numbers
from matching.problem import Float64

FEWEST = 50
"""Contributors in the tail below which nothing is said of its shape."""

MOST_STARTS = 60
"""Values that are tried as the start of the tail, spread over those there are."""

STEEPEST = 8.0
"""An exponent beyond which a tail is no heavier than others are."""


class Verdict(StrEnum):
    """What the tail looks like."""

    TOO_FEW = "too few"
    POWER_LAW = "power law"
    LOG_NORMAL = "log-normal"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Tail:
    """A discrete power law p(x) ~ x^-exponent from `start` on, beside a log-normal.

    The figures are None where there are too few contributors. `vuong` is the normalised log
    likelihood ratio, above nought where the power law is likelier; `p_value`, of its being as far
    from nought by chance.

    Units: start in items; in_tail in contributors; distance, the largest gap of the two
        distributions (Kolmogorov-Smirnov).
    """

    verdict: Verdict
    in_tail: int
    start: int | None = None
    exponent: float | None = None
    exponent_sd: float | None = None
    distance: float | None = None
    vuong: float | None = None
    p_value: float | None = None

    def sentence(self, of: str = "validated stumps") -> str:
        """What may be said of it in the product."""
        if self.verdict is Verdict.TOO_FEW:
            return f"Too few people ({self.in_tail}) made {of} to tell of a power law."
        tail = f"Of the {self.in_tail} people with {self.start} {of} or more,"
        if self.exponent is None or self.exponent_sd is None:
            return f"{tail} nothing tells whether they follow a power law."
        power = f"a power law with exponent {self.exponent:.1f} ± {1.645 * self.exponent_sd:.1f}"
        if self.verdict is Verdict.POWER_LAW:
            return f"{tail} {power} tells more than a log-normal."
        if self.verdict is Verdict.LOG_NORMAL:
            return f"{tail} a log-normal tells more than a power law: the tail is lighter than one."
        return f"{tail} {power} and a log-normal cannot be told apart."


def fit_tail(count: Float64, *, fewest: int = FEWEST) -> Tail:
    """Choose where the tail starts, fit both laws from there on, and compare them.

    Shapes: count (contributors,), whole numbers from nought.
    Source: Clauset, Shalizi, Newman, SIAM Review 51 (2009), eq. 3.5, 3.9 and appendix C.
    Raises: CreditInvalid.
    """
    counts = checked_numbers("count", count, low=0.0)
    if (counts != np.floor(counts)).any():
        raise CreditInvalid("count", None, "must be whole numbers")
    positive = np.sort(counts[counts > 0])
    if len(positive) < fewest:
        return Tail(Verdict.TOO_FEW, len(positive))
    # The tail must keep enough contributors, so later starts are not looked at.
    values = np.unique(positive[: len(positive) - fewest + 1])
    if len(values) > MOST_STARTS:
        values = values[np.linspace(0, len(values) - 1, MOST_STARTS).astype(int)]
    fits = [(*_fit_power(positive[positive >= start], start), float(start)) for start in values]
    distance, exponent, start = min(fits)
    tail = positive[positive >= start]
    if exponent >= STEEPEST - 0.01 or tail[0] == tail[-1]:
        return Tail(Verdict.UNDECIDED, len(tail), int(start), distance=distance)
    power = -exponent * np.log(tail) - np.log(zeta(exponent, start))
    ratio = power - _fit_log_normal(tail, start)
    spread = float(ratio.std())
    vuong = float(ratio.sum() / (np.sqrt(len(tail)) * spread)) if spread > 1e-9 else 0.0
    p_value = float(2 * norm.sf(abs(vuong)))
    verdict = Verdict.UNDECIDED
    if p_value < 0.1:
        verdict = Verdict.POWER_LAW if vuong > 0 else Verdict.LOG_NORMAL
    return Tail(
        verdict,
        len(tail),
        int(start),
        exponent,
        _exponent_sd(exponent, start, len(tail)),
        distance,
        vuong,
        p_value,
    )


def _fit_power(tail: Float64, start: float) -> tuple[float, float]:
    """Largest gap of the distributions, and the most likely exponent."""
    mean_log = float(np.log(tail).mean())

    def cost(exponent: float) -> float:
        return float(exponent * mean_log + np.log(zeta(exponent, start)))

    found = minimize_scalar(cost, bounds=(1.01, STEEPEST), method="bounded")
    exponent = float(found.x)
    seen, times = np.unique(tail, return_counts=True)
    data = np.cumsum(times) / len(tail)
    law = 1.0 - zeta(exponent, seen + 1) / zeta(exponent, start)
    return float(np.abs(data - law).max()), exponent


def _exponent_sd(exponent: float, start: float, size: int) -> float:
    """By the curvature of the log likelihood, in differences."""
    step = 1e-4
    up, at, down = (float(np.log(zeta(exponent + s, start))) for s in (step, 0.0, -step))
    curve = max((up - 2 * at + down) / step**2, 1e-9)
    return float(1.0 / np.sqrt(size * curve))


def _fit_log_normal(tail: Float64, start: float) -> Float64:
    """Log likelihood of each value under the likeliest log-normal, rounded and cut at the start."""
    logs = np.log(tail)

    def told(x: Float64) -> Float64:
        centre, spread = x[0], np.exp(np.clip(x[1], -4, 3))
        low = (np.log(tail - 0.5) - centre) / spread
        high = (np.log(tail + 0.5) - centre) / spread
        # Both ends on the side where the tail is small, so that a difference keeps its digits.
        near, far = np.where(low > 0, -low, high), np.where(low > 0, -high, low)
        big, small = log_ndtr(near), log_ndtr(far)
        inside = big + np.log1p(-np.exp(np.minimum(small - big, -1e-15)))
        beyond = log_ndtr(-(np.log(start - 0.5) - centre) / spread)
        return np.asarray(np.maximum(inside - beyond, -700.0), np.float64)

    def cost(x: Float64) -> float:
        # Without a ridge a cut log-normal runs off to look like a power law.
        return -float(told(x).sum()) + 0.001 * float((x**2).sum())

    begin = np.array([logs.mean(), np.log(max(float(logs.std()), 0.1))])
    found = minimize(cost, begin, method="Nelder-Mead", options={"maxiter": 400, "xatol": 1e-4})
    return told(np.asarray(found.x, np.float64))
