"""What becomes of admissions by themselves."""

from market.admissions.actions import admit_waiting, follow_admission
from market.admissions.queries import under_way
from market.broker import job
from market.db import database, now

SWEEP = 1_000
"""The most rows that one sweep takes up; the next one comes soon."""


@job(queue="default", max_retries=2)
def follow_admissions(slot: str) -> None:
    """Take each admission's next step, then admit those for whom there is room."""
    del slot
    at = now()
    with database.begin() as session:
        found = under_way(session, limit=SWEEP)
    for admission_id in found:
        with database.begin() as session:
            follow_admission(session, admission_id, at=at)
    with database.begin() as session:
        admit_waiting(session, at=at)
