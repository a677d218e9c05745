"""The hours in which an expert can be offered work, over HTTP."""

from datetime import datetime, timedelta
from typing import Annotated

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter

from market.auth import Principal
from market.availability.queries import calendar_of
from market.availability.rules import AvailabilityInvalid
from market.db import database, now
from market.http import NotFound, Wire, get, wire_id

LONGEST = timedelta(days=93)

Start = Annotated[
    datetime | None, QueryParameter(name="from", description="From when; now, if left out.")
]
End = Annotated[
    datetime | None, QueryParameter(name="until", description="Until when; a week, if left out.")
]


class OpenOut(Wire):
    """An open stretch of time: the same two moments in UTC and on the expert's clock."""

    starts_at: datetime
    ends_at: datetime
    starts_there: str
    ends_there: str


class OpenHoursOut(Wire):
    """When an expert can be asked for work, with time off taken out and changes of the clocks in.

    Units: seconds.
    """

    timezone: str
    open_s: int
    spans: list[OpenOut]


@get("/experts/me/open-hours", scope="profile:read", tags=["Experts"])
def get_my_open_hours(
    principal: NamedDependency[Principal], start: Start = None, end: End = None
) -> OpenHoursOut:
    """The hours in which you can be offered work, as the matching reads your profile."""
    with database.begin() as session:
        found = calendar_of(session, principal.person_id)
    if found is None:
        raise NotFound("expert", wire_id("per", principal.person_id))
    first = start or now()
    last = end or first + timedelta(days=7)
    if first.tzinfo is None or last.tzinfo is None or not first < last <= first + LONGEST:
        wanted = f"later than from, by {LONGEST.days} days at most, both with their zone"
        raise AvailabilityInvalid("until", wanted)
    return OpenHoursOut(
        timezone=found.zone,
        open_s=found.open_s(first, last),
        spans=[
            OpenOut(
                starts_at=begins,
                ends_at=ends,
                starts_there=begins.astimezone(found.clock).isoformat(),
                ends_there=ends.astimezone(found.clock).isoformat(),
            )
            for begins, ends in found.spans(first, last)
        ],
    )


ROUTES: list[HTTPRouteHandler] = [get_my_open_hours]
