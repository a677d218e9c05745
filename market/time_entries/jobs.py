"""Time that nobody objects to is confirmed by itself."""

from market.broker import job
from market.db import database, now
from market.time_entries.actions import confirm_time
from market.work.rules import CONFIRM_AFTER

SWEEP = 1_000
"""The most rows that one transaction confirms; the next one follows."""


@job(queue="default", max_retries=2)
def confirm_recorded_time(slot: str) -> None:
    """Confirm recorded time that is old enough."""
    del slot
    while True:
        with database.begin() as session:
            moment = now()
            done = confirm_time(
                session, recorded_before=moment - CONFIRM_AFTER, at=moment, limit=SWEEP
            )
        if done < SWEEP:
            return
