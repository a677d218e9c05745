"""Why a run put somebody on a task, or did not; why a seat stayed open, or somebody idle."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from market.console.frame import Notice, back_to, page
from market.console.visitors import OPS, my_id
from market.db import database, now
from market.experts.models import Expert
from market.explanations.queries import hindrances, recorded
from market.explanations.rules import explain, idle_expert_told, open_seat_told
from market.http import NotFound, read_id
from market.people.models import Person
from market.runs.actions import cancel_run, request_check
from market.runs.models import MatchingRun
from market.runs.queries import run as matching_run
from market.tasks.models import Task

if TYPE_CHECKING:
    from matching.ranking import RankChange

COMPARABLE = 20
"""Earlier runs that a page offers to compare with."""


def _task(session: Session, text: str, run: MatchingRun) -> Task | None:
    """The task that a reader means: by its id, or by the name that its lab gave it."""
    try:
        return session.get(Task, read_id("tsk", text))
    except NotFound:
        wanted = select(Task).where(Task.external_id == text)
        if run.project_id is not None:
            wanted = wanted.where(Task.project_id == run.project_id)
        return session.scalars(wanted.order_by(Task.id.desc()).limit(1)).first()


def _person(session: Session, text: str) -> Person | None:
    """The expert that a reader means: by id, e-mail address or name."""
    wanted: Any
    try:
        wanted = Person.id == read_id("per", text)
    except NotFound:
        wanted = or_(func.lower(Person.email) == text.lower(), Person.name == text)
    statement = select(Person).join(Expert, Expert.id == Person.id).where(wanted)
    return session.scalars(statement.order_by(Person.id).limit(1)).first()


@get("/runs/{run_id:str}/why", guards=OPS, sync_to_thread=True)
def get_why(
    request: Request[Any, Any, Any],
    run_id: FromPath[str],
    task: FromQuery[str] = "",
    expert: FromQuery[str] = "",
    against: FromQuery[str] = "",
) -> Template:
    """Ask a run about a pair, a task or an expert; `against` is an earlier run, by which the pair's
    change of rank is told. The address can be sent to a colleague.
    """
    with database.begin() as session:
        run = matching_run(session, read_id("mrn", run_id))
        found_task = _task(session, task.strip(), run) if task.strip() else None
        found_person = _person(session, expert.strip()) if expert.strip() else None
        missing = [
            f"no {kind} is called {typed[:80]}"
            for kind, typed, found in (
                ("task", task.strip(), found_task),
                ("expert", expert.strip(), found_person),
            )
            if typed and found is None
        ]
        notice = Notice(f"There is {'; '.join(missing)}.", "bad") if missing else None
        return page(
            request,
            "ops/why.html",
            status=404 if missing else 200,
            notice=notice,
            run=run,
            task=task,
            expert=expert,
            found_task=found_task,
            found_person=found_person,
            against=against,
            earlier=_earlier(session, run),
            rank=_rank_change(session, run, against, found_task, found_person),
            **_told(
                session,
                run.id,
                found_task.id if found_task else None,
                found_person.id if found_person else None,
            ),
        )


def _earlier(session: Session, run: MatchingRun) -> list[MatchingRun]:
    """Runs before this one that kept what they saw, the newest first."""
    wanted = select(MatchingRun).where(MatchingRun.state == "succeeded", MatchingRun.id < run.id)
    return list(session.scalars(wanted.order_by(MatchingRun.id.desc()).limit(COMPARABLE)))


def _rank_change(
    session: Session, run: MatchingRun, against: str, task: Task | None, person: Person | None
) -> "RankChange | str | None":
    """How a pair's rank moved since an earlier run, or why that cannot be told; none, if nobody
    asked.
    """
    from matching.ranking import rank_change

    if not against or task is None or person is None:
        return None
    files = [
        recorded(session, one.id) for one in (matching_run(session, read_id("mrn", against)), run)
    ]
    pairs = [explain(file, task.id, person.id) for file in files]
    if pairs[0] is None or pairs[1] is None:
        return "one of the two runs did not look at this pair"
    then, later = (
        (file.problem, file.value, pair.pair)
        for file, pair in zip(files, (pairs[0], pairs[1]), strict=True)
    )
    return rank_change(then, later)


def _told(
    session: Session, run_id: UUID, task_id: UUID | None, expert_id: UUID | None
) -> dict[str, object]:
    """What the run's own record says of what was asked about."""
    told: dict[str, object] = {
        "pair": None,
        "parts": [],
        "seat": None,
        "idle": None,
        "conditions": [],
        "asked": False,
    }
    if task_id is None and expert_id is None:
        return told
    file = recorded(session, run_id)
    told["asked"] = True
    if task_id is not None:
        told["seat"] = open_seat_told(file, task_id)
    if expert_id is not None:
        told["idle"] = idle_expert_told(file, expert_id)
    if task_id is not None and expert_id is not None:
        pair = explain(file, task_id, expert_id)
        told["pair"] = pair
        if pair is None:
            told["conditions"] = hindrances(session, task_id, expert_id, at=now()) or []
        else:
            told["parts"] = [
                (
                    part.name,
                    part.weight,
                    float(part.measured[pair.pair]),
                    float(part.weighed[pair.pair]),
                )
                for part in file.value.parts
            ]
    return told


@post("/runs/{run_id:str}/check", guards=OPS, sync_to_thread=True, status_code=303)
def post_check(request: Request[Any, Any, Any], run_id: FromPath[str]) -> Redirect:
    """Solve a run once more from what it kept, to see whether the answer is the same."""
    me = my_id(request)
    with database.begin() as session:
        request_check(session, read_id("mrn", run_id), requested_by=me, at=now())
    return back_to(f"/console/ops/runs/{run_id}", "checking")


@post("/runs/{run_id:str}/cancel", guards=OPS, sync_to_thread=True, status_code=303)
def post_cancel(request: Request[Any, Any, Any], run_id: FromPath[str]) -> Redirect:
    """Stop a run; it leaves no offer."""
    me = my_id(request)
    with database.begin() as session:
        cancel_run(session, read_id("mrn", run_id), at=now(), actor_id=me)
    return back_to(f"/console/ops/runs/{run_id}", "run-cancelled")


ROUTES: list[HTTPRouteHandler] = [get_why, post_check, post_cancel]
