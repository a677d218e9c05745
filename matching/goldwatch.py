"""Watch each reviewer on hidden gold, one answer at a time, and say when it is probably poor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc

from matching.problem import Bool, Float64, Int64
from matching.votes import VotesInvalid

RETIRED_AFTER = 200
"""Times that a gold item is shown before too many people may know it."""


@dataclass(frozen=True, slots=True)
class GoldWatch:
    """A Beta posterior of one reviewer's accuracy on gold; alert when it is probably below `least`.

    The prior is what reviewers are like, worth a few answers; it keeps one slip at the start from
    being an alert. Updating is counting, so that a record can be rebuilt from its history.

    Units: right and wrong in gold answers; least and sure probabilities.
    """

    right: float = 0.0
    wrong: float = 0.0
    least: float = 0.7
    sure: float = 0.9
    prior_right: float = 6.8
    prior_wrong: float = 1.2

    def __post_init__(self) -> None:
        for name in ("right", "wrong"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise VotesInvalid(name, None, "must be a number from nought")
        if not (0 < self.least < 1 and 0.5 < self.sure < 1):
            raise VotesInvalid("least", None, "least in (0, 1) and sure in (0.5, 1) are needed")
        if not (self.prior_right > 0 and self.prior_wrong > 0):
            raise VotesInvalid("prior_right", None, "both priors must be above nought")

    def after(self, was_right: bool | float) -> GoldWatch:
        """The record with one more answer; a share in between counts as partly right.

        Raises: VotesInvalid.
        """
        share = float(was_right)
        if not 0 <= share <= 1:
            raise VotesInvalid("was_right", None, f"{share} is not between 0 and 1")
        return GoldWatch(
            self.right + share,
            self.wrong + 1 - share,
            self.least,
            self.sure,
            self.prior_right,
            self.prior_wrong,
        )

    @property
    def accuracy(self) -> float:
        """The posterior mean."""
        a, b = self.right + self.prior_right, self.wrong + self.prior_wrong
        return a / (a + b)

    @property
    def poor(self) -> float:
        """The probability that the accuracy is below `least`."""
        a, b = self.right + self.prior_right, self.wrong + self.prior_wrong
        return float(betainc(a, b, self.least))

    @property
    def is_alert(self) -> bool:
        """Whether somebody should look: never a sanction by itself."""
        return self.poor > self.sure


def first_alert(was_right: Float64, watch: GoldWatch | None = None) -> int | None:
    """The place of the answer after which the first alert came; None when none did."""
    record = watch or GoldWatch()
    for place, answer in enumerate(was_right):
        record = record.after(float(answer))
        if record.is_alert:
            return place
    return None


def free_gold(shown: Int64, seen_by_reviewer: Bool, *, retired_after: int = RETIRED_AFTER) -> Int64:
    """Gold items that one reviewer may still be shown, the least shown first.

    Shapes: shown (gold items,), times each was shown to anybody; seen_by_reviewer (gold items,).
    """
    free = np.flatnonzero(~seen_by_reviewer & (shown < retired_after))
    return np.asarray(free[np.argsort(shown[free], kind="stable")], np.int64)
