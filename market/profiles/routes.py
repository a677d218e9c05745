"""Quality profiles and time in stage, over HTTP and as CSV."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.earnings.rules import plain_cell
from market.http import Wire, get, read_id, read_ids, wire_id
from market.profiles.queries import (
    expert_profiles,
    model_profiles,
    reviewer_profiles,
    stages,
    task_paths,
)
from market.profiles.rules import ExpertProfile, ModelProfile, Period, ReviewerProfile, table
from market.projects.queries import project
from market.tasks.rules import TASK
from market.verdicts.routes import ShareOut, share_out
from market.verdicts.rules import Share

Days = Annotated[int, QueryParameter(ge=1, le=3660, description="How far to look back, days.")]

EXPERT_COLUMNS = (
    *("expert_id", "decided", "accepted", "accepted_low", "accepted_high"),
    *("first_pass", "first_pass_low", "first_pass_high", "tested", "stumps", "stump_low"),
    *("stump_high", "rounds", "median_work_s", "pace", "median_verdict_s", "abandoned"),
    "overturned",
)
REVIEWER_COLUMNS = (
    *("reviewer_id", "votes", "agreed", "agreed_low", "agreed_high", "overturned"),
    *("overturned_low", "overturned_high", "severity", "median_s"),
)

MODEL_COLUMNS = (
    *("target_model_id", "name", "model", "is_target", "asked", "failed", "decided", "stumps"),
    *("stump_low", "stump_high", "of_target", "shared", "shared_low", "shared_high"),
    *("answers_read", "judge_missed", "cost_minor", "median_ms"),
)


class ExpertProfileOut(Wire):
    """How an expert's reviewed work went: accepted, accepted at the first hand-in, stumps of what
    was tested; hand-ins, seconds of work and until the verdict (middles), worked seconds for each
    expected one; tasks left without a word, verdicts turned on appeal.
    """

    expert_id: str
    accepted: ShareOut
    first_pass: ShareOut
    stumps: ShareOut
    rounds: float | None
    median_work_s: float | None
    pace: float | None
    median_verdict_s: float | None
    abandoned: int
    overturned: int


class ReviewerProfileOut(Wire):
    """How a reviewer's votes held: with the verdict, or overturned on appeal; `severity` is the
    share it rejects less that of its fellows on the same work.
    """

    reviewer_id: str
    votes: int
    agreed: ShareOut
    overturned: ShareOut
    severity: float | None
    median_s: float | None


class ModelProfileOut(Wire):
    """How a model stood up to a project's questions: stumps of what was decided; of the stumps of
    the target, those that stump it too; answers that the automatic judge reads as wrong.

    Units: `cost_minor` minor units of USD, `median_ms` milliseconds an answer.
    """

    target_model_id: str
    name: str
    model: str
    is_target: bool
    asked: int
    failed: int
    stumps: ShareOut
    shared: ShareOut
    judge_missed: ShareOut
    cost_minor: Decimal
    median_ms: float | None


class PanelResultsOut(Wire):
    """What came of each model that a project's questions were put to, the target first."""

    project_id: str
    stump_rule: str
    models: list[ModelProfileOut]


class StageOut(Wire):
    """How long tasks or submissions stayed in a state: half and nine tenths left it sooner."""

    machine: str
    state: str
    stays: int
    still_there: int
    half_s: float
    most_s: float


class StagesOut(Wire):
    """Time in stage of a project, with how often work was rejected and sent round."""

    project_id: str
    stages: list[StageOut]
    tasks: int
    submissions: int
    rounds: int
    rejections: int


@get("/profiles/experts", scope="expert:read", tags=["Profiles"])
def get_expert_profiles(
    days: Days = 90, domain: FromQuery[str | None] = None, expert_id: FromQuery[str | None] = None
) -> list[ExpertProfileOut]:
    """How the reviewed work of each expert went, whoever has the most first."""
    wanted = read_ids("per", expert_id)
    with database.begin() as session:
        found = expert_profiles(session, _over(days), person_id=wanted, domain=domain)
    return [_expert_out(one) for one in found]


