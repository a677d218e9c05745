"""Pages about screeners: a lab sets the codes of a project, and an expert ends by one."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template

from market.console.forms import Form, field, lines, minor, tried
from market.console.frame import Notice, back_to, page
from market.console.visitors import EXPERT, LAB, my_id
from market.db import PLATFORM, database, now
from market.http import read_id
from market.projects.queries import project
from market.screeners.actions import set_screener, take_screener_code
from market.screeners.queries import newest_screener
from market.screeners.rules import MAX_CODES, MAX_PAY_MINOR
from payouts.money import Money


def _screener(
    request: Request[Any, Any, Any],
    project_id: str,
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        screener = newest_screener(session, found.id)
        pay = 0 if screener is None else screener.pay_minor
        return page(
            request,
            "lab/screener.html",
            status=status,
            notice=notice,
            project=found,
            screener=screener,
            most_codes=MAX_CODES,
            most_pay=MAX_PAY_MINOR,
            typed=typed
            or {
                "codes": "\n".join(screener.codes if screener else ()),
                "pay": str(Money(pay, found.currency)).split(" ", 1)[1] if pay else "",
            },
        )


@get("/projects/{project_id:str}/screener", guards=LAB, sync_to_thread=True)
def get_screener(
    request: Request[Any, Any, Any],
    project_id: FromPath[str],
    said: FromQuery[str | None] = None,
) -> Template:
    """The codes by which a project's tasks say that they are not for whoever reads them."""
    del said
    return _screener(request, project_id)


@post("/projects/{project_id:str}/screener", guards=LAB, sync_to_thread=True, status_code=303)
def post_screener(
    request: Request[Any, Any, Any], project_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Screen by these codes from the next offer on."""

    def act() -> str:
        with database.begin() as session:
            found = project(session, read_id("prj", project_id))
            set_screener(
                session,
                found.id,
                codes=lines(data, "codes"),
                pay_minor=minor(data, "pay", "what a screening pays", found.currency) or 0,
                at=now(),
                actor_id=my_id(request),
            )
        return f"/console/lab/projects/{project_id}/screener?said=saved"

    return tried(data, act, partial(_screener, request, project_id, typed=data))


@post("/offers/{offer_id:str}/screen-out", guards=EXPERT, sync_to_thread=True, status_code=303)
def post_screen_out(
    request: Request[Any, Any, Any], offer_id: FromPath[str], data: Form
) -> Redirect:
    """End work on a task that says it is not for its expert, by the code that it shows."""
    # As the platform, because the slot, the task and the reservation move with the offer.
    with database.begin(PLATFORM) as session:
        take_screener_code(
            session,
            read_id("ofr", offer_id),
            field(data, "code"),
            expert_id=my_id(request),
            at=now(),
        )
    return back_to("/console/expert", "screened")


LAB_ROUTES: list[HTTPRouteHandler] = [get_screener, post_screener]
EXPERT_ROUTES: list[HTTPRouteHandler] = [post_screen_out]
