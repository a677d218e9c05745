"""Writes that happen once: a request's key, and the reply that is kept under it."""

from collections.abc import Callable
from datetime import datetime
from typing import ParamSpec, TypeVar
from uuid import UUID

import msgspec
from cryptography.fernet import InvalidToken
from litestar import Response
from sqlalchemy import LargeBinary, insert, text
from sqlalchemy.orm import Mapped, mapped_column

from market.auth import RequestContext, keyring
from market.db import PLATFORM, Base, Json, database, now
from market.errors import MarketError

P = ParamSpec("P")
R = TypeVar("R")


class IdempotencyKeyMissing(MarketError):
    """A write of money or in bulk without a key of the caller's."""

    def __init__(self) -> None:
        super().__init__("send an Idempotency-Key, so that a repeat of this request is harmless")


class IdempotencyKeyInvalid(MarketError):
    """An idempotency key that is empty, too long or not printable."""

    def __init__(self) -> None:
        super().__init__("an Idempotency-Key is 1 to 255 printable characters without spaces")


class IdempotencyKeyReused(MarketError):
    """A used idempotency key with another body."""

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used with another body; take a new one")


class IdempotencyReplyLost(MarketError):
    """A request that succeeded, whose reply was sealed with a secret that is gone."""

    def __init__(self) -> None:
        super().__init__(
            "the first request with this Idempotency-Key was carried out; its reply can no longer"
            " be read, so look at what it made"
        )


class IdempotencyInFlight(MarketError):
    """The first request with this key is still running."""

    def __init__(self) -> None:
        super().__init__("the first request with this Idempotency-Key is still running; wait")


class KeptReply(Base):
    """The reply that a request under an idempotency key got, kept in the transaction it made.

    The body is sealed, because the reply to a new key carries that key.
    """

    __tablename__ = "kept_reply"

    key_id: Mapped[UUID] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    idempotency_key: Mapped[str] = mapped_column(primary_key=True)
    body_digest: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[int]
    headers: Mapped[Json]
    sealed_body: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[datetime]
    lasting: Mapped[bool] = mapped_column(default=False)


def run_once(context: RequestContext, act: Callable[[], R], status: int) -> Response[bytes]:
    """Run an action under the request's idempotency key, or give back the reply it had.

    The action, the key and the reply are one transaction. A refusal leaves nothing behind, so a
    corrected request may use the key again.

    Raises:
        IdempotencyInFlight, IdempotencyKeyReused, IdempotencyReplyLost.
    """
    key_id = context.principal.key_id if context.principal else UUID(int=0)
    route = f"{context.method} {context.path}"
    name = f"{key_id}|{route}|{context.idempotency_key}"
    with database.unit():
        with database.begin(PLATFORM) as session:
            lock = text("select pg_try_advisory_xact_lock(hashtextextended(:name, 7))")
            if not session.scalar(lock, {"name": name}):
                raise IdempotencyInFlight()
            kept = session.get(KeptReply, (key_id, route, context.idempotency_key))
        if kept is not None:
            if kept.body_digest != context.body_digest:
                raise IdempotencyKeyReused()
            try:
                body = keyring.unseal(kept.sealed_body)
            except InvalidToken:
                raise IdempotencyReplyLost() from None
            return Response(
                body,
                status_code=kept.status,
                headers={**kept.headers, "Idempotency-Replayed": "true"},
                media_type="application/json",
            )
        result = act()
        headers: dict[str, str] = {}
        content: object = result
        if isinstance(result, Response):
            content, status = result.content, result.status_code or status
            headers = {name: str(value) for name, value in result.headers.items()}
        body = msgspec.json.encode(content)
        with database.begin(PLATFORM) as session:
            session.execute(
                insert(KeptReply),
                {
                    "key_id": key_id,
                    "route": route,
                    "idempotency_key": context.idempotency_key,
                    "body_digest": context.body_digest,
                    "status": status,
                    "headers": headers,
                    "sealed_body": keyring.seal(body),
                    "at": now(),
                    "lasting": context.principal is not None
                    and any(s in ("fund:write", "pay:write") for s in context.principal.scopes),
                },
            )
        return Response(body, status_code=status, headers=headers, media_type="application/json")
