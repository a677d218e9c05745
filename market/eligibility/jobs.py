"""How tasks that nobody claims come to more people by themselves."""

from market.broker import job
from market.db import database, now
from market.eligibility.actions import widen_project
from market.eligibility.queries import projects_with_timers


@job(queue="default", max_retries=2)
def widen_tasks(slot: str) -> None:
    """Start, stop and end the timers of tasks whose projects widen in steps."""
    del slot
    with database.begin() as session:
        waiting = projects_with_timers(session)
    # A transaction for each, so that one project that fails does not hold the others up.
    for project_id in waiting:
        with database.begin() as session:
            widen_project(session, project_id, at=now())
