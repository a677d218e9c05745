"""Projects, their moves and budgets, over HTTP."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import UNSET, Meta, UnsetType

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    expect_version,
    get,
    listed,
    patch,
    post,
    read_id,
    read_ids,
    request_context,
    tagged,
    wire_id,
    wire_ids,
)
from market.projects.actions import (
    Terms,
    allocate_budget,
    change_project,
    create_project,
    move_project,
)
from market.projects.models import Project
from market.projects.queries import Budget, budget, project, projects_found
from market.projects.rules import Unedited
from payouts.money import Money

DAY_S = 24 * 3600
LARGEST = 2**53 - 1
"""The largest integer that every reader of JSON gets right."""

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Brief = Annotated[str, Meta(max_length=50_000)]
Rate = Annotated[int, Meta(ge=1, le=10_000_000)]
WorkSeconds = Annotated[int, Meta(ge=60, le=30 * DAY_S)]
WaitSeconds = Annotated[int, Meta(ge=1, le=90 * DAY_S)]
LeaseSeconds = Annotated[int, Meta(ge=1, le=400 * DAY_S)]
Amount = Annotated[int, Meta(ge=1, le=10**9)]
WeekSeconds = Annotated[int, Meta(ge=60, le=7 * DAY_S)]
Overtime = Annotated[int, Meta(ge=10_001, le=30_000)]
RaiseAllowed = Annotated[int, Meta(ge=0, le=10_000)]
DraftField = Annotated[str, Meta(min_length=1, max_length=100)]
Level = Literal["claimed", "qualified"]


class ProjectIn(Wire):
    """What a lab wants done and what it pays; `rate_minor_per_hour` null pays by expert's tier.

    A contract by deliverable pays `deliverable_minor` for accepted work, and its rate is the floor
    that time is topped up to. `attempt_fee_minor` is paid for each honest attempt at the target
    model, whatever came of it, `attempt_fees_max` times a task. `impact_bonus_minor` is paid for a
    stump on top of all that; it is promised with the work, and reserved with it. By naming
    `overtime_after_s` a lab consents to overtime: what an expert's paid time on the project comes
    to beyond it in a week is paid at `overtime_basis_points` of the rate (15000 for one and a
    half), and reserved so.
    `trial_raise_basis_points` is the most that a trial of higher pay may add to all of this, in
    hundredths of a per cent; 0 for none.
    `draft_field` names the field of its tasks that holds a draft: experts begin from it, and do not
    see it beside the task. `unedited_drafts` says whether one that comes back as given is taken,
    marked or refused. With `passes_drafts`, whoever takes on work that went back reads the draft
    that was left of it, and not whose it was; offers say so before they are accepted.
    """

    name: Name
    brief: Brief = ""
    domains: tuple[str, ...] = ()
    currency: str = "USD"
    rate_minor_per_hour: Rate | None = None
    cap_s: WorkSeconds = 4 * 3600
    answers_per_task: Annotated[int, Meta(ge=1, le=100)] = 1
    reviews_per_submission: Annotated[int, Meta(ge=1, le=15)] = 3
    offer_ttl_s: WaitSeconds = DAY_S
    work_ttl_s: LeaseSeconds = 3 * DAY_S
    review_ttl_s: WaitSeconds = 7 * DAY_S
    minimum_level: Level = "claimed"
    target_model_id: str | None = None
    require_interest: bool = False
    pay_basis: Literal["hourly", "deliverable"] = "hourly"
    deliverable_minor: Amount | None = None
    attempt_fee_minor: Amount | None = None
    attempt_fees_max: Annotated[int, Meta(ge=0, le=200)] = 0
    impact_bonus_minor: Amount | None = None
    weekly_cap_s: WeekSeconds | None = None
    overtime_after_s: WeekSeconds | None = None
    overtime_basis_points: Overtime | None = None
    trial_raise_basis_points: RaiseAllowed = 0
    unedited_drafts: Unedited = "allowed"
    draft_field: DraftField | None = None
    passes_drafts: bool = False


class ProjectChangeIn(Wire):
    """The terms of a project that change; offers made before keep theirs."""

    name: Name | UnsetType = UNSET
    brief: Brief | UnsetType = UNSET
    domains: tuple[str, ...] | UnsetType = UNSET
    rate_minor_per_hour: Rate | UnsetType | None = UNSET
    cap_s: WorkSeconds | UnsetType = UNSET
    answers_per_task: Annotated[int, Meta(ge=1, le=100)] | UnsetType = UNSET
    reviews_per_submission: Annotated[int, Meta(ge=1, le=15)] | UnsetType = UNSET
    offer_ttl_s: WaitSeconds | UnsetType = UNSET
    work_ttl_s: LeaseSeconds | UnsetType = UNSET
    review_ttl_s: WaitSeconds | UnsetType = UNSET
    minimum_level: Level | UnsetType = UNSET
    target_model_id: str | UnsetType | None = UNSET
    require_interest: bool | UnsetType = UNSET
    pay_basis: Literal["hourly", "deliverable"] | UnsetType = UNSET
    deliverable_minor: Amount | UnsetType | None = UNSET
    attempt_fee_minor: Amount | UnsetType | None = UNSET
    attempt_fees_max: Annotated[int, Meta(ge=0, le=200)] | UnsetType = UNSET
    impact_bonus_minor: Amount | UnsetType | None = UNSET
    weekly_cap_s: WeekSeconds | UnsetType | None = UNSET
    overtime_after_s: WeekSeconds | UnsetType | None = UNSET
    overtime_basis_points: Overtime | UnsetType | None = UNSET
    trial_raise_basis_points: RaiseAllowed | UnsetType = UNSET
    unedited_drafts: Unedited | UnsetType = UNSET
    draft_field: DraftField | UnsetType | None = UNSET
    passes_drafts: bool | UnsetType = UNSET


class ProjectOut(Wire):
    """A project as it is now."""

    id: str
    organisation_id: str
    name: str
    brief: str
    domains: list[str]
    state: str
    currency: str
    rate_minor_per_hour: int | None
    cap_s: int
    answers_per_task: int
    reviews_per_submission: int
    offer_ttl_s: int
    work_ttl_s: int
    review_ttl_s: int
    fee_basis_points: int
    minimum_level: str
    target_model_id: str | None
    policy_id: str | None
    require_interest: bool
    pay_basis: str
    deliverable_minor: int | None
    attempt_fee_minor: int | None
    attempt_fees_max: int
    impact_bonus_minor: int | None
    weekly_cap_s: int | None
    overtime_after_s: int | None
    overtime_basis_points: int | None
    trial_raise_basis_points: int
    unedited_drafts: str
    draft_field: str | None
    passes_drafts: bool
    round: int
    created_at: datetime
    version: int


class TransitionIn(Wire):
    """A move, and why."""

    action: str
    reason_code: Annotated[str, Meta(max_length=100)] | None = None
    note: Annotated[str, Meta(max_length=4000)] | None = None


class MoneyIn(Wire):
    """An amount in minor units of its currency."""

    amount_minor: Annotated[int, Meta(ge=1, le=LARGEST)]
    currency: str


class MoneyOut(Wire):
    """An amount in minor units of its currency."""

    amount_minor: int
    currency: str


class BudgetOut(Wire):
    """What a project was given, and how much of it is promised, spent and free."""

    project_id: str
    funded: MoneyOut
    reserved: MoneyOut
    spent: MoneyOut
    free: MoneyOut


@post("/projects", scope="project:write", status_code=HTTP_201_CREATED, tags=["Projects"])
def post_project(
    data: JSONBody[ProjectIn],
    principal: NamedDependency[Principal],
    request: Request[Any, Any, Any],
) -> Response[ProjectOut]:
    """Draft a project."""
    with database.begin() as session:
        made = create_project(
            session,
            principal.tenant,
            Terms(
                **{name: getattr(data, name) for name in _PLAIN},
                target_model_id=read_ids("mdl", data.target_model_id),
            ),
            currency=data.currency,
            fee_basis_points=request.app.state["settings"].fee_basis_points,
            at=now(),
            actor_id=principal.person_id,
        )
        return tagged(_project_out(made), made.version, status=HTTP_201_CREATED)


@get("/projects", scope="project:read", tags=["Projects"])
def get_projects(
    in_state: StateFilter = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[ProjectOut]:
    """Your projects, newest first, or those in a state."""
    with database.begin() as session:
        return listed(
            session,
            projects_found(in_state),
            Project.id,
            _project_out,
            limit=limit,
            cursor=cursor,
            filters=f"projects {in_state}",
        )


@get("/projects/{project_id:str}", scope="project:read", tags=["Projects"])
def get_project(project_id: FromPath[str]) -> Response[ProjectOut]:
    """One project."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        return tagged(_project_out(found), found.version)


