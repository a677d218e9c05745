"""Pages of ops: the market today, runs and why, offers, experts, money, queues."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market.broker import QUEUES, DeadLetter, queue_depth_rows
from market.console.forms import Form
from market.console.frame import back_to, page
from market.console.people import people_like
from market.console.targets import queue_targets_told
from market.console.visitors import OPS, FormUnreadable
from market.db import database, now
from market.events import EventRow
from market.experts.models import Expert, ExpertDomain
from market.experts.queries import tiers_of
from market.explanations.rules import OPEN_WORDS
from market.http import page_of, principal_of_request, read_id, wire_id
from market.offers.models import Offer
from market.operations import Operation
from market.people.models import Organisation
from market.people.queries import names_of
from market.policies.models import PolicyVersion
from market.projects.models import Project
from market.reviews.models import Review
from market.runs.actions import request_run
from market.runs.models import MatchingRun, OpenSeat
from market.runs.queries import run as matching_run
from market.targets.queries import pools
from market.tasks.models import Task, TaskSlot
from market.work.models import WorkSession
from payouts.models import Payout

PAGE = 50


def _number(session: Session, statement: Any) -> int:
    return int(session.scalar(statement) or 0)


def _rows(model: Any, *conditions: Any) -> Any:
    return select(func.count()).select_from(model).where(*conditions)


@get("/", guards=OPS, sync_to_thread=True)
def get_today(request: Request[Any, Any, Any]) -> Template:
    """The market at this moment."""
    at = now()
    with database.begin() as session:
        open_seats = _number(
            session,
            select(func.count())
            .select_from(TaskSlot)
            .join(Task, Task.id == TaskSlot.task_id)
            .join(Project, Project.id == Task.project_id)
            .where(TaskSlot.state == "open", Project.state == "live"),
        )
        figures = {
            "live_projects": _number(session, _rows(Project, Project.state == "live")),
            "open_seats": open_seats,
            "offers_waiting": _number(
                session, _rows(Offer, Offer.state == "pending", Offer.expires_at > at)
            ),
            "at_work": _number(
                session, _rows(WorkSession, WorkSession.state.in_(("running", "idle")))
            ),
            "reviews_waiting": _number(session, _rows(Review, Review.state == "queued")),
            "payouts_held": _number(session, _rows(Payout, Payout.state == "held")),
            "outbox": _number(session, _rows(EventRow, EventRow.relayed_at.is_(None))),
            "dead_letters": _number(session, _rows(DeadLetter, DeadLetter.settled_at.is_(None))),
        }
        runs = session.execute(_run_rows().limit(6)).all()
        projects = session.execute(
            select(Project, Organisation.name)
            .join(Organisation, Organisation.id == Project.organisation_id)
            .where(Project.state.not_in(("closed", "archived", "cancelled")))
            .order_by(Project.id.desc())
            .limit(8)
        ).all()
        recent = session.execute(
            select(EventRow.type, EventRow.at).order_by(EventRow.id.desc()).limit(200)
        ).all()
        return page(
            request,
            "ops/today.html",
            figures=figures,
            runs=runs,
            projects=projects,
            left_open=_left_open(session),
            recent=_grouped([(kind, at) for kind, at in recent])[:8],
        )


@dataclass(frozen=True, slots=True)
class Happened:
    """Events of one kind that came one after another, and when the last of them was."""

    kind: str
    number: int
    at: datetime


def _grouped(recent: list[tuple[str, datetime]]) -> list[Happened]:
    """Events by kind, the kind that came last at the head."""
    found: dict[str, Happened] = {}
    for kind, at in recent:
        known = found.get(kind)
        found[kind] = Happened(kind, known.number + 1, known.at) if known else Happened(kind, 1, at)
    return list(found.values())


def _left_open(session: Session) -> list[tuple[str, int]]:
    """Why seats stayed open in the latest run over the market or a project: the rule, how many."""
    latest = session.scalar(
        select(MatchingRun.id)
        .where(MatchingRun.state == "succeeded")
        .order_by(MatchingRun.id.desc())
        .limit(1)
    )
    rows = session.execute(
        select(OpenSeat.rule, func.sum(OpenSeat.seats))
        .where(OpenSeat.run_id == latest)
        .group_by(OpenSeat.rule)
        .order_by(func.sum(OpenSeat.seats).desc())
    )
    return [(OPEN_WORDS.get(rule, rule), int(seats)) for rule, seats in rows]


def _run_rows() -> Any:
    return (
        select(MatchingRun, PolicyVersion.name, Project.name)
        .join(PolicyVersion, PolicyVersion.id == MatchingRun.policy_id)
        .outerjoin(Project, Project.id == MatchingRun.project_id)
        .order_by(MatchingRun.id.desc())
    )


@get("/runs", guards=OPS, sync_to_thread=True)
def get_runs(request: Request[Any, Any, Any], said: FromQuery[str | None] = None) -> Template:
    """The latest matching runs, and the way to ask for one."""
    del said
    with database.begin() as session:
        runs = session.execute(_run_rows().limit(PAGE)).all()
        projects = session.scalars(
            select(Project).where(Project.state == "live").order_by(Project.name)
        ).all()
        policies = session.scalars(
            select(PolicyVersion).order_by(PolicyVersion.name, PolicyVersion.id.desc())
        ).all()
        return page(request, "ops/runs.html", runs=runs, projects=projects, policies=policies)


@post("/runs", guards=OPS, sync_to_thread=True, status_code=303)
def post_run(request: Request[Any, Any, Any], data: Form) -> Redirect:
    """Ask for a matching run."""
    principal = principal_of_request(request)
    project, policy = data.get("project") or None, data.get("policy") or None
    seed = data.get("seed", "").strip()
    if seed and not (seed.isdecimal() and len(seed) < 19):
        raise FormUnreadable("a seed is a whole number, or nothing")
    with database.begin() as session:
        run, _ = request_run(
            session,
            at=now(),
            requested_by=principal.person_id,
            project_id=read_id("prj", project) if project else None,
            policy_id=read_id("plc", policy) if policy else None,
            seed=int(seed) if seed else None,
        )
        run_id = run.id
    return back_to(f"/console/ops/runs/{wire_id('mrn', run_id)}", "requested")


@get("/runs/{run_id:str}", guards=OPS, sync_to_thread=True)
def get_run(
    request: Request[Any, Any, Any],
    run_id: FromPath[str],
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """One run: what went in, what came out, and why each pair was chosen."""
    del said
    found_id = read_id("mrn", run_id)
    with database.begin() as session:
        run = matching_run(session, found_id)
        policy = session.get_one(PolicyVersion, run.policy_id)
        project = session.get(Project, run.project_id) if run.project_id else None
        operation = session.scalar(
            select(Operation)
            .where(Operation.subject_id == run.id)
            .order_by(Operation.id.desc())
            .limit(1)
        )
        offers, following = page_of(
            session,
            select(Offer).where(Offer.run_id == run.id),
            Offer.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"run {run.id}",
            newest_first=False,
        )
        seats = session.execute(
            select(OpenSeat, Task.external_id)
            .join(Task, Task.id == OpenSeat.task_id)
            .where(OpenSeat.run_id == run.id)
            .order_by(Task.external_id)
            .limit(PAGE)
        ).all()
        return page(
            request,
            "ops/run.html",
            run=run,
            policy=policy,
            project=project,
            operation=operation,
            offers=_named(session, offers),
            following=following,
            seats=seats,
        )


def _named(session: Session, offers: list[Offer]) -> list[dict[str, object]]:
    """Offers with the names of their expert and task."""
    people = names_of(session, [offer.expert_id for offer in offers])
    tasks = dict(
        session.execute(
            select(Task.id, Task.external_id).where(Task.id.in_([o.task_id for o in offers]))
        ).all()
    )
    return [
        {"offer": o, "expert": people.get(o.expert_id, ""), "task": tasks.get(o.task_id, "")}
        for o in offers
    ]


@get("/offers", guards=OPS, sync_to_thread=True)
def get_offers(
    request: Request[Any, Any, Any],
    of: FromQuery[str | None] = None,
    cursor: FromQuery[str | None] = None,
) -> Template:
    """Offers, newest first, by state."""
    with database.begin() as session:
        counts = dict(
            session.execute(select(Offer.state, func.count()).group_by(Offer.state)).all()
        )
        wanted = select(Offer) if of is None else select(Offer).where(Offer.state == of)
        offers, following = page_of(
            session, wanted, Offer.id, limit=PAGE, cursor=cursor, filters=f"state {of}"
        )
        return page(
            request,
            "ops/offers.html",
            offers=_named(session, offers),
            following=following,
            counts=counts,
            chosen=of,
        )


@get("/experts", guards=OPS, sync_to_thread=True)
def get_experts(
    request: Request[Any, Any, Any],
    q: FromQuery[str] = "",
    cursor: FromQuery[str | None] = None,
) -> Template:
    """Who could work, and on what; or whoever has a text in its name or address."""
    sought = q.strip()[:200]
    with database.begin() as session:
        found, following = page_of(
            session, select(Expert), Expert.id, limit=PAGE, cursor=cursor, filters="experts"
        )
        ids = [expert.id for expert in found]
        names = names_of(session, ids)
        tiers = tiers_of(session, ids, now())
        domains: dict[UUID, list[str]] = {}
        for row in session.scalars(select(ExpertDomain).where(ExpertDomain.expert_id.in_(ids))):
            domains.setdefault(row.expert_id, []).append(row.domain)
        rows = [
            {
                "expert": expert,
                "name": names.get(expert.id, ""),
                "tier": tiers.get(expert.id, "–"),
                "domains": domains.get(expert.id, []),
            }
            for expert in found
        ]
        total = _number(session, _rows(Expert))
        return page(
            request,
            "ops/experts.html",
            rows=rows,
            following=following,
            total=total,
            sought=sought,
            people=people_like(session, sought) if sought else [],
        )


@get("/queues", guards=OPS, sync_to_thread=True)
def get_queues(request: Request[Any, Any, Any]) -> Template:
    """What waits to be done by machines, and what failed for good."""
    with database.begin() as session:
        outbox = _number(session, _rows(EventRow, EventRow.relayed_at.is_(None)))
        depths = queue_depth_rows(session)
        dead = session.scalars(
            select(DeadLetter)
            .where(DeadLetter.settled_at.is_(None))
            .order_by(DeadLetter.id.desc())
            .limit(PAGE)
        ).all()
        return page(
            request,
            "ops/queues.html",
            outbox=outbox,
            depths=depths,
            queues=QUEUES,
            dead=dead,
            pools=pools(session, at=now(), days=7),
            wanted=queue_targets_told(session),
        )


ROUTES: list[HTTPRouteHandler] = [
    get_today,
    get_runs,
    post_run,
    get_run,
    get_offers,
    get_experts,
    get_queues,
]
