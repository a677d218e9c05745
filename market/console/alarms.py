"""Pages of ops about alarms: dry levels, drifted forecasts, sets that are alike; who has looked."""

from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import select

from market.alarms.actions import acknowledge_alarm
from market.alarms.queries import alarms, readings
from market.console.forms import Form, field
from market.console.frame import back_to, page
from market.console.visitors import OPS, FormUnreadable, my_id
from market.db import database, now
from market.http import read_id
from market.people.queries import names_of
from market.projects.models import Project, TargetModel

HOME = "/console/ops/signals/alarms"
LONGEST_NOTE = 2_000
READINGS = 40


@get("/signals/alarms", guards=OPS, sync_to_thread=True)
def get_alarms(
    request: Request[Any, Any, Any],
    seen: FromQuery[bool] = False,
    said: FromQuery[str | None] = None,
) -> Template:
    """Alarms that wait for somebody to look, or those that somebody has looked at."""
    del said
    with database.begin() as session:
        rows = alarms(session, is_open=not seen)
        levels = readings(session)[:READINGS]
        models = {one.target_model_id for one in rows} | {one.target_model_id for one in levels}
        named = select(TargetModel.id, TargetModel.name).where(TargetModel.id.in_(models))
        sets = select(Project.id, Project.name).where(
            Project.id.in_({one.project_id for one in rows})
        )
        people = {one.acknowledged.person_id for one in rows if one.acknowledged is not None}
        people |= {one.person_id for one in rows}
        return page(
            request,
            "ops/alarms.html",
            rows=rows,
            seen=seen,
            readings=levels,
            models=dict(session.execute(named).all()),
            projects=dict(session.execute(sets).all()),
            names=names_of(session, people),
        )


@post("/signals/alarms/{alarm_id:str}", guards=OPS, sync_to_thread=True, status_code=303)
def post_acknowledgement(
    request: Request[Any, Any, Any], alarm_id: FromPath[str], data: Form
) -> Redirect:
    """Say what was found of an alarm; the first word stays."""
    note = field(data, "note")
    if not 1 <= len(note) <= LONGEST_NOTE:
        raise FormUnreadable(f"say in 1 to {LONGEST_NOTE:,} characters what you found")
    with database.begin() as session:
        acknowledge_alarm(
            session, read_id("alm", alarm_id), note=note, actor_id=my_id(request), at=now()
        )
    return back_to(HOME, "alarm-seen")


ROUTES: list[HTTPRouteHandler] = [get_alarms, post_acknowledgement]
