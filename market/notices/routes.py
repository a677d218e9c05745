"""What happened, over HTTP."""

from datetime import datetime
from typing import Annotated

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from market.auth import Principal
from market.db import Json, database
from market.events import EventRow
from market.http import Cursor, Limit, Page, Wire, get, page, page_of, wire_id
from market.notices.queries import happened

Kind = Annotated[str | None, QueryParameter(name="type", description="Such as offer.created.")]


class EventOut(Wire):
    """One thing that happened; `subject` is the id of what it happened to, without its prefix."""

    id: str
    type: str
    subject: str
    at: datetime
    data: Json


@get("/events", scope="event:read", tags=["Events"])
def get_events(
    principal: NamedDependency[Principal],
    kind: Kind = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[EventOut]:
    """What happened that concerns you, newest first."""
    with database.begin() as session:
        rows, following = page_of(
            session,
            happened(principal, kind),
            EventRow.id,
            limit=limit,
            cursor=cursor,
            filters=f"events {principal.tenant} {kind}",
        )
        items = [
            EventOut(
                id=wire_id("evt", row.id),
                type=row.type,
                subject=row.subject_id.hex,
                at=row.at,
                data=row.data,
            )
            for row in rows
        ]
        return page(items, following)


ROUTES: list[HTTPRouteHandler] = [get_events]
