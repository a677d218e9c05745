"""Experiments over HTTP: design, start, read, finish and promote them; variants of an offer."""

import csv
import io
from datetime import datetime

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from sqlalchemy.orm import Session

from market.auth import Principal
from market.db import Json, database, now
from market.experiments.actions import (
    change_scope,
    design_experiment,
    finish_experiment,
    promote_experiment,
    start_experiment,
)
from market.experiments.models import Experiment, Exposure
from market.experiments.queries import (
    experiment,
    experiments,
    exposures,
    looks,
    units_in_scope,
    variants,
)
from market.experiments.rules import GUARDRAILS, METRICS, Design, is_treated
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    listed,
    post,
    put,
    read_id,
    read_ids,
    wire_id,
    wire_ids,
)
from market.language import from_json

EFFECT_COLUMNS = (
    *("control_mean", "treated_mean", "estimate", "low", "high", "p_value"),
    *("control_units", "treated_units", "control_assignments", "treated_assignments"),
    "reduction",
)


class ExperimentIn(Wire):
    """What to compare, on whom, and by what it is judged; see `docs/policies.md`."""

    name: str
    kind: str
    unit: str
    share: float
    reason: str
    metric: str = "stump"
    guardrails: list[str] | None = None
    domain: str | None = None
    project_id: str | None = None
    scope_expression: str | None = None
    control_policy_id: str | None = None
    treated_policy_id: str | None = None
    treatment: Json | None = None


class ScopeIn(Wire):
    """Whom an experiment is about, as an expression about its units; null is everybody."""

    scope_expression: str | None


class EndIn(Wire):
    """Why an experiment ends."""

    reason: str = ""


class LookOut(Wire):
    """One look: effects with intervals that hold at every look, and what followed.

    `guard.` stands before what may not get worse, `together.` before time and quality, whose
    intervals hold all at once.
    """

    number: int
    at: datetime
    exposed: int
    decision: str
    reason: str
    effects: Json


class ExperimentOut(Wire):
    """An experiment: what is compared and how it stands."""

    id: str
    name: str
    kind: str
    unit: str
    share: float
    metric: str
    metric_unit: str
    guardrails: list[str]
    reason: str
    state: str
    treatment: Json
    domain: str | None
    project_id: str | None
    scope_expression: str | None
    control_policy_id: str | None
    treated_policy_id: str | None
    author_id: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    end_reason: str | None


class ReportOut(ExperimentOut):
    """An experiment with its cohort as it is now and its looks, the newest first."""

    treated_units: int
    control_units: int
    looks: list[LookOut]


class ExposureOut(Wire):
    """An offer that an experiment touched."""

    offer_id: str
    unit_id: str
    arm: str
    at: datetime


class VariantOut(Wire):
    """The arm of an experiment that an offer is in, and what whoever does it is to get."""

    experiment_id: str
    kind: str
    arm: str
    treatment: Json | None


class VariantsOut(Wire):
    """Every experiment that an offer is in."""

    items: list[VariantOut]


@post("/experiments", scope="policy:write", status_code=HTTP_201_CREATED, tags=["Experiments"])
def post_experiment(
    data: JSONBody[ExperimentIn], principal: NamedDependency[Principal]
) -> ExperimentOut:
    """Design an experiment; nothing is tried before it is started."""
    design = Design(
        name=data.name,
        kind=data.kind,
        unit=data.unit,
        share=data.share,
        reason=data.reason,
        metric=data.metric,
        guardrails=GUARDRAILS if data.guardrails is None else tuple(data.guardrails),
        domain=data.domain,
        project_id=read_ids("prj", data.project_id),
        control_policy_id=read_ids("plc", data.control_policy_id),
        treated_policy_id=read_ids("plc", data.treated_policy_id),
        treatment=data.treatment,
        scope=data.scope_expression,
    )
    with database.begin() as session:
        made = design_experiment(session, design, author_id=principal.person_id, at=now())
        return ExperimentOut(**_columns(made))


