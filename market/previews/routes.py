"""Previews over HTTP, and what runs tell: prices as signals, and changes of rank."""

from datetime import datetime
from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_202_ACCEPTED

from market.auth import Principal
from market.candidates.rules import id_at
from market.db import Json, database, now
from market.explanations.queries import recorded
from market.explanations.rules import Recorded, index_of
from market.http import (
    Cursor,
    Limit,
    NotFound,
    Page,
    Wire,
    get,
    listed,
    post,
    read_id,
    read_ids,
    wire_id,
    wire_ids,
)
from market.operations import Operation
from market.previews.actions import request_preview, request_search
from market.previews.models import PolicyPreview
from market.previews.queries import preview, previews
from market.runs.queries import run

PolicyFilter = Annotated[
    str | None, QueryParameter(name="policy", description="Only of this policy version.")
]
OtherParameter = Annotated[str, QueryParameter(name="other", description="The earlier run.")]
TaskParameter = Annotated[str, QueryParameter(name="task", description="Which task.")]
ExpertParameter = Annotated[str, QueryParameter(name="expert", description="Which expert.")]


class PreviewIn(Wire):
    """Which policy version to try on which past stretch; of one project's own runs, or of all."""

    policy_id: str
    since: datetime
    until: datetime
    project_id: str | None = None


class SearchIn(Wire):
    """What share of seats to fill, in one domain or over all, at the least loss of stumps."""

    since: datetime
    until: datetime
    goal_fill: float
    domain: str | None = None
    policy_id: str | None = None
    project_id: str | None = None
    knobs: list[str] | None = None
    evaluations: int = 60


class PreviewOut(Wire):
    """A preview or a search; `result` is null until it has ended."""

    id: str
    kind: str
    policy_id: str
    project_id: str | None
    since: datetime
    until: datetime
    asked: Json
    requested_by: str | None
    requested_at: datetime
    ended_at: datetime | None
    result: Json | None


class RequestedPreviewOut(PreviewOut):
    """A preview just asked for, and the operation under which it can be followed."""

    operation_id: str


class BudgetSignalOut(Wire):
    """What more money would bring to a project: `price` in units of value a hundred minor units."""

    project_id: str
    binds: bool
    price: float
    spent_minor: int
    budget_minor: int
    open_seats: int


class SkillSignalOut(Wire):
    """How scarce a domain's experts are; `one_more` is the most that one more would add, in units
    of value.
    """

    domain: str
    seats: int
    open_seats: int
    candidates: int
    busy: float
    seat_price: float
    one_more: float
    sentence: str


class SignalsOut(Wire):
    """What a run's prices say; `skills` begins with whom to recruit first."""

    run_id: str
    budgets: list[BudgetSignalOut]
    skills: list[SkillSignalOut]


class PartMoveOut(Wire):
    """How one part of a value moved: because it counts otherwise, or because it changed."""

    name: str
    before: float
    after: float
    by_weight: float
    by_measure: float


class RankChangeOut(Wire):
    """An expert's place among the candidates of a task in two runs; 1 is worth the most."""

    run_id: str
    other_id: str
    rank_before: int
    rank_after: int
    candidates_before: int
    candidates_after: int
    value_before: float
    value_after: float
    parts: list[PartMoveOut]
    sentence: str


@post("/policy-previews", scope="policy:write", status_code=HTTP_202_ACCEPTED, tags=["Policies"])
def post_policy_preview(
    data: JSONBody[PreviewIn], principal: NamedDependency[Principal]
) -> Response[RequestedPreviewOut]:
    """Replay a past stretch under a policy; follow it under the address in `Location`."""
    with database.begin() as session:
        made, followed = request_preview(
            session,
            policy_id=read_id("plc", data.policy_id),
            since=data.since,
            until=data.until,
            project_id=read_ids("prj", data.project_id),
            requested_by=principal.person_id,
            at=now(),
        )
        return _accepted(made, followed)


@post("/policy-searches", scope="policy:write", status_code=HTTP_202_ACCEPTED, tags=["Policies"])
def post_policy_search(
    data: JSONBody[SearchIn], principal: NamedDependency[Principal]
) -> Response[RequestedPreviewOut]:
    """Search for policies that reach a goal on a past stretch; its result is a frontier."""
    with database.begin() as session:
        made, followed = request_search(
            session,
            policy_id=read_ids("plc", data.policy_id),
            since=data.since,
            until=data.until,
            goal_fill=data.goal_fill,
            domain=data.domain,
            knobs=data.knobs or (),
            evaluations=data.evaluations,
            project_id=read_ids("prj", data.project_id),
            requested_by=principal.person_id,
            at=now(),
        )
        return _accepted(made, followed)


