"""Pages about drafts: how much of them experts kept, and which came back as they were."""

from typing import Any
from uuid import UUID

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Template
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.console.frame import HEADERS, page
from market.console.visitors import LAB, OPS
from market.db import database
from market.edits.models import SubmissionEdit
from market.edits.queries import edit_summary, edits_of
from market.edits.routes import edits_table
from market.http import page_of, read_id
from market.projects.models import Project
from market.projects.queries import project
from market.submissions.models import Submission
from market.tasks.models import Task

PAGE = 25


@get("/projects/{project_id:str}/edits", guards=LAB, sync_to_thread=True)
def get_edits(
    request: Request[Any, Any, Any],
    project_id: FromPath[str],
    of: FromQuery[str] = "",
    cursor: FromQuery[str | None] = None,
) -> Template:
    """What became of each draft of a project, and of all of them together."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        shown = _listed(session, found.id, of, cursor)
        return page(request, "lab/edits.html", project=found, **shown)


@get("/edits", guards=OPS, sync_to_thread=True)
def get_all_edits(
    request: Request[Any, Any, Any],
    of: FromQuery[str] = "",
    cursor: FromQuery[str | None] = None,
) -> Template:
    """The same of every project, for ops: which drafts came back as they were, and whose."""
    with database.begin() as session:
        shown = _listed(session, None, of, cursor)
        which = {row.project_id for row in shown["rows"]}
        named = session.execute(select(Project.id, Project.name).where(Project.id.in_(which)))
        names = {row.id: row.name for row in named}
        return page(request, "ops/edits.html", projects=names, **shown)


def _listed(
    session: Session, project_id: UUID | None, of: str, cursor: str | None
) -> dict[str, Any]:
    flagged = True if of == "flagged" else None
    rows, following = page_of(
        session,
        edits_of(project_id, is_flagged=flagged),
        SubmissionEdit.id,
        limit=PAGE,
        cursor=cursor,
        filters=f"edits of {project_id} {flagged}",
    )
    named = (
        select(Submission.id, Task.external_id)
        .join(Task, Task.id == Submission.task_id)
        .where(Submission.id.in_([row.submission_id for row in rows]))
    )
    return {
        "summary": edit_summary(session, project_id),
        "rows": rows,
        "following": following,
        "tasks": {row.id: row.external_id for row in session.execute(named)},
        "chosen": of,
    }


@get("/projects/{project_id:str}/edits.csv", guards=LAB, sync_to_thread=True)
def get_edits_file(project_id: FromPath[str]) -> Response[str]:
    """All of them as a table to keep."""
    with database.begin() as session:
        content = edits_table(session, project_id)
    name = f"edits-{project_id}.csv"
    kept = {**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="text/csv", headers=kept)


ROUTES: list[HTTPRouteHandler] = [get_edits, get_edits_file]
OPS_ROUTES: list[HTTPRouteHandler] = [get_all_edits]
