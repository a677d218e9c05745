"""What becomes of appeals that nobody decides."""

from market.appeals.actions import miss_appeal
from market.appeals.queries import overdue_appeals
from market.broker import job
from market.db import database, now
from market.sweeps import sweep

SWEEP = 1_000
"""The most rows that one sweep takes up; the next one comes soon."""


@job(queue="default", max_retries=2)
def miss_appeals(slot: str) -> None:
    """Give appeals that were not decided in the promised time to whoever filed them."""
    del slot
    with database.begin() as session:
        overdue = overdue_appeals(session, at=now(), limit=SWEEP)
    sweep(overdue, lambda session, appeal_id: miss_appeal(session, appeal_id, at=now()))