@get("/profiles/experts.csv", scope="expert:read", tags=["Profiles"], media_type="text/csv")
def get_expert_profiles_csv(days: Days = 90, domain: FromQuery[str | None] = None) -> Response[str]:
    """The same as CSV."""
    with database.begin() as session:
        found = expert_profiles(session, _over(days), domain=domain, limit=100_000)
    return _csv("experts.csv", experts_table(found))


@get("/profiles/me", scope="profile:read", tags=["Profiles"])
def get_own_profile(
    principal: NamedDependency[Principal], days: Days = 90
) -> list[ExpertProfileOut]:
    """How your reviewed work went; empty while nothing was decided."""
    # As the platform, since reviews are no expert's rows; only its own come to anything here.
    with database.begin(PLATFORM) as session:
        found = expert_profiles(session, _over(days), person_id=principal.person_id)
    return [_expert_out(one) for one in found]


@get("/profiles/reviewers", scope="expert:read", tags=["Profiles"])
def get_reviewer_profiles(
    days: Days = 90, domain: FromQuery[str | None] = None, reviewer_id: FromQuery[str | None] = None
) -> list[ReviewerProfileOut]:
    """How the votes of each reviewer held, whoever cast the most first."""
    wanted = read_ids("per", reviewer_id)
    with database.begin() as session:
        found = reviewer_profiles(session, _over(days), person_id=wanted, domain=domain)
    return [_reviewer_out(one) for one in found]


@get("/profiles/reviewers.csv", scope="expert:read", tags=["Profiles"], media_type="text/csv")
def get_reviewer_profiles_csv(
    days: Days = 90, domain: FromQuery[str | None] = None
) -> Response[str]:
    """The same as CSV."""
    with database.begin() as session:
        found = reviewer_profiles(session, _over(days), domain=domain, limit=100_000)
    return _csv("reviewers.csv", reviewers_table(found))


@get("/projects/{project_id:str}/stages", scope="project:read", tags=["Profiles"])
def get_stages(project_id: FromPath[str]) -> StagesOut:
    """How long work stays in each stage, and how often it was rejected or sent round."""
    which, over = read_id("prj", project_id), _over(1)
    with database.begin() as session:
        project(session, which)
    # As the platform: histories are no lab's rows, and it may see those of its own project here.
    with database.begin(PLATFORM) as session:
        paths = task_paths(session, which, over=over)
        return StagesOut(
            project_id=project_id,
            stages=[StageOut(**asdict(one)) for one in stages(session, which, over=over)],
            tasks=len(paths),
            submissions=sum(one.submissions for one in paths),
            rounds=sum(one.rounds for one in paths),
            rejections=sum(one.rejections for one in paths),
        )


@get(
    "/projects/{project_id:str}/stages.csv",
    scope="project:read",
    tags=["Profiles"],
    media_type="text/csv",
)
def get_stages_csv(project_id: FromPath[str]) -> Response[str]:
    """Task by task: hand-ins, rounds, rejections, and the seconds in each state."""
    which, over = read_id("prj", project_id), _over(1)
    with database.begin() as session:
        project(session, which)
    with database.begin(PLATFORM) as session:
        paths = task_paths(session, which, over=over)
    names = ("task_id", "external_id", "state", "submissions", "rounds", "rejections")
    rows = [
        (
            wire_id("tsk", one.task_id),
            plain_cell(one.external_id),
            one.state,
            one.submissions,
            one.rounds,
            one.rejections,
            *(one.stages.get(state) for state in TASK.states),
        )
        for one in paths
    ]
    return _csv("stages.csv", table((*names, *(f"{s}_s" for s in TASK.states)), rows))


@get("/projects/{project_id:str}/panel/results", scope="project:read", tags=["Panels"])
def get_panel_results(project_id: FromPath[str]) -> PanelResultsOut:
    """Model by model: the stump rate with its interval, and which stumps it shares with the target.

    Every figure is of decided work, and not of how often a model was asked.
    """
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        return PanelResultsOut(
            project_id=project_id,
            stump_rule=found.stump_rule,
            models=[_model_out(one) for one in model_profiles(session, found.id)],
        )


