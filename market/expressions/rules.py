"""What a cohort may be called, how few people a lab may be told of, and what is refused."""

import re
from dataclasses import dataclass
from uuid import UUID

from market.errors import MarketError

COHORT_NAME = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
MAX_COHORT_NAME = 60

MAX_COHORTS = 500

FEWEST_TOLD = 5
"""Fewer people than this a lab is not told the number of: it could single one of them out."""

MAX_EXPLAINED = 50
"""Experts whom one answer tells of by name."""


@dataclass(frozen=True, slots=True)
class ConditionCount:
    """One condition among the experts who can work: how many fulfil it, and how many more would
    be found without it.

    Units: `start` and `end` in characters of the source it is written in.
    """

    written: str
    start: int
    end: int
    passing: int
    found_without: int


@dataclass(frozen=True, slots=True)
class Explained:
    """How many experts can work, for how many of them an expression holds, and why not for more."""

    pool: int
    matching: int
    conditions: tuple[ConditionCount, ...]


@dataclass(frozen=True, slots=True)
class Failing:
    """One expert, and the conditions by which it fails, as written and with what is known."""

    expert_id: UUID
    conditions: tuple[tuple[str, str | None], ...]


def told(count: int, *, is_lab: bool) -> int | None:
    """A number of people as it may be told; None for a few, to a lab."""
    return None if is_lab and 0 < count < FEWEST_TOLD else count


class CohortNameInvalid(MarketError):
    """A name that no cohort can have."""

    def __init__(self) -> None:
        super().__init__(
            f"a cohort's name is 1 to {MAX_COHORT_NAME} small letters and digits, with - or _ "
            "between them"
        )


class CohortNotFound(MarketError):
    """No cohort of the caller's has this name."""

    def __init__(self) -> None:
        super().__init__("there is no such cohort")


class TooManyCohorts(MarketError):
    """One cohort more than an organisation can have."""

    def __init__(self) -> None:
        super().__init__(f"there are {MAX_COHORTS} cohorts; change one of them instead")
