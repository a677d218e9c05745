"""Abilities from standings: many contestants, one order, again and again.

A rank is turned into a normal score, and a Gaussian filter with drift follows each contestant;
newcomers start where the debuts of earlier newcomers were.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from matching.problem import Float64, Int64

PRIOR_OFFSET = 1.0
"""Precision with which the strength of a field is held at nought."""


class Standings:
    """Mean and variance of each contestant's ability, in standard deviations of a normal score.

    What it learns: `mean_`, `variance_`, `day_` (contestants,) float64; `debut_mean_` and
    `debut_variance_`, what newcomers are expected to be.
    Source: Gaussian random walk observed through normal scores (Blom), the strength of the field
        estimated as a common shift.
    """

    def __init__(
        self,
        contestants: int,
        *,
        noise: float = 0.5,
        duel: float = 0.3,
        drift: float = 0.015,
        yearly: float = 0.1,
    ) -> None:
        self.noise, self.duel, self.drift, self.yearly = noise, duel, drift, yearly
        self.mean_: Float64 = np.zeros(contestants)
        self.variance_: Float64 = np.full(contestants, np.nan)
        self.day_: Float64 = np.zeros(contestants)
        self.debut_mean_, self.debut_variance_ = 0.0, 0.6
        self._debuts = 5.0

    def ability(self, who: Int64, day: float) -> tuple[Float64, Float64]:
        """Mean and variance of some contestants on a day."""
        is_new = np.isnan(self.variance_[who])
        since = np.maximum(day - self.day_[who], 0.0) / 365.25
        grown = self.variance_[who] + self.drift + self.yearly * since
        return (
            np.where(is_new, self.debut_mean_, self.mean_[who]),
            np.where(is_new, self.debut_variance_, grown),
        )

    def chance(self, first: Int64, second: Int64, day: float) -> Float64:
        """The probability that the first of each pair ends before the second."""
        mean, variance = self.ability(first, day)
        other, its = self.ability(second, day)
        found: Float64 = ndtr((mean - other) / np.sqrt(variance + its + 2 * self.duel))
        return found

    def learn(self, who: Int64, rank: Float64, field: int, day: float) -> Standings:
        """Take in one contest.

        Shapes: who, rank (contestants of it,); rank from nought, the mean rank where they tie.
        Units: field, how many took part, ours among them; day in days.
        """
        mean, variance = self.ability(who, day)
        is_new = np.isnan(self.variance_[who])
        score = -ndtri((rank + 0.5) / (field + 1))
        weight = np.where(is_new, 0.0, 1 / (variance + self.noise))
        shift = float((weight * (score - mean)).sum() / (weight.sum() + PRIOR_OFFSET))
        own = score - shift
        new = int(is_new.sum())
        if new:
            step = min(new / (self._debuts + new), 0.3)
            self._debuts = min(self._debuts + new, 300.0)
            self.debut_mean_ += step * (float(own[is_new].mean()) - self.debut_mean_)
            if new > 2:
                spread = max(0.05, float(own[is_new].var()) - self.noise)
                self.debut_variance_ += step * (spread - self.debut_variance_)
        gain = variance / (variance + self.noise)
        self.mean_[who] = mean + gain * (own - mean)
        self.variance_[who] = variance * (1 - gain)
        self.day_[who] = day
        return self
