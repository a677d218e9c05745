"""Webhooks over HTTP: endpoints, their keys, the log of what was sent, and sending again."""

from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import UNSET, Meta, UnsetType
from sqlalchemy.orm import Session

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.deliveries.actions import (
    Wish,
    change_endpoint,
    create_endpoint,
    disable_endpoint,
    enable_endpoint,
    ping_endpoint,
    remove_endpoint,
    replay_delivery,
    replay_range,
    rotate_key,
)
from market.deliveries.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from market.deliveries.queries import (
    attempts_at,
    deliveries,
    delivery,
    endpoint,
    endpoints,
    keys_in_force,
)
from market.deliveries.rules import EndpointUrlInvalid, SignatureKind
from market.egress import checked_target
from market.feeds import feed_of
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    delete,
    expect_version,
    get,
    listed,
    patch,
    post,
    read_id,
    tagged,
    wire_id,
    wire_ids,
)
from market.notices.rules import checked_types
from market.settings import in_force

Url = Annotated[str, Meta(min_length=1, max_length=2000)]
Text = Annotated[str, Meta(max_length=500)]
Types = Annotated[list[str], Meta(max_length=100)]
Projects = Annotated[list[str], Meta(max_length=100)]


class EndpointIn(Wire):
    """Where webhooks go, and which: no types or no projects means all of them."""

    url: Url
    description: Text = ""
    types: Types = msgspec.field(default_factory=list)
    project_ids: Projects = msgspec.field(default_factory=list)
    data: Literal["thin", "full"] = "thin"
    signature: SignatureKind = SignatureKind.HMAC


class EndpointPatch(Wire):
    """What changes of an endpoint; what is left out stays."""

    url: Url | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    types: Types | UnsetType = UNSET
    project_ids: Projects | UnsetType = UNSET
    data: Literal["thin", "full"] | UnsetType = UNSET


class EndpointOut(Wire):
    """An endpoint. `told_seq` is the place in your feed up to which messages were made for it."""

    id: str
    url: str
    description: str
    types: list[str]
    project_ids: list[str]
    data: str
    signature: str
    public_keys: list[str]
    state: str
    disabled_reason: str | None
    failing_since: datetime | None
    told_seq: int
    created_at: datetime
    version: int


class NewEndpointOut(EndpointOut):
    """An endpoint just made, with the secret that signs (null with `v1a`): shown once."""

    secret: str | None


class KeyIn(Wire):
    """For how long the old key goes on signing beside the new one."""

    overlap_hours: int = 24


class EndpointMoveIn(Wire):
    """A move of an endpoint."""

    action: Literal["enable", "disable"]


class RangeIn(Wire):
    """Which places of your feed are sent once more, both ends included."""

    from_seq: int
    to_seq: int


class RangeOut(Wire):
    """How many messages were queued."""

    deliveries: int


class DeliveryOut(Wire):
    """One message to one endpoint; `webhook_id` is what its header says, on every attempt."""

    id: str
    endpoint_id: str
    webhook_id: str
    type: str
    seq: int | None
    state: str
    attempts: int
    created_at: datetime
    due_at: datetime | None
    settled_at: datetime | None
    replay_of: str | None


class AttemptOut(Wire):
    """One try: without an outcome it is under way, or its sender died."""

    number: int
    began_at: datetime
    ended_at: datetime | None
    outcome: str | None
    status: int | None
    error: str | None
    reply: str | None
    ms: int | None


class DeliveryLogOut(DeliveryOut):
    """A message with every try at it."""

    tries: list[AttemptOut]


@post("/webhook-endpoints", scope="webhook:write", status_code=HTTP_201_CREATED, tags=["Webhooks"])
def post_webhook_endpoint(
    data: JSONBody[EndpointIn], principal: NamedDependency[Principal]
) -> Response[NewEndpointOut]:
    """Have what happens from now on sent to an address of yours."""
    check_url(data.url)
    wish = Wish(
        url=data.url,
        description=data.description,
        types=checked_types(data.types),
        project_ids=_projects(data.project_ids),
        is_full=data.data == "full",
    )
    with database.begin(PLATFORM) as session:
        made, key = create_endpoint(
            session,
            feed_of(principal),
            wish,
            signature=data.signature,
            created_by=principal.person_id,
            at=now(),
        )
        return tagged(_new_out(session, made, key.secret), made.version, status=HTTP_201_CREATED)


@get("/webhook-endpoints", scope="webhook:read", tags=["Webhooks"])
def get_webhook_endpoints(
    principal: NamedDependency[Principal], limit: Limit = 50, cursor: Cursor = None
) -> Page[EndpointOut]:
    """Your endpoints, newest first."""
    tenant_id = feed_of(principal).tenant_id
    with database.begin(PLATFORM) as session:
        return listed(
            session,
            endpoints(tenant_id),
            WebhookEndpoint.id,
            lambda row: _endpoint_out(session, row),
            limit=limit,
            cursor=cursor,
            filters=f"webhook endpoints {tenant_id}",
        )


