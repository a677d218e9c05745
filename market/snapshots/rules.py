"""Limits of snapshots, and what is refused about them; pure."""

from uuid import UUID

from market.errors import MarketError

MAX_TASKS = 5_000
"""The most tasks that one snapshot delivers; the next one takes the rest."""


class SnapshotNotFound(MarketError):
    """No snapshot that the caller may see has this id."""

    def __init__(self, snapshot_id: UUID) -> None:
        super().__init__("there is no such snapshot")
        self.snapshot_id = snapshot_id


class NothingToDeliver(MarketError):
    """A snapshot of a project without an accepted task that was not delivered yet."""

    def __init__(self) -> None:
        super().__init__("no accepted task waits to be delivered; take a snapshot when one does")
