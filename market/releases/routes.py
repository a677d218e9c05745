"""Releases of target models, over HTTP: told, looked at, and moved."""

from datetime import datetime
from typing import Annotated, Literal

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta
from sqlalchemy.orm import Session

from market.auth import Principal
from market.db import PLATFORM, Json, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    expect_version,
    get,
    listed,
    post,
    read_id,
    tagged,
    wire_id,
)
from market.projects.queries import target_model
from market.projects.rules import ModelVersion
from market.releases.actions import announce_release, move_release
from market.releases.models import ModelRelease
from market.releases.queries import (
    answers,
    calibration_tasks,
    level_rates,
    line_of,
    release,
    releases,
)
from market.releases.rules import DEFAULT_SIZE, FEWEST, MOST

Text = Annotated[str, Meta(min_length=1, max_length=200)]


class ReleaseIn(Wire):
    """A new version of a target model; address, key and limits stay, unless others are given."""

    name: Text
    model: Text
    base_url: str | None = None
    key: Annotated[str, Meta(max_length=4000)] | None = None
    size: Annotated[int, Meta(ge=FEWEST, le=MOST)] = DEFAULT_SIZE


class ReleaseMoveIn(Wire):
    """A move of a release, and why."""

    action: Literal["calibrate", "settle", "adopt", "withdraw"]
    note: Annotated[str, Meta(max_length=2000)] | None = None


class ReleaseOut(Wire):
    """A release, and what is believed of the ability of its model: before its runs, and after.

    Abilities are logits; the log-odds of a stump fall by as much as ability rises.
    """

    id: str
    target_model_id: str
    earlier_model_id: str
    state: str
    told_at: datetime
    size: int
    prior_mean: float
    prior_sd: float
    mean: float | None
    sd: float | None
    version: int


class LevelRateOut(Wire):
    """How often a level's calibration tasks lead the model astray; the interval holds 80 %."""

    complexity: int
    tasks: int
    decided: int
    before: float
    after: float
    low: float
    high: float


class ReleaseWholeOut(ReleaseOut):
    """A release with what is believed of it level by level, from what was decided so far."""

    levels: list[LevelRateOut]


class CalibrationTaskOut(Wire):
    """A task that was chosen to calibrate a release; `fooled` once it is decided.

    `base` and `base_sd` are the logit of leading a model of ability nought astray, and its doubt.
    """

    task_id: str
    domain: str
    complexity: int
    base: float
    base_sd: float
    fooled: float | None


@post(
    "/target-models/{model_id:str}/releases",
    scope="release:write",
    status_code=HTTP_201_CREATED,
    tags=["Releases"],
)
def post_release(
    model_id: FromPath[str], data: JSONBody[ReleaseIn], principal: NamedDependency[Principal]
) -> Response[ReleaseOut]:
    """Tell of a new version of a target model; a calibration set is proposed where tasks are open.

    Projects go on testing the version that they test until the release is adopted, and what they
    pay does not change at all.
    """
    with database.begin() as session:
        earlier = target_model(session, read_id("mdl", model_id)).id
    # As the platform, because what to expect of a model rests on everybody's work.
    with database.begin(PLATFORM) as session:
        made = announce_release(
            session,
            earlier,
            ModelVersion(data.name, data.model, data.base_url, data.key),
            size=data.size,
            at=now(),
            actor_id=principal.person_id,
        )
        return tagged(ReleaseOut(**_fields(made)), made.version, status=HTTP_201_CREATED)


@get("/target-models/{model_id:str}/releases", scope="project:read", tags=["Releases"])
def get_line(model_id: FromPath[str]) -> list[ReleaseOut]:
    """The versions of a target model: the releases that led to it and those that followed."""
    with database.begin() as session:
        found = target_model(session, read_id("mdl", model_id))
        return [ReleaseOut(**_fields(row)) for row in line_of(session, found.id)]


@get("/releases", scope="project:read", tags=["Releases"])
def get_releases(
    principal: NamedDependency[Principal],
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ReleaseOut]:
    """Releases, newest first."""
    with database.begin() as session:
        return listed(
            session,
            releases(in_state),
            ModelRelease.id,
            lambda row: ReleaseOut(**_fields(row)),
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|releases|{in_state}",
        )


@get("/releases/{release_id:str}", scope="project:read", tags=["Releases"])
def get_release(release_id: FromPath[str]) -> Response[ReleaseWholeOut]:
    """One release, and what is believed of its model level by level."""
    wanted = read_id("rls", release_id)
    with database.begin() as session:
        release(session, wanted)
    with database.begin(PLATFORM) as session:
        found = release(session, wanted)
        return tagged(_whole(session, found), found.version)


@get("/releases/{release_id:str}/tasks", scope="project:read", tags=["Releases"])
def get_calibration_tasks(release_id: FromPath[str]) -> list[CalibrationTaskOut]:
    """The tasks that calibrate a release, and what was decided of them."""
    wanted = read_id("rls", release_id)
    with database.begin() as session:
        release(session, wanted)
    with database.begin(PLATFORM) as session:
        said = answers(session, wanted)
        fooled = dict(zip(said.task_ids, said.fooled.tolist(), strict=True))
        return [
            CalibrationTaskOut(
                task_id=wire_id("tsk", row.task_id),
                domain=row.domain,
                complexity=row.level + 1,
                base=row.base,
                base_sd=row.base_sd,
                fooled=fooled.get(row.task_id),
            )
            for row in calibration_tasks(session, wanted)
        ]


@post(
    "/releases/{release_id:str}/transitions",
    scope="release:write",
    status_code=HTTP_200_OK,
    tags=["Releases"],
)
def post_release_transition(
    release_id: FromPath[str],
    data: JSONBody[ReleaseMoveIn],
    principal: NamedDependency[Principal],
) -> Response[ReleaseWholeOut]:
    """Move a release: calibrate, settle early, adopt, withdraw.

    To adopt it lets every project that tests the earlier version test this one, on the terms that
    the project has.
    """
    wanted = read_id("rls", release_id)
    with database.begin() as session:
        release(session, wanted)
    with database.begin(PLATFORM) as session:
        expect_version(release(session, wanted, lock=True).version)
        moved = move_release(
            session,
            wanted,
            data.action,
            at=now(),
            note=data.note,
            actor_id=principal.person_id,
        )
        return tagged(_whole(session, moved), moved.version)


def _fields(row: ModelRelease) -> Json:
    return {
        "id": wire_id("rls", row.id),
        "target_model_id": wire_id("mdl", row.target_model_id),
        "earlier_model_id": wire_id("mdl", row.earlier_model_id),
        "state": row.state,
        "told_at": row.told_at,
        "size": row.size,
        "prior_mean": row.prior_mean,
        "prior_sd": row.prior_sd,
        "mean": row.mean,
        "sd": row.sd,
        "version": row.version,
    }


def _whole(session: Session, row: ModelRelease) -> ReleaseWholeOut:
    levels = [
        LevelRateOut(
            complexity=one.level + 1,
            tasks=one.tasks,
            decided=one.decided,
            before=one.before,
            after=one.after,
            low=one.low,
            high=one.high,
        )
        for one in level_rates(session, row)
    ]
    return ReleaseWholeOut(**_fields(row), levels=levels)


ROUTES: list[HTTPRouteHandler] = [
    post_release,
    get_line,
    get_releases,
    get_release,
    get_calibration_tasks,
    post_release_transition,
]
