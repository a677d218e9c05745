"""What becomes of submissions that nobody votes on."""

from market.broker import job
from market.db import database, now
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
    # A transaction each, so that one that fails does not hold the others up.
    for submission_id in overdue:
        with database.begin() as session:
            actions.approve_by_silence(session, submission_id, at=now())
