"""Whoever has been quiet is asked by itself."""

from market.broker import job
from market.db import database, now
from market.heartbeats.actions import warn_session
from market.heartbeats.queries import quiet_sessions
from market.sweeps import sweep

SWEEP = 1_000
"""The most rows that one sweep takes up; the next one comes soon."""


@job(queue="default", max_retries=2)
def warn_quiet_sessions(slot: str) -> None:
    """Ask experts who have been quiet whether they are still there, before the clock stops."""
    del slot
    with database.begin() as session:
        quiet = quiet_sessions(session, at=now(), limit=SWEEP)
    sweep(quiet, lambda session, one: warn_session(session, one, at=now()))
