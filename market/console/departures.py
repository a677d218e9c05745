"""Pages about leaving: ops close countries and see who leaves; experts leave and see how far."""

from functools import partial
from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import func, select

from market.console.forms import Form, field, tried
from market.console.frame import Notice, page
from market.console.visitors import EXPERT, OPS, my_id
from market.db import PLATFORM, database, now
from market.departures.actions import (
    begin_departure,
    call_off,
    close_country,
    come_back,
    open_country,
)
from market.departures.models import ClosedCountry, Departure
from market.departures.queries import closed_countries, departure_of, departures, left_of, told
from market.departures.rules import DEPARTURE
from market.experts.models import Expert
from market.http import page_of, read_id
from market.people.queries import names_of

PAGE = 25
HOME = "/console/ops/experts/departures"
MINE = "/console/expert/leaving"


def _ops(
    request: Request[Any, Any, Any],
    *,
    cursor: str | None = None,
    status: int = 200,
    notice: Notice | None = None,
) -> Template:
    with database.begin() as session:
        rows, following = page_of(
            session, departures(), Departure.id, limit=PAGE, cursor=cursor, filters="departures"
        )
        countries = session.scalars(
            closed_countries().order_by(ClosedCountry.id.desc()).limit(PAGE)
        ).all()
        counted = session.execute(
            select(Departure.state, func.count()).group_by(Departure.state)
        ).all()
        return page(
            request,
            "ops/departures.html",
            status=status,
            notice=notice,
            rows=rows,
            following=following,
            names=names_of(session, [row.expert_id for row in rows]),
            left={
                which: found.in_words(is_payee=True)
                for which, found in left_of(session, [row.id for row in rows]).items()
            },
            countries=countries,
            counts=dict(counted),
            states=DEPARTURE.states,
        )


@get("/experts/departures", guards=OPS, sync_to_thread=True)
def get_departures(
    request: Request[Any, Any, Any],
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """Who leaves and how far each is, and which countries are closed."""
    del said
    return _ops(request, cursor=cursor)


@post("/experts/departures/countries", guards=OPS, sync_to_thread=True, status_code=303)
def post_country(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Close a country, or open it again."""
    country = field(data, "country").upper()

    def act() -> str:
        with database.begin() as session:
            if field(data, "action") == "open":
                open_country(session, country, by=my_id(request), at=now())
                return f"{HOME}?said=country-opened"
            close_country(
                session, country, reason=field(data, "reason"), by=my_id(request), at=now()
            )
            return f"{HOME}?said=country-closed"

    return tried(data, act, partial(_ops, request))


@post(
    "/experts/departures/{departure_id:str}/call-off",
    guards=OPS,
    sync_to_thread=True,
    status_code=303,
)
def post_call_off(
    request: Request[Any, Any, Any], departure_id: FromPath[str], data: Form
) -> Redirect | Template:
    """End a departure."""
    found = read_id("dep", departure_id)

    def act() -> str:
        with database.begin() as session:
            call_off(session, found, at=now(), by=my_id(request))
            return f"{HOME}?said=stays"

    return tried(data, act, partial(_ops, request))


def _mine(
    request: Request[Any, Any, Any], *, status: int = 200, notice: Notice | None = None
) -> Template:
    # As the platform, since it counts what others still do: verdicts, approvals, payouts.
    with database.begin(PLATFORM) as session:
        who = session.get(Expert, my_id(request))
        found = departure_of(session, my_id(request))
        return page(
            request,
            "expert/leaving.html",
            status=status,
            notice=notice,
            is_expert=who is not None,
            found=None if found is None else told(session, [found])[0],
            zone="UTC" if who is None else who.timezone,
            stages=("returning", "settling", "paying", "done"),
        )


@get("/leaving", guards=EXPERT, sync_to_thread=True)
def get_leaving(request: Request[Any, Any, Any], said: FromQuery[str | None] = None) -> Template:
    """What leaving means, and how far it is."""
    del said
    return _mine(request)


@post("/leaving", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_leaving(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Leave, or stay after all."""
    me = my_id(request)

    def act() -> str:
        # As the platform, since standing and payouts are not the expert's own to write.
        with database.begin(PLATFORM) as session:
            if field(data, "action") == "stay":
                come_back(session, me, at=now())
                return f"{MINE}?said=stays"
            begin_departure(session, me, "own", reason=field(data, "reason"), at=now(), by=me)
            return f"{MINE}?said=leaves"

    return tried(data, act, partial(_mine, request))


OPS_ROUTES: list[HTTPRouteHandler] = [get_departures, post_country, post_call_off]
EXPERT_ROUTES: list[HTTPRouteHandler] = [get_leaving, post_leaving]
