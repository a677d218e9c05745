"""Verdicts: what can be decided, and on what grounds; shares with their intervals; pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from market.events import Event

BASES = ("votes", "silence", "sample", "adjudication", "appeal", "unreject", "case", "checklist")
"""On what a verdict rests: votes; time that ran out; a draw that spared the review; a senior; an
appeal; a rejection taken back; a case of fraud; a checklist that may accept by itself.
"""

REVIEWED = ("votes", "adjudication", "appeal")
"""On what a verdict rests that says something of its author's work: somebody looked at it."""

ACTIONS: dict[str, tuple[str, Event]] = {
    "accept": ("accept", Event.SUBMISSION_ACCEPTED),
    "accept_share": ("accept_share", Event.SUBMISSION_PARTIALLY_ACCEPTED),
    "reject": ("reject", Event.SUBMISSION_REJECTED),
    "auto_approve": ("auto_approve", Event.SUBMISSION_ACCEPTED),
}
"""What is decided -> the move of the submission, and what happened by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What is decided on a submission, and on what grounds.

    Units: `share` per cent of the work that is accepted: 100, 1 to 99, or 0 when it is rejected.
    """

    action: str
    share: int
    votes: int
    rejects: int
    is_validated: bool
    is_fair: bool
    basis: str
    reason_code: str | None = None
    is_task_broken: bool = False
    is_dropped: bool = False
    """Whether nobody else is to do what was rejected."""
    models_failed: Mapping[UUID, bool] = field(default_factory=dict)
    """Of each attempt of a panel, whether its model failed by the votes; empty without a panel."""

    @property
    def is_accepted(self) -> bool:
        """Whether the work is accepted, be it in part."""
        return self.share > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What takes the place of a verdict; what is None stays as the votes had it.

    Units: `share` as in `Outcome`.
    """

    action: str
    share: int
    basis: str
    reason_code: str
    is_validated: bool | None = None
    is_fair: bool | None = None


FEWEST_DECIDED = 20
"""Decided works of a lab below which nothing is told of its rejections: one more or less would move
the share by more than five points, and what is told could be one expert's.
"""


Z_95 = 1.959963984540054
"""The quantile of the normal distribution that leaves 2.5 % above it."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, with the interval in which the true share lies, 95 times in 100."""

    part: int
    whole: int
    low: float
    high: float

    @property
    def value(self) -> float | None:
        """The share itself; none of nothing."""
        return self.part / self.whole if self.whole else None


def wilson(part: int, whole: int, z: float = Z_95) -> Share:
    """A share with its score interval, which holds for small counts and for shares near 0 and 1.

    Source: Wilson (1927), Journal of the American Statistical Association 22, 209-212.
    """
    if whole == 0:
        return Share(0, 0, 0.0, 1.0)
    share = part / whole
    spread = z * z / whole
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / whole + spread / (4 * whole))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return Share(part, whole, max(0.0, low), min(1.0, high))


def rejections_told(found: Share) -> str:
    """How much a lab rejects, in a sentence for experts; where too little was decided, that."""
    if found.value is None or found.whole < FEWEST_DECIDED:
        return (
            f"How much this lab rejects is told from {FEWEST_DECIDED} decided works on: of fewer it"
            " would say little, and could tell of one expert"
        )
    return (
        f"Of {found.whole:,} works decided last for this lab, {found.part:,} were rejected"
        f" ({100 * found.value:.1f} %)"
    )
