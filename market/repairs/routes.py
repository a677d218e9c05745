"""Repairs of tasks and the skip budget, over HTTP."""

from datetime import datetime

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK
from sqlalchemy.orm import Session

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    page,
    page_of,
    post,
    read_id,
    read_ids,
    wire_id,
)
from market.repairs.actions import end_repair
from market.repairs.models import TaskRepair, TaskSkip
from market.repairs.queries import complaints, reasons_of, repair_of, repairs, skip_budget
from market.tasks.queries import task


class RepairEndIn(Wire):
    """What was put right, for whoever gets the task next; or why nothing was wrong."""

    note: str


class ComplaintOut(Wire):
    """What an expert said of a task that it skipped."""

    reason: str
    note: str | None
    at: datetime


class RepairOut(Wire):
    """A task that cannot be done as it stands, by what experts say; `reasons` counts every skip of
    the task, `held` says that the complaints hold it.
    """

    id: str
    task_id: str
    external_id: str
    project_id: str
    state: str
    opened_at: datetime
    held: bool
    reasons: dict[str, int]
    complaints: list[ComplaintOut]
    note: str | None
    ended_at: datetime | None
    version: int


class SkipBudgetOut(Wire):
    """Skips of the last `days` by reasons of your own, of those that nobody asks about. What comes
    after changes nothing about your offers, your pay or your standing.
    """

    budget: int
    days: int
    used: int
    left: int
    frees_at: datetime | None


@get("/repairs", scope="project:read", tags=["Work"])
def get_repairs(
    project_id: FromQuery[str | None] = None,
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[RepairOut]:
    """Tasks that experts say cannot be done as they stand, newest first."""
    project = read_ids("prj", project_id)
    with database.begin() as session:
        rows, following = page_of(
            session,
            repairs(project_id=project, state=in_state),
            TaskRepair.id,
            limit=limit,
            cursor=cursor,
            filters=f"repairs {project} {in_state}",
        )
        return page(told(session, [(row, one.external_id) for row, one in rows]), following)


@post(
    "/repairs/{repair_id:str}/repair",
    scope="repair:write",
    status_code=HTTP_200_OK,
    tags=["Work"],
)
def post_repair(
    repair_id: FromPath[str], data: JSONBody[RepairEndIn], principal: NamedDependency[Principal]
) -> RepairOut:
    """The task was put right; offers go on, and whoever gets it reads what was."""
    return _ended(repair_id, True, data.note, principal)


@post(
    "/repairs/{repair_id:str}/close",
    scope="repair:write",
    status_code=HTTP_200_OK,
    tags=["Work"],
)
def post_repair_close(
    repair_id: FromPath[str], data: JSONBody[RepairEndIn], principal: NamedDependency[Principal]
) -> RepairOut:
    """Nothing was wrong with the task; offers go on."""
    return _ended(repair_id, False, data.note, principal)


@get("/skips/me", scope="offer:read", tags=["Work"])
def get_skip_budget(principal: NamedDependency[Principal]) -> SkipBudgetOut:
    """How much of your skip budget is left."""
    with database.begin() as session:
        found = skip_budget(session, principal.person_id, at=now())
    return SkipBudgetOut(
        budget=found.budget,
        days=found.days,
        used=found.used,
        left=found.left,
        frees_at=found.frees_at,
    )


def _ended(repair_id: str, was_wrong: bool, note: str, principal: Principal) -> RepairOut:
    with database.begin() as session:
        found = repair_of(session, read_id("rpr", repair_id)).id
    # As the platform, since the task and its offers move; whose it is was seen above.
    with database.begin(PLATFORM) as session:
        row = end_repair(
            session, found, was_wrong=was_wrong, note=note, at=now(), actor_id=principal.person_id
        )
        return told(session, [(row, task(session, row.task_id).external_id)])[0]


def told(session: Session, rows: list[tuple[TaskRepair, str]]) -> list[RepairOut]:
    """Repairs with what was said, as they travel; never who said it."""
    said = complaints(session, [row.id for row, _ in rows])
    counts = reasons_of(session, [row.task_id for row, _ in rows])
    return [
        RepairOut(
            id=wire_id("rpr", row.id),
            task_id=wire_id("tsk", row.task_id),
            external_id=name,
            project_id=wire_id("prj", row.project_id),
            state=row.state,
            opened_at=row.opened_at,
            held=row.holds_task and row.state == "open",
            reasons=dict(counts.get(row.task_id, {})),
            complaints=[_complaint(one) for one in said.get(row.id, [])],
            note=row.note,
            ended_at=row.ended_at,
            version=row.version,
        )
        for row, name in rows
    ]


def _complaint(one: TaskSkip) -> ComplaintOut:
    return ComplaintOut(reason=one.reason, note=one.note, at=one.at)


ROUTES: list[HTTPRouteHandler] = [get_repairs, post_repair, post_repair_close, get_skip_budget]
