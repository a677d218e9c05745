"""What an alarm may be of, and what is refused about it; pure."""

from uuid import UUID

from market.errors import MarketError

KINDS = ("frontier", "drift", "spread")
"""A level that ran dry, predictions that no longer hold, or a set that is one item many times."""


class AlarmNotFound(MarketError):
    """No alarm has this id."""

    def __init__(self, alarm_id: UUID) -> None:
        super().__init__("there is no such alarm")
        self.alarm_id = alarm_id