@get(
    "/projects/{project_id:str}/panel/results.csv",
    scope="project:read",
    tags=["Panels"],
    media_type="text/csv",
)
def get_panel_results_csv(project_id: FromPath[str]) -> Response[str]:
    """The same as CSV."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        return _csv("panel.csv", models_table(model_profiles(session, found.id)))


def models_table(found: Sequence[ModelProfile]) -> str:
    """What came of each model as CSV."""
    rows = [
        (
            wire_id("mdl", one.target_model_id),
            plain_cell(one.name),
            plain_cell(one.model),
            one.is_target,
            one.asked,
            one.failed,
            one.stumps.whole,
            *_cells(one.stumps),
            one.shared.whole,
            *_cells(one.shared),
            one.judge_missed.whole,
            one.judge_missed.part,
            one.cost_minor,
            one.median_ms,
        )
        for one in found
    ]
    return table(MODEL_COLUMNS, rows)


def experts_table(found: Sequence[ExpertProfile]) -> str:
    """Profiles of experts as CSV."""
    rows = [
        (
            wire_id("per", one.expert_id),
            one.accepted.whole,
            *_cells(one.accepted),
            *_cells(one.first_pass),
            one.stumps.whole,
            *_cells(one.stumps),
            one.rounds,
            one.median_work_s,
            one.pace,
            one.median_verdict_s,
            one.abandoned,
            one.overturned,
        )
        for one in found
    ]
    return table(EXPERT_COLUMNS, rows)


def reviewers_table(found: Sequence[ReviewerProfile]) -> str:
    """Profiles of reviewers as CSV."""
    rows = [
        (
            wire_id("per", one.reviewer_id),
            one.votes,
            *_cells(one.agreed),
            *_cells(one.overturned),
            one.severity,
            one.median_s,
        )
        for one in found
    ]
    return table(REVIEWER_COLUMNS, rows)


def _over(days: int) -> Period:
    at = now()
    return Period(at - timedelta(days=days), at)


def _csv(name: str, content: str) -> Response[str]:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="text/csv", headers=headers)


def _cells(one: Share) -> tuple[int, float, float]:
    return one.part, one.low, one.high


def _expert_out(one: ExpertProfile) -> ExpertProfileOut:
    return ExpertProfileOut(
        expert_id=wire_id("per", one.expert_id),
        accepted=share_out(one.accepted),
        first_pass=share_out(one.first_pass),
        stumps=share_out(one.stumps),
        rounds=one.rounds,
        median_work_s=one.median_work_s,
        pace=one.pace,
        median_verdict_s=one.median_verdict_s,
        abandoned=one.abandoned,
        overturned=one.overturned,
    )


def _model_out(one: ModelProfile) -> ModelProfileOut:
    return ModelProfileOut(
        target_model_id=wire_id("mdl", one.target_model_id),
        name=one.name,
        model=one.model,
        is_target=one.is_target,
        asked=one.asked,
        failed=one.failed,
        stumps=share_out(one.stumps),
        shared=share_out(one.shared),
        judge_missed=share_out(one.judge_missed),
        cost_minor=one.cost_minor,
        median_ms=one.median_ms,
    )


def _reviewer_out(one: ReviewerProfile) -> ReviewerProfileOut:
    return ReviewerProfileOut(
        reviewer_id=wire_id("per", one.reviewer_id),
        votes=one.votes,
        agreed=share_out(one.agreed),
        overturned=share_out(one.overturned),
        severity=one.severity,
        median_s=one.median_s,
    )


ROUTES: list[HTTPRouteHandler] = [
    get_panel_results,
    get_panel_results_csv,
    get_expert_profiles,
    get_expert_profiles_csv,
    get_own_profile,
    get_reviewer_profiles,
    get_reviewer_profiles_csv,
    get_stages,
    get_stages_csv,
]
