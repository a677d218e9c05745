"""Standing over HTTP: taking a step of it, and all that were taken."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta

from market.auth import Principal, tell_of
from market.db import database, now
from market.experts.models import Measure
from market.experts.queries import expert
from market.experts.routes import NamedExpertOut, named_out
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    expect_version,
    get,
    listed,
    post,
    read_id,
    tagged,
    wire_id,
)
from market.standings.actions import change_standing
from market.standings.queries import measures_of


class StandingIn(Wire):
    """A step of an expert's standing; the note says on what evidence."""

    action: str
    reason_code: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    note: Annotated[str, Meta(min_length=1, max_length=4000)] | None = None
    evidence: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=2000)], ...], Meta(max_length=50)
    ] = ()
    domains: tuple[str, ...] = ()
    until: Annotated[datetime, Meta(tz=True)] | None = None
    reviews_all: bool = False


class MeasureOut(Wire):
    """A step of standing: why, on what evidence, how far it reaches, and when it ended."""

    id: str
    step: str
    reason_code: str
    note: str
    evidence: list[str]
    domains: list[str]
    reviews_all: bool
    until: datetime | None
    taken_at: datetime
    ended_at: datetime | None
    end_reason: str | None


@post(
    "/experts/{expert_id:str}/transitions",
    scope="expert:write",
    status_code=HTTP_200_OK,
    tags=["Experts"],
)
def post_standing(
    expert_id: FromPath[str], data: JSONBody[StandingIn], principal: NamedDependency[Principal]
) -> Response[NamedExpertOut]:
    """Take a step of an expert's standing: watch, limit, suspend, close or lift."""
    with database.begin() as session:
        found = expert(session, read_id("per", expert_id), lock=True)
        expect_version(found.version)
        change_standing(
            session,
            found.id,
            data.action,
            at=now(),
            reason_code=data.reason_code,
            note=data.note,
            evidence=data.evidence,
            domains=data.domains,
            until=data.until,
            reviews_all=data.reviews_all,
            actor_id=principal.person_id,
        )
        return tagged(named_out(session, [found])[0], found.version)


@get("/experts/me/measures", scope="profile:read", tags=["Experts"])
def get_my_measures(
    principal: NamedDependency[Principal], limit: Limit = 50, cursor: Cursor = None
) -> Page[MeasureOut]:
    """Every step of your standing with its reason and its evidence, newest first; each can be
    appealed.
    """
    return _measures(principal.person_id, limit, cursor)


@get("/experts/{expert_id:str}/measures", scope="expert:read", tags=["Experts"])
def get_measures(
    expert_id: FromPath[str], limit: Limit = 50, cursor: Cursor = None
) -> Page[MeasureOut]:
    """Every step of an expert's standing, newest first."""
    return _measures(read_id("per", expert_id), limit, cursor)


def _measures(expert_id: UUID, limit: int, cursor: str | None) -> Page[MeasureOut]:
    tell_of(expert_id)
    with database.begin() as session:
        return listed(
            session,
            measures_of(expert(session, expert_id).id),
            Measure.id,
            lambda one: MeasureOut(
                id=wire_id("mea", one.id),
                step=one.step,
                reason_code=one.reason_code,
                note=one.note,
                evidence=one.evidence,
                domains=one.domains,
                reviews_all=one.reviews_all,
                until=one.until,
                taken_at=one.taken_at,
                ended_at=one.ended_at,
                end_reason=one.end_reason,
            ),
            limit=limit,
            cursor=cursor,
            filters=f"measures {expert_id}",
        )


ROUTES: list[HTTPRouteHandler] = [post_standing, get_my_measures, get_measures]
