"""Service targets and queue statistics over HTTP."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED, HTTP_204_NO_CONTENT
from msgspec import Meta
from sqlalchemy.orm import Session

from market.auth import Principal
from market.db import database, now
from market.http import Wire, delete, get, post, put, read_id, wire_id, wire_ids
from market.projects.queries import project
from market.targets.actions import end_target, set_project_targets, set_queue_target
from market.targets.models import ServiceTarget, TargetMiss
from market.targets.queries import burned, misses, pools, seen, targets
from market.targets.rules import Goal

Days = Annotated[int, QueryParameter(ge=1, le=90, description="What lately means, in days.")]


class TargetIn(Wire):
    """Speed: half of all verdicts within `goal` seconds. Volume: `goal` accepted answers by
    `due_at`. Quality: at least the share `goal` of reviewed work accepted.
    """

    kind: Literal["speed", "volume", "quality"]
    goal: float
    due_at: Annotated[datetime, Meta(tz=True)] | None = None


class TargetsIn(Wire):
    """The targets of a project, one of each kind at most."""

    targets: Annotated[tuple[TargetIn, ...], Meta(max_length=3)]


class QueueTargetIn(Wire):
    """What is wanted of a queue, in a domain or in all: `age` and `wait` at most so many seconds,
    `acceptance` at least and `expiry` at most such a share.
    """

    queue: Literal["seats", "reviews"]
    kind: Literal["age", "wait", "acceptance", "expiry"]
    goal: float
    domain: str | None = None


class MissOut(Wire):
    """One time that a target was missed; alerted once, when it opened."""

    id: str
    opened_at: datetime
    met_at: datetime | None
    value: float
    told: str


class TargetOut(Wire):
    """A target, how it stands, and the times it was missed.

    `wanted` is what the goal asks for by now; the interval of a share is 95 %.
    """

    id: str
    kind: str
    goal: float
    due_at: datetime | None
    project_id: str | None
    queue: str | None
    domain: str | None
    set_at: datetime
    value: float | None
    count: int
    wanted: float
    low: float | None
    high: float | None
    is_missed: bool
    is_met: bool
    misses: list[MissOut]


class BurnPointOut(Wire):
    """What is left of a volume at the end of a day, and what an even pace would leave."""

    at: datetime
    left: float
    even: float


class ProjectTargetsOut(Wire):
    """Speed, volume and quality of a project against what is wanted, with the burn-down."""

    project_id: str
    targets: list[TargetOut]
    burn_down: list[BurnPointOut]


class WaitingOut(Wire):
    """What waits now. Units: seconds."""

    count: int
    oldest_s: float
    half_s: float
    most_s: float


class FlowOut(Wire):
    """What went through: asked for and over, taken, run out; half and nine tenths of the waits."""

    asked: int
    taken: int
    expired: int
    half_s: float | None
    most_s: float | None


class PoolOut(Wire):
    """One queue in one domain: now, lately, and since the beginning."""

    queue: str
    domain: str
    now: WaitingOut
    lately: FlowOut
    ever: FlowOut


class QueuesOut(Wire):
    """How every queue goes, and what is wanted of them."""

    at: datetime
    days: int
    pools: list[PoolOut]
    targets: list[TargetOut]


@put(
    "/projects/{project_id:str}/targets",
    scope="project:write",
    status_code=HTTP_200_OK,
    tags=["Targets"],
)
def put_targets(
    project_id: FromPath[str], data: JSONBody[TargetsIn], principal: NamedDependency[Principal]
) -> ProjectTargetsOut:
    """Say what you want of a project; you are told, once, each time it is missed."""
    which = read_id("prj", project_id)
    with database.begin() as session:
        set_project_targets(
            session,
            which,
            [Goal(one.kind, one.goal, one.due_at) for one in data.targets],
            at=now(),
            actor_id=principal.person_id,
        )
        return _project_out(session, project_id)


@get("/projects/{project_id:str}/targets", scope="project:read", tags=["Targets"])
def get_targets(project_id: FromPath[str]) -> ProjectTargetsOut:
    """Speed, volume and quality of a project against what is wanted of them."""
    with database.begin() as session:
        return _project_out(session, project_id)


@get("/queues/statistics", scope="queue:read", tags=["Targets"])
def get_statistics(days: Days = 7) -> QueuesOut:
    """Wait, acceptance, expiry and age of every queue by domain: now, lately, in all."""
    at = now()
    with database.begin() as session:
        return QueuesOut(
            at=at,
            days=days,
            pools=[
                PoolOut(
                    queue=one.queue,
                    domain=one.domain,
                    now=WaitingOut(**asdict(one.now)),
                    lately=FlowOut(**asdict(one.lately)),
                    ever=FlowOut(**asdict(one.ever)),
                )
                for one in pools(session, at=at, days=days)
            ],
            targets=_targets_out(session, list(targets(session)), at),
        )


@post("/queues/targets", scope="queue:write", status_code=HTTP_201_CREATED, tags=["Targets"])
def post_queue_target(
    data: JSONBody[QueueTargetIn], principal: NamedDependency[Principal]
) -> TargetOut:
    """Want something of a queue; it takes the place of what was wanted of the same."""
    at = now()
    with database.begin() as session:
        made = set_queue_target(
            session,
            data.queue,
            Goal(data.kind, data.goal),
            domain=data.domain,
            at=at,
            actor_id=principal.person_id,
        )
        return _targets_out(session, [made], at)[0]


@delete(
    "/queues/targets/{target_id:str}",
    scope="queue:write",
    status_code=HTTP_204_NO_CONTENT,
    tags=["Targets"],
)
def delete_queue_target(target_id: FromPath[str]) -> None:
    """Want nothing more of a queue here."""
    with database.begin() as session:
        end_target(session, read_id("tgt", target_id), at=now())


def _project_out(session: Session, project_id: str) -> ProjectTargetsOut:
    at = now()
    found = project(session, read_id("prj", project_id))
    rows = list(targets(session, project_id=found.id))
    volume = next((one for one in rows if one.kind == "volume"), None)
    points = [] if volume is None else burned(session, volume, at=at)
    return ProjectTargetsOut(
        project_id=project_id,
        targets=_targets_out(session, rows, at),
        burn_down=[BurnPointOut(**asdict(one)) for one in points],
    )


def _targets_out(session: Session, rows: list[ServiceTarget], at: datetime) -> list[TargetOut]:
    missed: dict[object, list[TargetMiss]] = {}
    for one in misses(session, [row.id for row in rows]):
        missed.setdefault(one.target_id, []).append(one)
    return [
        TargetOut(
            id=wire_id("tgt", row.id),
            kind=row.kind,
            goal=row.goal,
            due_at=row.due_at,
            project_id=wire_ids("prj", row.project_id),
            queue=row.queue,
            domain=row.domain,
            set_at=row.set_at,
            **asdict(seen(session, row, at=at)),
            misses=[
                MissOut(
                    id=wire_id("msd", one.id),
                    opened_at=one.opened_at,
                    met_at=one.met_at,
                    value=one.value,
                    told=one.told,
                )
                for one in missed.get(row.id, [])
            ],
        )
        for row in rows
    ]


ROUTES: list[HTTPRouteHandler] = [
    put_targets,
    get_targets,
    get_statistics,
    post_queue_target,
    delete_queue_target,
]
