"""Maximum a posteriori of a logistic model with crossed random effects, and its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from matching.design import Design, Factor
from matching.newton import least
from matching.problem import Bool, Float64, Int64

LARGEST_VARIANCE, SMALLEST_VARIANCE = 6.0, 1e-3
"""Bounds of a prior variance, squared logits; wider than six no data set here has wanted."""

REPEATED, ALONE = 0.05, 0.05
"""With fewer levels than this share in more than one row, as where every task is done once, how
levels differ cannot be told from chance: the variance is this, squared logits. A wide one would
only take from the other effects what is theirs."""

ROUGH, NEAR = 0.05, 0.005
"""Nats that the penalised likelihood may be short of its greatest, before variances are learned
again and at the end."""


@dataclass(frozen=True)
class Fit:
    """Coefficients with diagonal Laplace variances.

    Shapes: dense, dense_variance (columns,); level, level_variance one array for each factor.
    Units: logits and squared logits. `variance` is the prior variance of each factor.
    """

    dense: Float64
    dense_variance: Float64
    level: list[Float64]
    level_variance: list[Float64]
    variance: list[float]
    ridge: float


def fit_map(
    dense: Float64,
    factors: Sequence[Factor],
    outcome: Float64,
    weight: Float64,
    *,
    penalised: Float64,
    rising: Int64,
    ridge: float = 1.0,
    rounds: int = 3,
) -> Fit:
    """Fit coefficients by Newton's method, prior variances by expectation-maximisation around it.

    A level that no row has would only have its prior, and is not asked about.

    Shapes: dense (rows, columns); outcome, weight (rows,); penalised (columns,), how strongly the
        ridge holds each dense column, nought for the intercept; rising, the dense columns whose
        coefficient may not be negative.
    Source: penalised quasi-likelihood with a diagonal Laplace posterior; variances by the fixed
        point s2 = mean(b2 + v), MacKay, Neural Computation 4 (1992).
    """
    design = Design(dense, factors)
    variance = [factor.variance for factor in factors]
    theta = np.zeros(design.width)
    # How levels differ shows in those with two rows; one row could as well be chance.
    seen = [np.bincount(f.at[f.at >= 0], minlength=f.levels) > 1 for f in factors]
    fit: Fit | None = None
    for turn in range(max(rounds, 1)):
        precision = np.concatenate(
            [penalised / ridge + 1e-6]
            + [np.full(f.levels + 1, 1 / s2) for f, s2 in zip(factors, variance, strict=True)]
        )
        last = turn == max(rounds, 1) - 1
        theta = least(
            design, outcome, weight, precision, rising, theta, tolerance=NEAR if last else ROUGH
        )
        fit = _with_variances(design, theta, weight, precision, variance, ridge)
        if not last:
            _learn_variances(fit, factors, seen, variance)
            ridge = _learned_ridge(fit, penalised, ridge)
    if fit is None:
        raise AssertionError("there is at least one round")
    return fit


def _with_variances(
    design: Design,
    theta: Float64,
    weight: Float64,
    precision: Float64,
    variance: list[float],
    ridge: float,
) -> Fit:
    p = expit(design.logits(theta))
    h = weight * p * (1 - p)
    # Columns lean on each other, so their joint curvature is inverted, not its diagonal.
    spread = np.diag(np.linalg.inv(design.gram(h) + np.diag(precision[: design.columns]))).copy()
    _, heavy = design.parted(design.square_sums(h))
    dense, levels = design.parted(theta)
    spreads = [1 / (felt + 1 / s2) for felt, s2 in zip(heavy, variance, strict=True)]
    return Fit(dense, spread, levels, spreads, list(variance), ridge)


def _learn_variances(
    fit: Fit, factors: Sequence[Factor], seen: Sequence[Bool], variance: list[float]
) -> None:
    for n, (factor, met) in enumerate(zip(factors, seen, strict=True)):
        if met.sum() < REPEATED * len(met):
            variance[n] = ALONE
            continue
        # Two levels' worth of the opening guess keep a factor of few levels from collapsing.
        raw = fit.level[n][met] ** 2 + fit.level_variance[n][met]
        mean = (float(raw.sum()) + 2 * factor.variance) / (int(met.sum()) + 2)
        variance[n] = float(np.clip(mean, SMALLEST_VARIANCE, LARGEST_VARIANCE))


def _learned_ridge(fit: Fit, penalised: Float64, ridge: float) -> float:
    held = penalised > 0
    if not held.any():
        return ridge
    raw = (fit.dense[held] ** 2 + fit.dense_variance[held]) * penalised[held]
    return float(np.clip((raw.sum() + 2 * 0.25) / (held.sum() + 2), 1e-3, LARGEST_VARIANCE))
