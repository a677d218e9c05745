"""Pages of ops about experiments: what is tried on whom, what was seen of it, and how it ends."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from market.console.charts import picture
from market.console.experiment_told import (
    KIND_WORDS,
    METRIC_WORDS,
    effect_chart,
    guardrails_chart,
    guardrails_told,
    metric_told,
    together_told,
)
from market.console.forms import Form, field, tried
from market.console.frame import HEADERS, Notice, back_to, page
from market.console.visitors import OPS, FormUnreadable, my_id
from market.db import database, now
from market.experiments.actions import (
    design_experiment,
    finish_experiment,
    look_at_experiment,
    promote_experiment,
    start_experiment,
)
from market.experiments.models import Experiment, ExperimentLook, Exposure
from market.experiments.queries import experiment, experiments, looks, units_in_scope
from market.experiments.routes import effects_table
from market.experiments.rules import (
    CANARY,
    EXPERIMENT,
    GUARDRAILS,
    KINDS,
    METRICS,
    UNITS,
    Design,
    is_treated,
)
from market.http import NotFound, page_of, read_id, wire_id
from market.people.queries import names_of
from market.policies.models import PolicyVersion
from market.policies.queries import approval_wanted, default_policy
from market.projects.models import Project

PAGE = 25
HOME = "/console/ops/policies/experiments"


@get("/policies/experiments", guards=OPS, sync_to_thread=True)
def get_experiments(
    request: Request[Any, Any, Any],
    of: FromQuery[str | None] = None,
    cursor: FromQuery[str | None] = None,
) -> Template:
    """What is tried, and what was: newest first, by state."""
    with database.begin() as session:
        counts = dict(
            session.execute(select(Experiment.state, func.count()).group_by(Experiment.state)).all()
        )
        rows, following = page_of(
            session,
            experiments(of),
            Experiment.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"experiments {of}",
        )
        latest = {
            one.experiment_id: one
            for one in session.scalars(
                select(ExperimentLook)
                .where(ExperimentLook.experiment_id.in_([row.id for row in rows]))
                .ext(distinct_on(ExperimentLook.experiment_id))
                .order_by(ExperimentLook.experiment_id, ExperimentLook.number.desc())
            )
        }
        return page(
            request,
            "ops/experiments.html",
            rows=rows,
            following=following,
            latest=latest,
            told={
                row.id: metric_told(row.metric, latest[row.id].effects)
                for row in rows
                if row.id in latest
            },
            kinds=KIND_WORDS,
            counts=counts,
            chosen=of,
        )


@get("/policies/experiments/new", guards=OPS, sync_to_thread=True)
def get_design(
    request: Request[Any, Any, Any],
    policy: FromQuery[str] = "",
    kind: FromQuery[str] = "policy",
) -> Template:
    """A form for the next experiment; nothing is tried before it is started."""
    return _design(request, {"treated": policy, "kind": kind if kind in KINDS else "policy"})


def _design(
    request: Request[Any, Any, Any],
    typed: Mapping[str, str],
    *,
    status: int = 200,
    notice: Notice | None = None,
) -> Template:
    with database.begin() as session:
        obeyed = default_policy(session).policy_id
        return page(
            request,
            "ops/experiment_new.html",
            status=status,
            notice=notice,
            typed={
                "share": "10",
                "unit": "expert",
                "metric": "stump",
                **{f"guard-{name}": "yes" for name in GUARDRAILS if "name" not in typed},
                **typed,
            },
            policies=session.scalars(
                select(PolicyVersion)
                .where(PolicyVersion.id != obeyed)
                .order_by(PolicyVersion.name, PolicyVersion.id.desc())
            ).all(),
            obeyed=session.get_one(PolicyVersion, obeyed),
            projects=session.scalars(select(Project).order_by(Project.name)).all(),
            kinds=KIND_WORDS,
            units=UNITS,
            metrics=[(name, METRIC_WORDS[name], one.unit) for name, one in METRICS.items()],
            canary=CANARY,
        )


@post("/policies/experiments/new", guards=OPS, sync_to_thread=True, status_code=303)
def post_design(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Write an experiment down."""
    me = my_id(request)

    def act() -> str:
        design = _read_design(data)
        with database.begin() as session:
            made = design_experiment(session, design, author_id=me, at=now())
            return f"{HOME}/{wire_id('exp', made.id)}?said=designed"

    return tried(data, act, partial(_design, request, data))


def _read_design(data: Mapping[str, str]) -> Design:
    kind, project, treated = (field(data, name) for name in ("kind", "project", "treated"))
    return Design(
        name=field(data, "name"),
        kind=kind,
        unit=field(data, "unit"),
        share=_share(field(data, "share")),
        reason=field(data, "reason"),
        metric=field(data, "metric"),
        guardrails=tuple(name for name in METRICS if data.get(f"guard-{name}") == "yes"),
        domain=field(data, "domain") or None,
        project_id=read_id("prj", project) if project else None,
        scope=field(data, "scope") or None,
        treated_policy_id=read_id("plc", treated) if treated and kind == "policy" else None,
        treatment=None if kind == "policy" else _treatment(field(data, "treatment")),
    )


def _share(text: str) -> float:
    try:
        return float(text) / 100
    except ValueError:
        raise FormUnreadable("the share is a number of per cent, such as 10") from None


