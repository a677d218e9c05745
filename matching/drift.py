"""Whether predictions still hold: what was said of each outcome, against what came.

watch = CalibrationWatch()
drift = watch.observe(0.7, came=0.0)           # a Drift, once, or None
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit, logsumexp

from matching.arrays import number_within
from matching.problem import Float64

TOLERANCE = 0.25
"""Logits by which predictions may be off without anybody being called."""

SHIFTS = (0.6, 1.2, 2.0)
"""Logits by which predictions are asked to be off, either way."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Predictions are off by more than is tolerated.

    Units: expected and came mean probabilities and outcomes since the watch began; evidence an
        e-value against "off by the tolerance at most"; outcomes a count.
    """

    expected: float
    came: float
    evidence: float
    outcomes: int
    reason: str


class CalibrationWatch:
    """Compares predictions with outcomes one by one; the alarm may be asked for after each.

    For each shift, and both ways, an outcome's chance under the shift is compared with that under
    the tolerance in the same direction. The mean of these e-processes passes `threshold` with
    probability 1 / threshold at most, ever, while predictions are off by the tolerance or less; a
    detector that forgets how long all was well passes `quiet` not more often than once in so many
    outcomes.

    Units: tolerance in logits; threshold an e-value; quiet in outcomes.
    Source: Shin, Ramdas, Rinaldo, New England J. Statistics in Data Science (2023), for
        e-detectors; Ramdas et al., Statistical Science 38 (2023), for the mean of e-processes.
    """

    def __init__(
        self, *, tolerance: float = TOLERANCE, threshold: float = 100.0, quiet: float = 10_000.0
    ) -> None:
        self.tolerance = number_within("tolerance", tolerance, 0.0, 0.5)
        self.threshold = number_within("threshold", threshold, 1.0, 1e12)
        self.quiet = number_within("quiet", quiet, 1.0, 1e12)
        self._sign = np.repeat([1.0, -1.0], len(SHIFTS))
        self._shift = np.tile(np.array(SHIFTS), 2)
        self._process: Float64 = np.zeros(2 * len(SHIFTS))
        self._detector: Float64 = np.full(2 * len(SHIFTS), -np.inf)
        self._expected = self._came = 0.0
        self._outcomes = 0
        self._is_alarmed = False

    def observe(self, predicted: float, came: float) -> Drift | None:
        """Take one outcome with what was said of it; the drift, when this outcome showed it.

        `came` may be a probability, where an outcome is not certain.

        Raises: ArrayInvalid.
        """
        p = min(max(number_within("predicted", predicted, 0.0, 1.0), 1e-6), 1 - 1e-6)
        y = number_within("came", came, 0.0, 1.0)
        self._expected += p
        self._came += y
        self._outcomes += 1
        at = float(logit(p))
        null = expit(at + self._sign * self.tolerance)
        other = expit(at + self._sign * self._shift)
        # Linear in the outcome, so that an uncertain one keeps the bound.
        step = np.log(y * other / null + (1 - y) * (1 - other) / (1 - null))
        self._process = self._process + step
        self._detector = step + np.logaddexp(self._detector, 0.0)
        count = math.log(len(self._process))
        process = float(logsumexp(self._process)) - count
        detector = float(logsumexp(self._detector)) - count
        limit, quiet = math.log(self.threshold), math.log(self.quiet)
        if self._is_alarmed or (process < limit and detector < quiet):
            return None
        self._is_alarmed = True
        expected, found = self._expected / self._outcomes, self._came / self._outcomes
        return Drift(
            expected=expected,
            came=found,
            evidence=math.exp(min(max(process, detector - quiet + limit), 700.0)),
            outcomes=self._outcomes,
            reason=(
                f"{expected:.0%} of {self._outcomes} outcomes were expected to be stumps and"
                f" {found:.0%} were"
            ),
        )
