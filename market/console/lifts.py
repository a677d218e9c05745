"""Pages about lift: batches drawn at random, what the lab found with each, and what items added."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import select

from market.auth import Part
from market.console.charts import Chart, bounded, picture
from market.console.forms import Form, field, tried, whole_number
from market.console.frame import HEADERS, Notice, page
from market.console.visitors import LAB, OPS, FormUnreadable, my_id
from market.db import PLATFORM, database, now
from market.http import page_of, principal_of_request, read_id, wire_id
from market.lifts.actions import draw_lift_study, report_lift
from market.lifts.models import LiftEffect, LiftStudy
from market.lifts.queries import (
    batches_of,
    effects_of,
    items_of,
    latest_reports,
    lift_batch,
    lift_studies,
    lift_study,
)
from market.lifts.routes import item_out
from market.lifts.rules import LEAST_BATCHES, MOST_BATCHES, MOST_LIFT, Reported
from market.projects.models import Project
from market.projects.queries import project
from market.submissions.models import Submission

PAGE = 25
SHOWN = 40
"""Contributors that the picture shows; the table has all."""

HOMES = {Part.LAB: "/console/lab/lift", Part.OPS: "/console/ops/signals/lift"}


def lift_chart(study: LiftStudy, effects: list[LiftEffect]) -> Chart:
    """How much more an item of each contributor adds than the average item, with its interval."""
    people = [one for one in effects if one.expert_id is not None][:SHOWN]
    sure = sum(one.low > 0 or one.high < 0 for one in people)
    sentence = (
        f"Of {len(people)} contributors {sure} differ from the average item beyond doubt."
        if people
        else "Nothing is estimated before five batches are reported, the empty one among them."
    )
    rows = [(float(n), one.relative, one.low, one.high) for n, one in enumerate(people)]
    return Chart(
        f"Lift in {study.metric}",
        sentence,
        "Contributors, the greatest lift first",
        "More than the average item",
        (bounded("Lift", rows, "points"),) if rows else (),
        tuple(str(n + 1) for n in range(len(people))),
        y_unit="share",
        level_line="the average item" if rows else "",
    )


def get_list(request: Request[Any, Any, Any], cursor: FromQuery[str | None] = None) -> Template:
    """All studies that the visitor may see, newest first."""
    principal = principal_of_request(request)
    with database.begin() as session:
        rows, following = page_of(
            session,
            select(LiftStudy),
            LiftStudy.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"{principal.tenant} lift studies",
        )
        names = select(Project).where(Project.id.in_({one.project_id for one in rows}))
        return page(
            request,
            "lift_studies.html",
            rows=rows,
            following=following,
            projects={one.id: one for one in session.scalars(names)},
            home=HOMES[principal.part],
            is_lab=principal.part is Part.LAB,
        )


@get("/projects/{project_id:str}/lift", guards=LAB, sync_to_thread=True)
def get_of_project(request: Request[Any, Any, Any], project_id: FromPath[str]) -> Template:
    """The studies of a project, and the form that draws the next one."""
    return _of_project(request, read_id("prj", project_id))


def _of_project(
    request: Request[Any, Any, Any],
    project_id: UUID,
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    with database.begin() as session:
        found = project(session, project_id)
        rows = session.scalars(lift_studies(found.id).order_by(LiftStudy.id.desc()).limit(PAGE))
        return page(
            request,
            "lab/lift.html",
            status=status,
            notice=notice,
            project=found,
            rows=rows.all(),
            home=HOMES[Part.LAB],
            least=LEAST_BATCHES,
            most=MOST_BATCHES,
            typed=typed or {},
        )


@post("/projects/{project_id:str}/lift", guards=LAB, sync_to_thread=True, status_code=303)
def post_study(
    request: Request[Any, Any, Any], project_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Deal what was accepted into batches at random."""
    found_id = read_id("prj", project_id)

    def act() -> str:
        with database.begin() as session:
            # Whether it is the visitor's; what is accepted is read as the platform.
            owner = project(session, found_id)
        with database.begin(PLATFORM) as session:
            made = draw_lift_study(
                session,
                owner,
                metric=field(data, "metric"),
                is_higher_better=data.get("better") != "lower",
                batches=whole_number(
                    data, "batches", "batches", least=LEAST_BATCHES, most=MOST_BATCHES, absent=24
                ),
                again=data.get("again") == "yes",
                by=my_id(request),
                at=now(),
            )
            return f"{HOMES[Part.LAB]}/{wire_id('lft', made.id)}?said=drawn"

    return tried(data, act, partial(_of_project, request, found_id, typed=data))


