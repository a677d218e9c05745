"""Screeners, over HTTP: labs set them, experts end by them."""

from datetime import datetime

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.http import Wire, get, post, put, read_id, wire_id
from market.offers.queries import own_offer
from market.projects.queries import project
from market.projects.routes import MoneyOut
from market.screeners.actions import set_screener, take_screener_code
from market.screeners.models import Screener
from market.screeners.queries import newest_screener, screener_of
from market.screeners.rules import ScreenerNotFound


class ScreenerIn(Wire):
    """The codes that a task may show to whom it does not fit, and what a screening pays.

    Whoever is screened out is paid `pay_minor`, or for its minutes where they are worth more. No
    codes end screening for offers made from then on.
    """

    codes: tuple[str, ...]
    pay_minor: int


class ScreenerOut(Wire):
    """A project's screener."""

    project_id: str
    version: int
    codes: list[str]
    pay_minor: int
    set_at: datetime


class ScreeningOut(Wire):
    """That a task may turn out not to fit, and what is paid then; its code stands in the task."""

    offer_id: str
    pay: MoneyOut


class CodeIn(Wire):
    """The code that the task showed."""

    code: str


class ScreenedOut(Wire):
    """Work that ended by its screener."""

    submission_id: str
    offer_id: str
    state: str


@put("/projects/{project_id:str}/screener", scope="project:write", tags=["Projects"])
def put_screener(
    project_id: FromPath[str],
    data: JSONBody[ScreenerIn],
    principal: NamedDependency[Principal],
) -> ScreenerOut:
    """Screen by these codes from the next offer on."""
    with database.begin() as session:
        made = set_screener(
            session,
            read_id("prj", project_id),
            codes=data.codes,
            pay_minor=data.pay_minor,
            at=now(),
            actor_id=principal.person_id,
        )
        return _out(made)


@get("/projects/{project_id:str}/screener", scope="project:read", tags=["Projects"])
def get_screener(project_id: FromPath[str]) -> ScreenerOut:
    """The screener that the next offers are bound by."""
    with database.begin() as session:
        found = newest_screener(session, project(session, read_id("prj", project_id)).id)
        if found is None:
            raise ScreenerNotFound(read_id("prj", project_id))
        return _out(found)


@get("/offers/{offer_id:str}/screener", scope="offer:read", tags=["Work"])
def get_offer_screener(
    offer_id: FromPath[str], principal: NamedDependency[Principal]
) -> ScreeningOut:
    """What an offer pays if its task turns out not to fit you."""
    # As the platform, because a project's codes are its lab's; only the pay is told.
    with database.begin(PLATFORM) as session:
        offer = own_offer(session, read_id("ofr", offer_id), principal.person_id)
        found = screener_of(session, offer)
        pay = MoneyOut(amount_minor=found.pay_minor, currency=str(offer.currency))
        return ScreeningOut(offer_id=offer_id, pay=pay)


@post(
    "/offers/{offer_id:str}/screen-out", scope="work:write", status_code=HTTP_200_OK, tags=["Work"]
)
def post_screen_out(
    offer_id: FromPath[str], data: JSONBody[CodeIn], principal: NamedDependency[Principal]
) -> ScreenedOut:
    """End work on a task that says it is not for you, by the code that it shows."""
    # As the platform, because the slot, the task and the reservation move with the offer.
    with database.begin(PLATFORM) as session:
        row = take_screener_code(
            session,
            read_id("ofr", offer_id),
            data.code,
            expert_id=principal.person_id,
            at=now(),
        )
        return ScreenedOut(submission_id=wire_id("sub", row.id), offer_id=offer_id, state=row.state)


def _out(found: Screener) -> ScreenerOut:
    return ScreenerOut(
        project_id=wire_id("prj", found.project_id),
        version=found.version,
        codes=found.codes,
        pay_minor=found.pay_minor,
        set_at=found.set_at,
    )


ROUTES: list[HTTPRouteHandler] = [put_screener, get_screener, get_offer_screener, post_screen_out]