@get("/webhook-endpoints/{endpoint_id:str}", scope="webhook:read", tags=["Webhooks"])
def get_webhook_endpoint(
    endpoint_id: FromPath[str], principal: NamedDependency[Principal]
) -> Response[EndpointOut]:
    """One endpoint of yours."""
    with database.begin(PLATFORM) as session:
        found = _own(session, endpoint_id, principal)
        return tagged(_endpoint_out(session, found), found.version)


@patch("/webhook-endpoints/{endpoint_id:str}", scope="webhook:write", tags=["Webhooks"])
def patch_webhook_endpoint(
    endpoint_id: FromPath[str],
    data: JSONBody[EndpointPatch],
    principal: NamedDependency[Principal],
) -> Response[EndpointOut]:
    """Change where an endpoint is or what it hears; what is queued goes to the new address."""
    if data.url is not UNSET:
        check_url(data.url)
    with database.begin(PLATFORM) as session:
        found = _own(session, endpoint_id, principal, lock=True)
        expect_version(found.version)
        wish = Wish(
            url=found.url if data.url is UNSET else data.url,
            description=found.description if data.description is UNSET else data.description,
            types=frozenset(found.types) if data.types is UNSET else checked_types(data.types),
            project_ids=frozenset(found.project_ids)
            if data.project_ids is UNSET
            else _projects(data.project_ids),
            is_full=found.is_full if data.data is UNSET else data.data == "full",
        )
        change_endpoint(session, found, wish)
        return tagged(_endpoint_out(session, found), found.version)


@delete(
    "/webhook-endpoints/{endpoint_id:str}",
    scope="webhook:write",
    status_code=HTTP_200_OK,
    tags=["Webhooks"],
)
def delete_webhook_endpoint(
    endpoint_id: FromPath[str], principal: NamedDependency[Principal]
) -> EndpointOut:
    """Take an endpoint away; nothing more is sent to it."""
    with database.begin(PLATFORM) as session:
        found = _own(session, endpoint_id, principal, lock=True)
        remove_endpoint(session, found, by=principal.person_id, at=now())
        return _endpoint_out(session, found)


@post(
    "/webhook-endpoints/{endpoint_id:str}/transitions",
    scope="webhook:write",
    status_code=HTTP_200_OK,
    tags=["Webhooks"],
)
def post_webhook_endpoint_transition(
    endpoint_id: FromPath[str],
    data: JSONBody[EndpointMoveIn],
    principal: NamedDependency[Principal],
) -> Response[EndpointOut]:
    """Switch an endpoint off, or on again from now; what was missed can be replayed."""
    with database.begin(PLATFORM) as session:
        found = _own(session, endpoint_id, principal, lock=True)
        expect_version(found.version, required=False)
        if data.action == "enable":
            enable_endpoint(session, found, by=principal.person_id, at=now())
        else:
            disable_endpoint(session, found, reason="by_owner", by=principal.person_id, at=now())
        return tagged(_endpoint_out(session, found), found.version)


@post(
    "/webhook-endpoints/{endpoint_id:str}/keys",
    scope="webhook:write",
    status_code=HTTP_201_CREATED,
    tags=["Webhooks"],
)
def post_webhook_key(
    endpoint_id: FromPath[str], data: JSONBody[KeyIn], principal: NamedDependency[Principal]
) -> NewEndpointOut:
    """Sign with a new key; until the overlap ends every message carries both signatures."""
    with database.begin(PLATFORM) as session:
        found = _own(session, endpoint_id, principal, lock=True)
        hours = max(min(data.overlap_hours, 10_000), -1)
        key = rotate_key(session, found, overlap=timedelta(hours=hours), at=now())
        return _new_out(session, found, key.secret)


@post(
    "/webhook-endpoints/{endpoint_id:str}/pings",
    scope="webhook:write",
    status_code=HTTP_201_CREATED,
    tags=["Webhooks"],
)
def post_webhook_ping(
    endpoint_id: FromPath[str], principal: NamedDependency[Principal]
) -> DeliveryOut:
    """Send a test message, once; its log says what the receiver answered."""
    with database.begin(PLATFORM) as session:
        found = _own(session, endpoint_id, principal)
        return _delivery_out(ping_endpoint(session, found, at=now()))


@post(
    "/webhook-endpoints/{endpoint_id:str}/replays",
    scope="webhook:write",
    status_code=HTTP_201_CREATED,
    tags=["Webhooks"],
)
def post_webhook_replay(
    endpoint_id: FromPath[str], data: JSONBody[RangeIn], principal: NamedDependency[Principal]
) -> RangeOut:
    """Send a range of your feed once more, as far as the endpoint asks for it."""
    with database.begin(PLATFORM) as session:
        found = _own(session, endpoint_id, principal, lock=True)
        count = replay_range(
            session,
            found,
            first=data.from_seq,
            last=data.to_seq,
            by=principal.person_id,
            at=now(),
        )
        return RangeOut(deliveries=count)


