"""What becomes of standing by itself."""

from market.broker import job
from market.db import database, now
from market.standings.actions import end_measure
from market.standings.queries import ended_measures
from market.sweeps import sweep

SWEEP = 1_000
"""The most rows that one sweep takes up; the next one comes soon."""


@job(queue="default", max_retries=2)
def lift_measures(slot: str) -> None:
    """Lift steps of standing whose time is over."""
    del slot
    with database.begin() as session:
        ended = ended_measures(session, at=now(), limit=SWEEP)
    sweep(ended, lambda session, measure_id: end_measure(session, measure_id, at=now()))
