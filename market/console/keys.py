"""The page of a visitor's keys: which there are, one more, and the end of one."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template

from market.auth import ScopeMissing
from market.console.forms import REFUSALS, Form, field, said_no, whole_number
from market.console.frame import Notice, back_to, page
from market.console.live import EVERYBODY
from market.console.visitors import my_id
from market.db import PLATFORM, database, now
from market.http import page_of, principal_of_request, read_id
from market.people.actions import make_key, revoke_key
from market.people.models import ApiKey, Membership
from market.people.queries import keys_of, own_key
from market.people.rules import DEFAULT_KEY_DAYS, MAX_KEY_DAYS

PAGE = 50


def _keys(
    request: Request[Any, Any, Any],
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
    cursor: str | None = None,
    made: UUID | None = None,
    secret: str = "",
) -> Template:
    me = my_id(request)
    with database.begin(PLATFORM) as session:
        keys, following = page_of(
            session, keys_of(me), ApiKey.id, limit=PAGE, cursor=cursor, filters=f"keys {me}"
        )
        return page(
            request,
            "keys.html",
            status=status,
            notice=notice,
            keys=keys,
            following=following,
            here_by=principal_of_request(request).key_id,
            made=own_key(session, made, me) if made else None,
            secret=secret,
            typed=typed or {},
            days=DEFAULT_KEY_DAYS,
            most_days=MAX_KEY_DAYS,
        )


@get("/keys", guards=EVERYBODY, sync_to_thread=True)
def get_keys(
    request: Request[Any, Any, Any],
    cursor: FromQuery[str | None] = None,
    said: FromQuery[str | None] = None,
) -> Template:
    """The visitor's keys, without their secrets."""
    del said
    return _keys(request, cursor=cursor)


@post("/keys", guards=EVERYBODY, sync_to_thread=True, status_code=200)
def post_key(request: Request[Any, Any, Any], data: Form) -> Template:
    """Make a key like the one that opened this page; it is shown on the next page, once."""
    principal = principal_of_request(request)
    try:
        if "key:write" not in principal.scopes:
            raise ScopeMissing("key:write", principal.part)
        days = whole_number(
            data, "days", "the days", least=1, most=MAX_KEY_DAYS, absent=DEFAULT_KEY_DAYS
        )
        with database.begin(PLATFORM) as session:
            asking = session.get_one(ApiKey, principal.key_id)
            key, secret = make_key(
                session,
                session.get_one(Membership, asking.membership_id),
                name=field(data, "name"),
                scopes=principal.scopes,
                days=days,
                at=now(),
            )
            made = key.id
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _keys(request, status=status, notice=notice, typed=data)
    return _keys(request, made=made, secret=secret)


@post("/keys/{key_id:str}/end", guards=EVERYBODY, sync_to_thread=True, status_code=303)
def post_key_end(request: Request[Any, Any, Any], key_id: FromPath[str], data: Form) -> Redirect:
    """End a key of the visitor's at once; who came in by it is out."""
    del data
    with database.begin(PLATFORM) as session:
        revoke_key(session, read_id("key", key_id), person_id=my_id(request), at=now())
    return back_to("/console/keys", "key-ended")


ROUTES: list[HTTPRouteHandler] = [get_keys, post_key, post_key_end]
