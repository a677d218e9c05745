"""Open work: graded judgement by reviewers of differing severity, where differing is no fault."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from matching.assignment import totals
from matching.problem import Float64, Int64
from matching.votes import VotesInvalid, checked_index


class QueueKind(StrEnum):
    """Whether a question has one right answer that reviewers should agree on."""

    CLOSED = "closed"
    OPEN = "open"


@dataclass(frozen=True, eq=False)
class Grades:
    """Numbers that reviewers gave to items of open work.

    Shapes: item, reviewer (grades,) integers; grade (grades,) float64, in units of the rubric.
    Raises: VotesInvalid.
    """

    item: Int64
    reviewer: Int64
    grade: Float64
    items: int
    reviewers: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "item", checked_index("item", self.item, self.items))
        known = checked_index("reviewer", self.reviewer, self.reviewers)
        object.__setattr__(self, "reviewer", known)
        grade = np.asarray(self.grade, np.float64)
        if not len(self.item) == len(self.reviewer) == len(grade):
            raise VotesInvalid("grade", None, "item, reviewer, grade differ in length")
        wrong = np.flatnonzero(~np.isfinite(grade))
        if len(wrong):
            raise VotesInvalid("grade", int(wrong[0]), "must be finite")
        object.__setattr__(self, "grade", grade)


class GradedJudgement:
    """A worth for each item, the severity of each reviewer taken out, both shrunk by their spread.

    grade = mean + worth(item) + mildness(reviewer) + noise. The spreads are estimated, so that
    one grade moves an item a little where reviewers differ and a lot where they do not.

    What `fit` learns: `worth_` and `worth_sd_` (items,), `mildness_` (reviewers,), in units of the
    rubric; `mean_`; `noise_`, standard deviation of one grade; `contested_` (items,), whether
    reviewers differ on it by more than noise: work that divides people is worth a look, and no
    mark against anybody.
    Source: crossed random effects by EM, Searle, Casella, McCulloch, Variance Components (1992),
        section 8.3, with the variances of one side conditional on the other.
    """

    def __init__(self, *, rounds: int = 100) -> None:
        self.rounds = rounds
        self.worth_: Float64 = np.zeros(0)
        self.worth_sd_: Float64 = np.zeros(0)
        self.mildness_: Float64 = np.zeros(0)
        self.contested_: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = np.zeros(0, bool)
        self.mean_ = 0.0
        self.noise_ = 0.0

    def fit(self, grades: Grades) -> GradedJudgement:
        """Alternate between items, reviewers and the spreads until nothing moves."""
        number = len(grades.grade)
        self.worth_, self.mildness_ = np.zeros(grades.items), np.zeros(grades.reviewers)
        if number == 0:
            self.worth_sd_ = np.ones(grades.items)
            self.contested_ = np.zeros(grades.items, bool)
            return self
        ones = np.ones(number)
        of_item = totals(grades.item, ones, grades.items)
        of_reviewer = totals(grades.reviewer, ones, grades.reviewers)
        self.mean_ = float(grades.grade.mean())
        whole = max(float(grades.grade.var()), 1e-8)
        noise, between, severity = whole / 2, whole / 2, whole / 4
        centred = grades.grade - self.mean_
        for _ in range(self.rounds):
            rest = centred - self.mildness_[grades.reviewer]
            item_var = 1 / (of_item / noise + 1 / between)
            worth = item_var * totals(grades.item, rest, grades.items) / noise
            rest = centred - worth[grades.item]
            reviewer_var = 1 / (of_reviewer / noise + 1 / severity)
            mildness = reviewer_var * totals(grades.reviewer, rest, grades.reviewers) / noise
            left = centred - worth[grades.item] - mildness[grades.reviewer]
            moved = float(np.abs(worth - self.worth_).max())
            self.worth_, self.mildness_ = worth, mildness
            spread = (left**2 + item_var[grades.item] + reviewer_var[grades.reviewer]).sum()
            # One grade that is like all others counts towards each spread: none becomes nought.
            noise = max(float((spread + 0.01 * whole) / (number + 1)), 1e-8)
            between = max(float((worth**2 + item_var).mean()), 1e-8)
            severity = max(float((mildness**2 + reviewer_var).mean()), 1e-8)
            if moved < 1e-7 * np.sqrt(whole):
                break
        self.noise_ = float(np.sqrt(noise))
        self.worth_sd_ = np.sqrt(item_var)
        self.contested_ = self._contested(grades, left, of_item)
        return self

    def _contested(
        self, grades: Grades, left: Float64, of_item: Float64
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """Items whose residual spread is beyond what the noise of all items gives."""
        spread = totals(grades.item, left**2, grades.items) / max(self.noise_, 1e-9) ** 2
        # A normal approximation to chi-squared, on the safe side for few grades.
        free = np.maximum(of_item - 1, 0)
        limit = free + 1.2816 * np.sqrt(2 * free) + 1.0
        return np.asarray((free >= 1) & (spread > limit), bool)


def spread_of_set(likeness: Float64) -> float:
    """How unlike the items of a set are: 1 all different, 0 all the same.

    A set of two hundred near-same poems is low on this although each of them passes.

    Shapes: likeness (items, items), symmetric, in [0, 1]; the diagonal is not looked at.
    Raises: VotesInvalid.
    """
    table = np.asarray(likeness, np.float64)
    if table.ndim != 2 or table.shape[0] != table.shape[1]:
        raise VotesInvalid("likeness", None, f"shape {table.shape} is not square")
    if not np.isfinite(table).all():
        raise VotesInvalid("likeness", None, "must be finite")
    size = len(table)
    if size < 2:
        return 1.0
    others = table[~np.eye(size, dtype=bool)]
    return float(1.0 - np.clip(others, 0.0, 1.0).mean())
