"""Maximum a posteriori of a logistic model with crossed random effects, and its uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import Bounds, minimize
from scipy.special import expit

from matching.problem import Float64, Int64

LARGEST_VARIANCE, SMALLEST_VARIANCE = 6.0, 1e-3
"""Bounds of a prior variance, squared logits; wider than six no data set here has wanted."""


@dataclass(frozen=True)
class Factor:
    """A categorical column: the place of each row's level among the levels.

    Shapes: at (rows,) int64, -1 for no level; levels counts them; value (rows,) float64, what the
        level's coefficient is multiplied with, empty for one.
    """

    at: Int64
    levels: int
    variance: float
    value: Float64 = field(default_factory=lambda: np.zeros(0))


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


def _gathered(coefficient: Float64, factor: Factor) -> Float64:
    """The coefficient of each row's level, nought for rows without one."""
    taken: Float64 = coefficient[factor.at]
    return taken * factor.value if len(factor.value) else taken


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
    iterations: int = 60,
    start: Fit | None = None,
) -> Fit:
    """Fit coefficients by L-BFGS, and prior variances by expectation-maximisation around it.

    A level that no row has would only have its prior, and is not asked about.

    Shapes: dense (rows, columns); outcome, weight (rows,); penalised (columns,), how strongly the
        ridge holds each dense column, nought for the intercept; rising, the dense columns whose
        coefficient may not be negative.
    Source: penalised quasi-likelihood with a diagonal Laplace posterior; variances by the fixed
        point s2 = mean(b2 + v), MacKay, Neural Computation 4 (1992).
    """
    columns = dense.shape[1]
    sizes = [factor.levels + 1 for factor in factors]
    edges = np.concatenate([[columns], columns + np.cumsum(sizes)]).astype(np.int64)
    total = int(edges[-1])
    variance = [factor.variance for factor in factors] if start is None else list(start.variance)
    ridge = ridge if start is None else start.ridge
    theta = np.zeros(total)
    if start is not None and len(start.dense) == columns:
        theta[:columns] = start.dense
        for n, level in enumerate(start.level):
            if len(level) == factors[n].levels:
                theta[edges[n] : edges[n] + len(level)] = level
    bounds_low = np.full(total, -np.inf)
    bounds_low[rising] = 0.0
    # A row without a level points at one coefficient more, which is held at nought.
    nowhere = edges[1:] - 1
    places = [
        np.where(f.at < 0, f.levels, f.at) if f.at.min(initial=0) < 0 else f.at for f in factors
    ]
    counts = [
        np.asarray(
            np.bincount(at, weight * f.value**2 if len(f.value) else weight, f.levels + 1),
            np.float64,
        )
        for at, f in zip(places, factors, strict=True)
    ]
    square = dense.astype(np.float64, copy=False)
    mass_dense = np.einsum("rc,rc,r->c", square, square, weight, optimize=False)
    fit: Fit | None = None
    for turn in range(max(rounds, 1)):
        precision = np.concatenate(
            [penalised / ridge + 1e-6]
            + [np.full(size, 1 / s2) for size, s2 in zip(sizes, variance, strict=True)]
        )
        curvature = 0.2 * np.concatenate([mass_dense, *counts]) + precision
        scale = 1 / np.sqrt(curvature)
        scale[nowhere] = 0.0

        objective = _objective(dense, factors, places, outcome, weight, edges, scale, precision)
        begin = np.divide(theta, scale, out=np.zeros(total), where=scale > 0)
        limits = Bounds(bounds_low, np.inf) if len(rising) else None
        last = turn == max(rounds, 1) - 1
        found = minimize(
            objective,
            begin,
            jac=True,
            method="L-BFGS-B",
            bounds=limits,
            options={"maxiter": iterations if last else max(iterations // 3, 15), "maxcor": 12},
        )
        theta = np.asarray(found.x) * scale
        fit = _with_variances(dense, factors, theta, edges, weight, precision, variance, ridge)
        if not last:
            _learn_variances(fit, factors, counts, variance)
            ridge = _learned_ridge(fit, penalised, ridge)
    if fit is None:
        raise AssertionError("there is at least one round")
    return fit


def _objective(
    dense: Float64,
    factors: Sequence[Factor],
    places: Sequence[Int64],
    outcome: Float64,
    weight: Float64,
    edges: Int64,
    scale: Float64,
    precision: Float64,
) -> Callable[[Float64], tuple[float, Float64]]:
    """The penalised loss and its slope, in coordinates in which the curvature is about one."""
    columns = dense.shape[1]

    def loss(z: Float64) -> tuple[float, Float64]:
        b = z * scale
        eta = (dense @ b[:columns].astype(dense.dtype)).astype(np.float64)
        for n, factor in enumerate(factors):
            eta += _gathered(b[edges[n] : edges[n + 1]], factor)
        value = float(weight @ (np.logaddexp(0, eta) - outcome * eta))
        value += 0.5 * float(precision @ (b * b))
        slope = precision * b
        miss = weight * (expit(eta) - outcome)
        slope[:columns] += miss.astype(dense.dtype) @ dense
        for n, factor in enumerate(factors):
            felt = miss * factor.value if len(factor.value) else miss
            slope[edges[n] : edges[n + 1]] += np.bincount(places[n], felt, factor.levels + 1)
        return value, slope * scale

    return loss


def _with_variances(
    dense: Float64,
    factors: Sequence[Factor],
    theta: Float64,
    edges: Int64,
    weight: Float64,
    precision: Float64,
    variance: list[float],
    ridge: float,
) -> Fit:
    columns = dense.shape[1]
    eta = dense @ theta[:columns]
    for n, factor in enumerate(factors):
        eta += _gathered(theta[edges[n] : edges[n + 1]], factor)
    p = expit(eta)
    h = weight * p * (1 - p)
    # Columns lean on each other, so their joint curvature is inverted, not its diagonal.
    gram = (dense * h[:, None]).T @ dense + np.diag(precision[:columns])
    spread = np.diag(np.linalg.inv(gram)).copy()
    levels, spreads = [], []
    for n, factor in enumerate(factors):
        at = np.where(factor.at < 0, factor.levels, factor.at)
        felt = h * factor.value**2 if len(factor.value) else h
        heavy = np.bincount(at, felt, factor.levels + 1)
        levels.append(theta[edges[n] : edges[n + 1] - 1].copy())
        spreads.append(1 / (heavy[:-1] + 1 / variance[n]))
    return Fit(theta[:columns].copy(), spread, levels, spreads, list(variance), ridge)


def _learn_variances(
    fit: Fit,
    factors: Sequence[Factor],
    counts: list[Float64],
    variance: list[float],
) -> None:
    for n, factor in enumerate(factors):
        seen = counts[n][:-1] > 0
        if not seen.any():
            continue
        # Two levels' worth of the opening guess keep a factor of few levels from collapsing.
        raw = fit.level[n][seen] ** 2 + fit.level_variance[n][seen]
        mean = (float(raw.sum()) + 2 * factor.variance) / (int(seen.sum()) + 2)
        variance[n] = float(np.clip(mean, SMALLEST_VARIANCE, LARGEST_VARIANCE))


def _learned_ridge(fit: Fit, penalised: Float64, ridge: float) -> float:
    held = penalised > 0
    if not held.any():
        return ridge
    raw = (fit.dense[held] ** 2 + fit.dense_variance[held]) * penalised[held]
    return float(np.clip((raw.sum() + 2 * 0.25) / (held.sum() + 2), 1e-3, LARGEST_VARIANCE))
