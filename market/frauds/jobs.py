"""What becomes of appeals against cases of fraud that nobody decides."""

from contextlib import suppress
from uuid import UUID

from market.broker import job
from market.db import database, now
from market.frauds.actions import miss_fraud_appeal
from market.frauds.queries import overdue_cases
from market.sweeps import one_by_one
from payouts.errors import RecoveryUnderWay

SWEEP = 1_000
"""The most rows that one sweep takes up; the next one comes soon."""


@job(queue="default", max_retries=2)
def miss_fraud_appeals(slot: str) -> None:
    """Give appeals that were not decided in the promised time to whoever filed them."""
    del slot
    with database.begin() as session:
        overdue = overdue_cases(session, at=now(), limit=SWEEP)

    def miss(case_id: UUID) -> None:
        # Where Stripe is still to answer, it does within minutes, and the next sweep comes sooner.
        with suppress(RecoveryUnderWay), database.begin() as session:
            miss_fraud_appeal(session, case_id, at=now())

    one_by_one(overdue, miss)
