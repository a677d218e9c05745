"""What happened, over HTTP: as a list, and as a stream."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import anyio.to_thread
import msgspec
from litestar import Request
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from litestar.response import Stream as StreamResponse
from sqlalchemy.orm import Session

from market.auth import Principal
from market.db import database
from market.events import EventRow
from market.feeds import Feed, feed_of, head_of
from market.http import Cursor, Limit, Page, get, page, page_of, stream
from market.notices.queries import envelopes, happened
from market.notices.rules import (
    EventOut,
    PositionGone,
    checked_types,
    read_position,
    read_types,
)
from market.streams import Stream, Streams

Kind = Annotated[str | None, QueryParameter(name="type", description="Such as offer.created.")]
Kinds = Annotated[
    str | None, QueryParameter(name="types", description="Types, with commas; none means all.")
]
Detail = Annotated[
    Literal["thin", "full"],
    QueryParameter(name="data", description="Whether `data` is empty or says what is recorded."),
]
After = Annotated[
    str | None,
    QueryParameter(description="As Last-Event-ID, for readers that cannot send a header."),
]


@get("/events", scope="event:read", tags=["Events"])
def get_events(
    principal: NamedDependency[Principal],
    kind: Kind = None,
    detail: Detail = "thin",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[EventOut]:
    """What happened that concerns you, newest first."""
    feed = feed_of(principal)
    if kind is not None:
        checked_types([kind])
    with database.begin() as session:
        rows, following = page_of(
            session,
            happened(feed, kind),
            feed.seq(),
            limit=limit,
            cursor=cursor,
            filters=f"events {feed.tenant_id} {kind}",
        )
        items = envelopes(session, feed, rows, is_full=detail == "full")
        return page(items, following)


@stream("/events/stream", scope="event:read", tags=["Events"], media_type="text/event-stream")
async def get_event_stream(
    request: Request[Any, Any, Any],
    principal: NamedDependency[Principal],
    types: Kinds = None,
    detail: Detail = "thin",
    after: After = None,
) -> StreamResponse:
    """What happens that concerns you, as it happens (server-sent events).

    `id` is the event's place in your feed; send the last one back as `Last-Event-ID` and nothing is
    missed. Without it the stream begins now. A comment comes every 15 seconds of silence.
    """
    wanted = read_types(types)
    asked = read_position(request.headers.get("last-event-id") or after)
    streams: Streams = request.app.state["streams"]
    streams.admit()
    feed = feed_of(principal)
    place = await anyio.to_thread.run_sync(place_of, principal, feed, asked)
    opened = Stream(
        feed=feed,
        scope=principal.scope,
        key_id=principal.key_id,
        types=wanted,
        is_full=detail == "full",
        after=place,
    )
    return StreamResponse(
        streams.follow(opened),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def encoded(
    session: Session,
    feed: Feed,
    rows: Sequence[EventRow],
    is_full: bool,
) -> list[bytes]:
    """Events as they travel, each on a line."""
    return [msgspec.json.encode(one) for one in envelopes(session, feed, rows, is_full=is_full)]


def place_of(principal: Principal, feed: Feed, asked: int | None) -> int:
    """The place after which a stream begins.

    Raises:
        PositionGone.
    """
    with database.begin(principal.scope) as session:
        oldest, last = head_of(session, feed.tenant_id)
    if asked is None:
        return last
    if not oldest - 1 <= asked <= last:
        raise PositionGone(asked, oldest, last)
    return asked


ROUTES: list[HTTPRouteHandler] = [get_events, get_event_stream]
