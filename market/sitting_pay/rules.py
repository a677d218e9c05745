"""Whose lines the platform's own tests are, and when a baseline counts as left; pure."""

from datetime import timedelta
from uuid import UUID, uuid5

HOUSE = UUID("0198f3a2-0000-7000-8000-000000000001")
"""The platform as an organisation of its own: who pays for tests."""

TESTS = UUID("0198f3a2-0000-7000-8000-000000000002")
"""Its project, always in draft, under which the lines of tests stand in statements."""

LEFT_AFTER = timedelta(hours=24)
"""So long after the last answer, a baseline that is not finished is paid as far as it went."""


def baseline_source(set_id: UUID, person_id: UUID, answered: int) -> UUID:
    """What a line for so many answers of one expert to a set is known by, so that it pays once."""
    return uuid5(set_id, f"{person_id}/{answered}")
