"""Threads on the page of what they are about: read, answered, resolved, opened."""

from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect

from market.auth import Part
from market.console.forms import Form, field, go, once
from market.console.live import EVERYBODY
from market.console.visitors import FormUnreadable
from market.db import PLATFORM, database, now
from market.http import principal_of_request, read_id, wire_id
from market.reviews.models import Review
from market.threads.actions import add_remark, move_thread, open_thread
from market.threads.models import Thread
from market.threads.queries import about, thread, threads_on
from market.threads.routes import ThreadOut, seen, thread_out
from market.threads.rules import Pin

PAGES = {
    Part.EXPERT: "/console/expert/submissions/{submission}",
    Part.LAB: "/console/lab/submissions/{submission}",
    Part.OPS: "/console/ops/audit?about={submission}",
}


def talk_on(request: Request[Any, Any, Any], submission_id: UUID) -> list[ThreadOut]:
    """The threads on a submission that the visitor's side reads. In a transaction of its own, as
    the visitor, because pages read what they show as the platform.
    """
    principal = principal_of_request(request)
    with database.begin() as session:
        return [
            thread_out(row, said, principal)
            for row, said in threads_on(session, [submission_id])[submission_id]
        ]


def _page_of(request: Request[Any, Any, Any], row: Thread) -> str:
    """The visitor's page of what a thread is about."""
    principal = principal_of_request(request)
    if row.submission_id is None:
        return "/console"
    if principal.part is Part.REVIEWER:
        with database.begin(PLATFORM) as session:
            mine = (
                session.query(Review.id)
                .filter_by(submission_id=row.submission_id, reviewer_id=principal.person_id)
                .order_by(Review.id.desc())
                .first()
            )
        return f"/console/reviewer/reviews/{wire_id('rev', mine[0])}" if mine else "/console"
    return PAGES[principal.part].format(submission=wire_id("sub", row.submission_id))


def _back(page: str, said: str) -> str:
    return f"{page}{'&' if '?' in page else '?'}said={said}"


@get("/threads/{thread_id:str}", guards=EVERYBODY, sync_to_thread=True)
def get_thread(request: Request[Any, Any, Any], thread_id: FromPath[str]) -> Redirect:
    """The page on which a thread is read: that of what it is about."""
    with database.begin() as session:
        row = thread(session, read_id("thr", thread_id))
    return go(_page_of(request, row))


@post("/threads", guards=EVERYBODY, sync_to_thread=True, status_code=303)
def post_thread(request: Request[Any, Any, Any], data: Form) -> Redirect:
    """Open a thread on a submission, pinned to one of its fields or to all of it."""
    principal = principal_of_request(request)
    subject_id = read_id("sub", data.get("subject", ""))
    place = field(data, "field") or None

    def act() -> str:
        with database.begin(PLATFORM) as session:
            made = open_thread(
                session,
                about(session, "submission", subject_id, principal),
                by=principal,
                content=field(data, "content"),
                pin=Pin(field=place),
                at=now(),
            )
        return _back(_page_of(request, made), "thread-opened")

    return once(data, act)


@post("/threads/{thread_id:str}/{action:str}", guards=EVERYBODY, sync_to_thread=True)
def post_word(
    request: Request[Any, Any, Any], thread_id: FromPath[str], action: FromPath[str], data: Form
) -> Redirect:
    """Answer in a thread, resolve it, or open it again."""
    principal = principal_of_request(request)
    found = seen(read_id("thr", thread_id))
    if action not in ("answer", "resolve", "reopen"):
        raise FormUnreadable("a thread is answered, resolved or opened again")

    def act() -> str:
        with database.begin(PLATFORM) as session:
            row = thread(session, found)
            if action == "answer":
                add_remark(session, row, by=principal, content=field(data, "content"), at=now())
            else:
                move_thread(session, row, action, by=principal, at=now())
        return _back(_page_of(request, row), f"thread-{action}")

    return once(data, act)


ROUTES: list[HTTPRouteHandler] = [get_thread, post_thread, post_word]
