"""The jobs that watch predictions each day, and read every level each week and on a release."""

from uuid import UUID

from market.alarms.actions import read_level, watch_calibration_of, watch_reviewers
from market.alarms.queries import watched
from market.broker import job
from market.db import database, now
from market.quality.queries import frontier_cells
from market.releases.queries import release
from market.sweeps import sweep


@job(queue="solver", max_retries=3)
def watch_calibration(slot: str) -> None:
    """See, domain by domain and model by model, whether what is predicted still holds."""
    del slot
    with database.begin() as session:
        found = watched(session)
    sweep(found, lambda session, one: watch_calibration_of(session, *one, at=now()))


@job(queue="solver", max_retries=3)
def watch_known_votes(slot: str) -> None:
    """See who votes otherwise than what is known."""
    del slot
    with database.begin() as session:
        watch_reviewers(session, at=now())


@job(queue="solver", max_retries=3, time_limit_s=3600)
def read_frontier(slot: str) -> None:
    """Write how every level stands against every target model this week."""
    _read(slot, None)


@job(queue="solver", max_retries=3, time_limit_s=3600)
def read_released_frontier(release_id: str) -> None:
    """Write how every level stands against a model that was just calibrated, and the one before."""
    with database.begin() as session:
        found = release(session, UUID(release_id))
        models = {found.target_model_id, found.earlier_model_id}
    _read(f"release {release_id}", models)


def _read(slot: str, models: set[UUID] | None) -> None:
    with database.begin() as session:
        cells = frontier_cells(session, limit=None)
    wanted = [cell for cell in cells if models is None or cell.target_model_id in models]
    sweep(wanted, lambda session, cell: read_level(session, cell, slot, at=now()))
