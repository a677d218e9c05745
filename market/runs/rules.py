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


class RunNotFound(MarketError):
    """No matching run has this id."""

    def __init__(self, run_id: UUID) -> None:
        super().__init__("there is no such matching run")
        self.run_id = run_id


class ProjectNotFoundForRun(MarketError):
    """A run for a project that does not exist."""

    def __init__(self, project_id: UUID) -> None:
        super().__init__("there is no such project")
        self.project_id = project_id
