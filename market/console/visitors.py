"""Who looks at a page, and whether a form that came back was one of ours."""

import hmac
from dataclasses import dataclass
from secrets import token_hex
from typing import Any
from uuid import UUID

import anyio.to_thread
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from market.auth import Part, Principal, RequestContext, keyring
from market.db import PLATFORM, current_scope, database
from market.errors import MarketError
from market.http import announce, principal_of_request, request_context
from market.inbox.queries import unread
from market.people.queries import person, principal_of_visit

COOKIE = "stumpwork_visit"


class NotHere(MarketError):
    """A page for somebody who has not come in, or who plays another part."""

    def __init__(self, part: str | None) -> None:
        super().__init__("come in with a key of the right part")
        self.part = part


class ForeignForm(MarketError):
    """A form that no page of ours gave to this visitor."""

    def __init__(self) -> None:
        super().__init__("this form is out of date: open the page again and send it once more")


class FormUnreadable(MarketError):
    """A form with a field that cannot be what it should be; no browser of ours sends one."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever looks at a page, the token that its forms carry, and a word that no other page has.

    By that word a form that is sent twice is known to be one.
    """

    principal: Principal
    name: str
    csrf: str
    once: str = ""
    unread: int = 0

    @property
    def part(self) -> str:
        """The part that the visitor plays."""
        return self.principal.part.value


def csrf_token(cookie: str) -> str:
    """What the forms of a visit carry; it cannot be made without the cookie and our key."""
    return keyring.sign(b"form|" + cookie.encode()).hex()[:40]


def _arrived(cookie: str) -> Visitor | None:
    """Whoever came in with a cookie. Read before the page's own transaction, so that no page holds
    one connection to the database while it waits for a second.
    """
    principal = principal_of_visit(cookie)
    if principal is None:
        return None
    with database.begin(PLATFORM) as session:
        found = person(session, principal.person_id)
        waiting = unread(session, principal.person_id)
    name = found.name if found else ""
    return Visitor(principal, name, csrf_token(cookie), token_hex(12), waiting)


async def for_anyone(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard that refuses nobody, and knows whoever came in."""
    cookie = connection.cookies.get(COOKIE)
    visitor = await anyio.to_thread.run_sync(_arrived, cookie) if cookie else None
    if visitor is not None:
        connection.scope["state"]["principal"] = visitor.principal
        connection.scope["state"]["visitor"] = visitor


def for_parts(*parts: Part) -> Any:
    """A guard that lets in those who came in with a key of some parts."""

    async def admit(
        connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
    ) -> None:
        await for_anyone(connection, handler)
        principal = connection.scope["state"].get("principal")
        if principal is None or principal.part not in parts:
            raise NotHere(principal.part.value if principal else None)

    return admit


OPS = [for_parts(Part.OPS)]
LAB = [for_parts(Part.LAB)]
EXPERT = [for_parts(Part.EXPERT)]
REVIEWER = [for_parts(Part.REVIEWER)]


def my_id(request: Request[Any, Any, Any]) -> UUID:
    """Whose page it is; for pages behind a guard that lets nobody in without a key."""
    return principal_of_request(request).person_id


def my_lab(request: Request[Any, Any, Any]) -> UUID:
    """The lab whose page it is.

    Raises:
        NotHere, for a key that belongs to no organisation.
    """
    principal = principal_of_request(request)
    if principal.organisation_id is None:
        raise NotHere(principal.part.value)
    return principal.organisation_id


def without_blanks(query: bytes) -> bytes:
    """A query without the fields of its form that were left blank, which browsers send as well."""
    kept = (one for one in query.split(b"&") if not one.endswith(b"=") or one.count(b"=") > 1)
    return b"&".join(kept)


async def open_page(request: Request[Any, Any, Any]) -> None:
    """Set the stage before a page is made: who asks, as which tenant; forms must be ours.

    Raises:
        ForeignForm.
    """
    request.scope["query_string"] = without_blanks(request.scope["query_string"])
    state = request.scope["state"]
    principal: Principal | None = state.get("principal")
    context = RequestContext(
        request_id=state.get("request_id", ""),
        principal=principal,
        method=request.method,
        path=request.url.path,
    )
    request_context.set(context)
    current_scope.set(context.scope)
    if request.method != "POST":
        return
    # Browsers name the site that a form came from; no page elsewhere may let somebody in here.
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ForeignForm()
    if principal is not None:
        form = await request.form()
        sent = str(form.get("csrf", ""))
        if not hmac.compare_digest(sent, state["visitor"].csrf):
            raise ForeignForm()
    await announce(request)
