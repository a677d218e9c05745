"""What becomes of submissions that nobody votes on."""

from market.broker import job
from market.db import database, now
from market.sweeps import sweep
from market.votes import actions
from market.votes.queries import overdue_submissions

SWEEP = 1_000
"""The most rows that one sweep takes up; the next one comes soon."""


@job(queue="default", max_retries=2)
def approve_by_silence(slot: str) -> None:
    """Accept what was not reviewed in the time that its terms promise."""
    del slot
    with database.begin() as session:
        overdue = overdue_submissions(session, at=now(), limit=SWEEP)
    sweep(overdue, lambda session, one: actions.approve_by_silence(session, one, at=now()))
