"""What a bonus must say, and what can become of one row of many."""

from dataclasses import dataclass, field
from uuid import UUID

MAX_ROWS = 1_000
MAX_MINOR = 10**8
MIN_REASON = 10
MIN_DISSENT = 100
"""Characters in which a vote that is not as was decided says why, to be worth a reward."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One bonus as a lab asks for it; its reference is the lab's own and pays once a project.

    Units: minor units of the project's currency.
    """

    expert_id: UUID
    amount_minor: int
    reference: str
    reason: str
    is_for_impact: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one row: `given`, `would_give` in a dry run, `unchanged` when the reference
    gave it before, or `refused` with a code and what to change.

    Units: minor units; the fee is on top, paid by the project.
    """

    verdict: str
    amount_minor: int
    fee_minor: int
    code: str | None = None
    detail: str | None = None
    earning_id: UUID | None = None


@dataclass(slots=True)
class Ahead:
    """What the rows before a row of a dry run would have given, by their references.

    Units: minor units, with fees.
    """

    spent_minor: int = 0
    given: dict[str, tuple[UUID, int]] = field(default_factory=dict)
