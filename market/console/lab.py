"""Pages of a lab: its projects, how far each is, what it found, and what it cost."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Template
from sqlalchemy import Integer, cast, func, select
from sqlalchemy.orm import Session

from market.alarms.queries import open_spreads
from market.caps.queries import cap_use
from market.caps.rules import cap_told
from market.console.charts import picture
from market.console.frame import page
from market.console.signals import frontier
from market.console.visitors import LAB, my_lab
from market.db import PLATFORM, database, now
from market.fundings.queries import LabMoney, ProjectMoney, lab_money
from market.http import page_of, read_id
from market.impact.queries import project_spread
from market.inbox.queries import feedback
from market.projects.models import Project, TargetModel
from market.projects.queries import project
from market.projects.rules import PROJECT
from market.submissions.models import Submission
from market.tasks.models import Task
from market.tasks.queries import rungs
from market.verdicts.models import Verdict
from market.verdicts.queries import progress
from market.verdicts.rules import Share, wilson

PAGE = 25
FEEDBACK_OVER = timedelta(days=28)
DONE = ("accepted", "delivered")
MOVING = ("active", "in_review", "disputed")
MOVES = (("pause", "Pause"), ("resume", "Resume"), ("drain", "Close when done"))


def _task_counts(session: Session, project_ids: list[UUID]) -> dict[UUID, dict[str, int]]:
    rows = session.execute(
        select(Task.project_id, Task.state, func.count())
        .where(Task.project_id.in_(project_ids))
        .group_by(Task.project_id, Task.state)
    )
    found: dict[UUID, dict[str, int]] = {one: {} for one in project_ids}
    for project_id, state, number in rows:
        found[project_id][state] = number
    return found


def _shares(session: Session, project_ids: list[UUID]) -> dict[UUID, tuple[Share, Share]]:
    """The validated share and the stump rate of projects, from verdicts and never from counters."""
    rows = session.execute(
        select(
            Verdict.project_id,
            func.count(),
            func.sum(cast(Verdict.is_validated, Integer)),
            func.sum(cast(Verdict.is_stump, Integer)),
        )
        .where(Verdict.project_id.in_(project_ids), Verdict.is_tested)
        .group_by(Verdict.project_id)
    )
    found = {
        one: (wilson(int(valid), int(whole)), wilson(int(stumps), int(whole)))
        for one, whole, valid, stumps in rows
    }
    nothing = (wilson(0, 0), wilson(0, 0))
    return {one: found.get(one, nothing) for one in project_ids}


def _progress(counts: dict[str, int]) -> dict[str, object]:
    total = sum(counts.values())
    done = sum(counts.get(state, 0) for state in DONE)
    moving = sum(counts.get(state, 0) for state in MOVING)
    waiting = counts.get("queued", 0) + counts.get("draft", 0)
    return {
        "total": total,
        "done": done,
        "moving": moving,
        "waiting": waiting,
        "other": total - done - moving - waiting,
    }


def _money_by_project(money: list[LabMoney]) -> dict[UUID, ProjectMoney]:
    return {line.project_id: line for one in money for line in one.projects}


@get("/", guards=LAB, sync_to_thread=True)
def get_projects(request: Request[Any, Any, Any]) -> Template:
    """Every project of the lab, at a glance."""
    with database.begin() as session:
        found = session.scalars(select(Project).order_by(Project.id.desc()).limit(PAGE)).all()
        ids = [one.id for one in found]
        counts, shares = _task_counts(session, ids), _shares(session, ids)
        money = _money_by_project(lab_money(session, my_lab(request)))
        cards = [
            {
                "project": one,
                "progress": _progress(counts[one.id]),
                "stumps": shares[one.id][1],
                "money": money.get(one.id),
            }
            for one in found
        ]
        return page(request, "lab/projects.html", cards=cards)


@get("/projects/{project_id:str}", guards=LAB, sync_to_thread=True)
def get_project(
    request: Request[Any, Any, Any],
    project_id: FromPath[str],
    cursor: FromQuery[str | None] = None,
) -> Template:
    """One project: speed, volume, quality, spend, and the stumps found so far."""
    found_id, at = read_id("prj", project_id), now()
    # As the platform, since what people have read is their own; only quantiles are shown, and only
    # to the lab whose project it is.
    with database.begin(PLATFORM) as session:
        heard = feedback(session, found_id, since=at - FEEDBACK_OVER)
        cap_said = cap_told(cap_use(session, project(session, found_id)))
    with database.begin() as session:
        found = project(session, found_id)
        validated, stumps = _shares(session, [found.id])[found.id]
        decided = session.execute(
            select(
                func.count(),
                func.percentile_cont(0.5).within_group(
                    func.extract("epoch", Verdict.decided_at - Submission.submitted_at)
                ),
            )
            .join(Submission, Submission.id == Verdict.submission_id)
            .where(Verdict.project_id == found.id)
        ).one()
        tasks, following = page_of(
            session,
            select(Task).where(Task.project_id == found.id),
            Task.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"tasks {found.id}",
            newest_first=False,
        )
        verdicts = session.execute(
            select(Verdict, Task.external_id)
            .join(Task, Task.id == Verdict.task_id)
            .where(Verdict.project_id == found.id)
            .order_by(Verdict.decided_at.desc())
            .limit(8)
        ).all()
        model = session.get(TargetModel, found.target_model_id) if found.target_model_id else None
        money = _money_by_project(lab_money(session, my_lab(request))).get(found.id)
        return page(
            request,
            "lab/project.html",
            cap_said=cap_said,
            project=found,
            model=model,
            progress=_progress(_task_counts(session, [found.id])[found.id]),
            validated=validated,
            stumps=stumps,
            decided=int(decided[0]),
            median_s=None if decided[1] is None else int(decided[1]),
            money=money,
            verdicts=verdicts,
            tasks=tasks,
            following=following,
            seen=progress(session, found.id, at=at),
            heard=heard,
            moves=[one for one in MOVES if one[0] in PROJECT.allowed(found.state)],
        )


@get("/projects/{project_id:str}/stump-rate", guards=LAB, sync_to_thread=True)
def get_stump_rate(request: Request[Any, Any, Any], project_id: FromPath[str]) -> Template:
    """How often the target model fails, by field and level, and how unlike the items are."""
    with database.begin() as session:
        found_id = project(session, read_id("prj", project_id)).id
    # As the platform, since what an item was credited is its author's; what the set is is not.
    with database.begin(PLATFORM) as session:
        spread = project_spread(session, found_id)
        alarmed = open_spreads(session, found_id).get(None)
    with database.begin() as session:
        found = project(session, found_id)
        validated, stumps = _shares(session, [found.id])[found.id]
        return page(
            request,
            "lab/stump_rate.html",
            project=found,
            validated=validated,
            stumps=stumps,
            frontier=frontier(session, found.id),
            spread=spread,
            alarmed=alarmed,
            rungs=rungs(session, found.id),
        )


@get("/projects/{project_id:str}/stump-rate.svg", guards=LAB, sync_to_thread=True)
def get_stump_rate_picture(
    project_id: FromPath[str], scheme: FromQuery[str] = "light", v: FromQuery[str | None] = None
) -> Response[bytes]:
    """The picture of a project's stump rates, week by week."""
    with database.begin() as session:
        chart = frontier(session, project(session, read_id("prj", project_id)).id).chart
    return picture(chart, scheme, v)


ROUTES: list[HTTPRouteHandler] = [
    get_projects,
    get_project,
    get_stump_rate,
    get_stump_rate_picture,
]
