"""Appeals: their states, their clock, what is refused; pure."""

from datetime import timedelta
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

APPEAL = Machine(
    "appeal",
    ("filed",),
    (
        Move("assign", ("filed",), "assigned"),
        Move("uphold", ("assigned",), "upheld"),
        Move("overturn", ("assigned",), "overturned"),
        Move("overturn_partly", ("assigned",), "partly_overturned"),
        # Silence lifts the measure: it is never held against whoever appealed.
        Move("miss_deadline", ("filed", "assigned"), "sla_missed"),
    ),
)

OPEN = ("filed", "assigned")
KINDS = ("submission", "measure", "qualification", "tier", "fix")
"""What may be appealed: a verdict, a step of standing, a qualification denied or revoked, a step
down to a lower pay tier, and a fix of one's work.
"""

APPEAL_WITHIN = timedelta(days=14)
"""How long after a decision it may be appealed."""

DECIDED_WITHIN = timedelta(days=7)
"""How long an appeal may wait for its decision; after that it is won."""

MIN_NOTE = 40
"""Characters that an appeal needs, and that its decision needs."""


class AppealNotFound(MarketError):
    """No appeal that the caller may see has this id."""

    def __init__(self, appeal_id: UUID) -> None:
        super().__init__("there is no such appeal")
        self.appeal_id = appeal_id


class NothingToAppeal(MarketError):
    """An appeal against what is not there, not the caller's, or not decided against it."""

    def __init__(self) -> None:
        super().__init__("there is no decision against you here that could be appealed")


class AppealTooLate(MarketError):
    """An appeal after the time for it."""

    def __init__(self) -> None:
        super().__init__(f"a decision may be appealed for {APPEAL_WITHIN.days} days")


class AlreadyAppealed(MarketError):
    """A second appeal against one decision."""

    def __init__(self) -> None:
        super().__init__("this decision was appealed; one appeal settles it")


class DeciderInvolved(MarketError):
    """A decision on an appeal by somebody who had a part in what is appealed, or is tied to it."""

    def __init__(self) -> None:
        super().__init__("you had a part in this, or are tied to its person; someone else decides")


class AppealUnfit(MarketError):
    """An appeal or a decision on it with a field that does not fit."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field