def _treatment(text: str) -> dict[str, object]:
    """What the treated get: lines of a name, a colon, and what it is.

    Raises:
        FormUnreadable.
    """
    found: dict[str, object] = {}
    for one in filter(None, (part.strip() for part in text.split("\n"))):
        name, colon, value = one.partition(":")
        if not colon or not name.strip() or not value.strip():
            raise FormUnreadable(
                f"{one[:80]!r} is not a name and what it is, such as raise_basis_points: 500"
            )
        given = value.strip()
        is_number = given.isascii() and given.isdecimal() and len(given) <= 15
        found[name.strip()] = int(given) if is_number else given
    return found


@get("/policies/experiments/{experiment_id:str}", guards=OPS, sync_to_thread=True)
def get_experiment(
    request: Request[Any, Any, Any],
    experiment_id: FromPath[str],
    said: FromQuery[str | None] = None,
) -> Template:
    """One experiment: its arms, whom it touched, and what is known with certainty at any look."""
    del said
    with database.begin() as session:
        found = experiment(session, read_id("exp", experiment_id))
        units = units_in_scope(session, found, at=now())
        treated = sum(is_treated(found.salt, one, found.share) for one in units)
        seen = looks(session, found.id)
        versions = {
            one.id: one
            for one in session.scalars(
                select(PolicyVersion).where(
                    PolicyVersion.id.in_(
                        [
                            one
                            for one in (found.control_policy_id, found.treated_policy_id)
                            if one is not None
                        ]
                    )
                )
            )
        }
        return page(
            request,
            "ops/experiment.html",
            experiment=found,
            kind=KIND_WORDS[found.kind],
            metric=METRICS[found.metric],
            metric_name=METRIC_WORDS[found.metric],
            versions=versions,
            project=session.get(Project, found.project_id) if found.project_id else None,
            author=names_of(session, {found.author_id}).get(found.author_id or found.id),
            arms=_arms(session, found.id, treated, len(units) - treated),
            looks=seen,
            told=metric_told(found.metric, seen[0].effects) if seen else None,
            guardrails=guardrails_told(found.guardrails, seen[0].effects) if seen else [],
            together=together_told(seen[0].effects) if seen else [],
            chart=effect_chart(found.metric, seen),
            guarded=guardrails_chart(found.guardrails, seen),
            moves=EXPERIMENT.allowed(found.state),
            unapproved=_unapproved(session, found, versions),
            is_obeyed=default_policy(session).policy_id == found.treated_policy_id,
        )


def _arms(
    session: Session, experiment_id: UUID, treated: int, control: int
) -> list[tuple[str, int, int, int]]:
    """Each arm: its name, its units in scope now, its units touched, and its assignments."""
    rows = session.execute(
        select(Exposure.arm, func.count(Exposure.unit_id.distinct()), func.count())
        .where(Exposure.experiment_id == experiment_id)
        .group_by(Exposure.arm)
    )
    touched = {arm: (units, assignments) for arm, units, assignments in rows}
    return [
        (arm, size, *touched.get(arm, (0, 0)))
        for arm, size in (("control", control), ("treated", treated))
    ]


def _unapproved(
    session: Session, found: Experiment, versions: Mapping[UUID, PolicyVersion]
) -> list[str]:
    """Why a second person has yet to approve what is tried; a canary needs it to be promoted."""
    if found.treated_policy_id is None or found.control_policy_id is None:
        return []
    return approval_wanted(
        session, versions[found.treated_policy_id], instead_of=versions[found.control_policy_id]
    )


@post(
    "/policies/experiments/{experiment_id:str}/{move:str}",
    guards=OPS,
    sync_to_thread=True,
    status_code=303,
)
def post_move(
    request: Request[Any, Any, Any], experiment_id: FromPath[str], move: FromPath[str], data: Form
) -> Redirect:
    """Start an experiment, look at it, end it, or keep what was tried."""
    found_id, me, at = read_id("exp", experiment_id), my_id(request), now()
    reason = field(data, "note")
    with database.begin() as session:
        if move == "start":
            start_experiment(session, found_id, actor_id=me, at=at)
        elif move == "look":
            look_at_experiment(session, found_id, at=at)
        elif move in ("finish", "drop", "retire"):
            finish_experiment(session, found_id, reason=reason, actor_id=me, at=at)
        elif move == "promote":
            promote_experiment(session, found_id, reason=reason, actor_id=me, at=at)
        else:
            raise NotFound("move", move[:64])
    return back_to(f"{HOME}/{experiment_id}", f"experiment-{move}")


@get("/policies/experiments/{experiment_id:str}/{name:str}", guards=OPS, sync_to_thread=True)
def get_picture(
    experiment_id: FromPath[str],
    name: FromPath[str],
    scheme: FromQuery[str] = "light",
    v: FromQuery[str | None] = None,
) -> Response[bytes]:
    """One picture of what was seen, or all of it as a table."""
    with database.begin() as session:
        found = experiment(session, read_id("exp", experiment_id))
        seen = looks(session, found.id)
        if name == "effect.svg":
            chart = effect_chart(found.metric, seen)
        elif name == "effects.csv":
            kept = {**HEADERS, "Content-Disposition": 'attachment; filename="effects.csv"'}
            table = effects_table(session, found).encode()
            return Response(table, media_type="text/csv", headers=kept)
        elif name == "guardrails.svg":
            chart = guardrails_chart(found.guardrails, seen)
        else:
            raise NotFound("picture", name[:64])
    return picture(chart, scheme, v)


ROUTES: list[HTTPRouteHandler] = [
    get_experiments,
    get_design,
    post_design,
    get_experiment,
    post_move,
    get_picture,
]
