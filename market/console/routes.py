"""The console as one router: its pages, its files, and its way of saying no."""

from typing import Any
from urllib.parse import urlsplit

import structlog
from litestar import Request, Response, Router, get, route
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect, Template
from litestar.static_files import create_static_files_router
from sqlalchemy.exc import DataError, OperationalError

from market.console import (
    admissions,
    agreement,
    alarms,
    bank,
    banks,
    baselines,
    calibration,
    comparisons,
    contests,
    departures,
    desk,
    disputes,
    doors,
    edits,
    experiments,
    expert,
    expert_ability,
    expert_bench,
    expert_self,
    expert_sent,
    expert_tests,
    finance,
    frauds,
    keys,
    lab,
    lab_forecast,
    lab_found,
    lab_golds,
    lab_money,
    lab_plan,
    lab_setup,
    lifts,
    live,
    messages,
    ops,
    pairs,
    people,
    preferences,
    previews,
    prices,
    profiles,
    quality_rules,
    releases,
    repairs,
    returns,
    reviewer,
    reviewer_pay,
    screeners,
    signals,
    targets,
    threads,
    tuning,
    webhooks,
)
from market.console.frame import HEADERS, HERE, page
from market.console.visitors import ForeignForm, FormUnreadable, NotHere, for_anyone, open_page
from market.console.words import capital
from market.errors import MarketError
from market.problems import code_of
from payouts.errors import PayoutsError

log = structlog.get_logger(__name__)

FORMS: dict[type[Exception], int] = {ForeignForm: 403, FormUnreadable: 422}
"""Refusals that only pages know, with their status."""


def _refused(request: Request[Any, Any, Any], status: int, title: str, detail: str) -> Template:
    return page(
        request,
        "refused.html",
        status=status,
        title=title,
        detail=detail,
        back=_came_from(request),
        request_id=request.scope["state"].get("request_id", ""),
    )


def _came_from(request: Request[Any, Any, Any]) -> str:
    """The page of ours whose form or link was refused; nothing where there was none."""
    came = urlsplit(request.headers.get("referer", ""))
    here = request.url
    if came.netloc != here.netloc or not came.path.startswith("/console/"):
        return ""
    return "" if came.path == here.path and request.method == "GET" else came.path


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


def on_misfit(request: Request[Any, Any, Any], refused: ValidationException) -> Template:
    """A part of the address that does not fit, such as a day that is none."""
    extra = refused.extra if isinstance(refused.extra, list) else []
    said = "; ".join(f"{item.get('key')}: {item.get('message')}" for item in extra)
    return _refused(request, 400, "That is not possible", said or refused.detail)


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


def _prefixed(prefix: str, handlers: list[HTTPRouteHandler]) -> list[tuple[str, HTTPRouteHandler]]:
    return [(prefix + path.rstrip("/"), handler) for handler in handlers for path in handler.paths]


def forms_only(handlers: list[tuple[str, HTTPRouteHandler]]) -> list[str]:
    """Addresses to which forms are sent and at which there is nothing to read."""
    read = {path for path, handler in handlers if "GET" in handler.http_methods}
    return sorted({path for path, handler in handlers} - read)


def nowhere(paths: list[str]) -> list[str]:
    """Addresses that are none; the router does not look back, so that each branch needs its own."""
    branches: dict[str, set[str]] = {}
    for path in paths:
        parts = path.strip("/").split("/")
        for depth in range(len(parts) + 1):
            after = parts[depth] if depth < len(parts) else ""
            branches.setdefault("/".join(["", *parts[:depth]]).rstrip("/"), set()).add(after)
    below = {
        f"{branch}/{{rest:path}}"
        for branch, after in branches.items()
        if not any(one.startswith("{") for one in after)
    }
    return sorted(below | {branch for branch in branches if branch and branch not in paths})


PAGES: dict[str, list[HTTPRouteHandler]] = {
    "": [*doors.ROUTES, *keys.ROUTES, *live.ROUTES, *preferences.ROUTES, *threads.ROUTES],
    "/ops": [
        *ops.ROUTES,
        *people.ROUTES,
        *signals.ROUTES,
        *agreement.ROUTES,
        *calibration.ROUTES,
        *alarms.ROUTES,
        *releases.OPS_ROUTES,
        *lifts.OPS_ROUTES,
        *baselines.OPS_ROUTES,
        *banks.ROUTES,
        *finance.ROUTES,
        *bank.ROUTES,
        *tuning.ROUTES,
        *previews.ROUTES,
        *experiments.ROUTES,
        *pairs.ROUTES,
        *prices.ROUTES,
        *desk.ROUTES,
        *quality_rules.ROUTES,
        *targets.OPS_ROUTES,
        *disputes.OPS_ROUTES,
        *returns.OPS_ROUTES,
        *repairs.OPS_ROUTES,
        *frauds.OPS_ROUTES,
        *messages.OPS_ROUTES,
        *admissions.OPS_ROUTES,
        *profiles.ROUTES,
        *departures.OPS_ROUTES,
        *edits.OPS_ROUTES,
    ],
    "/lab": [
        *lab.ROUTES,
        *lab_forecast.ROUTES,
        *lab_setup.ROUTES,
        *lab_found.ROUTES,
        *edits.ROUTES,
        *screeners.LAB_ROUTES,
        *comparisons.ROUTES,
        *targets.LAB_ROUTES,
        *lab_money.ROUTES,
        *webhooks.ROUTES,
        *disputes.LAB_ROUTES,
        *returns.LAB_ROUTES,
        *repairs.LAB_ROUTES,
        *contests.ROUTES,
        *releases.LAB_ROUTES,
        *lifts.LAB_ROUTES,
        *lab_golds.ROUTES,
        *lab_plan.ROUTES,
        *baselines.LAB_ROUTES,
        *messages.LAB_ROUTES,
    ],
    "/expert": [
        *expert.ROUTES,
        *expert_bench.ROUTES,
        *expert_sent.ROUTES,
        *expert_self.ROUTES,
        *departures.EXPERT_ROUTES,
        *expert_ability.ROUTES,
        *admissions.EXPERT_ROUTES,
        *expert_tests.ROUTES,
        *disputes.EXPERT_ROUTES,
        *returns.EXPERT_ROUTES,
        *screeners.EXPERT_ROUTES,
        *frauds.EXPERT_ROUTES,
    ],
    "/reviewer": [*reviewer.ROUTES, *reviewer_pay.ROUTES],
}
"""Every page and form, by the part whose branch it is on."""


def console_router() -> Router:
    """Everything below `/console`."""
    every = [one for prefix, some in PAGES.items() for one in _prefixed(prefix, some)]
    pages: list[HTTPRouteHandler | Router] = [
        *PAGES[""],
        # One handler each: a handler of several paths would be wrapped once for each of them.
        *(get(path, sync_to_thread=True)(get_form_address) for path in forms_only(every)),
        *(
            route(path, http_method=["GET", "POST"], guards=[for_anyone], sync_to_thread=True)(
                no_page
            )
            for path in nowhere([path for path, _ in every])
        ),
        *(Router(prefix, route_handlers=some) for prefix, some in PAGES.items() if prefix),
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
            # The API answers these by name, and the nearest name would win.
            ValidationException: on_misfit,
            NotFoundException: on_http,
            MethodNotAllowedException: on_http,
            RequestEntityTooLarge: on_http,
            HTTPException: on_http,
            Exception: on_bug,
        },
    )
