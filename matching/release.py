"""A new target model: what to think of it before it was asked, and which tasks tell most.

Its ability has a prior of two parts, near the best earlier model of its vendor and on the line that
ability follows with time; 10 to 30 tasks that are run on it say which part was right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from matching.filter import SQUASH
from matching.problem import Float64, Int64

MOST_TREND_SD = 0.8
"""The trend is believed at least this closely, logits: a line through few models knows too little
of its own scatter, and what it leaves open costs every prediction before the first run."""

VENDOR_SD = 0.6
"""Standard deviation around the best earlier model, logits."""

GRID: Float64 = np.linspace(-9.0, 9.0, 181)

FEWEST_TASKS, MOST_TASKS = 10, 30
YEAR_DAYS = 365.25


@dataclass(frozen=True)
class Trend:
    """Where ability is expected at a day, and how far off that may be; logits."""

    mean: float
    sd: float


def trend_at(effect: Float64, day: Float64, at: float, *, floor: float = 0.15) -> Trend:
    """The line that the effects of earlier models follow in time, carried to a day.

    Shapes: effect, day (models,). Units: effect in logits, day and at in days.
    Source: ridge regression on years with a precision of .3 on the slope.
    """
    if not len(effect):
        return Trend(0.0, 1.5)
    years = (day - day.min()) / YEAR_DAYS
    x = np.column_stack([np.ones(len(effect)), years])
    gram = x.T @ x + np.diag([1e-3, 0.3])
    weight = np.linalg.solve(gram, x.T @ effect)
    free = max(len(effect) - 2, 1)
    sd = float(np.sqrt(((effect - x @ weight) ** 2).sum() / free + floor))
    point = np.array([1.0, (at - float(day.min())) / YEAR_DAYS])
    lever = float(point @ np.linalg.solve(gram, point))
    return Trend(float(point @ weight), min(sd * float(np.sqrt(1 + lever)), MOST_TREND_SD))


class Release:
    """The effect of a new model on the logit of an outcome, as weights on a grid.

    `sign` is -1 where a stronger model makes the outcome less likely, as for stumps.

    What it holds: `weight_` (grid,) float64, summing to one, on `GRID`, logits.
    Source: mixture prior .5 N(best earlier of the vendor, .6^2) + .5 N(trend, sd^2).
    """

    def __init__(
        self, effect: Float64, day: Float64, vendor: Float64, *, at: float, sign: float = -1.0
    ) -> None:
        trend = trend_at(effect, day, at)
        known = vendor if len(vendor) else effect
        best = float((sign * known).max()) * sign if len(known) else trend.mean
        self.best_, self.trend_ = best, trend
        weight = 0.5 * _normal(best, VENDOR_SD) + 0.5 * _normal(trend.mean, trend.sd)
        self.weight_: Float64 = weight / weight.sum()

    @property
    def mean(self) -> float:
        """The expected effect, logits."""
        return float(self.weight_ @ GRID)

    @property
    def variance(self) -> float:
        """How far off it may be, squared logits."""
        return float(self.weight_ @ (GRID - self.mean) ** 2)

    def predict(self, logit: Float64, variance: Float64) -> Float64:
        """The probability of each task's outcome, the model's effect averaged over.

        Shapes: logit, variance and the result (tasks,), the logit without the model's effect.
        """
        found: Float64 = self._table(logit, variance) @ self.weight_
        return found

    def learn(self, logit: Float64, variance: Float64, outcome: Float64) -> Release:
        """Take in tasks that were run on the new model; shapes as in `predict`."""
        table = np.clip(self._table(logit, variance), 1e-6, 1 - 1e-6)
        said = outcome @ np.log(table) + (1 - outcome) @ np.log1p(-table)
        weight = self.weight_ * np.exp(said - said.max())
        self.weight_ = weight / weight.sum()
        return self

    def propose(
        self, logit: Float64, variance: Float64, *, count: int = MOST_TASKS, seed: int = 0
    ) -> Int64:
        """Tasks to run on the new model: the first ten near even odds, the others drawn at random.

        Random tasks tell about as much, and keep the sample like the tasks to come.

        Shapes: logit, variance (tasks,); the result (count,) or all tasks, their indices.
        """
        count = min(max(count, FEWEST_TASKS), MOST_TASKS, len(logit))
        rng = np.random.default_rng(seed)
        doubt = np.abs(self.predict(logit, variance) - 0.5) + 0.03 * rng.random(len(logit))
        near = np.argsort(doubt, kind="stable")[: min(FEWEST_TASKS, count)]
        rest = np.setdiff1d(np.arange(len(logit)), near)
        drawn = rng.permutation(rest)[: count - len(near)]
        return np.concatenate([near, drawn]).astype(np.int64)

    def _table(self, logit: Float64, variance: Float64) -> Float64:
        shrunk = np.sqrt(1 + SQUASH * variance)[:, None]
        table: Float64 = expit((logit[:, None] + GRID[None]) / shrunk)
        return table


def _normal(mean: float, sd: float) -> Float64:
    shape: Float64 = np.exp(-0.5 * ((GRID - mean) / sd) ** 2) / sd
    return shape
