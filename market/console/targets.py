"""Pages about service targets: a lab's for its project, and what ops want of queues."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import partial
from typing import Any

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy.orm import Session

from market.console.charts import Chart, Series, picture
from market.console.forms import Form, field, once, tried, whole_number
from market.console.frame import Notice, page
from market.console.visitors import LAB, OPS, FormUnreadable, my_id
from market.console.words import duration, share
from market.db import database, now
from market.http import read_id
from market.projects.queries import project
from market.targets.actions import end_target, set_project_targets, set_queue_target
from market.targets.models import ServiceTarget, TargetMiss
from market.targets.queries import burned, goal_of, misses, seen, targets
from market.targets.rules import BurnPoint, Goal

SHARES = ("quality", "acceptance", "expiry")
AT_MOST = ("speed", "age", "wait", "expiry")


@dataclass(frozen=True, slots=True)
class Told:
    """A target as a page tells it: what is wanted, how it stands, and its last miss."""

    target: ServiceTarget
    wanted: str
    now: str
    tone: str
    miss: TargetMiss | None


def told(session: Session, rows: list[ServiceTarget], at: datetime) -> list[Told]:
    """Targets in words."""
    latest: dict[object, TargetMiss] = {}
    for one in misses(session, [row.id for row in rows]):
        latest.setdefault(one.target_id, one)
    found = []
    for row in rows:
        stands = seen(session, row, at=at)
        bound = "at most" if row.kind in AT_MOST else "at least"
        value = "nothing yet" if stands.value is None else _amount(row.kind, stands.value)
        tone = "bad" if stands.is_missed else "good" if stands.is_met else ""
        wanted = f"{bound} {_amount(row.kind, row.goal)}"
        found.append(Told(row, wanted, value, tone, latest.get(row.id)))
    return found


def _amount(kind: str, value: float) -> str:
    if kind in SHARES:
        return share(value)
    return f"{value:,.0f} answers" if kind == "volume" else duration(int(value))


def queue_targets_told(session: Session) -> list[Told]:
    """What is wanted of queues, and how it stands."""
    return told(session, list(targets(session)), now())


def burn_chart(points: list[BurnPoint], target: ServiceTarget) -> Chart:
    """What is left of a volume beside an even pace."""
    days = [(one.at - target.set_at).total_seconds() / 86_400 for one in points]
    return Chart(
        "What is left to do",
        f"{target.goal:,.0f} accepted answers were wanted from the day the target was set.",
        "Days since then",
        "Answers left",
        (
            Series("Left", tuple(days), tuple(one.left for one in points)),
            Series("At an even pace", tuple(days), tuple(one.even for one in points)),
        ),
        y_unit="count",
    )


@get("/projects/{project_id:str}/targets", guards=LAB, sync_to_thread=True)
def get_targets(
    request: Request[Any, Any, Any],
    project_id: FromPath[str],
    said: FromQuery[str | None] = None,
) -> Template:
    """Speed, volume and quality of a project against what is wanted, and the form to say so."""
    del said
    return _page(request, project_id, None)


def _page(
    request: Request[Any, Any, Any],
    project_id: str,
    typed: Mapping[str, str] | None,
    *,
    status: int = 200,
    notice: Notice | None = None,
) -> Template:
    at = now()
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        rows = list(targets(session, project_id=found.id))
        volume = next((one for one in rows if one.kind == "volume"), None)
        points = [] if volume is None else burned(session, volume, at=at)
        return page(
            request,
            "lab/targets.html",
            status=status,
            notice=notice,
            project=found,
            rows=told(session, rows, at),
            history=misses(session, [row.id for row in rows]),
            chart=None if volume is None else burn_chart(points, volume),
            typed=_typed(rows) if typed is None else typed,
        )


def _typed(rows: list[ServiceTarget]) -> dict[str, str]:
    wanted = {row.kind: goal_of(row) for row in rows}
    found: dict[str, str] = {}
    if "speed" in wanted:
        found["speed"] = f"{wanted['speed'].goal / 3600:.0f}"
    if "quality" in wanted:
        found["quality"] = f"{100 * wanted['quality'].goal:.0f}"
    if "volume" in wanted:
        found["volume"] = f"{wanted['volume'].goal:.0f}"
        due = wanted["volume"].due_at
        found["due"] = "" if due is None else f"{due:%Y-%m-%d}"
    return found


@post("/projects/{project_id:str}/targets", guards=LAB, sync_to_thread=True, status_code=303)
def post_targets(
    request: Request[Any, Any, Any], project_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Say what is wanted of a project."""

    def act() -> str:
        with database.begin() as session:
            set_project_targets(
                session,
                read_id("prj", project_id),
                _goals(data),
                at=now(),
                actor_id=my_id(request),
            )
        return f"/console/lab/projects/{project_id}/targets?said=target-set"

    return tried(data, act, partial(_page, request, project_id, data))


def _goals(data: Mapping[str, str]) -> list[Goal]:
    found = []
    hours = whole_number(data, "speed", "speed", least=1, most=10_000, absent=0)
    if hours:
        found.append(Goal("speed", hours * 3600.0))
    answers = whole_number(data, "volume", "volume", least=1, most=10**9, absent=0)
    if answers:
        try:
            day = datetime.strptime(field(data, "due"), "%Y-%m-%d").date()  # noqa: DTZ007
        except ValueError:
            raise FormUnreadable("say by which day the volume is wanted") from None
        found.append(Goal("volume", float(answers), datetime.combine(day, time.max, UTC)))
    per_cent = whole_number(data, "quality", "quality", least=1, most=99, absent=0)
    if per_cent:
        found.append(Goal("quality", per_cent / 100))
    return found


@get("/projects/{project_id:str}/targets.svg", guards=LAB, sync_to_thread=True)
def get_burn_down(
    project_id: FromPath[str], scheme: FromQuery[str] = "light", v: FromQuery[str | None] = None
) -> Response[bytes]:
    """The picture of what is left of a volume."""
    at = now()
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        rows = [one for one in targets(session, project_id=found.id) if one.kind == "volume"]
        if not rows:
            raise FormUnreadable("no volume is wanted of this project")
        chart = burn_chart(burned(session, rows[0], at=at), rows[0])
    return picture(chart, scheme, v)


@post("/queue-targets", guards=OPS, sync_to_thread=True, status_code=303)
def post_queue_target(request: Request[Any, Any, Any], data: Form) -> Redirect:
    """Want something of a queue."""
    kind = field(data, "kind")
    typed = whole_number(data, "goal", "the goal", least=1, most=100_000, absent=0)
    goal = typed / 100 if kind in SHARES else typed * 3600.0

    def act() -> str:
        with database.begin() as session:
            set_queue_target(
                session,
                field(data, "queue"),
                Goal(kind, goal),
                domain=field(data, "domain") or None,
                at=now(),
                actor_id=my_id(request),
            )
        return "/console/ops/queues?said=target-set"

    return once(data, act)


@post("/queue-targets/{target_id:str}/end", guards=OPS, sync_to_thread=True, status_code=303)
def post_queue_target_end(target_id: FromPath[str], data: Form) -> Redirect:
    """Want it no longer."""

    def act() -> str:
        with database.begin() as session:
            end_target(session, read_id("tgt", target_id), at=now())
        return "/console/ops/queues?said=target-ended"

    return once(data, act)


LAB_ROUTES: list[HTTPRouteHandler] = [get_targets, post_targets, get_burn_down]
OPS_ROUTES: list[HTTPRouteHandler] = [post_queue_target, post_queue_target_end]
