"""The audit log, over HTTP: all of it for ops; for everybody, who was told of them."""

from datetime import datetime
from typing import Literal

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery

from market.audit.models import AuditEntry
from market.audit.queries import audit_entries, looks_at, newest_link
from market.auth import Principal
from market.db import PLATFORM, database
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    get,
    listed,
    page,
    page_of,
    read_ids,
    wire_id,
    wire_ids,
)
from market.people.queries import organisation_names


class AuditEntryOut(Wire):
    """One access: `read` when an answer told of people, `asked` before ops changed something and
    `done` with the status it ended in. `people` are those whom the answer named.
    """

    id: str
    at: datetime
    kind: str
    actor_id: str
    part: str
    organisation_id: str | None
    method: str
    route: str
    path: str
    query: str
    status: int | None
    request_id: str
    people: list[str]


class AuditHeadOut(Wire):
    """The end of the chain of digests; keep it elsewhere, and a later change of the log shows."""

    number: int
    digest: str | None


class LookOut(Wire):
    """One time that somebody was told of you: when, in which part, for which lab, and where."""

    at: datetime
    kind: str
    part: str
    organisation: str | None
    route: str


@get("/audit", scope="audit:read", tags=["Audit"])
def get_audit(
    person_id: FromQuery[str | None] = None,
    actor_id: FromQuery[str | None] = None,
    kind: FromQuery[Literal["read", "asked", "done"] | None] = None,
    route: FromQuery[str | None] = None,
    request_id: FromQuery[str | None] = None,
    since: FromQuery[datetime | None] = None,
    until: FromQuery[datetime | None] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AuditEntryOut]:
    """Who was told of whom and what ops changed, newest first. `route` is an address as the
    description of this API writes it, such as `/v1/experts/{expert_id}`.
    """
    wanted = audit_entries(
        person_id=read_ids("per", person_id),
        actor_id=read_ids("per", actor_id),
        kind=kind,
        route=route,
        request_id=request_id,
        since=since,
        until=until,
    )
    filters = f"audit|{person_id}|{actor_id}|{kind}|{route}|{request_id}|{since}|{until}"
    with database.begin() as session:
        return listed(
            session,
            wanted,
            AuditEntry.id,
            _out,
            limit=limit,
            cursor=cursor,
            filters=filters,
        )


@get("/audit/head", scope="audit:read", tags=["Audit"])
def get_audit_head() -> AuditHeadOut:
    """How long the chain over the log is, and the digest that covers all of it."""
    with database.begin() as session:
        last = newest_link(session)
    if last is None:
        return AuditHeadOut(number=0, digest=None)
    return AuditHeadOut(number=last.number, digest=last.digest.hex())


@get("/audit/me", scope="event:read", tags=["Audit"])
def get_looks(
    principal: NamedDependency[Principal], limit: Limit = 50, cursor: Cursor = None
) -> Page[LookOut]:
    """Every time that somebody else was told of you, newest first."""
    # As the platform: the log is nobody's own, and only the looks at the caller are asked for.
    with database.begin(PLATFORM) as session:
        rows, following = page_of(
            session,
            looks_at(principal.person_id),
            AuditEntry.id,
            limit=limit,
            cursor=cursor,
            filters=f"looks|{principal.person_id}",
        )
        labs = organisation_names(session, [row.organisation_id for row in rows])
    return page(
        [
            LookOut(
                at=row.at,
                kind=row.kind,
                part=row.part,
                organisation=labs.get(row.organisation_id) if row.organisation_id else None,
                route=row.route,
            )
            for row in rows
        ],
        following,
    )


def _out(row: AuditEntry) -> AuditEntryOut:
    return AuditEntryOut(
        id=wire_id("aud", row.id),
        at=row.at,
        kind=row.kind,
        actor_id=wire_id("per", row.actor_id),
        part=row.part,
        organisation_id=wire_ids("org", row.organisation_id),
        method=row.method,
        route=row.route,
        path=row.path,
        query=row.query,
        status=row.status,
        request_id=row.request_id,
        people=[wire_id("per", one) for one in row.people],
    )


ROUTES: list[HTTPRouteHandler] = [get_audit, get_audit_head, get_looks]
