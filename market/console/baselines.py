"""Pages about baselines: experts and the model on one scale, for the lab whose they are and ops."""

from dataclasses import dataclass
from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Template
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.baselines.actions import compared
from market.baselines.models import BaselineResult, EvalSet
from market.baselines.queries import eval_set, eval_sets, results_of
from market.console.charts import Chart, bounded, picture
from market.console.frame import page
from market.console.visitors import LAB, OPS
from market.db import PLATFORM, Scope, current_scope, database
from market.http import read_id
from market.projects.queries import project

SHOWN = 10

STANDING_WORDS = {
    "human": "somebody is above the model",
    "unclear": "nobody is surely above the model yet",
    "saturated": "nobody is above the model",
    "thin": "too few answers to say",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A set with its picture and how it stood last."""

    found: EvalSet
    chart: Chart
    last: BaselineResult | None
    standing: str


def baseline_chart(session: Session, found: EvalSet) -> Chart:
    """The model, people together, and each expert, with the interval of nine tenths."""
    said = compared(session, found)
    title = f"{found.name}: shares of right answers"
    if said is None:
        waits = "The model is being asked." if found.failure is None else found.failure
        return Chart(title, waits, "Who", "Right", (), y_unit="share")
    shares = [said.model, said.human, *said.people]
    names = ("The model", "People together", *(f"Expert {n + 1}" for n in range(len(said.people))))
    points = [(float(n), one.value, one.low, one.high) for n, one in enumerate(shares)]
    if not said.people:
        points, names = points[:1], names[:1]
    return Chart(
        title,
        f"{found.items} items, {found.limit_s} s each: {STANDING_WORDS[said.standing.value]}.",
        "Who",
        "Right",
        (bounded("Right", points, "bars"),),
        x_names=names,
        y_unit="share",
    )


def _shown(session: Session, found: EvalSet) -> Shown:
    last = next(iter(results_of(session, found.id)), None)
    standing = "thin" if last is None else last.standing
    return Shown(found, baseline_chart(session, found), last, STANDING_WORDS[standing])


def _seen(session: Session, rows: list[EvalSet]) -> list[Shown]:
    return [_shown(session, found) for found in rows]


@get("/projects/{project_id:str}/baselines", guards=LAB, sync_to_thread=True)
def get_baselines(request: Request[Any, Any, Any], project_id: FromPath[str]) -> Template:
    """How experts and the model stand at the evaluation sets of a project."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        newest = eval_sets(found.id).order_by(EvalSet.id.desc()).limit(SHOWN)
        mine = [row.id for row in session.scalars(newest)]
    # As the platform, because a lab reads no answer of an expert one by one.
    with database.begin(PLATFORM) as session:
        rows = [eval_set(session, which) for which in mine]
        return page(
            request,
            "lab/baselines.html",
            project=found,
            sets=_seen(session, rows),
            base="/console/lab/baselines/",
        )


@get("/signals/baselines", guards=OPS, sync_to_thread=True)
def get_every_baseline(request: Request[Any, Any, Any]) -> Template:
    """How experts and models stand at the latest evaluation sets."""
    with database.begin() as session:
        newest = select(EvalSet).order_by(EvalSet.id.desc()).limit(SHOWN)
        rows = list(session.scalars(newest))
        return page(
            request,
            "lab/baselines.html",
            project=None,
            sets=_seen(session, rows),
            base="/console/ops/baselines/",
        )


def _picture(scope: Scope, name: str, scheme: str, version: str | None) -> Response[bytes]:
    with database.begin(scope) as session:
        # Whether it is the reader's to see.
        which = eval_set(session, read_id("evs", name.removesuffix(".svg"))).id
    with database.begin(PLATFORM) as session:
        chart = baseline_chart(session, eval_set(session, which))
    return picture(chart, scheme, version)


@get("/baselines/{name:str}", guards=LAB, sync_to_thread=True)
def get_picture(
    name: FromPath[str], scheme: FromQuery[str] = "light", v: FromQuery[str | None] = None
) -> Response[bytes]:
    """The picture of one set of the lab's."""
    return _picture(current_scope.get(), name, scheme, v)


@get("/baselines/{name:str}", guards=OPS, sync_to_thread=True)
def get_any_picture(
    name: FromPath[str], scheme: FromQuery[str] = "light", v: FromQuery[str | None] = None
) -> Response[bytes]:
    """The picture of any set."""
    return _picture(PLATFORM, name, scheme, v)


LAB_ROUTES: list[HTTPRouteHandler] = [get_baselines, get_picture]
OPS_ROUTES: list[HTTPRouteHandler] = [get_every_baseline, get_any_picture]
