"""Calibration of item banks, after every upload and every night."""

from uuid import UUID

from market.broker import job
from market.db import database, now
from market.item_banks.actions import keep_calibration
from market.item_banks.queries import basis_of, stale_banks
from market.item_banks.rules import fit_bank
from market.sweeps import one_by_one


@job(queue="solver", max_retries=3, time_limit_s=1800)
def calibrate_banks(slot: str) -> None:
    """Calibrate every bank with items, keys or answers that its calibration has not seen."""
    del slot
    with database.begin() as session:
        stale = stale_banks(session)
    one_by_one(stale, calibrate)


def calibrate(bank_id: UUID) -> None:
    """Fit a bank anew; no transaction is open while it is fitted."""
    at = now()
    with database.begin() as session:
        basis = basis_of(session, bank_id)
    fit = fit_bank(basis)
    with database.begin() as session:
        keep_calibration(session, fit, at=at)
