"""What a lab may expect of a project before it launches, and why its tasks wait afterwards."""

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Template
from sqlalchemy import exists, select

from market.console.frame import page
from market.console.visitors import LAB
from market.db import database, now
from market.forecasts.routes import forecast_told, waiting_told
from market.http import page_of, read_id
from market.projects.queries import project
from market.tasks.models import Task, TaskSlot
from market.tasks.rules import OFFERABLE

WAITING = 10
"""Tasks on one page: why each one waits is counted anew."""


@get("/projects/{project_id:str}/forecast", guards=LAB, sync_to_thread=True)
def get_forecast(request: Request[Any, Any, Any], project_id: FromPath[str]) -> Template:
    """How many experts each step takes, when the last answer comes, and what all of it costs."""
    found_id, at = read_id("prj", project_id), now()
    seen = forecast_told(found_id, is_lab=True, at=at)
    with database.begin() as session:
        found = project(session, found_id)
        return page(request, "lab/forecast.html", project=found, seen=seen)


@get("/projects/{project_id:str}/waiting", guards=LAB, sync_to_thread=True)
def get_waiting(
    request: Request[Any, Any, Any],
    project_id: FromPath[str],
    cursor: FromQuery[str | None] = None,
) -> Template:
    """Tasks with an open seat, oldest first, and what keeps each from an expert."""
    at = now()
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        tasks, following = page_of(
            session,
            select(Task).where(
                Task.project_id == found.id,
                Task.state.in_(OFFERABLE),
                exists().where(TaskSlot.task_id == Task.id, TaskSlot.state == "open"),
            ),
            Task.id,
            limit=WAITING,
            cursor=cursor,
            filters=f"waiting {found.id}",
            newest_first=False,
        )
    rows = [(task, waiting_told(task.id, is_lab=True, at=at)) for task in tasks]
    return page(request, "lab/waiting.html", project=found, rows=rows, following=following)


ROUTES: list[HTTPRouteHandler] = [get_forecast, get_waiting]