@get("/webhook-endpoints/{endpoint_id:str}/deliveries", scope="webhook:read", tags=["Webhooks"])
def get_webhook_deliveries(
    endpoint_id: FromPath[str],
    principal: NamedDependency[Principal],
    wanted_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DeliveryOut]:
    """What was sent to an endpoint and what waits, newest first."""
    with database.begin() as session:
        found = _own(session, endpoint_id, principal)
        return listed(
            session,
            deliveries(found.id, wanted_state),
            WebhookDelivery.id,
            _delivery_out,
            limit=limit,
            cursor=cursor,
            filters=f"webhook deliveries {found.id} {wanted_state}",
        )


@get("/webhook-deliveries/{delivery_id:str}", scope="webhook:read", tags=["Webhooks"])
def get_webhook_delivery(
    delivery_id: FromPath[str], principal: NamedDependency[Principal]
) -> DeliveryLogOut:
    """One message, with every try at it and what the receiver said."""
    with database.begin() as session:
        found = delivery(session, read_id("whd", delivery_id), feed_of(principal).tenant_id)
        tries = [_attempt_out(one) for one in attempts_at(session, found.id)]
        return DeliveryLogOut(**msgspec.structs.asdict(_delivery_out(found)), tries=tries)


@post(
    "/webhook-deliveries/{delivery_id:str}/replays",
    scope="webhook:write",
    status_code=HTTP_201_CREATED,
    tags=["Webhooks"],
)
def post_webhook_delivery_replay(
    delivery_id: FromPath[str], principal: NamedDependency[Principal]
) -> DeliveryOut:
    """Send one message once more."""
    with database.begin(PLATFORM) as session:
        found = delivery(session, read_id("whd", delivery_id), feed_of(principal).tenant_id)
        return _delivery_out(replay_delivery(session, found, by=principal.person_id, at=now()))


def _own(
    session: Session, endpoint_id: str, principal: Principal, *, lock: bool = False
) -> WebhookEndpoint:
    return endpoint(session, read_id("whe", endpoint_id), feed_of(principal).tenant_id, lock=lock)


def check_url(url: str) -> None:
    """Refuse, now, what would be refused when it is sent; that is checked again then.

    Raises:
        AddressRefused, EndpointUrlInvalid.
    """
    allow_private = in_force.settings.allow_private_targets
    target, _ = checked_target(url, allow_private=allow_private)
    if target.scheme != "https" and not allow_private:
        raise EndpointUrlInvalid("only https keeps what is sent to yourself")
    if target.fragment:
        raise EndpointUrlInvalid("a fragment (#...) is never sent")


def _projects(texts: list[str]) -> frozenset[UUID]:
    return frozenset(read_id("prj", one) for one in texts)


def _endpoint_out(session: Session, row: WebhookEndpoint) -> EndpointOut:
    keys = keys_in_force(session, row.id, at=now())
    return EndpointOut(
        id=wire_id("whe", row.id),
        url=row.url,
        description=row.description,
        types=row.types,
        project_ids=[wire_id("prj", one) for one in row.project_ids],
        data="full" if row.is_full else "thin",
        signature=row.signature,
        public_keys=[key.public_key for key in keys if key.public_key is not None],
        state=row.state,
        disabled_reason=row.disabled_reason,
        failing_since=row.failing_since,
        told_seq=row.told_seq,
        created_at=row.created_at,
        version=row.version,
    )


def _new_out(session: Session, row: WebhookEndpoint, secret: str) -> NewEndpointOut:
    # With a key pair the private half stays here: the public one is all that a receiver needs.
    shown = secret if row.signature == SignatureKind.HMAC else None
    return NewEndpointOut(**msgspec.structs.asdict(_endpoint_out(session, row)), secret=shown)


def _delivery_out(row: WebhookDelivery) -> DeliveryOut:
    return DeliveryOut(
        id=wire_id("whd", row.id),
        endpoint_id=wire_id("whe", row.endpoint_id),
        webhook_id=wire_ids("evt", row.event_id) or wire_id("whd", row.id),
        type=row.type,
        seq=row.seq,
        state=row.state,
        attempts=row.attempts,
        created_at=row.created_at,
        due_at=None if row.settled_at else row.due_at,
        settled_at=row.settled_at,
        replay_of=wire_ids("whd", row.replay_of),
    )


def _attempt_out(row: WebhookAttempt) -> AttemptOut:
    return AttemptOut(
        number=row.number,
        began_at=row.began_at,
        ended_at=row.ended_at,
        outcome=row.outcome,
        status=row.status,
        error=row.error,
        reply=row.reply,
        ms=row.ms,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_webhook_endpoint,
    get_webhook_endpoints,
    get_webhook_endpoint,
    patch_webhook_endpoint,
    delete_webhook_endpoint,
    post_webhook_endpoint_transition,
    post_webhook_key,
    post_webhook_ping,
    post_webhook_replay,
    get_webhook_deliveries,
    get_webhook_delivery,
    post_webhook_delivery_replay,
]
