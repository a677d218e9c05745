"""The job that notes why a task was skipped."""

from uuid import UUID

from market.broker import job
from market.db import database, now
from market.repairs.actions import note_skipped


@job(queue="default", line="bulk")
def note_skip(offer_id: str) -> None:
    """Note why an offer was declined or given back, if its expert said so."""
    with database.begin() as session:
        note_skipped(session, UUID(offer_id), at=now())
