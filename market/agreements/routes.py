"""Agreement of people, and of the automatic judge with them, over HTTP."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter

from market.agreements.queries import (
    agreement_by_field,
    disagreements,
    graded_works,
    judge_standings,
)
from market.agreements.rules import LEAST_AGREEMENT, FieldAgreement
from market.db import PLATFORM, database, now
from market.http import Wire, get, read_id, wire_id
from market.projects.queries import project
from market.verdicts.rules import Share

Days = Annotated[int, QueryParameter(ge=1, le=3660, description="How far to look back, days.")]


class CoefficientOut(Wire):
    """1 is perfect, 0 what chance gives; nine-tenths interval; null where it is not defined."""

    value: float | None
    low: float | None
    high: float | None
    items: int


class AgreementOut(Wire):
    """How far people agree on one question of a queue: Krippendorff's alpha, Fleiss' kappa, Gwet's
    AC1, and the plain share of pairs. `off` says why nothing is computed.
    """

    domain: str
    field: str
    votes: int
    alpha: CoefficientOut | None
    fleiss: CoefficientOut | None
    ac1: CoefficientOut | None
    observed: CoefficientOut | None
    off: str | None


class RateOut(Wire):
    """A share with its 95 % interval."""

    part: int
    whole: int
    low: float
    high: float


class JudgeOut(Wire):
    """The automatic judge beside people: how often they agreed, what it caught and spared.

    `could_stand_alone` is advice: it decides nothing alone, whatever this says.
    """

    domain: str
    target_model_id: str
    agreed: RateOut
    caught: RateOut
    spared: RateOut
    kappa: CoefficientOut
    least_agreement: float
    could_stand_alone: bool


class DisagreementOut(Wire):
    """A claim that the judge reads otherwise than people: both figures, never made into one."""

    submission_id: str
    project_id: str
    domain: str
    target_model_id: str
    decided_at: datetime
    judge_failed_share: float
    people_validated: bool
    people_belief: float | None


@get("/agreement", scope="match:read", tags=["Agreement"])
def get_agreement(days: Days = 90, domain: FromQuery[str | None] = None) -> list[AgreementOut]:
    """How far reviewers agree, queue by queue and question by question."""
    at = now()
    with database.begin(PLATFORM) as session:
        found = agreement_by_field(
            session, since=at - timedelta(days=days), until=at, domain=domain
        )
    return [_out(one) for one in found]


@get("/projects/{project_id:str}/agreement", scope="project:read", tags=["Agreement"])
def get_project_agreement(project_id: FromPath[str], days: Days = 90) -> list[AgreementOut]:
    """How far the reviewers of a project agree on each question."""
    at = now()
    with database.begin() as session:
        which = project(session, read_id("prj", project_id)).id
    # As the platform, since votes are no lab's to read; what they come to is.
    with database.begin(PLATFORM) as session:
        found = agreement_by_field(
            session, since=at - timedelta(days=days), until=at, project_id=which
        )
    return [_out(one) for one in found]


class GradedWorkOut(Wire):
    """A piece of open work as its reviewers grade it, in per cent, their severity taken out, with a
    nine-tenths interval; `plain` is the mean of what they said.

    `place` is among the answers to its task, by reviewers who saw several (`worth`, in logits), and
    null where nobody did. `is_contested`: reviewers differ on it by more than they usually do,
    which is no mark against it or them.
    """

    submission_id: str
    task_id: str
    grades: int
    plain: float
    share: float
    low: float
    high: float
    is_contested: bool
    comparisons: int
    worth: float | None
    worth_sd: float | None
    place: int | None


@get("/projects/{project_id:str}/grades", scope="project:read", tags=["Agreement"])
def get_grades(project_id: FromPath[str]) -> list[GradedWorkOut]:
    """Open work (without a claim on a model) by graded judgement and by pairs, the latest 20,000
    votes; task by task, the best first.
    """
    with database.begin() as session:
        which = project(session, read_id("prj", project_id)).id
    # As the platform, since votes are no lab's to read; what they come to is.
    with database.begin(PLATFORM) as session:
        return [
            GradedWorkOut(
                **{
                    **asdict(one),
                    "submission_id": wire_id("sub", one.submission_id),
                    "task_id": wire_id("tsk", one.task_id),
                }
            )
            for one in graded_works(session, which)
        ]


@get("/judge/calibration", scope="match:read", tags=["Agreement"])
def get_judge(days: Days = 365, domain: FromQuery[str | None] = None) -> list[JudgeOut]:
    """How the automatic judge agrees with people, by domain and target model."""
    with database.begin() as session:
        return [
            JudgeOut(
                domain=one.domain,
                target_model_id=wire_id("mdl", one.target_model_id),
                agreed=_rate(one.agreed),
                caught=_rate(one.caught),
                spared=_rate(one.spared),
                kappa=CoefficientOut(**asdict(one.kappa)),
                least_agreement=LEAST_AGREEMENT,
                could_stand_alone=one.could_stand_alone,
            )
            for one in judge_standings(session, since=now() - timedelta(days=days), domain=domain)
        ]


@get("/judge/disagreements", scope="match:read", tags=["Agreement"])
def get_disagreements(
    days: Days = 90, domain: FromQuery[str | None] = None
) -> list[DisagreementOut]:
    """Claims that the judge reads otherwise than people decided, the latest first."""
    with database.begin() as session:
        return [
            DisagreementOut(
                submission_id=wire_id("sub", one.submission_id),
                project_id=wire_id("prj", one.project_id),
                domain=one.domain,
                target_model_id=wire_id("mdl", one.target_model_id),
                decided_at=one.decided_at,
                judge_failed_share=one.judge,
                people_validated=one.is_validated,
                people_belief=one.belief,
            )
            for one in disagreements(session, since=now() - timedelta(days=days), domain=domain)
        ]


def _rate(one: Share) -> RateOut:
    return RateOut(part=one.part, whole=one.whole, low=one.low, high=one.high)


def _out(one: FieldAgreement) -> AgreementOut:
    found = {} if one.found is None else asdict(one.found)
    told = {name: CoefficientOut(**value) for name, value in found.items()}
    return AgreementOut(
        domain=one.domain,
        field=one.field,
        votes=one.votes,
        alpha=told.get("alpha"),
        fleiss=told.get("fleiss"),
        ac1=told.get("ac1"),
        observed=told.get("observed"),
        off=one.off,
    )


ROUTES: list[HTTPRouteHandler] = [
    get_agreement,
    get_project_agreement,
    get_grades,
    get_judge,
    get_disagreements,
]
