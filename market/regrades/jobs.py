"""What follows from a new key, and from an item that is withdrawn."""

from uuid import UUID

from market.broker import job
from market.db import database, now
from market.item_banks.actions import keep_calibration
from market.item_banks.queries import basis_of, item
from market.item_banks.rules import fit_bank
from market.regrades.actions import regrade_sitting, remark_answers
from market.regrades.queries import sittings_with


@job(queue="solver", max_retries=8, time_limit_s=1800)
def regrade_item(item_id: str) -> None:
    """Mark the answers to an item by its new key, calibrate its bank, and grade what had it again.

    Safe to run twice: a sitting is graded again once for each key.
    """
    which = UUID(item_id)
    with database.begin() as session:
        remark_answers(session, which)
    at = now()
    with database.begin() as session:
        basis = basis_of(session, item(session, which).bank_id)
    fit = fit_bank(basis)
    with database.begin() as session:
        keep_calibration(session, fit, at=at)
    with database.begin() as session:
        sittings = sittings_with(session, which)
    for sitting_id in sittings:
        with database.begin() as session:
            regrade_sitting(session, sitting_id, which, at=now())
