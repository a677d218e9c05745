"""What follows for pay when a test, or a baseline, is over."""

from datetime import timedelta
from uuid import UUID

from market.baselines.queries import eval_set
from market.broker import job
from market.db import database, now
from market.sitting_pay.actions import accrue_baseline, accrue_sitting
from market.sitting_pay.queries import finished_by, left_since
from market.sitting_pay.rules import LEFT_AFTER
from market.sweeps import sweep

LOOKED_BACK = timedelta(days=30)


@job(queue="money", max_retries=8)
def pay_sitting(sitting_id: str) -> None:
    """Pay the time of a test that is over."""
    with database.begin() as session:
        accrue_sitting(session, UUID(sitting_id), at=now())


@job(queue="money", max_retries=8)
def pay_baseline(set_id: str) -> None:
    """Pay everybody who has answered all of a set."""
    which = UUID(set_id)
    with database.begin() as session:
        people = finished_by(session, eval_set(session, which))
    sweep(people, lambda session, person_id: accrue_baseline(session, which, person_id, at=now()))


@job(queue="money", max_retries=3)
def pay_left_baselines(slot: str) -> None:
    """Pay those who left a set before its end for what they did of it."""
    del slot
    at = now()
    with database.begin() as session:
        left = left_since(session, at - LEFT_AFTER, at - LOOKED_BACK)
    sweep(left, lambda session, one: accrue_baseline(session, *one, at=at))
