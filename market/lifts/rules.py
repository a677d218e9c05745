"""How items are dealt into batches, how much a lift may move credit, what is refused; pure."""

import math
from dataclasses import dataclass
from uuid import UUID

from market.errors import MarketError

LEAST_BATCHES, MOST_BATCHES = 4, 200
"""Batches with items that a study may have; an empty one for comparison comes on top."""

MOST_ITEMS = 50_000
MOST_ROWS = 1_000

MOST_LIFT = 0.5
"""The most by which a lift moves credit, either way, as a share of it: a metric is noisy, and it is
the lab's own, so that it must not decide alone what somebody's work was worth."""


class LiftStudyNotFound(MarketError):
    """No lift study, or batch of one, that the caller may see has this id."""

    def __init__(self, which: UUID) -> None:
        super().__init__("there is no such lift study, or batch of one")
        self.study_id = which


class LiftStudyUnfit(MarketError):
    """A study that could tell nothing, or whose terms are out of bounds."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field
        self.wanted = wanted


@dataclass(frozen=True, slots=True)
class Reported:
    """The metric that a lab found with one batch. `corrects` says that an earlier report was wrong.

    Units: `value` in the study's metric.
    """

    batch_id: UUID
    value: float
    corrects: bool = False


@dataclass(frozen=True, slots=True)
class RowVerdict:
    """What became of one row: `created`, `unchanged`, `corrected`, `conflict` or `rejected`."""

    verdict: str
    code: str | None = None
    detail: str | None = None


def judged(row: Reported, before: float | None, *, is_known: bool) -> RowVerdict:
    """The verdict on a report, by what was reported of its batch before."""
    if not is_known:
        return RowVerdict("rejected", "batch_unknown", "this study has no such batch")
    if not math.isfinite(row.value):
        return RowVerdict("rejected", "value_invalid", "value must be a finite number")
    if before is None:
        return RowVerdict("created")
    if before == row.value:
        return RowVerdict("unchanged")
    if row.corrects:
        return RowVerdict("corrected")
    return RowVerdict(
        "conflict", "reported_otherwise", f"{before:g} was reported; send corrects to replace it"
    )


def lift_in_credit(relative: float) -> float:
    """What a contributor's relative lift adds to 1 in the credit of its items."""
    return min(max(relative, -MOST_LIFT), MOST_LIFT)


def lift_reason(metric: str, relative: float, low: float, high: float, batches: int) -> str:
    """Why a lift is what it is, in a sentence for whoever made the items."""
    told = "more" if relative >= 0 else "less"
    open_ = " That leaves open whether it is more or less." if low < 0 < high else ""
    return (
        f"By {batches} batches that were drawn at random, training on an item of yours moves"
        f" {metric} {abs(relative):.0%} {told} than on the average item of the project"
        f" [{low:+.0%}, {high:+.0%}].{open_} It moves credit by {MOST_LIFT:.0%} at most."
    )
