"""What follows from a lab's report of what batches did."""

from uuid import UUID

from market.broker import job
from market.db import database, now
from market.lifts.actions import estimate_lift


@job(queue="default", max_retries=8)
def weigh_lift(study_id: str) -> None:
    """Say what each contributor's and each domain's items added."""
    with database.begin() as session:
        estimate_lift(session, UUID(study_id), at=now())
