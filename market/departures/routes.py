"""Departures over HTTP: an expert leaves and sees how far that is; ops close a country."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta
from sqlalchemy.orm import Session

from market.auth import Principal, tell_of
from market.db import PLATFORM, database, now
from market.departures.actions import (
    begin_departure,
    call_off,
    close_country,
    come_back,
    open_country,
)
from market.departures.models import ClosedCountry, Departure
from market.departures.queries import (
    closed_countries,
    departure,
    departure_of,
    departures,
    told,
)
from market.departures.rules import DepartureNotFound, Told
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    listed,
    page,
    page_of,
    post,
    read_id,
    wire_id,
)
from market.projects.routes import MoneyOut

Reason = Annotated[str, Meta(min_length=1, max_length=2_000)]


class LeavingIn(Wire):
    """Why you leave."""

    reason: Reason


class DepartureIn(LeavingIn):
    """Who is to leave, and why; the expert reads it."""

    expert_id: str


class DepartureOut(Wire):
    """How far a departure is: `returning` work, `settling` what is open, `paying`, `done`; or
    `called_off`. `waits_for` says in sentences what is left. What was earned is paid whatever the
    least amount of a payout is, and everything can be read and downloaded afterwards as before.
    """

    id: str
    expert_id: str
    cause: str
    state: str
    reason: str
    begun_at: datetime
    changed_at: datetime
    owed: list[MoneyOut]
    can_be_paid: bool
    waits_for: list[str]


class CountryIn(Wire):
    """A country, by its code, and why it is closed; its experts read it."""

    country: str
    reason: Reason


class CountryOut(Wire):
    """A country that is closed, or was until `opened_at`."""

    country: str
    reason: str
    closed_at: datetime
    opened_at: datetime | None


@post(
    "/experts/me/departure", scope="profile:write", status_code=HTTP_201_CREATED, tags=["Experts"]
)
def post_my_departure(
    data: JSONBody[LeavingIn], principal: NamedDependency[Principal]
) -> DepartureOut:
    """Leave: no new work comes, open work goes back, and all that you earned is paid."""
    me = principal.person_id
    # As the platform, since standing and payouts are not the expert's own to write.
    with database.begin(PLATFORM) as session:
        made = begin_departure(session, me, "own", reason=data.reason, at=now(), by=me)
        return _out(session, made)


@get("/experts/me/departure", scope="profile:read", tags=["Experts"])
def get_my_departure(principal: NamedDependency[Principal]) -> DepartureOut:
    """How far your departure is, and what it waits for."""
    with database.begin(PLATFORM) as session:
        return _out(session, _of(session, principal.person_id))


@post(
    "/experts/me/departure/call-off",
    scope="profile:write",
    status_code=HTTP_200_OK,
    tags=["Experts"],
)
def post_my_return(principal: NamedDependency[Principal]) -> DepartureOut:
    """Stay after all, in the standing that you had, if it was you who left."""
    with database.begin(PLATFORM) as session:
        return _out(session, come_back(session, principal.person_id, at=now()))


@post("/departures", scope="expert:write", status_code=HTTP_201_CREATED, tags=["Experts"])
def post_departure(
    data: JSONBody[DepartureIn], principal: NamedDependency[Principal]
) -> DepartureOut:
    """Let an expert leave who asked ops for it."""
    with database.begin() as session:
        made = begin_departure(
            session,
            read_id("per", data.expert_id),
            "asked",
            reason=data.reason,
            at=now(),
            by=principal.person_id,
        )
        return _out(session, made)


@get("/departures", scope="expert:read", tags=["Experts"])
def get_departures(
    in_state: StateFilter = None,
    cause: FromQuery[str | None] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DepartureOut]:
    """Who leaves, newest first, and how far each is."""
    with database.begin() as session:
        rows, following = page_of(
            session,
            departures(state=in_state, cause=cause),
            Departure.id,
            limit=limit,
            cursor=cursor,
            filters=f"departures {in_state} {cause}",
        )
        return page(_all_out(session, rows), following)


@get("/departures/{departure_id:str}", scope="expert:read", tags=["Experts"])
def get_departure(departure_id: FromPath[str]) -> DepartureOut:
    """One departure."""
    with database.begin() as session:
        return _out(session, departure(session, read_id("dep", departure_id)))


@post(
    "/departures/{departure_id:str}/call-off",
    scope="expert:write",
    status_code=HTTP_200_OK,
    tags=["Experts"],
)
def post_call_off(
    departure_id: FromPath[str], principal: NamedDependency[Principal]
) -> DepartureOut:
    """End a departure: its expert is offered work again, as far as its standing allows."""
    with database.begin() as session:
        ended = call_off(session, read_id("dep", departure_id), at=now(), by=principal.person_id)
        return _out(session, ended)


@post("/closed-countries", scope="expert:write", status_code=HTTP_201_CREATED, tags=["Experts"])
def post_closed_country(
    data: JSONBody[CountryIn], principal: NamedDependency[Principal]
) -> CountryOut:
    """Close a country: everybody who lives or is paid there begins to leave within minutes."""
    with database.begin() as session:
        made = close_country(
            session, data.country, reason=data.reason, by=principal.person_id, at=now()
        )
        return _country_out(made)


@post(
    "/closed-countries/{country:str}/open",
    scope="expert:write",
    status_code=HTTP_200_OK,
    tags=["Experts"],
)
def post_open_country(country: FromPath[str], principal: NamedDependency[Principal]) -> CountryOut:
    """Open a closed country again; the departures that it caused are called off."""
    with database.begin() as session:
        return _country_out(open_country(session, country, by=principal.person_id, at=now()))


@get("/closed-countries", scope="expert:read", tags=["Experts"])
def get_closed_countries(limit: Limit = 50, cursor: Cursor = None) -> Page[CountryOut]:
    """Countries that are closed, and those that were, newest first."""
    with database.begin() as session:
        return listed(
            session,
            closed_countries(),
            ClosedCountry.id,
            _country_out,
            limit=limit,
            cursor=cursor,
            filters="closed countries",
        )


def _of(session: Session, expert_id: UUID) -> Departure:
    found = departure_of(session, expert_id)
    if found is None:
        raise DepartureNotFound()
    return found


def _out(session: Session, row: Departure) -> DepartureOut:
    return _all_out(session, [row])[0]


def _all_out(session: Session, rows: Sequence[Departure]) -> list[DepartureOut]:
    tell_of(*(row.expert_id for row in rows))
    return [_told_out(row, found) for row, found in zip(rows, told(session, rows), strict=True)]


def _told_out(row: Departure, found: Told) -> DepartureOut:
    return DepartureOut(
        id=wire_id("dep", row.id),
        expert_id=wire_id("per", row.expert_id),
        cause=found.cause,
        state=found.state,
        reason=found.reason,
        begun_at=found.begun_at,
        changed_at=found.changed_at,
        owed=[MoneyOut(amount_minor=amount, currency=currency) for currency, amount in found.owed],
        can_be_paid=found.is_payee,
        waits_for=found.left.in_words(is_payee=found.is_payee),
    )


def _country_out(row: ClosedCountry) -> CountryOut:
    return CountryOut(
        country=row.country,
        reason=row.reason,
        closed_at=row.closed_at,
        opened_at=row.opened_at,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_my_departure,
    get_my_departure,
    post_my_return,
    post_departure,
    get_departures,
    get_departure,
    post_call_off,
    post_closed_country,
    post_open_country,
    get_closed_countries,
]