@patch("/projects/{project_id:str}", scope="project:write", tags=["Projects"])
def patch_project(
    project_id: FromPath[str],
    data: JSONBody[ProjectChangeIn],
    principal: NamedDependency[Principal],
) -> Response[ProjectOut]:
    """Change some terms of a project; send the ETag that you read as If-Match."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id), lock=True)
        expect_version(found.version)
        terms = Terms(
            **{name: getattr(found, name) for name in _PLAIN if name != "domains"},
            domains=tuple(found.domains),
            target_model_id=found.target_model_id,
        )
        given = {n: getattr(data, n) for n in _PLAIN if getattr(data, n) is not UNSET}
        terms = replace(terms, **given)
        if data.target_model_id is not UNSET:
            terms = replace(terms, target_model_id=read_ids("mdl", data.target_model_id))
        changed = change_project(session, found.id, terms, at=now(), actor_id=principal.person_id)
        return tagged(_project_out(changed), changed.version)


@post(
    "/projects/{project_id:str}/transitions",
    scope="project:write",
    status_code=HTTP_200_OK,
    tags=["Projects"],
)
def post_project_transition(
    project_id: FromPath[str],
    data: JSONBody[TransitionIn],
    principal: NamedDependency[Principal],
) -> Response[ProjectOut]:
    """Move a project: submit, pass, fail, calibrate, launch, pause, resume, drain, and so on."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id), lock=True)
        expect_version(found.version)
        moved = move_project(
            session,
            found.id,
            data.action,
            at=now(),
            reason_code=data.reason_code,
            note=data.note,
            actor_id=principal.person_id,
        )
        return tagged(_project_out(moved), moved.version)


