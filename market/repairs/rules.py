"""Tasks that experts say cannot be done as they stand, and the skips that an expert has; pure."""

from datetime import datetime, timedelta
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

TASK_REPAIR = Machine(
    "task_repair",
    ("open",),
    (Move("repair", ("open",), "repaired"), Move("close", ("open",), "closed")),
)
"""How a complaint about a task ends: it was put right, or nothing was wrong with it."""

OF_THE_TASK = ("task_unclear", "task_broken")
"""Reasons for a skip that speak of the task, and open its repair."""

OF_FITNESS = ("outside_expertise", "conflict_of_interest")
"""Reasons for a skip that whoever matched could have known; like those of the task, they cost
nothing of the skip budget.
"""

HELD_AT = 3
"""Complaints with which a task is held, so that nobody else runs into it before somebody looks."""

BUDGET = 10
BUDGET_SPAN = timedelta(days=7)
"""Skips that nobody asks about, by reasons of one's own, in so many days. What comes after is no
penalty: offers, pay and standing stay as they are, and ops see that another kind of offer may suit.
"""

MAX_CLARIFICATION = 4_000


class RepairNotFound(MarketError):
    """No repair that the caller may see has this id."""

    def __init__(self, repair_id: UUID) -> None:
        super().__init__("there is no such repair")
        self.repair_id = repair_id


class RepairUnfit(MarketError):
    """A repair that ends without a word on what was done."""

    def __init__(self) -> None:
        super().__init__(
            f"say what was put right, or why nothing was wrong, in 1 to {MAX_CLARIFICATION}"
            " characters; experts read it beside the task"
        )


def is_counted(reason: str) -> bool:
    """Whether a skip for this reason counts against the budget."""
    return reason not in (*OF_THE_TASK, *OF_FITNESS)


def frees_at(skipped_at: list[datetime]) -> datetime | None:
    """When the budget grows again; None where nothing of it is used. Skips in any order."""
    return min(skipped_at) + BUDGET_SPAN if skipped_at else None
