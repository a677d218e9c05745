"""What becomes of requests that nobody answers."""

from market.broker import job
from market.db import database, now
from market.returns.actions import end_return
from market.returns.queries import due_requests
from market.sweeps import sweep

SWEEP = 1_000
"""The most requests that one sweep takes up; the next one comes soon."""


@job(queue="default", max_retries=2)
def end_due_returns(slot: str) -> None:
    """Let silence decide where the time to answer is over."""
    del slot
    with database.begin() as session:
        due = due_requests(session, at=now(), limit=SWEEP)
    sweep(due, lambda session, request_id: end_return(session, request_id, at=now()))
