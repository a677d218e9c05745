"""Requests to give a task back: their states, their clock, what is refused; pure."""

from datetime import timedelta
from typing import Literal
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

RETURN_REQUEST = Machine(
    "return_request",
    ("asked",),
    (
        Move("return", ("asked",), "returned"),
        Move("keep", ("asked",), "kept"),
        Move("take_back", ("asked",), "taken_back"),
        Move("leave", ("asked",), "left"),
        Move("withdraw", ("asked",), "withdrawn"),
        # What was asked for was handed in, or went back by other means.
        Move("overtake", ("asked",), "overtaken"),
    ),
)
"""How a request ends: by its expert (`returned`, `kept`), by silence as it said (`taken_back`,
`left`), by whoever asked (`withdrawn`), or because there is nothing to give back any more.
"""

Silence = Literal["return", "keep"]

SILENCE: tuple[Silence, ...] = ("return", "keep")
"""What becomes of the task when nobody answers."""

HOLDING = ("accepted", "active")
"""States of an offer in which its expert has a task that could be asked back."""

SHORTEST = timedelta(hours=1)
LONGEST = timedelta(days=30)
MIN_REASON = 10
MAX_REASON = 2_000


class ReturnRequestNotFound(MarketError):
    """No request that the caller may see has this id."""

    def __init__(self, request_id: UUID) -> None:
        super().__init__("there is no such request")
        self.request_id = request_id


class ReturnUnfit(MarketError):
    """A request, or an answer to one, with a field that does not fit."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class NobodyHolds(MarketError):
    """A task asked back that nobody holds, or that is asked for already."""

    def __init__(self) -> None:
        super().__init__(
            "nobody holds this task who has not been asked; offers that wait for an answer end by"
            " holding the task"
        )


def checked_reason(reason: str) -> str:
    """A reason, without what surrounds it.

    Raises:
        ReturnUnfit.
    """
    found = reason.strip()
    if not MIN_REASON <= len(found) <= MAX_REASON:
        raise ReturnUnfit("reason", f"{MIN_REASON} to {MAX_REASON} characters")
    return found
