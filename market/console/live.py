"""The event stream for pages, and the list of what somebody was told."""

from typing import Any

import anyio.to_thread
import litestar
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery
from litestar.response import Redirect, Template
from litestar.response import Stream as StreamResponse

from market.auth import Part
from market.console.forms import Form, go
from market.console.frame import HEADERS, page
from market.console.visitors import for_parts
from market.db import PLATFORM, database, now
from market.feeds import feed_of
from market.http import page_of, principal_of_request, read_id, wire_id
from market.inbox.actions import mark_read
from market.inbox.models import Notification
from market.inbox.queries import notifications, unread
from market.notices.routes import place_of
from market.notices.rules import kind_of, read_position, read_types
from market.streams import Stream, Streams

EVERYBODY = [for_parts(*Part)]
PAGE = 40

THREADS = "/console/threads/"

PLACES: dict[Part, dict[str, str]] = {
    Part.EXPERT: {
        "offer": "/console/expert/offers/",
        "submission": "/console/expert/submissions/",
        "earning": "/console/expert/earnings/",
        "thread": THREADS,
    },
    Part.LAB: {
        "project": "/console/lab/projects/",
        "submission": "/console/lab/submissions/",
        "webhook_endpoint": "/console/lab/webhooks/",
        "thread": THREADS,
    },
    Part.REVIEWER: {"review": "/console/reviewer/reviews/", "thread": THREADS},
    Part.OPS: {"matching_run": "/console/ops/runs/", "thread": THREADS},
}
"""Where each part reads about a kind of thing."""

TOPICS: dict[Part, dict[str, str]] = {
    Part.EXPERT: {
        "offers": "/console/expert",
        "work": "/console/expert/work",
        "reviews": "/console/expert/work",
        "appeals": "/console/expert/work",
        "standing": "/console/expert/profile",
        "pay": "/console/expert/earnings",
    },
    Part.LAB: {
        "projects": "/console/lab",
        "quality": "/console/lab",
        "money": "/console/lab/money",
    },
    Part.REVIEWER: {"reviews": "/console/reviewer"},
    Part.OPS: {"quality": "/console/ops/queues"},
}
"""Where each part reads about a topic, for what has no page of its own."""


@litestar.get("/stream", guards=EVERYBODY, media_type="text/event-stream")
async def get_stream(
    request: Request[Any, Any, Any],
    types: FromQuery[str | None] = None,
) -> StreamResponse:
    """The visitor's event stream, as `/v1/events/stream` gives it, for the script of a page."""
    principal = principal_of_request(request)
    wanted = read_types(types)
    asked = read_position(request.headers.get("last-event-id"))
    streams: Streams = request.app.state["streams"]
    streams.admit()
    feed = feed_of(principal)
    after = await anyio.to_thread.run_sync(place_of, principal, feed, asked)
    opened = Stream(
        feed=feed,
        scope=principal.scope,
        key_id=principal.key_id,
        types=wanted,
        is_full=False,
        after=after,
    )
    return StreamResponse(
        streams.follow(opened),
        media_type="text/event-stream",
        headers={**HEADERS, "X-Accel-Buffering": "no"},
    )


def _where(row: Notification, part: Part) -> str | None:
    kind, prefix = kind_of(row.event_type)
    place = PLACES[part].get(kind)
    if place is not None and prefix:
        return place + wire_id(prefix, row.subject_id)
    return TOPICS[part].get(row.topic)


@get("/inbox", guards=EVERYBODY, sync_to_thread=True)
def get_inbox(request: Request[Any, Any, Any], cursor: FromQuery[str | None] = None) -> Template:
    """What the visitor was told, newest first, each with the page that it is about."""
    principal = principal_of_request(request)
    me = principal.person_id
    with database.begin(PLATFORM) as session:
        rows, following = page_of(
            session,
            notifications(me),
            Notification.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"inbox {me}",
        )
        return page(
            request,
            "inbox.html",
            notes=[(row, _where(row, principal.part)) for row in rows],
            waiting=unread(session, me),
            following=following,
        )


@post("/inbox/read", guards=EVERYBODY, sync_to_thread=True, status_code=303)
def post_read(request: Request[Any, Any, Any], data: Form) -> Redirect:
    """Mark one thing as read and go where it leads, or mark everything."""
    principal = principal_of_request(request)
    wanted = data.get("id", "")
    with database.begin(PLATFORM) as session:
        if not wanted:
            mark_read(session, principal.person_id, [], at=now())
            return go("/console/inbox")
        mark_read(session, principal.person_id, [read_id("ntf", wanted)], at=now())
        found = session.get(Notification, read_id("ntf", wanted))
        is_mine = found is not None and found.person_id == principal.person_id
        place = _where(found, principal.part) if found is not None and is_mine else None
    return go(place or "/console/inbox")


ROUTES: list[HTTPRouteHandler] = [get_stream, get_inbox, post_read]
