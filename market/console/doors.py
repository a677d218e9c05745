"""Coming in with a key, and leaving."""

from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect, Template

from market.auth import KeyRefused, Part
from market.console.forms import Form
from market.console.frame import HEADERS, HOME, Notice, page
from market.console.visitors import COOKIE, for_anyone, for_parts
from market.console.words import capital
from market.db import PLATFORM, database, now
from market.people.actions import end_visit, open_visit
from market.people.queries import principal_of
from market.people.rules import VISIT_LASTS
from market.settings import in_force


@get("/", guards=[for_anyone], sync_to_thread=True)
def get_home(request: Request[Any, Any, Any]) -> Template | Redirect:
    """The page of whoever came in; the door for everybody else."""
    principal = request.scope["state"].get("principal")
    if principal is None:
        return page(request, "door.html")
    return Redirect(HOME.get(principal.part, "/console/reviewer"), headers=HEADERS)


@post("/enter", sync_to_thread=True, status_code=303)
def post_enter(request: Request[Any, Any, Any], data: Form) -> Template | Redirect:
    """Come in with a key."""
    try:
        principal = principal_of(data.get("key", "").strip())
    except KeyRefused as refused:
        notice = Notice(f"{capital(str(refused))}.", "bad")
        return page(request, "door.html", status=401, notice=notice)
    with database.begin(PLATFORM) as session:
        token = open_visit(session, principal.key_id, at=now())
    answer = Redirect(
        HOME.get(principal.part, "/console/reviewer"), status_code=303, headers=HEADERS
    )
    answer.set_cookie(
        key=COOKIE,
        value=token,
        max_age=int(VISIT_LASTS.total_seconds()),
        path="/console",
        httponly=True,
        samesite="lax",
        secure=in_force.settings.secure_cookies,
    )
    return answer


@post("/leave", guards=[for_parts(*Part)], sync_to_thread=True, status_code=303)
def post_leave(request: Request[Any, Any, Any]) -> Redirect:
    """Leave, and forget this browser."""
    with database.begin(PLATFORM) as session:
        end_visit(session, request.cookies.get(COOKIE, ""))
    answer = Redirect("/console", status_code=303, headers=HEADERS)
    answer.delete_cookie(COOKIE, path="/console")
    return answer


ROUTES: list[HTTPRouteHandler] = [get_home, post_enter, post_leave]
