"""How well predictions hold, and what may be refused; pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from matching.problem import Float64

BINS = 15
"""Bins of equal mass of a reliability curve."""

STAGES = ("start", "fooled", "valid", "stump")
"""What is predicted of a pair: the links of the chain, and the whole of it."""

DRAWS = 200
"""How often experts are drawn anew for the interval of a calibration error."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One bin of a reliability curve. Units: means of probabilities and of outcomes."""

    predicted: float
    observed: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """How predictions and outcomes agree; the interval, nine tenths, draws experts anew.

    Units: `log_loss` in nats; `ece`, expected calibration error, a mean gap of probabilities.
    """

    count: int
    log_loss: float | None
    ece: float | None
    ece_low: float | None
    ece_high: float | None
    points: tuple[CurvePoint, ...]


def calibration(
    predicted: Float64, outcome: Float64, cluster: Sequence[object], *, seed: int = 0
) -> Calibration:
    """The reliability curve of predictions that were made before their outcomes.

    Shapes: predicted, outcome (rows,), one cluster for each row.
    Source: Naeini, Cooper, Hauskrecht, AAAI 2015, with bins of equal mass; the interval of a bin
        is Wilson's at 90 %.
    """
    if not len(predicted):
        return Calibration(0, None, None, None, None, ())
    p = np.clip(predicted, 1e-9, 1 - 1e-9)
    loss = float(-np.mean(outcome * np.log(p) + (1 - outcome) * np.log(1 - p)))
    points = []
    for part in _bins(predicted):
        mean = float(outcome[part].mean())
        low, high = _wilson(mean, len(part))
        points.append(CurvePoint(float(predicted[part].mean()), mean, low, high, len(part)))
    names = {one: n for n, one in enumerate(dict.fromkeys(cluster))}
    order = np.argsort(predicted, kind="stable")
    at = np.array([names[one] for one in cluster])[order]
    gaps = (predicted - outcome)[order]
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(DRAWS if len(names) > 1 else 0):
        chosen = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        drawn.append(_weighed_error(gaps, chosen[at]))
    low, high = np.quantile(drawn, [0.05, 0.95]).tolist() if drawn else (0.0, 1.0)
    return Calibration(len(p), loss, _error(predicted, outcome), low, high, tuple(points))


def _bins(predicted: Float64) -> list[np.ndarray[tuple[int], np.dtype[np.intp]]]:
    order = np.argsort(predicted, kind="stable")
    return [part for part in np.array_split(order, BINS) if len(part)]


def _error(predicted: Float64, outcome: Float64) -> float:
    # A bin's gap of means times its size is the gap of its sums, so that no bin is looked at apart.
    gaps = (predicted - outcome)[np.argsort(predicted, kind="stable")]
    bins = min(BINS, len(gaps))
    starts = np.arange(bins) * (len(gaps) // bins) + np.minimum(np.arange(bins), len(gaps) % bins)
    return float(np.abs(np.add.reduceat(gaps, starts)).sum()) / len(gaps)


def _weighed_error(gaps: Float64, weight: np.ndarray[tuple[int], np.dtype[np.intp]]) -> float:
    """The error of rows in the order of their forecasts, each as often as its weight; rows that
    fall on the edge of two bins stay in one.
    """
    mass = np.cumsum(weight)
    edges = np.searchsorted(mass, np.arange(1, BINS) * (mass[-1] / BINS))
    starts = np.unique(np.concatenate(([0], edges)))
    return float(np.abs(np.add.reduceat(gaps * weight, starts)).sum() / mass[-1])


def _wilson(share: float, count: int, z: float = 1.6448536269514722) -> tuple[float, float]:
    spread = z * z / count
    half = z * np.sqrt(share * (1 - share) / count + spread / (4 * count))
    middle = share + spread / 2
    return float((middle - half) / (1 + spread)), float((middle + half) / (1 + spread))


def soft(belief: float) -> tuple[float, float]:
    """A belief as an outcome, and how much it weighs: the less, the less sure it is.

    Source: weight 1 - 4 Var of a Bernoulli outcome; never quite nought, since it was decided.
    """
    return belief, max(1 - 4 * belief * (1 - belief), 0.05)


def after_next(chance: float, sd: float) -> tuple[float, float]:
    """About where a chance of a stump stands after one more piece of work of the middle complexity:
    after a stump, and after none.

    Units: `sd` logits. Source: one step of a Gaussian belief under a logistic outcome; the model
        itself also looks at the task and at the day.
    """
    kept = min(max(chance, 1e-6), 1 - 1e-6)
    logit = math.log(kept / (1 - kept))
    variance = 1 / (1 / sd**2 + kept * (1 - kept)) if sd > 0 else 0.0
    up, down = logit + variance * (1 - kept), logit - variance * kept
    return 1 / (1 + math.exp(-up)), 1 / (1 + math.exp(-down))


def what_would_change(chance: float, sd: float, outcomes: int) -> str:
    """What an ability rests on, and how far the next piece of work can move it."""
    stump, none = after_next(chance, sd)
    noun = "outcome" if outcomes == 1 else "outcomes"
    return (
        f"It rests on {outcomes} {noun} of yours here. With the next decided piece of work, at the"
        f" middle complexity, a stump would bring it to about {100 * stump:.0f} %, and none to"
        f" about {100 * none:.0f} %: further the less is known. A harder task counts for more if"
        " its model fails, and for less if it does not."
    )


def weeks_of(at: datetime) -> float:
    """A time as the frontier counts it. Units: weeks since 2024 began."""
    return (at - datetime(2024, 1, 1, tzinfo=UTC)) / timedelta(weeks=1)
