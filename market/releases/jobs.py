"""What follows for a release from having been told, from verdicts, and from its calibration."""

from uuid import UUID

from market.broker import job
from market.db import database, now
from market.releases.actions import calibrate_if_possible, follow_release, reprice_release


@job(queue="default", max_retries=8)
def propose_calibration(release_id: str) -> None:
    """Choose the tasks that a new model is put to first, if there are enough."""
    with database.begin() as session:
        calibrate_if_possible(session, UUID(release_id), at=now())


@job(queue="default", line="bulk", max_retries=8)
def follow_calibration(submission_id: str) -> None:
    """Settle a release when the last of its calibration tasks was decided."""
    with database.begin() as session:
        follow_release(session, UUID(submission_id), at=now())


@job(queue="default", max_retries=8)
def reprice_experts(release_id: str) -> None:
    """Write anew what is believed of experts, now that their model is known."""
    with database.begin() as session:
        reprice_release(session, UUID(release_id), at=now())
