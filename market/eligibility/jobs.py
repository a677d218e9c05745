"""How tasks that nobody claims come to more people by themselves."""

from market.broker import job
from market.db import database, now
from market.eligibility.actions import widen_project
from market.eligibility.queries import projects_with_timers
from market.sweeps import sweep


@job(queue="default", max_retries=2)
def widen_tasks(slot: str) -> None:
    """Start, stop and end the timers of tasks whose projects widen in steps."""
    del slot
    with database.begin() as session:
        waiting = projects_with_timers(session)
    sweep(waiting, lambda session, project_id: widen_project(session, project_id, at=now()))
