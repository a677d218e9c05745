"""Disputes about time, over HTTP: both sides read and answer them; ops decide."""

from datetime import datetime
from typing import Annotated

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta

from market.auth import Part, Principal, ScopeMissing
from market.db import PLATFORM, database, now
from market.disputes.actions import (
    appeal,
    decide,
    respond,
    withdraw,
)
from market.disputes.models import Dispute
from market.disputes.queries import dispute, disputes
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
    wire_ids,
)


class ResponseIn(Wire):
    """What the other side says, and whether it gives in."""

    statement: str
    concedes: bool = False


class DecisionIn(Wire):
    """How many of the disputed seconds are paid, and why."""

    awarded_s: Annotated[int, Meta(ge=0)]
    note: str


class AppealIn(Wire):
    """Why the decision is wrong."""

    statement: str


class DisputeOut(Wire):
    """A dispute: what both sides said, what was decided by whom and why, and until when what waits.

    `due_at` is when the present state ends by itself: an answer that does not come lets a person
    decide without it, a decision that does not come is the expert's.
    """

    id: str
    kind: str
    state: str
    offer_id: str
    project_id: str
    expert_id: str
    starts_at: datetime
    ends_at: datetime
    claimed_s: int
    reason_code: str
    statement: str
    evidence: list[str]
    opened_by: str
    opened_at: datetime
    due_at: datetime | None
    response: str | None
    responded_at: datetime | None
    is_conceded: bool
    awarded_s: int | None
    decided_by: str | None
    decided_at: datetime | None
    decision_note: str | None
    can_appeal: bool
    appeal: str | None
    appealed_at: datetime | None
    final_s: int | None
    final_by: str | None
    final_at: datetime | None
    final_note: str | None
    version: int


@get("/disputes", scope="dispute:write", tags=["Disputes"])
def get_disputes(
    principal: NamedDependency[Principal],
    dispute_state: FromQuery[str | None] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DisputeOut]:
    """Disputes that you are a side of, newest first; all of them, for ops."""
    with database.begin() as session:
        return listed(
            session,
            disputes(state=dispute_state),
            Dispute.id,
            dispute_out,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|disputes|{dispute_state}",
        )


@get("/disputes/{dispute_id:str}", scope="dispute:write", tags=["Disputes"])
def get_dispute(dispute_id: FromPath[str]) -> Response[DisputeOut]:
    """One dispute, whole."""
    with database.begin() as session:
        found = dispute(session, read_id("dsp", dispute_id))
        return tagged(dispute_out(found), found.version)


@post(
    "/disputes/{dispute_id:str}/response",
    scope="dispute:write",
    status_code=HTTP_200_OK,
    tags=["Disputes"],
)
def post_response(
    dispute_id: FromPath[str], data: JSONBody[ResponseIn], principal: NamedDependency[Principal]
) -> Response[DisputeOut]:
    """Answer a dispute that the other side opened, or give in."""
    found_id = read_id("dsp", dispute_id)
    with database.begin() as session:
        seen = dispute(session, found_id)
        if principal.part.value == seen.opened_part or principal.part is Part.OPS:
            raise ScopeMissing("dispute:respond", principal.part)
    with database.begin(PLATFORM) as session:
        found = respond(
            session,
            found_id,
            statement=data.statement,
            concedes=data.concedes,
            actor_id=principal.person_id,
            at=now(),
        )
        return tagged(dispute_out(found), found.version)


@post(
    "/disputes/{dispute_id:str}/withdrawal",
    scope="dispute:write",
    status_code=HTTP_200_OK,
    tags=["Disputes"],
)
def post_withdrawal(
    dispute_id: FromPath[str], principal: NamedDependency[Principal]
) -> Response[DisputeOut]:
    """Take back a dispute that your side opened."""
    found_id = read_id("dsp", dispute_id)
    with database.begin() as session:
        if principal.part.value != dispute(session, found_id).opened_part:
            raise ScopeMissing("dispute:withdraw", principal.part)
    with database.begin(PLATFORM) as session:
        found = withdraw(session, found_id, actor_id=principal.person_id, at=now())
        return tagged(dispute_out(found), found.version)


@post(
    "/disputes/{dispute_id:str}/decision",
    scope="dispute:decide",
    status_code=HTTP_200_OK,
    tags=["Disputes"],
)
def post_decision(
    dispute_id: FromPath[str], data: JSONBody[DecisionIn], principal: NamedDependency[Principal]
) -> Response[DisputeOut]:
    """Decide a dispute, or its appeal, on what you read; send its ETag as If-Match."""
    with database.begin(PLATFORM) as session:
        expect_version(dispute(session, read_id("dsp", dispute_id)).version)
        found = decide(
            session,
            read_id("dsp", dispute_id),
            awarded_s=data.awarded_s,
            note=data.note,
            by=principal.person_id,
            at=now(),
        )
        return tagged(dispute_out(found), found.version)


@post(
    "/disputes/{dispute_id:str}/appeal",
    scope="dispute:write",
    status_code=HTTP_200_OK,
    tags=["Disputes"],
)
def post_appeal(
    dispute_id: FromPath[str], data: JSONBody[AppealIn], principal: NamedDependency[Principal]
) -> Response[DisputeOut]:
    """Have a decision that denied you time decided again, by another person."""
    if principal.part is not Part.EXPERT:
        raise ScopeMissing("dispute:appeal", principal.part)
    found_id = read_id("dsp", dispute_id)
    with database.begin() as session:
        dispute(session, found_id)
    with database.begin(PLATFORM) as session:
        found = appeal(
            session,
            found_id,
            expert_id=principal.person_id,
            statement=data.statement,
            at=now(),
        )
        return tagged(dispute_out(found), found.version)


def dispute_out(row: Dispute) -> DisputeOut:
    """A dispute as it travels."""
    is_waiting = row.state in ("open", "answered", "decided", "appealed")
    return DisputeOut(
        **{name: getattr(row, name) for name in _PLAIN},
        id=wire_id("dsp", row.id),
        offer_id=wire_id("ofr", row.offer_id),
        project_id=wire_id("prj", row.project_id),
        expert_id=wire_id("per", row.expert_id),
        opened_by=row.opened_part,
        due_at=row.due_at if is_waiting else None,
        decided_by=wire_ids("per", row.decided_by),
        can_appeal=row.state == "decided" and row.awarded_s != row.claimed_s,
        final_by=wire_ids("per", row.final_by),
    )


_PLAIN = (
    "kind",
    "state",
    "starts_at",
    "ends_at",
    "claimed_s",
    "reason_code",
    "statement",
    "evidence",
    "opened_at",
    "response",
    "responded_at",
    "is_conceded",
    "awarded_s",
    "decided_at",
    "decision_note",
    "appeal",
    "appealed_at",
    "final_s",
    "final_at",
    "final_note",
    "version",
)
"""The fields of a dispute that travel as they are kept."""

ROUTES: list[HTTPRouteHandler] = [
    get_disputes,
    get_dispute,
    post_response,
    post_withdrawal,
    post_decision,
    post_appeal,
]
