"""Keeps predictions honest as they come: two numbers, learned online, with a slow forgetting."""

from __future__ import annotations

from math import exp

FORGETTING = 2e-7
"""Variance that each answer adds to shift and slope."""


class Platt:
    """Shift and slope of a logit, updated by each outcome.

    Source: Platt (1999), learned by an extended Kalman filter on (1, logit).
    """

    def __init__(self, *, spread: float = 0.01, forgetting: float = FORGETTING) -> None:
        self.shift = 0.0
        self.slope = 1.0
        # The upper triangle of the covariance.
        self.a, self.b, self.c = spread, 0.0, spread
        self.forgetting = forgetting

    def look(self, logit: float) -> float:
        """The calibrated logit."""
        return self.shift + self.slope * logit

    def learn(self, logit: float, outcome: float, weight: float = 1.0) -> None:
        """Take in how a prediction with this raw logit ended."""
        x = self.shift + self.slope * logit
        # The logistic function, without the call, which costs more than it does.
        if x >= 0:
            p = 1 / (1 + exp(-x))
        else:
            e = exp(x)
            p = e / (1 + e)
        h = p * (1 - p)
        h = (h if h > 0.001 else 0.001) * weight  # noqa: FURB136  The call costs more.
        first, second = self.a + self.b * logit, self.b + self.c * logit
        share = 1 / (1 + h * (first + second * logit))
        push = weight * (outcome - p) * share
        self.shift += first * push
        self.slope += second * push
        h *= share
        self.a += self.forgetting - h * first * first
        self.b -= h * first * second
        self.c += self.forgetting - h * second * second
