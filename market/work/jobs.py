"""What becomes of work by itself: sessions that nobody proves, and time that nobody objects to."""

from market.broker import job
from market.db import database, now
from market.sweeps import sweep
from market.work.actions import confirm_time, lose_session, warn_session
from market.work.queries import quiet_sessions, stale_sessions
from market.work.rules import CONFIRM_AFTER

SWEEP = 1_000
"""The most rows that one sweep takes up; the next one comes soon."""


@job(queue="default", max_retries=2)
def end_lost_sessions(slot: str) -> None:
    """End sessions without a heartbeat."""
    del slot
    with database.begin() as session:
        stale = stale_sessions(session, at=now(), limit=SWEEP)
    sweep(stale, lambda session, one: lose_session(session, one, at=now()))


@job(queue="default", max_retries=2)
def warn_quiet_sessions(slot: str) -> None:
    """Ask experts who have been quiet whether they are still there, before the clock stops."""
    del slot
    with database.begin() as session:
        quiet = quiet_sessions(session, at=now(), limit=SWEEP)
    sweep(quiet, lambda session, one: warn_session(session, one, at=now()))


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
