"""Pages about tasks that somebody holds: a lab or ops ask one back, and its expert answers."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy.orm import Session

from market.console.forms import REFUSALS, Form, field, once, said_no, whole_number
from market.console.frame import Notice, back_to, page
from market.console.visitors import EXPERT, LAB, OPS, FormUnreadable, my_id
from market.db import PLATFORM, database, now
from market.http import page_of, read_id
from market.offers.models import Offer
from market.projects.models import Project
from market.projects.queries import project
from market.returns.actions import answer_return, ask_back, withdraw_return
from market.returns.models import ReturnRequest
from market.returns.queries import asked_of, held_offers, return_request, return_requests
from market.returns.rules import LONGEST, MIN_REASON
from market.tasks.models import Task
from market.tasks.queries import task

PAGE = 25
ENDED = 10
"""Requests that the page of held tasks shows besides, the newest first."""

OPS_HOME = "/console/ops/held"


def _held(
    request: Request[Any, Any, Any],
    project_id: UUID | None,
    cursor: str | None,
    *,
    status: int = 200,
    notice: Notice | None = None,
) -> Template:
    with database.begin() as session:
        found = None if project_id is None else project(session, project_id)
        rows, following = page_of(
            session,
            held_offers(project_id),
            Offer.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"held {project_id}",
        )
        asked = asked_of(session, [offer.id for offer, _ in rows])
        ended = session.scalars(
            return_requests(project_id=project_id)
            .where(ReturnRequest.state != "asked")
            .order_by(ReturnRequest.id.desc())
            .limit(ENDED)
        ).all()
        return page(
            request,
            "held.html",
            status=status,
            notice=notice,
            project=found,
            home=OPS_HOME if found is None else f"/console/lab/projects/prj_{found.id.hex}/held",
            rows=[(offer, one, asked.get(offer.id)) for offer, one in rows],
            following=following,
            ended=[(row, session.get(Task, row.task_id)) for row in ended],
            names=_names(session, {one.project_id for _, one in rows}),
            most_hours=LONGEST // timedelta(hours=1),
            least_reason=MIN_REASON,
        )


def _names(session: Session, project_ids: set[UUID]) -> dict[UUID, str]:
    return {one: session.get_one(Project, one).name for one in project_ids}


@get("/projects/{project_id:str}/held", guards=LAB, sync_to_thread=True)
def get_held_of_project(
    request: Request[Any, Any, Any],
    project_id: FromPath[str],
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """Tasks of a project that somebody has accepted and not handed in."""
    del said
    return _held(request, read_id("prj", project_id), cursor)


@get("/held", guards=OPS, sync_to_thread=True)
def get_held(
    request: Request[Any, Any, Any],
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """The same of every project."""
    del said
    return _held(request, None, cursor)


def post_ask(
    request: Request[Any, Any, Any], task_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Ask whoever holds a task to give it back by a time."""
    at, me = now(), my_id(request)
    with database.begin() as session:
        # Whose task it is; offers are moved as the platform.
        found = task(session, read_id("tsk", task_id))
    is_ops = request.url.path.startswith(OPS_HOME)
    home = OPS_HOME if is_ops else f"/console/lab/projects/prj_{found.project_id.hex}/held"

    def act() -> str:
        hours = whole_number(
            data, "hours", "the hours", least=1, most=LONGEST // timedelta(hours=1), absent=72
        )
        with database.begin(PLATFORM) as session:
            ask_back(
                session,
                found.id,
                reason=field(data, "reason"),
                silence=field(data, "silence"),
                due_at=at + timedelta(hours=hours),
                at=at,
                actor_id=me,
            )
        return f"{home}?said=asked-back"

    try:
        return once(data, act)
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        of = None if is_ops else found.project_id
        return _held(request, of, None, status=status, notice=notice)


def post_withdraw(
    request: Request[Any, Any, Any], request_id: FromPath[str], data: Form
) -> Redirect:
    """Ask no longer."""
    del data
    with database.begin() as session:
        found = return_request(session, read_id("rrq", request_id))
    with database.begin(PLATFORM) as session:
        withdraw_return(session, found.id, at=now(), actor_id=my_id(request))
    is_ops = request.url.path.startswith(OPS_HOME)
    home = OPS_HOME if is_ops else f"/console/lab/projects/prj_{found.project_id.hex}/held"
    return back_to(home, "asked-no-more")


@post("/returns/{request_id:str}", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_answer(request: Request[Any, Any, Any], request_id: FromPath[str], data: Form) -> Redirect:
    """Give a task back that was asked for, or keep it and say why."""
    keeps = {"keep": True, "return": False}.get(data.get("answer", ""))
    if keeps is None:
        raise FormUnreadable("a task that is asked back is returned or kept")
    # As the platform, because the slot, the task and the reservation move with the offer.
    with database.begin(PLATFORM) as session:
        row = answer_return(
            session,
            read_id("rrq", request_id),
            expert_id=my_id(request),
            keeps=keeps,
            reason=field(data, "reason"),
            at=now(),
        )
        offer_id = row.offer_id
    if keeps:
        return back_to(f"/console/expert/offers/ofr_{offer_id.hex}", "kept")
    return back_to("/console/expert", "returned")


LAB_ROUTES: list[HTTPRouteHandler] = [
    get_held_of_project,
    post("/held/{task_id:str}/ask", guards=LAB, sync_to_thread=True, status_code=303)(post_ask),
    post("/held/{request_id:str}/withdraw", guards=LAB, sync_to_thread=True, status_code=303)(
        post_withdraw
    ),
]
OPS_ROUTES: list[HTTPRouteHandler] = [
    get_held,
    post("/held/{task_id:str}/ask", guards=OPS, sync_to_thread=True, status_code=303)(post_ask),
    post("/held/{request_id:str}/withdraw", guards=OPS, sync_to_thread=True, status_code=303)(
        post_withdraw
    ),
]
EXPERT_ROUTES: list[HTTPRouteHandler] = [post_answer]
