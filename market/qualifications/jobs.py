"""What becomes of qualifications by themselves."""

from market.broker import job
from market.db import database, now
from market.qualifications.actions import expire_qualification
from market.qualifications.queries import ended_qualifications
from market.sweeps import sweep

SWEEP = 1_000
"""The most rows that one sweep takes up; the next one comes soon."""


@job(queue="default", max_retries=2)
def expire_qualifications(slot: str) -> None:
    """End invitations, tests and qualifications whose time is over."""
    del slot
    with database.begin() as session:
        ended = ended_qualifications(session, at=now(), limit=SWEEP)
    sweep(ended, lambda session, one: expire_qualification(session, one, at=now()))
