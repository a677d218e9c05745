"""What an alarm may be of, and what is refused about it; pure."""

from datetime import timedelta
from uuid import UUID

from market.errors import MarketError

KINDS = ("frontier", "drift", "spread", "reviewer")
"""A level that ran dry, predictions that no longer hold, a set that is one item many times, or a
reviewer who is probably poor on what is known.
"""

WATCHED = timedelta(days=180)
"""How far back the votes of reviewers are held against what is known."""


class AlarmNotFound(MarketError):
    """No alarm has this id."""

    def __init__(self, alarm_id: UUID) -> None:
        super().__init__("there is no such alarm")
        self.alarm_id = alarm_id
