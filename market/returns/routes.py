"""Requests to give a task back, over HTTP."""

from datetime import datetime
from typing import Annotated

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    listed,
    post,
    read_id,
    read_ids,
    wire_id,
)
from market.returns.actions import answer_return, ask_back, withdraw_return
from market.returns.models import ReturnRequest
from market.returns.queries import return_request, return_requests
from market.returns.rules import Silence
from market.tasks.queries import task


class ReturnRequestIn(Wire):
    """Why a task is asked back, until when there is time to answer, and what silence means."""

    reason: str
    due_at: Annotated[datetime, Meta(tz=True)]
    silence: Silence = "return"


class ReturnAnswerIn(Wire):
    """Whether the task is kept; whoever keeps it says why."""

    keeps: bool
    reason: str = ""


class ReturnRequestOut(Wire):
    """A request for a task, and how it ended."""

    id: str
    task_id: str
    project_id: str
    offer_id: str
    state: str
    reason: str
    silence: str
    asked_at: datetime
    due_at: datetime
    ended_at: datetime | None
    answer: str | None
    version: int


class ReturnRequestsOut(Wire):
    """The requests that were made, one for each expert who held the task."""

    items: list[ReturnRequestOut]


@post(
    "/tasks/{task_id:str}/return-requests",
    scope="return:write",
    status_code=HTTP_201_CREATED,
    tags=["Work"],
)
def post_return_requests(
    task_id: FromPath[str],
    data: JSONBody[ReturnRequestIn],
    principal: NamedDependency[Principal],
) -> ReturnRequestsOut:
    """Ask whoever holds a task to give it back by a time."""
    with database.begin() as session:
        found = task(session, read_id("tsk", task_id)).id
    # As the platform, since offers are their experts'; whose the task is was seen above.
    with database.begin(PLATFORM) as session:
        made = ask_back(
            session,
            found,
            reason=data.reason,
            silence=data.silence,
            due_at=data.due_at,
            at=now(),
            actor_id=principal.person_id,
        )
        return ReturnRequestsOut(items=[_out(one) for one in made])


@get("/return-requests", scope="work:read", tags=["Work"])
def get_return_requests(
    project_id: FromQuery[str | None] = None,
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ReturnRequestOut]:
    """Requests that you made or that were made to you, newest first."""
    project = read_ids("prj", project_id)
    with database.begin() as session:
        return listed(
            session,
            return_requests(project_id=project, state=in_state),
            ReturnRequest.id,
            _out,
            limit=limit,
            cursor=cursor,
            filters=f"return requests {project} {in_state}",
        )


@post(
    "/return-requests/{request_id:str}/answer",
    scope="work:write",
    status_code=HTTP_200_OK,
    tags=["Work"],
)
def post_return_answer(
    request_id: FromPath[str],
    data: JSONBody[ReturnAnswerIn],
    principal: NamedDependency[Principal],
) -> ReturnRequestOut:
    """Give the task back, with its draft kept and its minutes paid, or keep it and say why."""
    # As the platform, because the slot, the task and the reservation move with the offer.
    with database.begin(PLATFORM) as session:
        row = answer_return(
            session,
            read_id("rrq", request_id),
            expert_id=principal.person_id,
            keeps=data.keeps,
            reason=data.reason,
            at=now(),
        )
        return _out(row)


@post(
    "/return-requests/{request_id:str}/withdraw",
    scope="return:write",
    status_code=HTTP_200_OK,
    tags=["Work"],
)
def post_return_withdraw(
    request_id: FromPath[str], principal: NamedDependency[Principal]
) -> ReturnRequestOut:
    """Ask no longer."""
    with database.begin() as session:
        found = return_request(session, read_id("rrq", request_id)).id
    with database.begin(PLATFORM) as session:
        return _out(withdraw_return(session, found, at=now(), actor_id=principal.person_id))


def _out(row: ReturnRequest) -> ReturnRequestOut:
    return ReturnRequestOut(
        id=wire_id("rrq", row.id),
        task_id=wire_id("tsk", row.task_id),
        project_id=wire_id("prj", row.project_id),
        offer_id=wire_id("ofr", row.offer_id),
        state=row.state,
        reason=row.reason,
        silence=row.silence,
        asked_at=row.asked_at,
        due_at=row.due_at,
        ended_at=row.ended_at,
        answer=row.answer,
        version=row.version,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_return_requests,
    get_return_requests,
    post_return_answer,
    post_return_withdraw,
]
