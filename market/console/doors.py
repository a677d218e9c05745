"""Coming in with a key, signing up for one, and leaving."""

from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery
from litestar.response import Redirect, Template

from market.auth import KeyRefused, Part
from market.console.forms import REFUSALS, Form, field, said_no
from market.console.frame import HEADERS, HOME, Notice, page
from market.console.visitors import COOKIE, FormUnreadable, for_anyone, for_parts
from market.console.words import capital
from market.db import PLATFORM, database, now
from market.people.actions import end_visit, open_visit, sign_up
from market.people.queries import principal_of
from market.people.rules import VISIT_LASTS
from market.settings import in_force

JOINING = ("expert", "lab")
"""As what anybody may sign up; the other parts are handed out by ops."""


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
    _let_in(answer, token)
    return answer


def _let_in(answer: Template | Redirect, token: str) -> None:
    answer.set_cookie(
        key=COOKIE,
        value=token,
        max_age=int(VISIT_LASTS.total_seconds()),
        path="/console",
        httponly=True,
        samesite="lax",
        secure=in_force.settings.secure_cookies,
    )


@get("/join", guards=[for_anyone], sync_to_thread=True)
def get_join(request: Request[Any, Any, Any], of: FromQuery[str] = "expert") -> Template | Redirect:
    """The form by which somebody new comes in; who is in already is led to the start."""
    if request.scope["state"].get("principal") is not None:
        return Redirect("/console", headers=HEADERS)
    return page(request, "join.html", typed={"part": of})


@post("/join", guards=[for_anyone], sync_to_thread=True, status_code=200)
def post_join(request: Request[Any, Any, Any], data: Form) -> Template | Redirect:
    """Sign up as a lab or an expert, and come in; the key is shown on the next page, once."""
    if request.scope["state"].get("principal") is not None:
        return Redirect("/console", status_code=303, headers=HEADERS)
    at = now()
    try:
        if field(data, "part") not in JOINING:
            raise FormUnreadable("say whether you are an expert or a lab")
        part = Part(field(data, "part"))
        if part is Part.LAB and not field(data, "organisation_name"):
            raise FormUnreadable("name the lab whose projects they are")
        with database.begin(PLATFORM) as session:
            joined = sign_up(
                session,
                part=part,
                name=field(data, "name"),
                email=field(data, "email"),
                organisation_name=field(data, "organisation_name") or None,
                at=at,
            )
            token = open_visit(session, joined.key.id, at=at)
            key, ends = joined.secret, joined.key.expires_at
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return page(request, "join.html", status=status, notice=notice, typed=data)
    answer = page(request, "joined.html", key=key, ends=ends, home=HOME[part], part=part.value)
    _let_in(answer, token)
    return answer


@post("/leave", guards=[for_parts(*Part)], sync_to_thread=True, status_code=303)
def post_leave(request: Request[Any, Any, Any]) -> Redirect:
    """Leave, and forget this browser."""
    with database.begin(PLATFORM) as session:
        end_visit(session, request.cookies.get(COOKIE, ""))
    answer = Redirect("/console", status_code=303, headers=HEADERS)
    answer.delete_cookie(COOKIE, path="/console")
    return answer


ROUTES: list[HTTPRouteHandler] = [get_home, post_enter, get_join, post_join, post_leave]
