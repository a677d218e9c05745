"""What happens to sittings by themselves: their time ends."""

from market.broker import job
from market.db import database, now
from market.sittings.actions import end_late
from market.sittings.queries import ended_sittings
from market.sweeps import sweep

SWEEP = 500
"""The most sittings that one sweep takes up; the next one comes soon."""


@job(queue="default", max_retries=2)
def end_sittings(slot: str) -> None:
    """Close items and sittings whose time is over."""
    del slot
    with database.begin() as session:
        ended = ended_sittings(session, at=now(), limit=SWEEP)
    sweep(ended, lambda session, sitting_id: end_late(session, sitting_id, at=now()))
