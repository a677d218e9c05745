"""Lift studies over HTTP: draw batches, download them, report what they did, read the outcome."""

from datetime import datetime
from typing import Annotated, Any

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta
from sqlalchemy.orm import Session

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.fixes.models import SubmissionFix
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    get,
    listed,
    post,
    read_id,
    wire_id,
    wire_ids,
)
from market.lifts.actions import draw_lift_study, report_lift
from market.lifts.models import LiftStudy
from market.lifts.queries import (
    batches_of,
    effects_of,
    items_of,
    latest_reports,
    lift_batch,
    lift_studies,
    lift_study,
)
from market.lifts.rules import MOST_ROWS, Reported
from market.projects.queries import project
from market.submissions.models import Submission
from market.tasks.models import Task


class LiftStudyIn(Wire):
    """What is measured, and into how many batches to deal; `again` takes items of earlier studies
    too.
    """

    metric: str
    batches: int = 24
    is_higher_better: bool = True
    again: bool = False


class LiftBatchOut(Wire):
    """A batch to train on; number 0 has no items. `value` is what was reported of it last."""

    id: str
    number: int
    items: int
    value: float | None
    reports: int
    reported_at: datetime | None


class LiftEffectOut(Wire):
    """What an item of one contributor, or of one domain, adds.

    Units: `added` in the metric with its standard deviation; `relative` how much more than the
        average item, as a share of it, with the interval of nine tenths.
    """

    expert_id: str | None
    domain: str | None
    items: int
    batches: int
    added: float
    added_sd: float
    relative: float
    low: float
    high: float


class LiftStudyOut(Wire):
    """A study: how it was drawn, and how many of its batches were reported."""

    id: str
    project_id: str
    metric: str
    is_higher_better: bool
    seed: int
    items: int
    batches: int
    reports: int
    drawn_at: datetime
    estimated_at: datetime | None


class LiftReportOut(LiftStudyOut):
    """A study with its batches and, once five of them were reported, what items added.

    Units: `common`, what an item adds on the average, and `noise`, of a batch, in the metric.
    """

    common: float | None
    common_sd: float | None
    noise: float | None
    batch: list[LiftBatchOut]
    effects: list[LiftEffectOut]


class LiftItemOut(Wire):
    """An item of a batch, as it was delivered: the words of its author, or the fix that stood."""

    submission_id: str
    external_id: str
    domain: str
    complexity: int
    payload: dict[str, Any]


class LiftRowIn(Wire):
    """The metric after training on a batch; `corrects` replaces what was reported of it before."""

    batch_id: str
    value: float
    corrects: bool = False


class LiftRowsIn(Wire):
    """What was found with batches of one study."""

    rows: Annotated[tuple[LiftRowIn, ...], Meta(min_length=1, max_length=MOST_ROWS)]


class LiftRowOut(Wire):
    """What became of one row, by its place."""

    row: int
    batch_id: str
    verdict: str
    code: str | None
    detail: str | None


class LiftRowsOut(Wire):
    """A verdict for each row."""

    created: int
    unchanged: int
    corrected: int
    conflicts: int
    rejected: int
    rows: list[LiftRowOut]


@post(
    "/projects/{project_id:str}/lift-studies",
    scope="project:write",
    status_code=HTTP_201_CREATED,
    keyed="required",
    tags=["Lift"],
)
def post_lift_study(
    project_id: FromPath[str], data: JSONBody[LiftStudyIn], principal: NamedDependency[Principal]
) -> LiftStudyOut:
    """Deal a project's accepted items into batches at random. Train on each batch alone, and once
    on none, and report the metric of each; then what an item of each contributor adds is known.
    """
    with database.begin() as session:
        # Whether it is the caller's; what is accepted is read as the platform.
        owner = project(session, read_id("prj", project_id))
    with database.begin(PLATFORM) as session:
        made = draw_lift_study(
            session,
            owner,
            metric=data.metric,
            is_higher_better=data.is_higher_better,
            batches=data.batches,
            again=data.again,
            by=principal.person_id,
            at=now(),
        )
        return LiftStudyOut(**_fields(made))


