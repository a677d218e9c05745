"""What becomes of offers by themselves: deadlines, and the end of what they belong to."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from market.broker import job
from market.db import database, now
from market.experts.queries import expert
from market.experts.rules import WORKING
from market.offers.actions import expire_offer, lapse_offer, withdraw_offer
from market.offers.queries import lapsed_offers, overdue_offers, unfinished_offers
from market.sweeps import sweep

SWEEP = 2_000
"""The most offers that one sweep ends; the next one comes seconds later."""

GRACE = timedelta(hours=48)
"""How long work that was under way when its task ended may still be handed in."""


@job(queue="default", max_retries=2)
def expire_offers(slot: str) -> None:
    """End offers that were not answered, and accepted ones on which no work was begun, in time."""
    del slot
    with database.begin() as session:
        overdue = overdue_offers(session, at=now(), limit=SWEEP)
        lapsed = lapsed_offers(session, at=now(), limit=SWEEP)
    # A transaction each, so that none holds the ledger accounts of many projects.
    ends = [*((expire_offer, one) for one in overdue), *((lapse_offer, one) for one in lapsed)]
    sweep(ends, lambda session, one: one[0](session, one[1], at=now()))


@job(queue="default")
def withdraw_project_offers(project_id: str) -> None:
    """A project is draining: its offers are withdrawn."""
    with database.begin() as session:
        found = unfinished_offers(session, project_id=UUID(project_id))
    _withdraw(found, "project_ended")


@job(queue="default", line="bulk")
def withdraw_task_offers(task_id: str) -> None:
    """A task was cancelled or is over its time: its offers are withdrawn."""
    with database.begin() as session:
        found = unfinished_offers(session, task_id=UUID(task_id))
    _withdraw(found, "task_withdrawn")


@job(queue="default")
def withdraw_expert_offers(expert_id: str) -> None:
    """An expert's standing changed: its offers are withdrawn if it may not work any more."""
    with database.begin() as session:
        if expert(session, UUID(expert_id)).state in WORKING:
            return
        found = unfinished_offers(session, expert_id=UUID(expert_id))
    _withdraw(found, "access_revoked")


def _withdraw(offer_ids: Sequence[UUID], reason: str) -> None:
    def withdraw(session: Session, offer_id: UUID) -> None:
        withdraw_offer(session, offer_id, reason=reason, grace=GRACE, at=now())

    sweep(offer_ids, withdraw)