def get_one(request: Request[Any, Any, Any], study_id: FromPath[str]) -> Template:
    """One study: its batches, what was reported of each, and what it came to."""
    return _one(request, read_id("lft", study_id))


def _one(
    request: Request[Any, Any, Any],
    study_id: UUID,
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    part = principal_of_request(request).part
    with database.begin() as session:
        study = lift_study(session, study_id)
        effects = list(effects_of(session, study.id))
        return page(
            request,
            "lift_study.html",
            status=status,
            notice=notice,
            study=study,
            project=session.get(Project, study.project_id),
            batches=batches_of(session, study.id),
            told=latest_reports(session, study.id),
            people=[one for one in effects if one.expert_id is not None],
            domains=[one for one in effects if one.domain is not None],
            chart=lift_chart(study, effects),
            most_lift=MOST_LIFT,
            home=HOMES[part],
            is_lab=part is Part.LAB,
            typed=typed or {},
        )


def get_picture(
    study_id: FromPath[str],
    scheme: FromQuery[str] = "light",
    v: FromQuery[str | None] = None,
) -> Response[bytes]:
    """The lift of each contributor."""
    with database.begin() as session:
        study = lift_study(session, read_id("lft", study_id))
        chart = lift_chart(study, list(effects_of(session, study.id)))
    return picture(chart, scheme, v)


@post("/lift/{study_id:str}", guards=LAB, sync_to_thread=True, status_code=303)
def post_reports(
    request: Request[Any, Any, Any], study_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Report what was found with batches; what is typed over a report corrects it."""
    found_id = read_id("lft", study_id)

    def act() -> str:
        with database.begin() as session:
            # Whether it is the visitor's.
            study = lift_study(session, found_id)
        rows = [
            Reported(read_id("lfb", name), _metric(value), corrects=True)
            for name, value in data.items()
            if name.startswith("lfb_") and value.strip()
        ]
        if not rows:
            raise FormUnreadable("fill in the metric of a batch at least")
        with database.begin(PLATFORM) as session:
            report_lift(session, study.id, rows, by=my_id(request), at=now())
        return f"{HOMES[Part.LAB]}/{study_id}?said=reported"

    return tried(data, act, partial(_one, request, found_id, typed=data))


def _metric(value: str) -> float:
    try:
        return float(value.strip())
    except ValueError:
        raise FormUnreadable("a metric is a number, such as 0.734") from None


@get("/lift-batches/{batch_id:str}/items.jsonl", guards=LAB, sync_to_thread=True)
def get_items(batch_id: FromPath[str]) -> Response[bytes]:
    """The items of a batch, to train on; whose they are is not said."""
    with database.begin() as session:
        found = lift_batch(session, read_id("lfb", batch_id))
        lines = [
            msgspec.json.encode(item_out(*one))
            for one in session.execute(items_of(found.id).order_by(Submission.id))
        ]
    kept = {**HEADERS, "Content-Disposition": f'attachment; filename="batch-{found.number}.jsonl"'}
    return Response(
        b"".join(line + b"\n" for line in lines), media_type="application/x-ndjson", headers=kept
    )


LAB_ROUTES: list[HTTPRouteHandler] = [
    get("/lift", guards=LAB, sync_to_thread=True)(get_list),
    get("/lift/{study_id:str}", guards=LAB, sync_to_thread=True)(get_one),
    get("/lift/{study_id:str}/lift.svg", guards=LAB, sync_to_thread=True)(get_picture),
    get_of_project,
    post_study,
    post_reports,
    get_items,
]
OPS_ROUTES: list[HTTPRouteHandler] = [
    get("/signals/lift", guards=OPS, sync_to_thread=True)(get_list),
    get("/signals/lift/{study_id:str}", guards=OPS, sync_to_thread=True)(get_one),
    get("/signals/lift/{study_id:str}/lift.svg", guards=OPS, sync_to_thread=True)(get_picture),
]