@get("/policy-previews", scope="policy:read", tags=["Policies"])
def get_policy_previews(
    policy_id: PolicyFilter = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[PreviewOut]:
    """Previews and searches, newest first."""
    wanted = read_ids("plc", policy_id)
    with database.begin() as session:
        return listed(
            session,
            previews(wanted),
            PolicyPreview.id,
            lambda row: PreviewOut(**_columns(row)),
            limit=limit,
            cursor=cursor,
            filters=f"previews {wanted}",
        )


@get("/policy-previews/{preview_id:str}", scope="policy:read", tags=["Policies"])
def get_policy_preview(preview_id: FromPath[str]) -> PreviewOut:
    """One preview or search, and what came of it."""
    with database.begin() as session:
        return PreviewOut(**_columns(preview(session, read_id("pvw", preview_id))))


@get("/matching-runs/{run_id:str}/signals", scope="match:read", tags=["Matching"])
def get_run_signals(run_id: FromPath[str]) -> SignalsOut:
    """Which budgets bind, which skills are scarce, and what one more expert would be worth."""
    # Numpy and the matcher's own arrays are enough; the solver is not loaded.
    from matching.signals import signals

    file = _file(run_id)
    facts = file.facts
    if facts is None:
        raise NotFound("record of what this run knew", run_id[:64])
    told = signals(file.problem, file.assignment, facts.task_domain.astype("int64"))
    return SignalsOut(
        run_id=run_id,
        budgets=[
            BudgetSignalOut(
                project_id=wire_id("prj", id_at(facts.project_ids, one.project)),
                binds=one.binds,
                price=one.price,
                spent_minor=one.spent,
                budget_minor=one.budget,
                open_seats=one.open_seats,
            )
            for one in told.budgets
        ],
        skills=[
            SkillSignalOut(
                domain=facts.domains[one.group],
                seats=one.seats,
                open_seats=one.open_seats,
                candidates=one.candidates,
                busy=one.busy,
                seat_price=one.seat_price,
                one_more=one.one_more,
                sentence=(
                    f"One more expert in {facts.domains[one.group]} would add"
                    f" {one.one_more:.2f} units of value at most; {one.open_seats} of {one.seats}"
                    f" seats are open, with {one.candidates} candidates."
                ),
            )
            for one in told.skills
        ],
    )


@get("/matching-runs/{run_id:str}/rank-change", scope="match:read", tags=["Matching"])
def get_rank_change(
    run_id: FromPath[str],
    other: OtherParameter,
    task_id: TaskParameter,
    expert_id: ExpertParameter,
) -> RankChangeOut:
    """Why an expert ranks otherwise for a task in this run than in an earlier one."""
    from matching.ranking import rank_change

    now_file, then_file = _file(run_id), _file(other)
    told = rank_change(
        (then_file.problem, then_file.value, _pair(then_file, task_id, expert_id)),
        (now_file.problem, now_file.value, _pair(now_file, task_id, expert_id)),
    )
    return RankChangeOut(
        run_id=run_id,
        other_id=other,
        rank_before=told.rank_before,
        rank_after=told.rank_after,
        candidates_before=told.candidates_before,
        candidates_after=told.candidates_after,
        value_before=told.value_before,
        value_after=told.value_after,
        parts=[
            PartMoveOut(
                name=one.name,
                before=one.before,
                after=one.after,
                by_weight=one.by_weight,
                by_measure=one.by_measure,
            )
            for one in told.parts
        ],
        sentence=told.sentence,
    )


def _file(run_id: str) -> Recorded:
    with database.begin() as session:
        return recorded(session, run(session, read_id("mrn", run_id)).id)


def _pair(file: Recorded, task_id: str, expert_id: str) -> int:
    task = index_of(file.task_ids, read_id("tsk", task_id))
    expert = index_of(file.expert_ids, read_id("per", expert_id))
    found = ((file.problem.task == task) & (file.problem.expert == expert)).nonzero()[0]
    if task is None or expert is None or not len(found):
        raise NotFound("pair of that run", f"{task_id[:64]}, {expert_id[:64]}")
    return int(found[0])


def _accepted(made: PolicyPreview, followed: Operation) -> Response[RequestedPreviewOut]:
    name = wire_id("opn", followed.id)
    return Response(
        RequestedPreviewOut(**_columns(made), operation_id=name),
        status_code=HTTP_202_ACCEPTED,
        headers={"Location": f"/v1/operations/{name}"},
    )


def _columns(found: PolicyPreview) -> Json:
    return {
        "id": wire_id("pvw", found.id),
        "kind": found.kind,
        "policy_id": wire_id("plc", found.policy_id),
        "project_id": wire_ids("prj", found.project_id),
        "since": found.since,
        "until": found.until,
        "asked": found.asked,
        "requested_by": wire_ids("per", found.requested_by),
        "requested_at": found.requested_at,
        "ended_at": found.ended_at,
        "result": found.result,
    }


ROUTES: list[HTTPRouteHandler] = [
    post_policy_preview,
    post_policy_search,
    get_policy_previews,
    get_policy_preview,
    get_run_signals,
    get_rank_change,
]
