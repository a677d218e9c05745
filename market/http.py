"""The wire: handlers that run in threads, ids, pages and versions.

A handler declared with `get`, `post`, `patch`, `put` or `delete` of this module is a plain function
in a worker thread. The scope it needs stands in its decorator; its refusals become problems in
`problems.py`.
"""

import base64
import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Annotated, Any, Generic, Literal, ParamSpec, TypeVar
from uuid import UUID

import anyio.to_thread
import litestar
import msgspec
import structlog
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import SerializationException, ValidationException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import QueryParameter
from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

from market.auth import KeyMissing, Part, Principal, RequestContext, ScopeMissing, keyring
from market.db import current_cause, current_scope
from market.errors import MarketError
from market.once import IdempotencyKeyInvalid, IdempotencyKeyMissing, run_once

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

MAX_BODY_BYTES = 4 * 1024 * 1024
REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{8,80}")
LOOSE = re.compile(r"(?P<said>Expected `[^`]+`, got `[^`]+`)(?: - at `\$(?P<path>[^`]*)`)?")
KEY_FORM = re.compile(r"[\x21-\x7e]{1,255}")

request_context: ContextVar[RequestContext] = ContextVar("request_context")


class Wire(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What travels: unknown fields are refused, and every field is named."""


class Page(msgspec.Struct, Generic[T], kw_only=True):
    """One page of a list; `next_cursor` leads to the one after it."""

    items: list[T]
    next_cursor: str | None
    has_more: bool


Limit = Annotated[int, QueryParameter(ge=1, le=200, description="Items a page.")]
Cursor = Annotated[str | None, QueryParameter(description="From `next_cursor`.")]
StateFilter = Annotated[str | None, QueryParameter(name="state", description="Only this state.")]


# Refusals -----------------------------------------------------------------------------------------


class NotFound(MarketError):
    """Nothing with this id that the caller may see."""

    def __init__(self, kind: str, wire_id: str) -> None:
        super().__init__(f"there is no {kind.replace('_', ' ')} {wire_id}")
        self.kind = kind


class BadCursor(MarketError):
    """A cursor that this list did not give out."""

    def __init__(self) -> None:
        super().__init__("this cursor belongs to another list or filter; start again without it")


class UnknownParameter(MarketError):
    """A query parameter that this address does not know."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        listed = ", ".join(known) or "none"
        super().__init__(f"unknown query parameter {name!r}; known here: {listed}")
        self.parameter = name


class VersionMissing(MarketError):
    """A change that must say which version it changes."""

    def __init__(self, version: int) -> None:
        super().__init__('send If-Match with the ETag that you read, such as If-Match: "3"')
        self.version = version


class VersionConflict(MarketError):
    """A change made to a version that is no longer the newest."""

    def __init__(self, version: int) -> None:
        super().__init__(f'this was changed since you read it; it is now at version "{version}"')
        self.version = version


# Ids ----------------------------------------------------------------------------------------------

KINDS = {
    "adm": "admission",
    "alm": "quality_alarm",
    "apl": "appeal",
    "ats": "attestation",
    "att": "attempt",
    "aud": "audit_entry",
    "bnk": "item_bank",
    "brk": "reconciliation_break",
    "cal": "external_call",
    "cdp": "card_dispute",
    "dep": "departure",
    "dlt": "dead_letter",
    "dsp": "pay_dispute",
    "ear": "earning",
    "evs": "eval_set",
    "evt": "event",
    "exp": "experiment",
    "fix": "fix",
    "fnd": "funding",
    "frd": "fraud_case",
    "gld": "gold",
    "hld": "payout_hold",
    "imp": "import",
    "int": "interest",
    "itm": "item",
    "key": "key",
    "led": "journal_entry",
    "lfb": "lift_batch",
    "lft": "lift_study",
    "mdl": "target_model",
    "mea": "measure",
    "mrn": "matching_run",
    "msd": "target_miss",
    "msg": "message",
    "ntf": "notification",
    "ofr": "offer",
    "opn": "operation",
    "org": "organisation",
    "pay": "payout",
    "per": "person",
    "plc": "policy",
    "plu": "policy_use",
    "ppo": "platform_payout",
    "prj": "project",
    "prn": "payout_run",
    "pvw": "policy_preview",
    "qua": "qualification",
    "qfi": "rule_firing",
    "qrl": "quality_rule",
    "qsm": "rule_simulation",
    "rcv": "recovery_case",
    "rev": "review",
    "rpr": "task_repair",
    "rrq": "return_request",
    "rls": "model_release",
    "ses": "work_session",
    "sit": "sitting",
    "slt": "slot",
    "snp": "snapshot",
    "sub": "submission",
    "tgt": "service_target",
    "thr": "thread",
    "tie": "tier_assignment",
    "tim": "time_entry",
    "tsk": "task",
    "whd": "webhook_delivery",
    "whe": "webhook_endpoint",
}
"""The prefix of each kind of id on the wire."""


def wire_id(prefix: str, value: UUID) -> str:
    """An id as it travels: its kind and 32 hexadecimal digits that sort by time."""
    return f"{prefix}_{value.hex}"


def wire_ids(prefix: str, value: UUID | None) -> str | None:
    """The same for an id that may be absent."""
    return None if value is None else wire_id(prefix, value)


def read_id(prefix: str, text_id: str) -> UUID:
    """The id that travelled.

    Raises:
        NotFound, since an id of another form or kind names nothing.
    """
    head, _, digits = text_id.partition("_")
    if head != prefix or len(digits) != 32:
        raise NotFound(KINDS[prefix], text_id[:64])
    try:
        return UUID(hex=digits)
    except ValueError:
        raise NotFound(KINDS[prefix], text_id[:64]) from None


def read_ids(prefix: str, text_id: str | None) -> UUID | None:
    """The same for an id that may be absent.

    Raises:
        NotFound.
    """
    return None if text_id is None else read_id(prefix, text_id)


# Handlers -----------------------------------------------------------------------------------------


def _guard(scope: str) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Any]:
    async def admit(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        header = connection.headers.get("authorization", "")
        kind, _space, key = header.partition(" ")
        if kind.lower() != "bearer" or not key:
            raise KeyMissing()
        principal: Principal = await anyio.to_thread.run_sync(
            connection.app.state["principal_of"], key.strip()
        )
        if scope not in principal.scopes:
            raise ScopeMissing(scope, principal.part)
        connection.scope["state"]["principal"] = principal

    return admit


@functools.cache
def _strict(kind: type[Wire]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


async def _refuse_loose_types(request: Request[Any, Any, Any]) -> None:
    """Refuse a number sent as a text and the like, which the framework would convert in silence.

    What else is wrong with a body is left for the framework to say.
    """
    field = request.route_handler.parsed_fn_signature.parameters.get("data")
    kind = field.annotation if field is not None else None
    if not (isinstance(kind, type) and issubclass(kind, Wire)):
        return
    try:
        _strict(kind).decode(await request.body())
    except msgspec.ValidationError as error:
        found = LOOSE.fullmatch(str(error))
        if found is not None:
            key = (found["path"] or "").removeprefix(".")
            extra = [{"message": found["said"], "key": key, "source": "body"}]
            raise ValidationException(found["said"], extra=extra) from error
    except msgspec.DecodeError:
        return
    except RecursionError as error:
        raise SerializationException("it is nested too deep") from error


async def open_request(request: Request[Any, Any, Any]) -> None:
    """Set the stage before a handler runs: who asks, as which tenant, under which key."""
    principal: Principal | None = request.scope["state"].get("principal")
    options = request.route_handler.opt
    known = sorted(
        getattr(field.kwarg_definition, "name", None) or name
        for name, field in request.route_handler.parsed_fn_signature.parameters.items()
        if name not in ("principal", "data", "request", "body", "upload")
    )
    for name in request.query_params:
        if name not in known and not options.get("any_query"):
            raise UnknownParameter(name, [k for k in known if k not in request.path_params])
    if request.method in ("POST", "PATCH", "PUT") and not options.get("streamed"):
        await _refuse_loose_types(request)
    key = request.headers.get("idempotency-key")
    digest = None
    if request.method == "POST":
        if key is None and options.get("keyed") == "required":
            raise IdempotencyKeyMissing()
        if key is not None:
            if not KEY_FORM.fullmatch(key):
                raise IdempotencyKeyInvalid()
            if not options.get("streamed"):
                digest = hashlib.sha256(await request.body()).digest()
    context = RequestContext(
        request_id=request.scope["state"].get("request_id", ""),
        principal=principal,
        method=request.method,
        path=request.url.path,
        idempotency_key=key,
        body_digest=digest,
        if_match=request.headers.get("if-match"),
    )
    request_context.set(context)
    current_scope.set(context.scope)
    current_cause.set(context.request_id or None)
    if principal is not None:
        structlog.contextvars.bind_contextvars(person_id=str(principal.person_id))
    await announce(request)


async def announce(request: Request[Any, Any, Any]) -> None:
    """Note what ops are about to change, before they do: see `witness.py`."""
    principal: Principal | None = request.scope["state"].get("principal")
    if principal is not None and principal.part is Part.OPS and request.method != "GET":
        await anyio.to_thread.run_sync(request.app.state["announce"], request.scope)


def principal_of_request(request: Request[Any, Any, Any]) -> Principal:
    """Whoever makes this request; for handlers behind a scope."""
    principal: Principal = request.scope["state"]["principal"]
    return principal


def _route(
    decorator: Callable[..., Callable[[Callable[..., Any]], HTTPRouteHandler]],
    path: str,
    scope: str | None,
    *,
    keyed: Literal["required", "accepted", "never"] = "never",
    streamed: bool = False,
    any_query: bool = False,
    **extra: Any,
) -> Callable[[Callable[P, R]], HTTPRouteHandler]:
    opt = {"scope": scope, "keyed": keyed, "streamed": streamed, "any_query": any_query}
    status = extra.get("status_code")

    def declare(function: Callable[P, R]) -> HTTPRouteHandler:
        handler: Callable[..., Any] = function
        if keyed != "never" and not streamed:
            handler = _once(function, status or 201)
        return decorator(
            path,
            guards=[_guard(scope)] if scope else [],
            opt=opt,
            sync_to_thread=True,
            security=[{"key": []}] if scope else [],
            **extra,
        )(handler)

    return declare


def _once(function: Callable[P, R], status: int) -> Callable[P, R | Response[bytes]]:
    @functools.wraps(function)
    def handler(*args: P.args, **kwargs: P.kwargs) -> R | Response[bytes]:
        context = request_context.get()
        if context.idempotency_key is None:
            return function(*args, **kwargs)
        return run_once(context, lambda: function(*args, **kwargs), status)

    return handler


def get(path: str, *, scope: str | None, **extra: Any) -> Callable[..., HTTPRouteHandler]:
    """A handler that reads."""
    return _route(litestar.get, path, scope, **extra)


def post(
    path: str,
    *,
    scope: str | None,
    keyed: Literal["required", "accepted"] = "accepted",
    **extra: Any,
) -> Callable[..., HTTPRouteHandler]:
    """A handler that writes; under an `Idempotency-Key` once, however often it is sent."""
    return _route(litestar.post, path, scope, keyed=keyed, **extra)


def stream(path: str, *, scope: str, **extra: Any) -> Callable[..., HTTPRouteHandler]:
    """A coroutine that answers with a stream; the only kind of handler that is not a plain
    function, because a thousand of them wait at once.
    """
    return litestar.get(
        path,
        guards=[_guard(scope)],
        opt={"scope": scope, "keyed": "never", "streamed": True, "any_query": False},
        security=[{"key": []}],
        **extra,
    )


def put(path: str, *, scope: str | None, **extra: Any) -> Callable[..., HTTPRouteHandler]:
    """A handler that replaces."""
    return _route(litestar.put, path, scope, **extra)


def patch(path: str, *, scope: str | None, **extra: Any) -> Callable[..., HTTPRouteHandler]:
    """A handler that changes some fields of one version."""
    return _route(litestar.patch, path, scope, **extra)


def delete(path: str, *, scope: str | None, **extra: Any) -> Callable[..., HTTPRouteHandler]:
    """A handler that ends something."""
    return _route(litestar.delete, path, scope, **extra)


# Versions -----------------------------------------------------------------------------------------


def tagged(content: T, version: int, *, status: int = 200, **headers: str) -> Response[T]:
    """A reply with its version, for the `If-Match` of the next change."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(content, status_code=status, headers={"ETag": f'"{version}"', **named})


def expect_version(version: int, *, required: bool = True) -> None:
    """Refuse a change that was made to another version than the newest.

    Raises:
        VersionMissing, VersionConflict.
    """
    sent = request_context.get().if_match
    if sent is None:
        if required:
            raise VersionMissing(version)
        return
    if sent.strip() != "*" and sent.strip().strip('"') != str(version):
        raise VersionConflict(version)


# Pages --------------------------------------------------------------------------------------------


def page_of(
    session: Session,
    statement: Select[*tuple[Any, ...]],
    key: InstrumentedAttribute[UUID] | InstrumentedAttribute[int | None],
    *,
    limit: int,
    cursor: str | None,
    filters: str = "",
    newest_first: bool = True,
) -> tuple[list[Any], str | None]:
    """One page of a statement's rows, in the order of their time-ordered ids or of their places in
    a feed, and what leads on.

    A cursor is signed and bound to the filters it was made under. The rows are whole result rows:
    a statement on one entity gives that entity.

    Raises:
        BadCursor.
    """
    if cursor is not None:
        read = _read_cursor(cursor, filters)
        last = read.int if key.type.python_type is int else read
        statement = statement.where(key < last if newest_first else key > last)
    statement = statement.order_by(key.desc() if newest_first else key.asc()).limit(limit + 1)
    result = session.execute(statement)
    rows: list[Any] = list(result.scalars() if len(result.keys()) == 1 else result.all())
    if len(rows) <= limit:
        return rows, None
    rows = rows[:limit]
    edge = rows[-1]
    last_id: UUID | int = getattr(edge, key.key) if hasattr(edge, key.key) else edge[0].id
    place = last_id if isinstance(last_id, UUID) else UUID(int=last_id)
    return rows, _write_cursor(place, filters)


def page(items: list[T], next_cursor: str | None) -> Page[T]:
    """Items and what leads on, as they travel."""
    return Page(items=items, next_cursor=next_cursor, has_more=next_cursor is not None)


def listed(
    session: Session,
    statement: Select[*tuple[Any, ...]],
    key: InstrumentedAttribute[UUID] | InstrumentedAttribute[int | None],
    told: Callable[[Any], T],
    *,
    limit: int,
    cursor: str | None,
    filters: str,
    newest_first: bool = True,
) -> Page[T]:
    """One page of a statement's rows as they travel, each told by `told`; else as `page_of`.

    Raises:
        BadCursor.
    """
    rows, following = page_of(
        session,
        statement,
        key,
        limit=limit,
        cursor=cursor,
        filters=filters,
        newest_first=newest_first,
    )
    return page([told(row) for row in rows], following)


def _write_cursor(last: UUID, filters: str) -> str:
    payload = last.bytes + keyring.sign(last.bytes + filters.encode())[:12]
    return base64.urlsafe_b64encode(payload).decode().rstrip("=")


def _read_cursor(cursor: str, filters: str) -> UUID:
    try:
        payload = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        raise BadCursor() from None
    last, signature = payload[:16], payload[16:]
    if len(payload) != 28 or not keyring.matches(last + filters.encode(), signature):
        raise BadCursor()
    return UUID(bytes=last)
