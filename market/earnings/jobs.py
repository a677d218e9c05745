"""Crediting what work is worth, once it is over."""

from uuid import UUID

from market.broker import job
from market.db import database, now
from market.earnings.actions import accrue_decided_time, accrue_earning, accrue_submission


@job(queue="money")
def credit_earning(submission_id: str) -> None:
    """Credit the time behind a submission that has its verdict."""
    with database.begin() as session:
        accrue_submission(session, UUID(submission_id), at=now())


@job(queue="money")
def credit_decided_time(entry_id: str) -> None:
    """Credit time that was in dispute, once somebody has decided for it."""
    with database.begin() as session:
        accrue_decided_time(session, UUID(entry_id), at=now())


@job(queue="money")
def credit_time(offer_id: str) -> None:
    """Credit the minutes on an offer that ended without a submission."""
    with database.begin() as session:
        accrue_earning(session, UUID(offer_id), at=now())
