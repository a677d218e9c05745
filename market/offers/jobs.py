"""What becomes of offers by themselves: deadlines, and the end of their project."""

from datetime import timedelta
from uuid import UUID

from market.broker import job
from market.db import database, now
from market.offers.actions import expire_offer, grace_offer, lapse_offer, withdraw_offer
from market.offers.queries import (
    lapsed_offers,
    offer,
    overdue_offers,
    withdrawable_offers,
)

SWEEP = 2_000
"""The most offers that one sweep ends; the next one comes seconds later."""

GRACE = timedelta(hours=48)
"""How long work that was under way when its project ended may still be handed in."""


@job(queue="default", max_retries=2)
def expire_offers(slot: str) -> None:
    """End offers that were not answered, and accepted ones on which no work was begun, in time."""
    del slot
    with database.begin() as session:
        overdue = overdue_offers(session, at=now(), limit=SWEEP)
        lapsed = lapsed_offers(session, at=now(), limit=SWEEP)
    # A transaction each: an offer that fails does not hold the others up, and no transaction holds
    # the ledger accounts of many projects.
    for offer_id in overdue:
        with database.begin() as session:
            expire_offer(session, offer_id, at=now())
    for offer_id in lapsed:
        with database.begin() as session:
            lapse_offer(session, offer_id, at=now())


@job(queue="default")
def withdraw_offers(project_id: str) -> None:
    """A project is draining: take its unanswered offers back, and give grace to work under way."""
    while True:
        with database.begin() as session:
            found = withdrawable_offers(session, UUID(project_id), limit=SWEEP)
        for offer_id in found:
            with database.begin() as session:
                row = offer(session, offer_id, locked=True)
                if row.state == "pending":
                    withdraw_offer(
                        session, offer_id, action="cancel", reason="project_ended", at=now()
                    )
                elif row.state == "active":
                    grace_offer(
                        session, offer_id, until=now() + GRACE, reason="project_ended", at=now()
                    )
        if len(found) < SWEEP:
            return
