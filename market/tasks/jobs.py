"""What becomes of projects by themselves when the last work on their tasks is done."""

from sqlalchemy import select

from market.broker import job
from market.db import database, now
from market.projects.actions import close_project, settle_project
from market.projects.models import Project
from market.projects.queries import project
from market.tasks.queries import has_decisions_due, has_work_under_way


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
    # A transaction for each, so that one that fails does not keep the others open.
    for project_id in waiting:
        with database.begin() as session:
            found = project(session, project_id, lock=True)
            if found.state == "draining" and not has_work_under_way(session, project_id):
                settle_project(session, project_id, at=now())
            if found.state == "settling" and not has_decisions_due(session, project_id):
                close_project(session, project_id, at=now())
