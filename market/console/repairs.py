"""Pages about tasks that experts say cannot be done as they stand: a lab's, and those of all."""

from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template

from market.console.forms import REFUSALS, Form, field, said_no
from market.console.frame import Notice, back_to, page
from market.console.visitors import LAB, OPS, my_id
from market.db import PLATFORM, database, now
from market.http import NotFound, page_of, read_id
from market.people.queries import names_of
from market.projects.queries import project
from market.repairs.actions import end_repair
from market.repairs.models import TaskRepair
from market.repairs.queries import complaints, over_budget, reasons_of, repair_of, repairs
from market.repairs.rules import BUDGET, BUDGET_SPAN, HELD_AT, MAX_CLARIFICATION

PAGE = 25
SHOWN = 20
OPS_HOME = "/console/ops/repairs"


def _repairs(
    request: Request[Any, Any, Any],
    project_id: UUID | None,
    of: str,
    cursor: str | None,
    *,
    status: int = 200,
    notice: Notice | None = None,
) -> Template:
    state = of if of in ("repaired", "closed") else "open"
    with database.begin() as session:
        found = None if project_id is None else project(session, project_id)
        rows, following = page_of(
            session,
            repairs(project_id=project_id, state=state),
            TaskRepair.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"repairs {project_id} {state}",
        )
        skippers = [] if found else over_budget(session, at=now(), limit=SHOWN)
        return page(
            request,
            "repairs.html",
            status=status,
            notice=notice,
            project=found,
            home=OPS_HOME if found is None else f"/console/lab/projects/prj_{found.id.hex}/repairs",
            rows=rows,
            following=following,
            chosen=state,
            said=complaints(session, [row.id for row, _ in rows]),
            reasons=reasons_of(session, [one.id for _, one in rows]),
            skippers=skippers,
            names=names_of(session, {expert_id for expert_id, _ in skippers}),
            held_at=HELD_AT,
            budget=BUDGET,
            days=BUDGET_SPAN.days,
            most=MAX_CLARIFICATION,
        )


@get("/projects/{project_id:str}/repairs", guards=LAB, sync_to_thread=True)
def get_repairs_of_project(
    request: Request[Any, Any, Any],
    project_id: FromPath[str],
    of: FromQuery[str] = "open",
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """Tasks of a project that experts say cannot be done as they stand."""
    del said
    return _repairs(request, read_id("prj", project_id), of, cursor)


@get("/repairs", guards=OPS, sync_to_thread=True)
def get_repairs(
    request: Request[Any, Any, Any],
    of: FromQuery[str] = "open",
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """The same of every project, and who skips more than nobody asks about."""
    del said
    return _repairs(request, None, of, cursor)


def post_end(
    request: Request[Any, Any, Any], repair_id: FromPath[str], move: FromPath[str], data: Form
) -> Redirect | Template:
    """Say that a task was put right, or that nothing was wrong."""
    if move not in ("repair", "close"):
        raise NotFound("move", move[:64])
    with database.begin() as session:
        # Whose it is; its task is moved as the platform.
        found = repair_of(session, read_id("rpr", repair_id))
    is_ops = request.url.path.startswith(OPS_HOME)
    try:
        with database.begin(PLATFORM) as session:
            end_repair(
                session,
                found.id,
                was_wrong=move == "repair",
                note=field(data, "note"),
                at=now(),
                actor_id=my_id(request),
            )
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        of = None if is_ops else found.project_id
        return _repairs(request, of, "open", None, status=status, notice=notice)
    home = OPS_HOME if is_ops else f"/console/lab/projects/prj_{found.project_id.hex}/repairs"
    return back_to(home, f"repair-{move}")


ENDING = "/repairs/{repair_id:str}/{move:str}"
LAB_ROUTES: list[HTTPRouteHandler] = [
    get_repairs_of_project,
    post(ENDING, guards=LAB, sync_to_thread=True, status_code=303)(post_end),
]
OPS_ROUTES: list[HTTPRouteHandler] = [
    get_repairs,
    post(ENDING, guards=OPS, sync_to_thread=True, status_code=303)(post_end),
]
