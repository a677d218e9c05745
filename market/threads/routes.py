"""Threads, over HTTP."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta

from market.auth import Part, Principal
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    page,
    page_of,
    post,
    read_id,
    read_ids,
    wire_id,
    wire_ids,
)
from market.threads.actions import add_remark, move_thread, open_thread
from market.threads.models import Remark, Thread
from market.threads.queries import about, remarks, thread, threads
from market.threads.rules import MAX_TEXT, Pin, SubjectNotFound

PREFIXES = {"tsk": "task", "sub": "submission", "rev": "review"}
Content = Annotated[str, Meta(max_length=MAX_TEXT)]


class PinIn(Wire):
    """Where in its subject a thread points: a field by JSON pointer, a span of its text in
    characters, or a criterion of the task's rubric.
    """

    field: str | None = None
    start: Annotated[int, Meta(ge=0)] | None = None
    end: Annotated[int, Meta(ge=1)] | None = None
    criterion: str | None = None


class ThreadIn(Wire):
    """What a thread is about (`tsk_`, `sub_` or `rev_`), its first remark, and who reads it; all
    whom its subject concerns unless told otherwise, and ops always.
    """

    subject: str
    content: Content
    pin: PinIn | None = None
    sides: tuple[Literal["author", "reviewer", "lab", "ops"], ...] | None = None


class RemarkIn(Wire):
    """What is said."""

    content: Content


class ThreadMoveIn(Wire):
    """What becomes of a thread."""

    action: Literal["resolve", "reopen"]


class RemarkOut(Wire):
    """What somebody said. People are shown as sides; `voice` tells those of one side apart within
    a thread, and only ops are told who it is.
    """

    number: int
    side: str
    voice: int
    is_own: bool
    person_id: str | None
    content: str
    at: datetime


class ThreadOut(Wire):
    """A thread with all that is said in it. `quote` is what stood at its place when it began."""

    id: str
    subject: str
    submission_id: str | None
    task_id: str
    project_id: str
    state: str
    sides: list[str]
    opened_at: datetime
    field: str | None
    start: int | None
    end: int | None
    criterion: str | None
    quote: str | None
    remarks: list[RemarkOut]


@post("/threads", scope="thread:write", status_code=HTTP_201_CREATED, tags=["Threads"])
def post_thread(data: JSONBody[ThreadIn], principal: NamedDependency[Principal]) -> ThreadOut:
    """Begin a thread about a task, a submission or a review that you may see."""
    prefix = data.subject.split("_", 1)[0]
    if prefix not in PREFIXES:
        raise SubjectNotFound()
    pin = data.pin or PinIn()
    # As the platform, because whom it concerns are told; only what the caller sees is taken.
    with database.begin(PLATFORM) as session:
        subject = about(session, PREFIXES[prefix], read_id(prefix, data.subject), principal)
        made = open_thread(
            session,
            subject,
            by=principal,
            content=data.content,
            pin=Pin(pin.field, pin.start, pin.end, pin.criterion),
            sides=data.sides,
            at=now(),
        )
        return thread_out(made, remarks(session, [made.id])[made.id], principal)


@get("/threads", scope="thread:read", tags=["Threads"])
def get_threads(
    principal: NamedDependency[Principal],
    subject: FromQuery[str | None] = None,
    project_id: FromQuery[str | None] = None,
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ThreadOut]:
    """Threads that your side reads, newest first."""
    wanted = None
    if subject is not None:
        prefix = subject.split("_", 1)[0]
        if prefix not in PREFIXES:
            raise SubjectNotFound()
        wanted = read_id(prefix, subject)
    project = read_ids("prj", project_id)
    with database.begin() as session:
        rows, following = page_of(
            session,
            threads(subject_id=wanted, project_id=project, state=in_state),
            Thread.id,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|threads|{wanted}|{project}|{in_state}",
        )
        said = remarks(session, [row.id for row in rows])
        return page([thread_out(row, said[row.id], principal) for row in rows], following)


@get("/threads/{thread_id:str}", scope="thread:read", tags=["Threads"])
def get_thread(thread_id: FromPath[str], principal: NamedDependency[Principal]) -> ThreadOut:
    """One thread."""
    return _one(read_id("thr", thread_id), principal)


@post(
    "/threads/{thread_id:str}/remarks",
    scope="thread:write",
    status_code=HTTP_201_CREATED,
    tags=["Threads"],
)
def post_remark(
    thread_id: FromPath[str], data: JSONBody[RemarkIn], principal: NamedDependency[Principal]
) -> ThreadOut:
    """Say something in a thread that your side reads."""
    found = seen(read_id("thr", thread_id))
    with database.begin(PLATFORM) as session:
        add_remark(session, thread(session, found), by=principal, content=data.content, at=now())
    return _one(found, principal)


@post(
    "/threads/{thread_id:str}/transitions",
    scope="thread:write",
    status_code=HTTP_200_OK,
    tags=["Threads"],
)
def post_thread_move(
    thread_id: FromPath[str], data: JSONBody[ThreadMoveIn], principal: NamedDependency[Principal]
) -> ThreadOut:
    """Resolve a thread that your side reads, or open it again."""
    found = seen(read_id("thr", thread_id))
    with database.begin(PLATFORM) as session:
        move_thread(session, thread(session, found), data.action, by=principal, at=now())
    return _one(found, principal)


def seen(thread_id: UUID) -> UUID:
    """The id of a thread, once it is certain that the caller may see it; moving it is the
    platform's.

    Raises:
        ThreadNotFound.
    """
    with database.begin() as session:
        return thread(session, thread_id).id


def _one(thread_id: UUID, principal: Principal) -> ThreadOut:
    with database.begin() as session:
        row = thread(session, thread_id)
        return thread_out(row, remarks(session, [row.id])[row.id], principal)


def thread_out(row: Thread, said: Sequence[Remark], principal: Principal) -> ThreadOut:
    """A thread as its reader may see it."""
    prefix = next(short for short, kind in PREFIXES.items() if kind == row.kind)
    voices: dict[str, list[UUID]] = {}
    out = []
    for one in said:
        known = voices.setdefault(one.side, [])
        if one.person_id not in known:
            known.append(one.person_id)
        out.append(
            RemarkOut(
                number=one.number,
                side=one.side,
                voice=known.index(one.person_id) + 1,
                is_own=one.person_id == principal.person_id,
                person_id=wire_id("per", one.person_id) if principal.part is Part.OPS else None,
                content=one.content,
                at=one.at,
            )
        )
    return ThreadOut(
        id=wire_id("thr", row.id),
        subject=wire_id(prefix, row.subject_id),
        submission_id=wire_ids("sub", row.submission_id),
        task_id=wire_id("tsk", row.task_id),
        project_id=wire_id("prj", row.project_id),
        state=row.state,
        sides=row.sides,
        opened_at=row.opened_at,
        field=row.field,
        start=row.span_start,
        end=row.span_end,
        criterion=row.criterion,
        quote=row.quote,
        remarks=out,
    )


def threads_out(
    found: Sequence[tuple[Thread, list[Remark]]], principal: Principal
) -> list[ThreadOut]:
    """Threads with their remarks as their reader may see them."""
    return [thread_out(row, said, principal) for row, said in found]


ROUTES: list[HTTPRouteHandler] = [
    post_thread,
    get_threads,
    get_thread,
    post_remark,
    post_thread_move,
]
