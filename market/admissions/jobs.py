"""What becomes of admissions by themselves."""

from uuid import UUID

from market.admissions.actions import admit_waiting, follow_admission
from market.admissions.queries import under_way
from market.broker import job
from market.db import database, now

SWEEP = 1_000
"""How many rows one read of a sweep gives."""


@job(queue="default", max_retries=2)
def follow_admissions(slot: str) -> None:
    """Take each admission's next step, then admit those for whom there is room."""
    del slot
    at = now()
    last: UUID | None = None
    while True:
        with database.begin() as session:
            found = under_way(session, limit=SWEEP, after=last)
        for admission_id in found:
            with database.begin() as session:
                follow_admission(session, admission_id, at=at)
        if len(found) < SWEEP:
            break
        last = found[-1]
    with database.begin() as session:
        admit_waiting(session, at=at)
