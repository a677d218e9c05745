"""Pay tiers over HTTP: stepping to another one, and all that there were."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_201_CREATED
from msgspec import Meta

from market.auth import Principal, tell_of
from market.db import database, now
from market.experts.models import TierAssignment
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
from market.pay_tiers.actions import assign_tier
from market.pay_tiers.queries import tier_steps


class TierIn(Wire):
    """The pay tier that an expert gets from now on, and why."""

    tier: Literal["T1", "T2", "T3", "T4"]
    reason: Annotated[str, Meta(min_length=1, max_length=1000)]


class TierStepOut(Wire):
    """A pay tier and when it counts. A step down was `announced_at` and can be appealed (`tie_`);
    `is_taken_back` one never began.
    """

    id: str
    tier: str
    starts_at: datetime | None
    ends_at: datetime | None
    reason: str
    announced_at: datetime | None
    is_taken_back: bool


@post(
    "/experts/{expert_id:str}/tier",
    scope="expert:write",
    status_code=HTTP_201_CREATED,
    tags=["Experts"],
)
def post_tier(
    expert_id: FromPath[str], data: JSONBody[TierIn], principal: NamedDependency[Principal]
) -> Response[NamedExpertOut]:
    """Put an expert on another pay tier: a higher one from now on, a lower one a week after it was
    announced at the earliest, with the pay week that begins then.
    """
    with database.begin() as session:
        found = expert(session, read_id("per", expert_id), lock=True)
        expect_version(found.version, required=False)
        assign_tier(
            session,
            found.id,
            data.tier,
            at=now(),
            reason=data.reason,
            actor_id=principal.person_id,
        )
        return tagged(named_out(session, [found])[0], found.version, status=HTTP_201_CREATED)


@get("/experts/me/tiers", scope="profile:read", tags=["Experts"])
def get_my_tiers(
    principal: NamedDependency[Principal], limit: Limit = 50, cursor: Cursor = None
) -> Page[TierStepOut]:
    """Your pay tiers, what is announced first, with reasons; a step down can be appealed."""
    return _tiers(principal.person_id, limit, cursor)


@get("/experts/{expert_id:str}/tiers", scope="expert:read", tags=["Experts"])
def get_tiers(
    expert_id: FromPath[str], limit: Limit = 50, cursor: Cursor = None
) -> Page[TierStepOut]:
    """An expert's pay tiers, newest first."""
    return _tiers(read_id("per", expert_id), limit, cursor)


def _tiers(expert_id: UUID, limit: int, cursor: str | None) -> Page[TierStepOut]:
    tell_of(expert_id)
    with database.begin() as session:
        return listed(
            session,
            tier_steps(expert(session, expert_id).id),
            TierAssignment.id,
            lambda one: TierStepOut(
                id=wire_id("tie", one.id),
                tier=one.tier,
                starts_at=one.during.lower,
                ends_at=one.during.upper,
                reason=one.reason,
                announced_at=one.announced_at,
                is_taken_back=one.during.isempty,
            ),
            limit=limit,
            cursor=cursor,
            filters=f"tiers {expert_id}",
        )


ROUTES: list[HTTPRouteHandler] = [post_tier, get_my_tiers, get_tiers]
