"""The states of a payout run, and what it cannot do."""

from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

PAYOUT_RUN = Machine(
    "payout_run",
    initial=("pending",),
    moves=(
        Move("start", ("pending",), "running"),
        Move("finish", ("running",), "succeeded"),
        # What it has not sent yet is taken out; what was sent stays sent.
        Move("cancel", ("pending", "running", "succeeded"), "cancelled"),
    ),
)


class PayoutRunNotFound(MarketError):
    """No payout run has this id."""

    def __init__(self, run_id: UUID) -> None:
        super().__init__("there is no such payout run")
        self.run_id = run_id
