"""What becomes of disputes when their time runs out."""

from market.broker import job
from market.db import database, now
from market.disputes.actions import run_out
from market.disputes.queries import due_disputes
from market.sweeps import sweep

SWEEP = 1_000
"""The most disputes that one sweep takes up; the next one comes soon."""


@job(queue="money")
def end_due_disputes(slot: str) -> None:
    """Move on what nobody answered or decided in time."""
    del slot
    with database.begin() as session:
        due = due_disputes(session, at=now(), limit=SWEEP)
    sweep(due, lambda session, dispute_id: run_out(session, dispute_id, at=now()))