@get("/experiments", scope="policy:read", tags=["Experiments"])
def get_experiments(
    in_state: StateFilter = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[ExperimentOut]:
    """Experiments, newest first."""
    with database.begin() as session:
        return listed(
            session,
            experiments(in_state),
            Experiment.id,
            lambda row: ExperimentOut(**_columns(row)),
            limit=limit,
            cursor=cursor,
            filters=f"experiments {in_state}",
        )


@get("/experiments/{experiment_id:str}", scope="policy:read", tags=["Experiments"])
def get_experiment(experiment_id: FromPath[str]) -> ReportOut:
    """One experiment, whom it is about, and what was seen of it."""
    with database.begin() as session:
        return _report(session, experiment(session, read_id("exp", experiment_id)))


@get("/experiments/{experiment_id:str}/exposures", scope="policy:read", tags=["Experiments"])
def get_exposures(
    experiment_id: FromPath[str], limit: Limit = 50, cursor: Cursor = None
) -> Page[ExposureOut]:
    """The offers that an experiment touched, the oldest first."""
    with database.begin() as session:
        found = experiment(session, read_id("exp", experiment_id))
        unit = "per" if found.unit == "expert" else "prj"
        return listed(
            session,
            exposures(found.id),
            Exposure.id,
            lambda row: ExposureOut(
                offer_id=wire_id("ofr", row.offer_id),
                unit_id=wire_id(unit, row.unit_id),
                arm=row.arm,
                at=row.at,
            ),
            limit=limit,
            cursor=cursor,
            filters=f"exposures {found.id}",
            newest_first=False,
        )


@get(
    "/experiments/{experiment_id:str}/effects.csv",
    scope="policy:read",
    tags=["Experiments"],
    media_type="text/csv",
)
def get_effects_csv(experiment_id: FromPath[str]) -> Response[str]:
    """Every effect at every look as CSV, the newest look first."""
    with database.begin() as session:
        content = effects_table(session, experiment(session, read_id("exp", experiment_id)))
    headers = {"Content-Disposition": 'attachment; filename="effects.csv"'}
    return Response(content, media_type="text/csv", headers=headers)


def effects_table(session: Session, found: Experiment) -> str:
    """An experiment's looks as CSV, a line for each effect; `role` says what it was read for."""
    content = io.StringIO()
    write = csv.writer(content, lineterminator="\r\n").writerow
    write(("look", "at", "role", "metric", "unit", *EFFECT_COLUMNS))
    for one in looks(session, found.id):
        for name, effect in one.effects.items():
            role, _, metric = name.rpartition(".")
            told = (effect.get(column) for column in EFFECT_COLUMNS)
            cells = ["" if one is None else one for one in told]
            unit = METRICS[metric].unit
            write([one.number, one.at.isoformat(), role or "metric", metric, unit, *cells])
    return content.getvalue()


@put("/experiments/{experiment_id:str}/scope", scope="policy:write", tags=["Experiments"])
def put_scope(experiment_id: FromPath[str], data: JSONBody[ScopeIn]) -> ReportOut:
    """Say whom an experiment is about, before it is started. `POST /v1/expressions:explain` tells
    whom such an expression about experts leaves out, and why.
    """
    with database.begin() as session:
        found = change_scope(session, read_id("exp", experiment_id), data.scope_expression)
        return _report(session, found)


@post(
    "/experiments/{experiment_id:str}/start",
    scope="policy:write",
    status_code=HTTP_200_OK,
    tags=["Experiments"],
)
def post_experiment_start(
    experiment_id: FromPath[str], principal: NamedDependency[Principal]
) -> ReportOut:
    """Begin an experiment."""
    with database.begin() as session:
        found = start_experiment(
            session, read_id("exp", experiment_id), actor_id=principal.person_id, at=now()
        )
        return _report(session, found)


@post(
    "/experiments/{experiment_id:str}/finish",
    scope="policy:write",
    status_code=HTTP_200_OK,
    tags=["Experiments"],
)
def post_experiment_finish(
    experiment_id: FromPath[str], data: JSONBody[EndIn], principal: NamedDependency[Principal]
) -> ReportOut:
    """End an experiment, or drop one that never began."""
    with database.begin() as session:
        found = finish_experiment(
            session,
            read_id("exp", experiment_id),
            reason=data.reason,
            actor_id=principal.person_id,
            at=now(),
        )
        return _report(session, found)


@post(
    "/experiments/{experiment_id:str}/promote",
    scope="policy:write",
    status_code=HTTP_200_OK,
    tags=["Experiments"],
)
def post_experiment_promote(
    experiment_id: FromPath[str], data: JSONBody[EndIn], principal: NamedDependency[Principal]
) -> ReportOut:
    """Keep what was tried; a policy becomes the default."""
    with database.begin() as session:
        found = promote_experiment(
            session,
            read_id("exp", experiment_id),
            reason=data.reason,
            actor_id=principal.person_id,
            at=now(),
        )
        return _report(session, found)


@get("/offers/{offer_id:str}/variants", scope="policy:read", tags=["Experiments"])
def get_offer_variants(offer_id: FromPath[str]) -> VariantsOut:
    """The arms that an offer is in: which instructions, tool or draft to show with it."""
    with database.begin() as session:
        return VariantsOut(
            items=[
                VariantOut(
                    experiment_id=wire_id("exp", found.id),
                    kind=found.kind,
                    arm=touched.arm,
                    treatment=found.treatment if touched.arm == "treated" else None,
                )
                for touched, found in variants(session, read_id("ofr", offer_id))
            ]
        )


def _report(session: Session, found: Experiment) -> ReportOut:
    units = units_in_scope(session, found, at=now())
    treated = sum(is_treated(found.salt, one, found.share) for one in units)
    return ReportOut(
        **_columns(found),
        treated_units=treated,
        control_units=len(units) - treated,
        looks=[
            LookOut(
                number=one.number,
                at=one.at,
                exposed=one.exposed,
                decision=one.decision,
                reason=one.reason,
                effects=one.effects,
            )
            for one in looks(session, found.id)
        ],
    )


def _columns(found: Experiment) -> Json:
    return {
        "id": wire_id("exp", found.id),
        "name": found.name,
        "kind": found.kind,
        "unit": found.unit,
        "share": found.share,
        "metric": found.metric,
        "metric_unit": METRICS[found.metric].unit,
        "guardrails": found.guardrails,
        "reason": found.reason,
        "state": found.state,
        "treatment": found.treatment,
        "domain": found.domain,
        "project_id": wire_ids("prj", found.project_id),
        "scope_expression": None if found.scope is None else from_json(found.scope).source,
        "control_policy_id": wire_ids("plc", found.control_policy_id),
        "treated_policy_id": wire_ids("plc", found.treated_policy_id),
        "author_id": wire_ids("per", found.author_id),
        "created_at": found.created_at,
        "started_at": found.started_at,
        "ended_at": found.ended_at,
        "end_reason": found.end_reason,
    }


ROUTES: list[HTTPRouteHandler] = [
    post_experiment,
    get_experiments,
    get_experiment,
    get_exposures,
    get_effects_csv,
    put_scope,
    post_experiment_start,
    post_experiment_finish,
    post_experiment_promote,
    get_offer_variants,
]
