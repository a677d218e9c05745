"""The states of a payout run, and what it cannot do."""

from datetime import date
from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

PAYOUT_RUN = Machine(
    "payout_run",
    initial=("pending",),
    moves=(
        Move("start", ("pending",), "running"),
        Move("finish", ("running",), "succeeded"),
        # What it has not sent yet is taken out, some at a time; what was sent stays sent.
        Move("cancel", ("pending", "running", "succeeded"), "cancelling"),
        Move("clear", ("cancelling",), "cancelled"),
    ),
)


IS_OVER = ("succeeded", "cancelling", "cancelled")
"""States in which a run opens no payout any more."""


class PayoutRunStopping(MarketError):
    """A run of a period of which another is still being taken back."""

    def __init__(self, period_end: date) -> None:
        super().__init__(
            f"a payout run of the period that ended with {period_end} is still being cancelled;"
            " what it takes out would be missed, so ask again when that run is cancelled"
        )
        self.period_end = period_end.isoformat()


class PayoutRunNotFound(MarketError):
    """No payout run has this id."""

    def __init__(self, run_id: UUID) -> None:
        super().__init__("there is no such payout run")
        self.run_id = run_id
