"""The console as one router: its pages, its files, and its way of saying no."""

from collections.abc import Sequence
from typing import Any

import structlog
from litestar import Request, Response, Router, get, route
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery
from litestar.response import Redirect, Template
from litestar.static_files import create_static_files_router
from sqlalchemy.exc import DataError, OperationalError

from market.auth import Part
from market.console import desk, doors, expert, finance, lab, ops, pairs, signals, tuning
from market.console.frame import HEADERS, HERE, page
from market.console.visitors import (
    ForeignForm,
    FormUnreadable,
    NotHere,
    for_anyone,
    for_parts,
    open_page,
)
from market.console.words import capital
from market.errors import MarketError
from market.problems import code_of
from payouts.errors import PayoutsError

log = structlog.get_logger(__name__)

FORMS: dict[type[Exception], int] = {ForeignForm: 403, FormUnreadable: 422}
"""Refusals that only pages know, with their status."""

NOWHERE = [
    "/{rest:path}",
    "/ops/{rest:path}",
    "/ops/runs/{run:str}/{rest:path}",
    "/ops/policies/{policy:str}/{rest:path}",
    "/ops/cases/{rest:path}",
    "/ops/money/{rest:path}",
    "/ops/money/runs/{run:str}/{rest:path}",
    "/lab/{rest:path}",
    "/lab/projects/{project:str}/{rest:path}",
    "/expert/{rest:path}",
]
"""Addresses that are none; the router does not look back, so that each branch needs its own."""

FORMS_ONLY = [
    "/enter",
    "/leave",
    "/expert/offers/{offer_id:str}/accept",
    "/expert/offers/{offer_id:str}/decline",
    "/expert/offers/{offer_id:str}/start",
    "/expert/sessions/{session_id:str}/{move:str}",
]

OPS_PAGES: list[HTTPRouteHandler] = [
    *ops.ROUTES,
    *pairs.ROUTES,
    *tuning.ROUTES,
    *signals.ROUTES,
    *desk.ROUTES,
    *finance.ROUTES,
]


def forms_only(base: str, handlers: Sequence[HTTPRouteHandler]) -> list[str]:
    """The addresses below a base that take forms and have no page of their own."""
    pages = {path for one in handlers if "GET" in one.http_methods for path in one.paths}
    forms = {path for one in handlers if "POST" in one.http_methods for path in one.paths}
    return sorted(base + path for path in forms - pages)


def _refused(request: Request[Any, Any, Any], status: int, title: str, detail: str) -> Template:
    return page(
        request,
        "refused.html",
        status=status,
        title=title,
        detail=detail,
        request_id=request.scope["state"].get("request_id", ""),
    )


def on_stranger(request: Request[Any, Any, Any], _: NotHere) -> Response[Any]:
    """Whoever has not come in is shown the door, and the way there is a plain link."""
    del request
    return Redirect("/console", status_code=303, headers=HEADERS)


def on_refusal(request: Request[Any, Any, Any], refusal: Exception) -> Template:
    """A refusal of ours, in its own words."""
    if type(refusal) in FORMS:
        status = FORMS[type(refusal)]
    elif (found := code_of(refusal)) is not None:
        status, _ = found
    else:
        return on_bug(request, refusal)
    title = "Not found" if status == 404 else "That is not possible"
    return _refused(request, status, title, f"{capital(str(refusal))}.")


def on_http(request: Request[Any, Any, Any], refused: HTTPException) -> Template:
    """What the framework refused: an unknown page, a form that does not fit."""
    if refused.status_code == 404:
        return _refused(request, 404, "Not found", "There is no such page.")
    return _refused(request, refused.status_code, "That is not possible", refused.detail)


def on_bug(request: Request[Any, Any, Any], bug: Exception) -> Template:
    """Our own fault, said plainly."""
    log.error("internal_error", exc_info=bug)
    return _refused(
        request, 500, "Something went wrong here", "This is our fault. Nothing was half done."
    )


def on_unstorable(request: Request[Any, Any, Any], _: DataError) -> Template:
    """A text that the database cannot hold."""
    return _refused(
        request, 422, "That is not possible", "The form holds a character that cannot be kept."
    )


def on_database_lost(request: Request[Any, Any, Any], lost: OperationalError) -> Template:
    """The database is away; nothing was half done."""
    log.warning("database_unavailable", error=str(lost.orig)[:200])
    # Nobody's name can be looked up now.
    request.scope["state"].pop("principal", None)
    return _refused(
        request, 503, "Not reachable for a moment", "Nothing was changed. Try again shortly."
    )


def no_page(request: Request[Any, Any, Any]) -> Template:
    """Any address below the console that is none, as a page."""
    return _refused(request, 404, "Not found", "There is no such page.")


def get_form_address() -> Redirect:
    """Where only forms are sent, a reader who types the address is led to the start."""
    return Redirect("/console", status_code=303, headers=HEADERS)


@get("/reviewer", guards=[for_parts(Part.REVIEWER)], sync_to_thread=True)
def get_reviewer(request: Request[Any, Any, Any], said: FromQuery[str | None] = None) -> Template:
    """Where reviewers find their work for now."""
    del said
    return page(request, "reviewer.html")


def console_router() -> Router:
    """Everything below `/console`."""
    pages: list[HTTPRouteHandler | Router] = [
        *doors.ROUTES,
        get_reviewer,
        # One handler each: a handler of several paths would be wrapped once for each of them.
        *(
            get(path, sync_to_thread=True)(get_form_address)
            for path in (*FORMS_ONLY, *forms_only("/ops", OPS_PAGES))
        ),
        *(
            route(path, http_method=["GET", "POST"], guards=[for_anyone], sync_to_thread=True)(
                no_page
            )
            for path in NOWHERE
        ),
        Router("/ops", route_handlers=OPS_PAGES),
        Router("/lab", route_handlers=lab.ROUTES),
        Router("/expert", route_handlers=expert.ROUTES),
        create_static_files_router(
            "/static", directories=[HERE / "static"], include_in_schema=False
        ),
    ]
    return Router(
        "/console",
        route_handlers=pages,
        before_request=open_page,
        include_in_schema=False,
        exception_handlers={
            NotHere: on_stranger,
            MarketError: on_refusal,
            PayoutsError: on_refusal,
            DataError: on_unstorable,
            OperationalError: on_database_lost,
            HTTPException: on_http,
            Exception: on_bug,
        },
    )
