"""Matching runs over HTTP: ask for one, see what it chose and why; and long work in general."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED

from market.auth import Principal
from market.db import Json, database, now
from market.explanations.queries import hindrances, recorded
from market.explanations.rules import (
    Recorded,
    explain,
    idle_expert_told,
    open_seat_told,
)
from market.http import (
    KINDS,
    Cursor,
    Limit,
    NotFound,
    Page,
    StateFilter,
    Wire,
    get,
    listed,
    post,
    read_id,
    read_ids,
    wire_id,
    wire_ids,
)
from market.offers.models import Offer
from market.offers.queries import offers
from market.offers.routes import OfferOut, PartOut, offer_out
from market.operations import Operation, cancel_operation, operation
from market.predictions.actions import cancel_refit
from market.runs.actions import cancel_run, request_check, request_run
from market.runs.models import MatchingRun, OpenSeat
from market.runs.queries import open_seats, run, runs
from market.runs.rules import STOPPED_BY_LOOK, OperationNotCancellable

ProjectFilter = Annotated[
    str | None, QueryParameter(name="project", description="Only for this project.")
]
TaskParameter = Annotated[str, QueryParameter(name="task", description="Which task.")]
ExpertParameter = Annotated[str, QueryParameter(name="expert", description="Which expert.")]

PREFIXES = {
    **{kind: prefix for prefix, kind in KINDS.items()},
    "run_check": "mrn",
    "refit": "fit",
    "books_check": "bck",
    "payout_run_cancellation": "prn",
}


class RunIn(Wire):
    """What to match: one project or all live ones, under a policy, from a seed."""

    project_id: str | None = None
    policy_id: str | None = None
    seed: int | None = None


class RunOut(Wire):
    """A matching run: what it was asked, what it saw, and how good its answer is.

    `gap` is how far the answer may be from the best there is, as a share of `bound`; 0 is proof.
    `warm_run_id` is the earlier run whose prices the search began with.
    """

    id: str
    state: str
    project_id: str | None
    policy_id: str
    seed: str
    requested_by: str | None
    requested_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    input_digest: str | None
    warm_run_id: str | None
    answer_digest: str | None
    tasks: int
    experts: int
    pairs: int
    offers: int
    open_seats: int
    objective: float | None
    bound: float | None
    gap: float | None
    seconds: Json
    failure: str | None


class RequestedRunOut(RunOut):
    """A run just asked for, and the operation under which it can be followed."""

    operation_id: str


class OpenSeatOut(Wire):
    """Seats of a task that a run left open, and why."""

    task_id: str
    project_id: str
    seats: int
    rule: str
    sentence: str


class PriceOut(Wire):
    """One price that a pair had to beat, in units of value."""

    name: str
    amount: float


class PairOut(Wire):
    """Why a run put an expert on a task, or did not.

    A pair that the run did not look at has the rule `not eligible`, and the conditions that stand
    in its way now.
    """

    run_id: str
    task_id: str
    expert_id: str
    chosen: bool
    rule: str
    sentence: str
    conditions: list[str]
    probability: float
    value: float | None
    parts: list[PartOut]
    prices: list[PriceOut]
    margin: float | None


class SubjectOut(Wire):
    """Why a run left a task or an expert with `seats` of `seats_in_all` unfilled: what stands in
    the way of the best of its `candidates` pairs.
    """

    run_id: str
    subject_id: str
    seats: int
    seats_in_all: int
    rule: str
    candidates: int
    sentence: str


class OperationOut(Wire):
    """Long work: how far it is, and what came of it."""

    id: str
    kind: str
    subject_id: str
    state: str
    phase: str
    done: int
    total: int | None
    result: Json | None
    problem: Json | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@post("/matching-runs", scope="match:write", status_code=HTTP_202_ACCEPTED, tags=["Matching"])
def post_matching_run(
    data: JSONBody[RunIn], principal: NamedDependency[Principal]
) -> Response[RequestedRunOut]:
    """Match now; follow it under the address in `Location`."""
    with database.begin() as session:
        made, followed = request_run(
            session,
            project_id=read_ids("prj", data.project_id),
            policy_id=read_ids("plc", data.policy_id),
            seed=data.seed,
            requested_by=principal.person_id,
            at=now(),
        )
        name = wire_id("opn", followed.id)
        return Response(
            RequestedRunOut(**_columns(made), operation_id=name),
            status_code=HTTP_202_ACCEPTED,
            headers={"Location": f"/v1/operations/{name}"},
        )


@get("/matching-runs", scope="match:read", tags=["Matching"])
def get_matching_runs(
    project_id: ProjectFilter = None,
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[RunOut]:
    """Matching runs, newest first."""
    project = read_ids("prj", project_id)
    with database.begin() as session:
        return listed(
            session,
            runs(project_id=project, state=in_state),
            MatchingRun.id,
            lambda row: RunOut(**_columns(row)),
            limit=limit,
            cursor=cursor,
            filters=f"runs {project} {in_state}",
        )


@get("/matching-runs/{run_id:str}", scope="match:read", tags=["Matching"])
def get_matching_run(run_id: FromPath[str]) -> RunOut:
    """One matching run."""
    with database.begin() as session:
        return RunOut(**_columns(run(session, read_id("mrn", run_id))))


@get("/matching-runs/{run_id:str}/offers", scope="match:read", tags=["Matching"])
def get_run_offers(
    run_id: FromPath[str], limit: Limit = 50, cursor: Cursor = None
) -> Page[OfferOut]:
    """The offers that a run made, the most valuable first."""
    with database.begin() as session:
        found = run(session, read_id("mrn", run_id))
        return listed(
            session,
            offers(run_id=found.id),
            Offer.id,
            offer_out,
            limit=limit,
            cursor=cursor,
            filters=f"offers of {found.id}",
            newest_first=False,
        )


@get("/matching-runs/{run_id:str}/open-seats", scope="match:read", tags=["Matching"])
def get_run_open_seats(
    run_id: FromPath[str], limit: Limit = 50, cursor: Cursor = None
) -> Page[OpenSeatOut]:
    """The seats that a run left open, and what kept each open."""
    with database.begin() as session:
        found = run(session, read_id("mrn", run_id))
        return listed(
            session,
            open_seats(found.id),
            OpenSeat.id,
            _seat_out,
            limit=limit,
            cursor=cursor,
            filters=f"open seats of {found.id}",
            newest_first=False,
        )


@get("/matching-runs/{run_id:str}/explanations", scope="match:read", tags=["Matching"])
def get_run_explanation(
    run_id: FromPath[str], task_id: TaskParameter, expert_id: ExpertParameter
) -> PairOut:
    """Why a run put an expert on a task, or why it did not."""
    run_uuid, task, expert = (
        read_id("mrn", run_id),
        read_id("tsk", task_id),
        read_id("per", expert_id),
    )
    with database.begin() as session:
        file = recorded(session, run(session, run_uuid).id)
        told = explain(file, task, expert)
        conditions = hindrances(session, task, expert, at=now())
    if conditions is None:
        raise NotFound("task or expert", f"{task_id[:64]}, {expert_id[:64]}")
    same = {"run_id": run_id, "task_id": task_id, "expert_id": expert_id}
    if told is None:
        because = "; ".join(conditions)
        return PairOut(
            **same,
            chosen=False,
            rule="not eligible",
            sentence=f"Not looked at: {because}." if because else "Not eligible then; it is now.",
            conditions=conditions,
            probability=0.0,
            value=None,
            parts=[],
            prices=[],
            margin=None,
        )
    return PairOut(
        **same,
        chosen=told.chosen,
        rule=told.rule,
        sentence=told.sentence,
        conditions=[],
        probability=told.probability,
        value=told.value,
        parts=_parts_out(file, told.pair),
        prices=[PriceOut(name=price.name, amount=price.amount) for price in told.prices],
        margin=told.margin,
    )


@post(
    "/matching-runs/{run_id:str}/checks",
    scope="match:write",
    status_code=HTTP_202_ACCEPTED,
    tags=["Matching"],
)
def post_run_check(
    run_id: FromPath[str], principal: NamedDependency[Principal]
) -> Response[OperationOut]:
    """Solve a run once more from what it kept; the operation's result says whether the answer is
    identical, bit by bit. Nothing is offered by it.
    """
    with database.begin() as session:
        followed = request_check(
            session, read_id("mrn", run_id), requested_by=principal.person_id, at=now()
        )
        return Response(
            _operation_out(followed),
            status_code=HTTP_202_ACCEPTED,
            headers={"Location": f"/v1/operations/{wire_id('opn', followed.id)}"},
        )


@get("/matching-runs/{run_id:str}/explanations/open-seat", scope="match:read", tags=["Matching"])
def get_open_seat_explanation(run_id: FromPath[str], task_id: TaskParameter) -> SubjectOut:
    """Why a run left seats of a task open."""
    task = read_id("tsk", task_id)
    with database.begin() as session:
        file = recorded(session, run(session, read_id("mrn", run_id)).id)
    told = open_seat_told(file, task)
    if told is None:
        raise NotFound("task of the run", task_id[:64])
    return SubjectOut(run_id=run_id, subject_id=task_id, **asdict(told))


@get("/matching-runs/{run_id:str}/explanations/expert", scope="match:read", tags=["Matching"])
def get_idle_expert_explanation(run_id: FromPath[str], expert_id: ExpertParameter) -> SubjectOut:
    """Why a run gave an expert no more than it did."""
    expert = read_id("per", expert_id)
    with database.begin() as session:
        file = recorded(session, run(session, read_id("mrn", run_id)).id)
    told = idle_expert_told(file, expert)
    if told is None:
        raise NotFound("expert of the run", expert_id[:64])
    return SubjectOut(run_id=run_id, subject_id=expert_id, **asdict(told))


@get("/operations/{operation_id:str}", scope="project:read", tags=["Operations"])
def get_operation(operation_id: FromPath[str]) -> OperationOut:
    """How far long work is, and what came of it."""
    with database.begin() as session:
        return _operation_out(operation(session, read_id("opn", operation_id)))


@post(
    "/operations/{operation_id:str}/cancel",
    scope="match:write",
    status_code=HTTP_200_OK,
    tags=["Operations"],
)
def post_operation_cancel(
    operation_id: FromPath[str], principal: NamedDependency[Principal]
) -> OperationOut:
    """Stop long work: a matching run that is stopped leaves no offers, a refit no version, and
    nothing comes of the rest. What has ended stays as it ended. A payout run is stopped by its own.
    """
    with database.begin() as session:
        found = operation(session, read_id("opn", operation_id))
        if found.kind == "matching_run":
            cancel_run(session, found.subject_id, at=now(), actor_id=principal.person_id)
        elif found.kind == "refit":
            cancel_refit(session, found.subject_id, at=now())
        elif found.kind in STOPPED_BY_LOOK:
            cancel_operation(session, found.subject_id, at=now())
        else:
            raise OperationNotCancellable(found.kind)
        session.refresh(found)
        return _operation_out(found)


def _columns(found: MatchingRun) -> Json:
    return {
        "id": wire_id("mrn", found.id),
        "state": found.state,
        "project_id": wire_ids("prj", found.project_id),
        "policy_id": wire_id("plc", found.policy_id),
        # As text, since many readers of JSON keep no more than 53 bits of a number.
        "seed": str(found.seed),
        "requested_by": wire_ids("per", found.requested_by),
        "requested_at": found.requested_at,
        "started_at": found.started_at,
        "ended_at": found.ended_at,
        "input_digest": found.input_digest,
        "warm_run_id": wire_ids("mrn", found.warm_run_id),
        "answer_digest": found.answer_digest,
        "tasks": found.tasks,
        "experts": found.experts,
        "pairs": found.pairs,
        "offers": found.offers,
        "open_seats": found.open_seats,
        "objective": found.objective,
        "bound": found.bound,
        "gap": found.gap,
        "seconds": found.seconds,
        "failure": found.failure,
    }


def _seat_out(row: OpenSeat) -> OpenSeatOut:
    return OpenSeatOut(
        task_id=wire_id("tsk", row.task_id),
        project_id=wire_id("prj", row.project_id),
        seats=row.seats,
        rule=row.rule,
        sentence=row.sentence,
    )


def _parts_out(file: Recorded, pair: int) -> list[PartOut]:
    return [
        PartOut(
            name=part.name,
            unit=part.unit,
            weight=part.weight,
            measured=float(part.measured[pair]),
            weighed=float(part.weighed[pair]),
        )
        for part in file.value.parts
    ]


def _operation_out(found: Operation) -> OperationOut:
    return OperationOut(
        id=wire_id("opn", found.id),
        kind=found.kind,
        subject_id=wire_id(PREFIXES[found.kind], found.subject_id),
        state=found.state,
        phase=found.phase,
        done=found.done,
        total=found.total,
        result=found.result,
        problem=found.problem,
        created_at=found.created_at,
        started_at=found.started_at,
        ended_at=found.ended_at,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_matching_run,
    get_matching_runs,
    get_matching_run,
    get_run_offers,
    get_run_open_seats,
    get_run_explanation,
    post_run_check,
    get_open_seat_explanation,
    get_idle_expert_explanation,
    get_operation,
    post_operation_cancel,
]
