"""What follows for checks when work is handed in."""

from uuid import UUID

from market.broker import job
from market.db import database, now
from market.golds.actions import drop_stale_checks as drop_stale
from market.golds.actions import grade_check, put_check

AT_ONCE = 200


@job(queue="default", max_retries=8)
def follow_checks(submission_id: str) -> None:
    """Grade a check that was handed in; after other work, put one if it is time."""
    which = UUID(submission_id)
    with database.begin() as session:
        if grade_check(session, which, at=now()) is None:
            put_check(session, which, at=now())


@job(queue="default", max_retries=3)
def drop_stale_checks(slot: str) -> None:
    """Cancel checks that nobody took, so that none keeps its project open."""
    del slot
    with database.begin() as session:
        drop_stale(session, at=now(), limit=AT_ONCE)
