"""What becomes of projects by themselves when the last work on their tasks is done."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from market.broker import job
from market.db import database, now
from market.projects.actions import close_project, settle_project
from market.projects.models import Project
from market.projects.queries import project
from market.sweeps import sweep
from market.tasks.actions import reseat_task
from market.tasks.queries import has_decisions_due, has_work_under_way, unresolved_tasks


@job(queue="default")
def settle_projects(slot: str) -> None:
    """Settle draining projects without work under way; close settled ones that owe no decision."""
    del slot
    with database.begin() as session:
        waiting = session.scalars(
            select(Project.id)
            .where(Project.state.in_(("draining", "settling")))
            .order_by(Project.id)
        ).all()
    sweep(waiting, _settle)


def _settle(session: Session, project_id: UUID) -> None:
    found = project(session, project_id, lock=True)
    if found.state == "draining" and not has_work_under_way(session, project_id):
        settle_project(session, project_id, at=now())
    if found.state == "settling" and not has_decisions_due(session, project_id):
        close_project(session, project_id, at=now())


@job(queue="default", line="slow", time_limit_s=3600)
def reseat_tasks(project_id: str) -> None:
    """A project asks for more or fewer answers to each task: its unresolved tasks follow."""
    with database.begin() as session:
        found = project(session, UUID(project_id))
        # Read anew, so that of two changes the later one counts, in whichever order they are told.
        answers = found.answers_per_task
        waiting = unresolved_tasks(session, found.id)
    # A transaction for each, so that nobody who claims a seat waits for the whole project.
    sweep(waiting, lambda session, task_id: reseat_task(session, task_id, answers, at=now()))
