"""What becomes of offers on which nothing is handed in."""

from market.broker import job
from market.db import database, now
from market.submissions.actions import leave_offer
from market.submissions.queries import left_offers
from market.sweeps import sweep

SWEEP = 1_000
"""The most offers that one sweep takes up; the next one comes soon."""


@job(queue="default", max_retries=2)
def end_left_offers(slot: str) -> None:
    """Give seats whose expert has left to others."""
    del slot
    with database.begin() as session:
        left = left_offers(session, at=now(), limit=SWEEP)
    sweep(left, lambda session, offer_id: leave_offer(session, offer_id, at=now()))
