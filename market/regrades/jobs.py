"""What follows from a new key, and from an item that is withdrawn."""

from uuid import UUID

from market.broker import job
from market.db import database, now
from market.item_banks.jobs import calibrate
from market.item_banks.queries import item
from market.regrades.actions import regrade_sitting, remark_answers
from market.regrades.queries import sittings_with
from market.sweeps import sweep


@job(queue="solver", max_retries=8, time_limit_s=1800)
def regrade_item(item_id: str) -> None:
    """Mark the answers to an item by its new key, calibrate its bank, and grade what had it again.

    Safe to run twice: a sitting is graded again once for each key.
    """
    which = UUID(item_id)
    with database.begin() as session:
        remark_answers(session, which)
        bank_id = item(session, which).bank_id
    calibrate(bank_id)
    with database.begin() as session:
        sittings = sittings_with(session, which)
    sweep(sittings, lambda session, one: regrade_sitting(session, one, which, at=now()))
