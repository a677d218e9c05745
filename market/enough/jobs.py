"""The look at claims that got a vote lately."""

from datetime import timedelta

from market.broker import job
from market.db import database, now
from market.enough.actions import stop_if_sure
from market.sweeps import sweep
from market.votes.queries import perhaps_sure

SWEEP = 200
"""The most claims that one look takes up; the next one comes soon."""

LATELY = timedelta(minutes=2)
"""How long after a vote it is asked whether it was enough."""


@job(queue="default", max_retries=2)
def stop_when_sure(slot: str) -> None:
    """Ask no more of claims on which the votes that are in are surely right; keep the next look at
    the others for whom it serves best.
    """
    del slot
    with database.begin() as session:
        found = perhaps_sure(session, since=now() - LATELY, limit=SWEEP)
    sweep(found, lambda session, one: stop_if_sure(session, one, at=now()))
