"""A lab's webhook endpoints: where they are, what they hear, how each message went."""

from collections.abc import Mapping
from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy.orm import Session

from market.auth import Principal
from market.console.forms import REFUSALS, Form, field, go, once, said_no
from market.console.frame import Notice, back_to, page
from market.console.visitors import LAB, FormUnreadable
from market.db import PLATFORM, database, now
from market.deliveries.actions import (
    Wish,
    create_endpoint,
    disable_endpoint,
    enable_endpoint,
    ping_endpoint,
    remove_endpoint,
    replay_delivery,
)
from market.deliveries.models import WebhookDelivery, WebhookEndpoint
from market.deliveries.queries import attempts_at, deliveries, delivery, endpoint, endpoints
from market.deliveries.routes import check_url
from market.deliveries.rules import SignatureKind
from market.feeds import feed_of
from market.http import page_of, principal_of_request, read_id
from market.notices.rules import checked_types

PAGE = 25
HOME = "/console/lab/webhooks"

OFFERED = (
    "project.live",
    "project.paused",
    "project.closed",
    "tasks.imported",
    "submission.submitted",
    "submission.accepted",
    "submission.rejected",
    "verdict.recorded",
    "verdict.corrected",
    "budget.exhausted",
    "funding.succeeded",
    "funding.failed",
)
"""The events that a lab's form offers; the API takes every type."""


def _own(
    session: Session, endpoint_id: str, principal: Principal, *, lock: bool = False
) -> WebhookEndpoint:
    return endpoint(session, read_id("whe", endpoint_id), feed_of(principal).tenant_id, lock=lock)


def _list(
    request: Request[Any, Any, Any],
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    with database.begin(PLATFORM) as session:
        return page(
            request,
            "lab/webhooks.html",
            status=status,
            notice=notice,
            endpoints=session.scalars(
                endpoints(feed_of(principal_of_request(request)).tenant_id).order_by(
                    WebhookEndpoint.id.desc()
                )
            ).all(),
            offered=OFFERED,
            typed=typed or {},
        )


@get("/webhooks", guards=LAB, sync_to_thread=True)
def get_webhooks(request: Request[Any, Any, Any]) -> Template:
    """Every endpoint of the lab, and a form for one more."""
    return _list(request)


@post("/webhooks", guards=LAB, sync_to_thread=True, status_code=200)
def post_webhook(request: Request[Any, Any, Any], data: Form) -> Template:
    """Have what happens sent to an address; its secret is shown on the next page, once."""
    principal = principal_of_request(request)
    try:
        check_url(field(data, "url"))
        wish = Wish(
            url=field(data, "url"),
            description=field(data, "description")[:500],
            types=checked_types([name for name in data if name in OFFERED]),
            is_full=data.get("detail") == "full",
        )
        with database.begin(PLATFORM) as session:
            made, key = create_endpoint(
                session,
                feed_of(principal),
                wish,
                signature=SignatureKind.HMAC,
                created_by=principal.person_id,
                at=now(),
            )
            return page(request, "lab/webhook_new.html", endpoint=made, secret=key.secret)
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _list(request, status=status, notice=notice, typed=data)


@get("/webhooks/{endpoint_id:str}", guards=LAB, sync_to_thread=True)
def get_webhook(
    request: Request[Any, Any, Any],
    endpoint_id: FromPath[str],
    cursor: FromQuery[str | None] = None,
) -> Template:
    """One endpoint, and what was sent to it."""
    with database.begin(PLATFORM) as session:
        found = _own(session, endpoint_id, principal_of_request(request))
        rows, following = page_of(
            session,
            deliveries(found.id),
            WebhookDelivery.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"messages to {found.id}",
        )
        last = attempts_at(session, rows[0].id)[-1:] if rows else []
        return page(
            request,
            "lab/webhook.html",
            endpoint=found,
            messages=rows,
            last=last,
            following=following,
        )


@get("/webhooks/{endpoint_id:str}/messages/{delivery_id:str}", guards=LAB, sync_to_thread=True)
def get_message(
    request: Request[Any, Any, Any], endpoint_id: FromPath[str], delivery_id: FromPath[str]
) -> Template:
    """One message with every try at it and what the receiver said."""
    principal = principal_of_request(request)
    with database.begin(PLATFORM) as session:
        found = _own(session, endpoint_id, principal)
        sent = delivery(session, read_id("whd", delivery_id), feed_of(principal).tenant_id)
        tries = attempts_at(session, sent.id)
        return page(request, "lab/message.html", endpoint=found, message=sent, tries=tries)


@post(
    "/webhooks/{endpoint_id:str}/messages/{delivery_id:str}/again",
    guards=LAB,
    sync_to_thread=True,
    status_code=303,
)
def post_again(
    request: Request[Any, Any, Any],
    endpoint_id: FromPath[str],
    delivery_id: FromPath[str],
    data: Form,
) -> Redirect:
    """Send one message once more."""
    principal = principal_of_request(request)

    def act() -> str:
        with database.begin(PLATFORM) as session:
            _own(session, endpoint_id, principal)
            sent = delivery(session, read_id("whd", delivery_id), feed_of(principal).tenant_id)
            replay_delivery(session, sent, by=principal.person_id, at=now())
        return f"{HOME}/{endpoint_id}"

    return once(data, act)


@post("/webhooks/{endpoint_id:str}/move", guards=LAB, sync_to_thread=True, status_code=303)
def post_move(request: Request[Any, Any, Any], endpoint_id: FromPath[str], data: Form) -> Redirect:
    """Send a test, switch an endpoint off or on, or take it away."""
    principal, action, at = principal_of_request(request), data.get("action", ""), now()
    with database.begin(PLATFORM) as session:
        found = _own(session, endpoint_id, principal, lock=action != "ping")
        if action == "ping":
            ping_endpoint(session, found, at=at)
        elif action == "enable":
            enable_endpoint(session, found, by=principal.person_id, at=at)
        elif action == "disable":
            disable_endpoint(session, found, reason="by_owner", by=principal.person_id, at=at)
        elif action == "remove":
            remove_endpoint(session, found, by=principal.person_id, at=at)
        else:
            raise FormUnreadable("an endpoint is asked to ping, enable, disable or remove")
    if action == "remove":
        return back_to(HOME, "removed")
    here = f"{HOME}/{endpoint_id}"
    return back_to(here, "pinged") if action == "ping" else go(here)


ROUTES: list[HTTPRouteHandler] = [
    get_webhooks,
    post_webhook,
    get_webhook,
    get_message,
    post_again,
    post_move,
]
