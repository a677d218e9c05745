"""Pages of ops that ask what past runs would have done: previews of a policy, and searches for a
better one.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.console.charts import Chart, picture
from market.console.forms import Form, field, tried, whole_number
from market.console.frame import Notice, back_to, page
from market.console.preview_told import (
    choices_chart,
    choices_told,
    domains_chart,
    figures_chart,
    figures_told,
)
from market.console.visitors import OPS, FormUnreadable, my_id
from market.db import database, now
from market.http import NotFound, page_of, read_id, wire_id
from market.operations import Operation, cancel_operation
from market.people.queries import names_of
from market.policies.models import PolicyVersion
from market.policies.queries import default_policy, policy
from market.previews.actions import request_preview, request_search
from market.previews.models import PolicyPreview
from market.previews.queries import preview, previews
from market.projects.models import Project

PAGE = 25
HOME = "/console/ops/policies/previews"
LOOK_BACK = timedelta(days=7)


@get("/policies/previews", guards=OPS, sync_to_thread=True)
def get_previews(
    request: Request[Any, Any, Any],
    policy: FromQuery[str] = "",
    cursor: FromQuery[str | None] = None,
) -> Template:
    """What was asked of past runs, and the way to ask: about a policy, or for a better one."""
    return _asking(request, {"policy": policy}, cursor=cursor)


def _asking(
    request: Request[Any, Any, Any],
    typed: Mapping[str, str],
    *,
    status: int = 200,
    notice: Notice | None = None,
    cursor: str | None = None,
) -> Template:
    today = now().date()
    with database.begin() as session:
        rows, following = page_of(
            session, previews(), PolicyPreview.id, limit=PAGE, cursor=cursor, filters="previews"
        )
        return page(
            request,
            "ops/previews.html",
            status=status,
            notice=notice,
            rows=rows,
            following=following,
            operations=_operations(session, [row.id for row in rows]),
            versions=_versions(session, {row.policy_id for row in rows}),
            names=names_of(session, {row.requested_by for row in rows}),
            policies=session.scalars(
                select(PolicyVersion)
                .where(PolicyVersion.id != default_policy(session).policy_id)
                .order_by(PolicyVersion.name, PolicyVersion.id.desc())
            ).all(),
            projects=session.scalars(select(Project).order_by(Project.name)).all(),
            domains=_domains(session),
            typed={
                "since": (today - LOOK_BACK).isoformat(),
                "until": today.isoformat(),
                "goal": "95",
                "evaluations": "60",
                **{name: value for name, value in typed.items() if value},
            },
        )


def _domains(session: Session) -> list[str]:
    """Every domain that a project names, by name."""
    some = session.scalars(select(Project.domains)).all()
    return sorted({domain for domains in some for domain in domains})


def _versions(session: Session, ids: set[UUID]) -> dict[UUID, PolicyVersion]:
    rows = session.scalars(select(PolicyVersion).where(PolicyVersion.id.in_(ids)))
    return {row.id: row for row in rows}


def _operations(session: Session, ids: list[UUID]) -> dict[UUID, Operation]:
    rows = session.scalars(select(Operation).where(Operation.subject_id.in_(ids)))
    return {row.subject_id: row for row in rows}


@post("/policies/previews", guards=OPS, sync_to_thread=True, status_code=303)
def post_preview(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Ask what the runs of a stretch would have done under a version."""
    me = my_id(request)

    def act() -> str:
        since, until = _stretch(data)
        with database.begin() as session:
            made, _ = request_preview(
                session,
                policy_id=read_id("plc", field(data, "policy")),
                since=since,
                until=until,
                project_id=_project(data),
                requested_by=me,
                at=now(),
            )
            return f"{HOME}/{wire_id('pvw', made.id)}"

    return _asked(request, data, act)


