"""Messages to cohorts, over HTTP."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_202_ACCEPTED
from msgspec import Meta

from market.auth import Part, Principal, ScopeMissing
from market.db import PLATFORM, database, now
from market.expressions.queries import read_expression
from market.expressions.rules import told
from market.http import Cursor, Limit, Page, Wire, get, listed, post, read_id, read_ids, wire_id
from market.language import from_json
from market.messages.actions import send_message
from market.messages.models import CohortMessage
from market.messages.queries import copies, message, messages, reachable, reached
from market.messages.rules import MAX_CONTENT, MAX_SUBJECT


class SegmentIn(Wire):
    """Whom a message is for: an expression about experts, which may name a cohort."""

    expression: str


class SegmentOut(Wire):
    """How many people a message would reach; null to a lab for 1 to 4."""

    matching: int | None


class MessageIn(SegmentIn):
    """A message, and whom it is for."""

    subject: Annotated[str, Meta(max_length=MAX_SUBJECT)]
    content: Annotated[str, Meta(max_length=MAX_CONTENT)]


class MessageOut(Wire):
    """A message; `finished_at` when everybody was told."""

    id: str
    expression: str
    subject: str
    content: str
    asked_at: datetime
    finished_at: datetime | None


class ReachedMessageOut(MessageOut):
    """A message with its delivery log in numbers: people told, mailed at once (or about to be),
    waiting for their digest, letters that failed, and copies read; null to a lab for 1 to 4.
    """

    told: int | None
    mailed: int | None
    in_digest: int | None
    failed: int | None
    read: int | None


class CopyOut(Wire):
    """One person's copy: how it was told, and what became of the letter, if there was one."""

    person_id: str
    at: datetime
    mail: str
    letter: str | None
    error: str | None
    read_at: datetime | None


@post("/messages:preview", scope="message:write", status_code=HTTP_200_OK, tags=["Messages"])
def post_message_preview(
    data: JSONBody[SegmentIn], principal: NamedDependency[Principal]
) -> SegmentOut:
    """How many people a message would reach now. Nothing is sent."""
    with database.begin(PLATFORM) as session:
        wanted = read_expression(session, principal.organisation_id, data.expression)
        found = reachable(session, wanted.tree, principal.organisation_id, at=now())
    return SegmentOut(matching=told(len(found), is_lab=principal.part is Part.LAB))


@post(
    "/messages",
    scope="message:write",
    keyed="required",
    status_code=HTTP_202_ACCEPTED,
    tags=["Messages"],
)
def post_message(data: JSONBody[MessageIn], principal: NamedDependency[Principal]) -> MessageOut:
    """Send a message to everybody whom an expression holds for, once each, as each chose to be
    told: as a lab to the experts who have worked for you, as ops to all.
    """
    # As the platform, because people are told whom a lab cannot see.
    with database.begin(PLATFORM) as session:
        made = send_message(
            session,
            data.expression,
            subject=data.subject,
            content=data.content,
            organisation_id=principal.organisation_id,
            by=principal.person_id,
            at=now(),
        )
        return MessageOut(**_fields(made))


@get("/messages", scope="message:write", tags=["Messages"])
def get_messages(
    principal: NamedDependency[Principal], limit: Limit = 50, cursor: Cursor = None
) -> Page[MessageOut]:
    """Messages, newest first: those of your lab, or all of them as ops."""
    with database.begin() as session:
        return listed(
            session,
            messages(),
            CohortMessage.id,
            lambda row: MessageOut(**_fields(row)),
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|messages",
        )


@get("/messages/{message_id:str}", scope="message:write", tags=["Messages"])
def get_message(
    message_id: FromPath[str], principal: NamedDependency[Principal]
) -> ReachedMessageOut:
    """One message, and how its copies went."""
    with database.begin() as session:
        row = message(session, read_id("msg", message_id))
    with database.begin(PLATFORM) as session:
        found = reached(session, row.id)
    is_lab = principal.part is Part.LAB
    return ReachedMessageOut(
        **_fields(row),
        told=told(found.told, is_lab=is_lab),
        mailed=told(found.mailed, is_lab=is_lab),
        in_digest=told(found.in_digest, is_lab=is_lab),
        failed=told(found.failed, is_lab=is_lab),
        read=told(found.read, is_lab=is_lab),
    )


@get("/messages/{message_id:str}/copies", scope="message:write", tags=["Messages"])
def get_copies(
    message_id: FromPath[str],
    principal: NamedDependency[Principal],
    after: FromQuery[str | None] = None,
    limit: Limit = 50,
) -> list[CopyOut]:
    """Who got a message and how, for ops, by the ids of people; `after` is the last one read."""
    if principal.part is not Part.OPS:
        raise ScopeMissing("people of a message", principal.part)
    last: UUID | None = read_ids("per", after)
    with database.begin() as session:
        found = message(session, read_id("msg", message_id))
        return [
            CopyOut(
                person_id=wire_id("per", copy.person_id),
                at=copy.at,
                mail=note.mail,
                letter=None if letter is None else letter.state,
                error=None if letter is None else letter.error,
                read_at=note.read_at,
            )
            for copy, note, letter in copies(session, found.id, after=last, limit=limit)
        ]


def _fields(row: CohortMessage) -> dict[str, Any]:
    return {
        "id": wire_id("msg", row.id),
        "expression": from_json(row.expression).source,
        "subject": row.subject,
        "content": row.content,
        "asked_at": row.asked_at,
        "finished_at": row.finished_at,
    }


ROUTES: list[HTTPRouteHandler] = [
    post_message_preview,
    post_message,
    get_messages,
    get_message,
    get_copies,
]