@post(
    "/projects/{project_id:str}/budget",
    scope="fund:write",
    keyed="required",
    status_code=HTTP_201_CREATED,
    tags=["Projects"],
)
def post_budget(project_id: FromPath[str], data: JSONBody[MoneyIn]) -> BudgetOut:
    """Give a project some of your lab's free money."""
    context = request_context.get()
    with database.begin() as session:
        # Read as the lab first: another lab's project is not there.
        found = project(session, read_id("prj", project_id))
    # As the platform, which alone writes the ledger.
    with database.begin(PLATFORM) as session:
        key_id = context.principal.key_id if context.principal else UUID(int=0)
        allocate_budget(
            session,
            found.id,
            Money(data.amount_minor, data.currency),
            key=f"budget:{found.id}:{key_id}:{context.idempotency_key}",
            at=now(),
        )
        return _budget_out(budget(session, found), found)


@get("/projects/{project_id:str}/budget", scope="fund:read", tags=["Projects"])
def get_budget(project_id: FromPath[str]) -> BudgetOut:
    """What a project was given, and how much of it is promised, spent and free."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        return _budget_out(budget(session, found), found)


_PLAIN = (
    "name",
    "brief",
    "domains",
    "rate_minor_per_hour",
    "cap_s",
    "answers_per_task",
    "reviews_per_submission",
    "offer_ttl_s",
    "work_ttl_s",
    "review_ttl_s",
    "minimum_level",
    "require_interest",
    "pay_basis",
    "deliverable_minor",
    "attempt_fee_minor",
    "attempt_fees_max",
    "impact_bonus_minor",
    "weekly_cap_s",
    "overtime_after_s",
    "overtime_basis_points",
    "trial_raise_basis_points",
    "unedited_drafts",
    "draft_field",
    "passes_drafts",
)
"""The fields of a project that travel as they are kept."""


def _project_out(row: Project) -> ProjectOut:
    return ProjectOut(
        **{name: getattr(row, name) for name in _PLAIN},
        id=wire_id("prj", row.id),
        organisation_id=wire_id("org", row.organisation_id),
        state=row.state,
        currency=row.currency,
        fee_basis_points=row.fee_basis_points,
        target_model_id=wire_ids("mdl", row.target_model_id),
        policy_id=wire_ids("plc", row.policy_id),
        round=row.round,
        created_at=row.created_at,
        version=row.version,
    )


def _budget_out(found: Budget, owner: Project) -> BudgetOut:
    def money(amount_minor: int) -> MoneyOut:
        return MoneyOut(amount_minor=amount_minor, currency=found.currency)

    return BudgetOut(
        project_id=wire_id("prj", owner.id),
        funded=money(found.funded_minor),
        reserved=money(found.reserved_minor),
        spent=money(found.spent_minor),
        free=money(found.free_minor),
    )


ROUTES: list[HTTPRouteHandler] = [
    post_project,
    get_projects,
    get_project,
    patch_project,
    post_project_transition,
    post_budget,
    get_budget,
]