@post("/policies/searches", guards=OPS, sync_to_thread=True, status_code=303)
def post_search(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Ask for policies that fill a share of the seats at the least loss of stumps."""
    me = my_id(request)

    def act() -> str:
        since, until = _stretch(data)
        goal = whole_number(
            data, "goal", "the share of seats, in per cent,", least=0, most=100, absent=95
        )
        tries = whole_number(
            data, "evaluations", "how many policies are tried", least=1, most=500, absent=60
        )
        with database.begin() as session:
            made, _ = request_search(
                session,
                policy_id=None,
                since=since,
                until=until,
                goal_fill=goal / 100,
                domain=field(data, "domain") or None,
                evaluations=tries,
                project_id=_project(data),
                requested_by=me,
                at=now(),
            )
            return f"{HOME}/{wire_id('pvw', made.id)}"

    return _asked(request, data, act)


def _asked(
    request: Request[Any, Any, Any], data: Mapping[str, str], act: Any
) -> Redirect | Template:
    return tried(data, act, partial(_asking, request, data))


def _project(data: Mapping[str, str]) -> UUID | None:
    text = field(data, "project")
    return read_id("prj", text) if text else None


def _stretch(data: Mapping[str, str]) -> tuple[datetime, datetime]:
    """From the first day's beginning to the last day's end, in UTC.

    Raises:
        FormUnreadable.
    """
    days = []
    for name, label in (("since", "the first day"), ("until", "the last day")):
        try:
            days.append(date.fromisoformat(field(data, name)))
        except ValueError:
            raise FormUnreadable(f"{label} is a day, such as 2026-03-31") from None
    first, last = (datetime(one.year, one.month, one.day, tzinfo=UTC) for one in days)
    return first, last + timedelta(days=1)


@get("/policies/previews/{preview_id:str}", guards=OPS, sync_to_thread=True)
def get_preview(request: Request[Any, Any, Any], preview_id: FromPath[str]) -> Template:
    """What past runs would have done, beside what they did; or choices that a search found."""
    with database.begin() as session:
        found = preview(session, read_id("pvw", preview_id))
        operation = _operations(session, [found.id]).get(found.id)
        asked_of = policy(session, found.policy_id)
        shared: dict[str, Any] = {
            "preview": found,
            "policy": asked_of,
            "operation": operation,
            "project": session.get(Project, found.project_id) if found.project_id else None,
            "asker": names_of(session, {found.requested_by}).get(found.requested_by or found.id),
            "told": found.result,
        }
        if found.result is None:
            return page(request, "ops/preview.html", **shared)
        if found.kind == "search":
            return page(
                request,
                "ops/search.html",
                **shared,
                choices=choices_told(found.result),
                chart=choices_chart(found.result),
            )
        moved = [*found.result["gain"], *found.result["lose"]]
        people = names_of(session, {read_id("per", one["expert_id"]) for one in moved})
        return page(
            request,
            "ops/preview.html",
            **shared,
            figures=figures_told(found.result, _currency(session)),
            chart=figures_chart(found.result),
            domains=domains_chart(found.result),
            currency=_currency(session),
            people={wire_id("per", one): name for one, name in people.items()},
        )


@post("/policies/previews/{preview_id:str}/stop", guards=OPS, sync_to_thread=True, status_code=303)
def post_stop(preview_id: FromPath[str]) -> Redirect:
    """Stop a preview or a search; what has ended stays as it ended."""
    with database.begin() as session:
        cancel_operation(session, preview(session, read_id("pvw", preview_id)).id, at=now())
    return back_to(f"/console/ops/policies/previews/{preview_id}", "preview-stopped")


def _currency(session: Session) -> str:
    """The currency of the projects, where they all have the same; else none is named."""
    found = session.scalars(select(Project.currency).distinct().limit(2)).all()
    return found[0] if len(found) == 1 else ""


@get("/policies/previews/{preview_id:str}/{name:str}", guards=OPS, sync_to_thread=True)
def get_picture(
    preview_id: FromPath[str],
    name: FromPath[str],
    scheme: FromQuery[str] = "light",
    v: FromQuery[str | None] = None,
) -> Response[bytes]:
    """One picture of what was found."""
    with database.begin() as session:
        found = preview(session, read_id("pvw", preview_id))
        result = found.result
    drawn = {
        ("preview", "figures.svg"): figures_chart,
        ("preview", "domains.svg"): domains_chart,
        ("search", "choices.svg"): choices_chart,
    }.get((found.kind, name))
    if drawn is None or result is None:
        raise NotFound("picture", name[:64])
    chart: Chart = drawn(result)
    return picture(chart, scheme, v)


ROUTES: list[HTTPRouteHandler] = [
    get_previews,
    post_preview,
    post_search,
    get_preview,
    post_stop,
    get_picture,
]
