"""What is believed and how well it holds, over HTTP: abilities, calibration, refits."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.status_codes import HTTP_202_ACCEPTED

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    get,
    listed,
    post,
    read_ids,
    wire_id,
    wire_ids,
)
from market.predictions.actions import request_refit
from market.predictions.models import Ability
from market.predictions.queries import in_force, recomputed
from market.quality.models import ReviewerReliability
from market.quality.queries import (
    abilities,
    calibrations,
    evidence_of_ability,
    frontier_alarms,
    frontier_cells,
    reliabilities,
    series,
)
from market.quality.rules import Calibration, what_would_change

Days = Annotated[int, QueryParameter(ge=1, le=3660, description="How far to look back, days.")]


class AbilityOut(Wire):
    """What is believed of an expert in a domain against a target model, with a 90 % interval.

    `chance` is that of a validated stump for a piece of work of the middle complexity; `logit` and
    `logit_sd` the same on the scale of the model; `outcomes` what it rests on.
    """

    expert_id: str
    domain: str
    target_model_id: str | None
    chance: float
    low: float
    high: float
    logit: float
    logit_sd: float
    outcomes: int
    at: datetime
    what_would_change_it: str


class EvidenceOut(Wire):
    """One outcome with what was expected before it: above expectation raises, below lowers."""

    domain: str
    task_id: str
    at: datetime
    expected: float | None
    came: float


class OwnAbilityOut(Wire):
    """All that is believed of you, and the latest outcomes that it rests on."""

    abilities: list[AbilityOut]
    evidence: list[EvidenceOut]


class PointOut(Wire):
    """One bin of a reliability curve; the interval of the observed share is 90 %."""

    predicted: float
    observed: float
    low: float
    high: float
    count: int


class CalibrationOut(Wire):
    """How predictions of one link agreed with what came; `ece` with a 90 % interval by expert."""

    stage: str
    count: int
    log_loss: float | None
    ece: float | None
    ece_low: float | None
    ece_high: float | None
    points: list[PointOut]


class ModelHealthOut(Wire):
    """The version in force and how well it predicts."""

    version: str | None
    fitted_at: datetime | None
    rows: int
    calibration: list[CalibrationOut]


class RecomputedOut(Wire):
    """A prediction as it was kept and as its version gives it again."""

    seq: int
    version: str
    kept: float
    again: float
    is_equal: bool


class ReliabilityOut(Wire):
    """How often a reviewer is right in a domain, with a 90 % interval; what it rests on."""

    reviewer_id: str
    domain: str
    accuracy: float
    low: float
    high: float
    votes: int
    at: datetime
    what_counts: str


class AlarmOut(Wire):
    """A level that ran dry, and the complexity that is proposed instead; none when none will do."""

    domain: str
    complexity: int
    target_model_id: str
    at: datetime
    rate: float
    opening: float
    evidence: float
    proposed_complexity: int | None
    productive: float
    low: float
    high: float
    reason: str


class WeekOut(Wire):
    """A level's stump rate at the end of a week, with a 90 % interval."""

    week: datetime
    rate: float
    low: float
    high: float
    claims: int


class CellOut(Wire):
    """How a level of a domain stands against a target model, week by week."""

    domain: str
    complexity: int
    target_model_id: str
    weeks: list[WeekOut]


class FrontierOut(Wire):
    """The frontier: every level's series, and the alarms, the latest first."""

    cells: list[CellOut]
    alarms: list[AlarmOut]


class RefitOut(Wire):
    """The operation that tells how far a refit is."""

    operation_id: str
    state: str


@get("/abilities/me", scope="profile:read", tags=["Quality"])
def get_own_abilities(principal: NamedDependency[Principal]) -> OwnAbilityOut:
    """What is believed of your ability, on what it rests, and what would change it."""
    # As the platform, because the outcomes behind it are not rows of an expert's; only their own.
    with database.begin(PLATFORM) as session:
        rows = session.scalars(
            abilities(expert_id=principal.person_id).order_by(Ability.domain, Ability.id)
        )
        return OwnAbilityOut(
            abilities=[_ability_out(row) for row in rows],
            evidence=[
                EvidenceOut(
                    domain=one.domain,
                    task_id=wire_id("tsk", one.task_id),
                    at=one.at,
                    expected=one.expected,
                    came=one.came,
                )
                for one in evidence_of_ability(session, principal.person_id)
            ],
        )


@get("/abilities", scope="expert:read", tags=["Quality"])
def get_abilities(
    principal: NamedDependency[Principal],
    expert_id: FromQuery[str | None] = None,
    domain: FromQuery[str | None] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AbilityOut]:
    """What is believed of experts, newest first."""
    wanted = read_ids("per", expert_id)
    with database.begin() as session:
        return listed(
            session,
            abilities(expert_id=wanted, domain=domain),
            Ability.id,
            _ability_out,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|abilities|{wanted}|{domain}",
        )