@get("/projects/{project_id:str}/lift-studies", scope="project:read", tags=["Lift"])
def get_lift_studies(
    project_id: FromPath[str],
    principal: NamedDependency[Principal],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[LiftStudyOut]:
    """The lift studies of a project, newest first."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        return listed(
            session,
            lift_studies(found.id),
            LiftStudy.id,
            lambda row: LiftStudyOut(**_fields(row)),
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|lift-studies|{found.id}",
        )


@get("/lift-studies/{study_id:str}", scope="project:read", tags=["Lift"])
def get_lift_study(study_id: FromPath[str]) -> LiftReportOut:
    """One study: its batches, what was reported, and what items of each contributor and domain
    added.
    """
    with database.begin() as session:
        return _report(session, lift_study(session, read_id("lft", study_id)))


@get("/lift-batches/{batch_id:str}/items", scope="project:read", tags=["Lift"])
def get_lift_items(
    batch_id: FromPath[str],
    principal: NamedDependency[Principal],
    limit: Limit = 200,
    cursor: Cursor = None,
) -> Page[LiftItemOut]:
    """The items of one batch, to train on, oldest first; whose they are is not said."""
    with database.begin() as session:
        found = lift_batch(session, read_id("lfb", batch_id))
        return listed(
            session,
            items_of(found.id),
            Submission.id,
            lambda one: item_out(*one),
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|lift-items|{found.id}",
            newest_first=False,
        )


@post(
    "/lift-studies/{study_id:str}/reports",
    scope="project:write",
    status_code=HTTP_200_OK,
    keyed="required",
    tags=["Lift"],
)
def post_lift_reports(
    study_id: FromPath[str], data: JSONBody[LiftRowsIn], principal: NamedDependency[Principal]
) -> LiftRowsOut:
    """Report the metric of batches, each row with its verdict; the same row again changes nothing.

    From five reports on, that of the empty batch among them, it is estimated what items added.
    """
    with database.begin() as session:
        # Whether it is the caller's.
        found = lift_study(session, read_id("lft", study_id))
    rows = [Reported(read_id("lfb", one.batch_id), one.value, one.corrects) for one in data.rows]
    with database.begin(PLATFORM) as session:
        verdicts = report_lift(session, found.id, rows, by=principal.person_id, at=now())
    count = [one.verdict for one in verdicts].count
    return LiftRowsOut(
        created=count("created"),
        unchanged=count("unchanged"),
        corrected=count("corrected"),
        conflicts=count("conflict"),
        rejected=count("rejected"),
        rows=[
            LiftRowOut(
                row=number,
                batch_id=row.batch_id,
                verdict=one.verdict,
                code=one.code,
                detail=one.detail,
            )
            for number, (row, one) in enumerate(zip(data.rows, verdicts, strict=True), start=1)
        ],
    )


def item_out(row: Submission, task: Task, fix: SubmissionFix | None) -> LiftItemOut:
    """An item of a batch as it travels."""
    return LiftItemOut(
        submission_id=wire_id("sub", row.id),
        external_id=task.external_id,
        domain=task.domain,
        complexity=task.complexity,
        payload=row.payload if fix is None else fix.payload,
    )


def _fields(row: LiftStudy) -> dict[str, Any]:
    return {
        "id": wire_id("lft", row.id),
        "project_id": wire_id("prj", row.project_id),
        "metric": row.metric,
        "is_higher_better": row.is_higher_better,
        "seed": row.seed,
        "items": row.items,
        "batches": row.batches,
        "reports": row.reports,
        "drawn_at": row.drawn_at,
        "estimated_at": row.estimated_at,
    }


def _report(session: Session, row: LiftStudy) -> LiftReportOut:
    told = latest_reports(session, row.id)
    return LiftReportOut(
        **_fields(row),
        common=row.common,
        common_sd=row.common_sd,
        noise=row.noise,
        batch=[
            LiftBatchOut(
                id=wire_id("lfb", one.id),
                number=one.number,
                items=one.items,
                value=told[one.id].value if one.id in told else None,
                reports=told[one.id].number if one.id in told else 0,
                reported_at=told[one.id].reported_at if one.id in told else None,
            )
            for one in batches_of(session, row.id)
        ],
        effects=[
            LiftEffectOut(
                expert_id=wire_ids("per", one.expert_id),
                domain=one.domain,
                items=one.items,
                batches=one.batches,
                added=one.added,
                added_sd=one.added_sd,
                relative=one.relative,
                low=one.low,
                high=one.high,
            )
            for one in effects_of(session, row.id)
        ],
    )


ROUTES: list[HTTPRouteHandler] = [
    post_lift_study,
    get_lift_studies,
    get_lift_study,
    get_lift_items,
    post_lift_reports,
]
