"""Pages about releases of target models: told by labs, calibrated by tasks, adopted by labs."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import select

from market.auth import Part
from market.console.charts import Chart, bounded, picture
from market.console.forms import Form, field, tried, whole_number
from market.console.frame import Notice, back_to, page
from market.console.visitors import LAB, OPS, my_id
from market.console.words import share
from market.db import PLATFORM, database, now
from market.http import page_of, principal_of_request, read_id, wire_id
from market.projects.models import TargetModel
from market.projects.queries import target_model
from market.projects.rules import ModelVersion
from market.releases.actions import announce_release, move_release
from market.releases.models import ModelRelease
from market.releases.queries import LevelRate, level_rates, release, releases
from market.releases.rules import DEFAULT_SIZE, FEWEST, MOST, RELEASE

PAGE = 25
HOMES = {Part.LAB: "/console/lab/releases", Part.OPS: "/console/ops/signals/releases"}


def rates_chart(levels: list[LevelRate]) -> Chart:
    """What is believed of a new model level by level, before its calibration and after."""
    sentence = "Nothing is chosen to calibrate it yet."
    if levels:
        first = levels[0]
        sentence = (
            f"At complexity {first.level + 1} {share(first.after)} of tasks are thought to lead it"
            f" astray (likely {share(first.low)} to {share(first.high)});"
            f" before, it was {share(first.before)}."
        )
    at = [(float(one.level + 1), one) for one in levels]
    return Chart(
        "Tasks that lead it astray",
        sentence,
        "Complexity",
        "Share of tasks",
        (
            bounded("Now", [(x, one.after, one.low, one.high) for x, one in at], "points"),
            bounded("As told", [(x, one.before, one.before, one.before) for x, one in at], "line"),
        )
        if levels
        else (),
        y_unit="share",
    )


def get_list(
    request: Request[Any, Any, Any],
    said: FromQuery[str | None] = None,
    cursor: FromQuery[str | None] = None,
) -> Template:
    """Releases that the visitor may see, newest first; a lab can tell of the next one."""
    del said
    return _list(request, cursor=cursor)


def _list(
    request: Request[Any, Any, Any],
    *,
    cursor: str | None = None,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    principal = principal_of_request(request)
    with database.begin() as session:
        rows, following = page_of(
            session,
            releases(),
            ModelRelease.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"{principal.tenant} releases",
        )
        models = session.scalars(select(TargetModel).order_by(TargetModel.name, TargetModel.id))
        return page(
            request,
            "releases.html",
            status=status,
            notice=notice,
            rows=rows,
            following=following,
            models={one.id: one for one in models},
            home=HOMES[principal.part],
            is_lab=principal.part is Part.LAB,
            typed=typed or {},
            fewest=FEWEST,
            most=MOST,
            usual=DEFAULT_SIZE,
        )


@post("/releases", guards=LAB, sync_to_thread=True, status_code=303)
def post_release(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Tell of a new version of a model."""
    me = my_id(request)

    def act() -> str:
        earlier = read_id("mdl", field(data, "earlier"))
        size = whole_number(
            data, "size", "tasks to calibrate it", least=FEWEST, most=MOST, absent=DEFAULT_SIZE
        )
        version = ModelVersion(
            name=field(data, "name"),
            model=field(data, "model"),
            base_url=field(data, "base_url") or None,
            key=field(data, "key") or None,
        )
        with database.begin() as session:
            target_model(session, earlier)
        # As the platform, because what is believed of the earlier version is no lab's row.
        with database.begin(PLATFORM) as session:
            made = announce_release(session, earlier, version, at=now(), size=size, actor_id=me)
            return f"{_address(Part.LAB, made.id)}?said=release-told"

    return tried(data, act, partial(_list, request, typed=data))


def _address(part: Part, release_id: UUID) -> str:
    return f"{HOMES[part]}/{wire_id('rls', release_id)}"


def get_one(
    request: Request[Any, Any, Any],
    release_id: FromPath[str],
    said: FromQuery[str | None] = None,
) -> Template:
    """One release: what its line let expect, what its tasks said, and what can be done now."""
    del said
    principal = principal_of_request(request)
    found, levels = _seen(release_id)
    with database.begin() as session:
        models = select(TargetModel).where(
            TargetModel.id.in_((found.target_model_id, found.earlier_model_id))
        )
        return page(
            request,
            "release.html",
            release=found,
            levels=levels,
            chart=rates_chart(levels),
            models={one.id: one for one in session.scalars(models)},
            home=HOMES[principal.part],
            moves=RELEASE.allowed(found.state) if principal.part is Part.LAB else (),
        )


def _seen(release_id: str) -> tuple[ModelRelease, list[LevelRate]]:
    """A release that the visitor may see, and what is believed of it level by level."""
    wanted = read_id("rls", release_id)
    with database.begin() as session:
        found = release(session, wanted)
    # As the platform, because the outcomes behind it are no lab's rows to read.
    with database.begin(PLATFORM) as session:
        return found, level_rates(session, found)


def get_picture(
    release_id: FromPath[str],
    scheme: FromQuery[str] = "light",
    v: FromQuery[str | None] = None,
) -> Response[bytes]:
    """The picture of what is believed of a release."""
    return picture(rates_chart(_seen(release_id)[1]), scheme, v)


@post("/releases/{release_id:str}/{move:str}", guards=LAB, sync_to_thread=True, status_code=303)
def post_move(
    request: Request[Any, Any, Any], release_id: FromPath[str], move: FromPath[str], data: Form
) -> Redirect:
    """Calibrate a release, settle it early, let projects test it, or withdraw it."""
    wanted, me = read_id("rls", release_id), my_id(request)
    with database.begin() as session:
        release(session, wanted)
    with database.begin(PLATFORM) as session:
        found = release(session, wanted, lock=True)
        RELEASE.target(found.state, move)
        move_release(session, wanted, move, at=now(), note=field(data, "note") or None, actor_id=me)
    return back_to(_address(Part.LAB, wanted), f"release-{move}")


LAB_ROUTES: list[HTTPRouteHandler] = [
    get("/releases", guards=LAB, sync_to_thread=True)(get_list),
    post_release,
    get("/releases/{release_id:str}", guards=LAB, sync_to_thread=True)(get_one),
    get("/releases/{release_id:str}/rates.svg", guards=LAB, sync_to_thread=True)(get_picture),
    post_move,
]
OPS_ROUTES: list[HTTPRouteHandler] = [
    get("/signals/releases", guards=OPS, sync_to_thread=True)(get_list),
    get("/signals/releases/{release_id:str}", guards=OPS, sync_to_thread=True)(get_one),
    get("/signals/releases/{release_id:str}/rates.svg", guards=OPS, sync_to_thread=True)(
        get_picture
    ),
]
