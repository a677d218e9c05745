"""How a release goes, how many tasks calibrate it, and what is refused; pure."""

from uuid import UUID

from market.errors import MarketError
from market.states import Machine, Move

RELEASE = Machine(
    "model_release",
    ("told",),
    (
        Move("calibrate", ("told",), "calibrating"),
        Move("settle", ("calibrating",), "calibrated"),
        Move("adopt", ("calibrated",), "adopted"),
        Move("withdraw", ("told", "calibrating", "calibrated"), "withdrawn"),
    ),
)
"""A release changes what is predicted when it is told and when it is settled; which model a project
tests changes only when it is adopted, and what is paid never by itself."""

FEWEST, MOST = 10, 30
"""Tasks that calibrate a new model."""

DEFAULT_SIZE = 20

CANDIDATES = 2_000
"""Open tasks, drawn by lot, out of which a calibration set is chosen."""


class ReleaseNotFound(MarketError):
    """No release of the caller's has this id."""

    def __init__(self, release_id: UUID) -> None:
        super().__init__("there is no such release")
        self.release_id = release_id


class CalibrationTooFew(MarketError):
    """Fewer tasks than a calibration needs, open to begin with or decided to end with."""

    def __init__(self, found: int, what: str) -> None:
        super().__init__(f"{found} tasks are {what}; a calibration needs {FEWEST} at least")
        self.found = found
        self.needed = FEWEST
        self.what = what


def seed_of(release_id: UUID) -> int:
    """The seed of a release's lots: the same whenever it is asked for."""
    return int.from_bytes(release_id.bytes[8:], "big") >> 1
