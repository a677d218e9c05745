"""What becomes of work by itself: sessions that nobody proves any more."""

from market.broker import job
from market.db import database, now
from market.sweeps import sweep
from market.work.actions import lose_session
from market.work.queries import stale_sessions

SWEEP = 1_000
"""The most rows that one sweep takes up; the next one comes soon."""


@job(queue="default", max_retries=2)
def end_lost_sessions(slot: str) -> None:
    """End sessions without a heartbeat."""
    del slot
    with database.begin() as session:
        stale = stale_sessions(session, at=now(), limit=SWEEP)
    sweep(stale, lambda session, one: lose_session(session, one, at=now()))
