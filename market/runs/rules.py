"""The states of a matching run, and refusals; pure."""

from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

RUN = Machine(
    "matching_run",
    ("pending",),
    (
        Move("start", ("pending",), "running"),
        Move("finish", ("running",), "succeeded"),
        Move("fail", ("pending", "running"), "failed"),
        Move("cancel", ("pending", "running"), "cancelled"),
    ),
)
"""How a run goes: it may be started again after a crash without leaving `running`."""

ENDED = ("succeeded", "failed", "cancelled")


class RunNotFound(MarketError):
    """No matching run has this id."""

    def __init__(self, run_id: UUID) -> None:
        super().__init__("there is no such matching run")
        self.run_id = run_id


class SeedOutOfRange(MarketError):
    """A seed that is negative or too large."""

    def __init__(self, seed: int) -> None:
        super().__init__(f"a seed is a whole number from 0 to {2**63 - 1}, not {seed}")
        self.seed = str(seed)


STOPPED_BY_LOOK = ("policy_preview", "run_check", "books_check")
"""Long work whose job looks, each time it tells how far it is, whether it is wanted still."""


class OperationNotCancellable(MarketError):
    """Long work of a kind that cannot be stopped half way."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"work of the kind {kind} cannot be cancelled")
        self.kind = kind