@get("/stump-model", scope="match:read", tags=["Quality"])
def get_stump_model(days: Days = 90, domain: FromQuery[str | None] = None) -> ModelHealthOut:
    """The stump model in force, and how what it predicted agrees with what came."""
    with database.begin() as session:
        version = in_force(session)
        found = calibrations(session, since=now() - timedelta(days=days), domain=domain)
        return ModelHealthOut(
            version=None if version is None else version.digest.hex(),
            fitted_at=None if version is None else version.fitted_at,
            rows=0 if version is None else version.rows,
            calibration=[_calibration_out(stage, one) for stage, one in found.items()],
        )


@post("/stump-model/refits", scope="match:write", status_code=HTTP_202_ACCEPTED, tags=["Quality"])
def post_refit() -> RefitOut:
    """Fit the stump model to the whole record; a refit under way is the answer to a second one."""
    with database.begin() as session:
        operation = request_refit(session, at=now())
        return RefitOut(operation_id=wire_id("opn", operation.id), state=operation.state)


@get("/stump-model/observations/{seq:int}/recomputed", scope="match:read", tags=["Quality"])
def get_recomputed(seq: FromPath[int]) -> RecomputedOut:
    """Compute a prediction again from its version and compare it with what was kept."""
    with database.begin() as session:
        found = recomputed(session, seq)
        return RecomputedOut(
            seq=found.seq,
            version=found.version,
            kept=found.kept,
            again=found.again,
            is_equal=found.is_equal,
        )


@get("/frontier", scope="match:read", tags=["Quality"])
def get_frontier(domain: FromQuery[str | None] = None) -> FrontierOut:
    """Stump rates by domain, complexity and target model as they went, and levels that ran dry."""
    with database.begin() as session:
        return FrontierOut(
            cells=[
                CellOut(
                    domain=cell.domain,
                    complexity=cell.level + 1,
                    target_model_id=wire_id("mdl", cell.target_model_id),
                    weeks=[WeekOut(**asdict(week)) for week in series(session, cell)],
                )
                for cell in frontier_cells(session, domain=domain)
            ],
            alarms=[
                AlarmOut(
                    domain=row.domain,
                    complexity=row.level + 1,
                    target_model_id=wire_id("mdl", row.target_model_id),
                    at=row.at,
                    rate=row.rate,
                    opening=row.opening,
                    evidence=row.evidence,
                    proposed_complexity=(
                        None if row.proposed_level is None else row.proposed_level + 1
                    ),
                    productive=row.productive,
                    low=row.low,
                    high=row.high,
                    reason=row.reason,
                )
                for row in frontier_alarms(session, domain=domain)
            ],
        )


@get("/reliability/me", scope="review:write", tags=["Quality"])
def get_own_reliability(principal: NamedDependency[Principal]) -> list[ReliabilityOut]:
    """How often your votes were right, by domain; matters of judgement are not measured."""
    with database.begin() as session:
        rows = session.scalars(reliabilities(reviewer_id=principal.person_id))
        return [_reliability_out(row) for row in rows]


@get("/reliability", scope="expert:read", tags=["Quality"])
def get_reliability(reviewer_id: FromQuery[str | None] = None) -> list[ReliabilityOut]:
    """How often reviewers are right, by domain."""
    wanted = read_ids("per", reviewer_id)
    with database.begin() as session:
        rows = session.scalars(reliabilities(reviewer_id=wanted).limit(1000))
        return [_reliability_out(row) for row in rows]


def _reliability_out(row: ReviewerReliability) -> ReliabilityOut:
    return ReliabilityOut(
        reviewer_id=wire_id("per", row.reviewer_id),
        domain=row.domain,
        accuracy=row.accuracy,
        low=row.low,
        high=row.high,
        votes=row.votes,
        at=row.at,
        what_counts=(
            "Votes on claims of stumps that others voted on or a senior decided; on questions of"
            " judgement nobody is measured by the others."
        ),
    )


def _ability_out(row: Ability) -> AbilityOut:
    return AbilityOut(
        expert_id=wire_id("per", row.expert_id),
        domain=row.domain,
        target_model_id=wire_ids("mdl", row.target_model_id),
        chance=row.chance,
        low=row.low,
        high=row.high,
        logit=row.logit,
        logit_sd=row.sd,
        outcomes=row.outcomes,
        at=row.at,
        what_would_change_it=what_would_change(row.chance, row.sd, row.outcomes),
    )


def _calibration_out(stage: str, one: Calibration) -> CalibrationOut:
    return CalibrationOut(
        stage=stage,
        count=one.count,
        log_loss=one.log_loss,
        ece=one.ece,
        ece_low=one.ece_low,
        ece_high=one.ece_high,
        points=[
            PointOut(
                predicted=point.predicted,
                observed=point.observed,
                low=point.low,
                high=point.high,
                count=point.count,
            )
            for point in one.points
        ],
    )


ROUTES: list[HTTPRouteHandler] = [
    get_own_abilities,
    get_abilities,
    get_stump_model,
    post_refit,
    get_recomputed,
    get_frontier,
    get_own_reliability,
    get_reliability,
]
