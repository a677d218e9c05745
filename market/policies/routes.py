"""Policies over HTTP: read them, add versions, choose the default."""

from datetime import datetime
from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.status_codes import HTTP_201_CREATED

from market.auth import Principal
from market.db import Json, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    get,
    page,
    page_of,
    post,
    put,
    read_id,
    tagged,
    wire_id,
    wire_ids,
)
from market.policies.actions import choose_default_policy, publish_policy
from market.policies.models import PolicyVersion
from market.policies.queries import default_policy, policies, policy

NameFilter = Annotated[str | None, QueryParameter(name="name", description="Only this policy.")]


class PolicyIn(Wire):
    """A new version of a policy; settings left out have the matcher's defaults."""

    name: str
    document: Json
    reason: str


class PolicyOut(Wire):
    """One version of a policy, as it was published; it never changes."""

    id: str
    name: str
    version_no: int
    document: Json
    digest: str
    reason: str
    author_id: str | None
    created_at: datetime
    is_default: bool


class DefaultIn(Wire):
    """Which policy version runs are to obey when they name none."""

    policy_id: str


class DefaultOut(Wire):
    """Which policy version runs obey when they name none, and since when."""

    policy_id: str
    since: datetime


@post("/policies", scope="policy:write", status_code=HTTP_201_CREATED, tags=["Policies"])
def post_policy(data: JSONBody[PolicyIn], principal: NamedDependency[Principal]) -> PolicyOut:
    """Publish a version of a policy."""
    with database.begin() as session:
        made = publish_policy(
            session,
            name=data.name,
            document=data.document,
            reason=data.reason,
            author_id=principal.person_id,
            at=now(),
        )
        return _policy_out(made, is_default=default_policy(session).policy_id == made.id)


@get("/policies", scope="policy:read", tags=["Policies"])
def get_policies(
    named: NameFilter = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[PolicyOut]:
    """All versions of all policies, or of one, newest first."""
    with database.begin() as session:
        rows, following = page_of(
            session,
            policies(named),
            PolicyVersion.id,
            limit=limit,
            cursor=cursor,
            filters=f"policies {named}",
        )
        chosen = default_policy(session).policy_id
        return page([_policy_out(row, is_default=row.id == chosen) for row in rows], following)


@get("/policies/default", scope="policy:read", tags=["Policies"])
def get_default_policy() -> Response[DefaultOut]:
    """Which policy runs obey when they name none."""
    with database.begin() as session:
        chosen = default_policy(session)
        out = DefaultOut(policy_id=wire_id("plc", chosen.policy_id), since=chosen.since)
        return tagged(out, chosen.version)


@put("/policies/default", scope="policy:write", tags=["Policies"])
def put_default_policy(
    data: JSONBody[DefaultIn], principal: NamedDependency[Principal]
) -> Response[DefaultOut]:
    """Choose the policy that runs obey when they name none; running ones keep theirs."""
    with database.begin() as session:
        chosen = choose_default_policy(
            session, read_id("plc", data.policy_id), actor_id=principal.person_id, at=now()
        )
        out = DefaultOut(policy_id=wire_id("plc", chosen.policy_id), since=chosen.since)
        return tagged(out, chosen.version)


@get("/policies/{policy_id:str}", scope="policy:read", tags=["Policies"])
def get_policy(policy_id: FromPath[str]) -> PolicyOut:
    """One version of a policy."""
    with database.begin() as session:
        found = policy(session, read_id("plc", policy_id))
        return _policy_out(found, is_default=default_policy(session).policy_id == found.id)


def _policy_out(found: PolicyVersion, *, is_default: bool) -> PolicyOut:
    return PolicyOut(
        id=wire_id("plc", found.id),
        name=found.name,
        version_no=found.version_no,
        document=found.document,
        digest=found.digest,
        reason=found.reason,
        author_id=wire_ids("per", found.author_id),
        created_at=found.created_at,
        is_default=is_default,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_policy,
    get_policies,
    get_default_policy,
    put_default_policy,
    get_policy,
]
