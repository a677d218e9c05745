"""Qualifications: their states, their limits, what is refused; pure."""

from datetime import datetime, timedelta
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

QUALIFICATION = Machine(
    "qualification",
    ("invited",),
    (
        Move("begin", ("invited",), "in_progress"),
        Move("grade", ("in_progress",), "graded"),
        Move("grant", ("graded", "regraded"), "granted"),
        Move("deny", ("graded", "regraded"), "denied"),
        Move("expire", ("invited", "in_progress", "granted"), "expired"),
        Move("revoke", ("granted",), "revoked"),
        # A wrong key, or an appeal that was won, changes what the answers are worth.
        Move("regrade", ("granted", "denied", "revoked"), "regraded"),
    ),
)

RUNNING = ("invited", "in_progress", "graded", "regraded", "granted")
"""The states of which a person has at most one for a subject."""

INVITED_FOR = timedelta(days=14)
"""How long an invitation stands, and how long a test may take once it is begun."""

HELD_FOR = timedelta(days=365)
"""How long a qualification holds, unless it is said otherwise."""

RETAKE_AFTER = timedelta(days=7)
"""How soon a test that was not passed may be taken again."""

MAX_RATE_MINOR = 10**7

MIN_REASON = 10

MIN_NOTE = 40
"""Characters that a revocation needs."""

REVIEW_LEVELS = range(2, 7)
"""Levels of review, and of adjudication above them, that need a qualification."""


class QualificationNotFound(MarketError):
    """No qualification that the caller may see has this id."""

    def __init__(self, qualification_id: UUID) -> None:
        super().__init__("there is no such qualification")
        self.qualification_id = qualification_id


class QualificationHeld(MarketError):
    """A second test for what a person has, or is being tested for."""

    def __init__(self, state: str) -> None:
        super().__init__(f"this person's qualification is {state.replace('_', ' ')} already")
        self.state = state


class QualificationUnfit(MarketError):
    """A subject, a level, a score or a reason that does not fit."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class RetakeTooSoon(MarketError):
    """A test taken again before it may be."""

    def __init__(self, again_at: datetime) -> None:
        super().__init__(f"this test may be taken again from {again_at:%Y-%m-%dT%H:%M:%SZ} on")
        self.again_at = again_at.isoformat()
