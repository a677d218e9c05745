"""Pairs of expert and task, and what became of them, as the stump model takes them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from matching.problem import Float64, Int64


@dataclass(frozen=True)
class Attempts:
    """Pairs of expert and task, or what became of them; -1 for a code that is not known.

    An outcome that has not happened, or is not known yet, is NaN: without a start nobody was
    fooled, and a claim is valid or not only where the model was fooled. `valid` may be the
    posterior of a review, with `valid_weight` 1 - 4 Var.

    Shapes: all (rows,) but covariates and late (rows, columns) float64, NaN where unknown; late
        are known only when the work is handed in, and only `valid` sees them.
    Units: day in days; level counts the steps of complexity from nought; outcomes 0 to 1.
    """

    expert: Int64
    task: Int64
    domain: Int64
    model: Int64
    level: Int64
    day: Float64
    start: Float64
    fooled: Float64
    valid: Float64
    valid_weight: Float64 = field(default_factory=lambda: np.zeros(0))
    group: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))
    covariates: Float64 = field(default_factory=lambda: np.zeros((0, 0)))
    late: Float64 = field(default_factory=lambda: np.zeros((0, 0)))

    def __len__(self) -> int:
        return len(self.expert)

    def outcome(self, stage: str) -> Float64:
        """How a link of the chain ended, NaN where it was not reached."""
        return np.asarray({"start": self.start, "fooled": self.fooled, "valid": self.valid}[stage])
