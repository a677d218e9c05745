"""The job that holds service targets against what is."""

from market.broker import job
from market.db import database, now
from market.sweeps import sweep
from market.targets.actions import watch_target
from market.targets.queries import watched_targets


@job(queue="default", max_retries=2)
def watch_targets(slot: str) -> None:
    """Look at every target in force."""
    del slot
    with database.begin() as session:
        due = watched_targets(session)
    sweep(due, lambda session, target_id: watch_target(session, target_id, at=now()))
