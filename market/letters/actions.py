"""What is done with letters: taken to be sent, tried once at a time, and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.auth import keyring
from market.deliveries.actions import PING, disable_endpoint, move_endpoint
from market.deliveries.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from market.deliveries.queries import feed_heard, keys_in_force
from market.deliveries.rules import (
    DELIVERY,
    DISABLE_AFTER,
    ENDPOINT,
    MAX_BODY_BYTES,
    OPEN,
    WARN_AFTER,
    Outcome,
    SignatureKind,
    SigningKey,
    next_wait,
    slow_down,
)
from market.events import Event, EventRow, change_state
from market.http import wire_id
from market.notices.queries import envelopes

LEASE = timedelta(seconds=60)
"""How long a sender may hold a delivery: its time-out, and as long again and more to say so."""

LANES = 4
"""How many messages one endpoint is sent at once; a slow one gets one at a time."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message, ready to be signed and sent; `number` says which attempt it is."""

    delivery_id: UUID
    number: int
    url: str
    message_id: str
    body: bytes
    keys: tuple[SigningKey, ...]
    is_slow: bool


@dataclass(frozen=True, slots=True)
class Result:
    """How one attempt went.

    Units: ms in milliseconds.
    """

    outcome: Outcome
    status: int | None = None
    error: str | None = None
    reply: str | None = None
    ms: int = 0
    retry_after: timedelta | None = None
    asks_for_less: bool = False
    is_slow: bool = False


_TURN = text("select pg_advisory_xact_lock(hashtextextended('stumpwork webhooks', 0))")

_CLAIM = text(
    """
    select due.id from market.webhook_endpoint e
    cross join lateral (
        select d.id, d.due_at from market.webhook_delivery d
        where d.endpoint_id = e.id and d.state in ('pending', 'retrying') and d.due_at <= :at
            and (d.leased_until is null or d.leased_until <= :at)
        order by d.due_at, d.seq
        limit greatest(0, case when e.is_slow then 1 else :lanes end - (
            select count(*) from market.webhook_delivery held
            where held.endpoint_id = e.id and held.state in ('pending', 'retrying')
                and held.leased_until > :at
        ))
    ) due
    where e.state <> 'disabled' and e.is_slow = :is_slow
        and (e.not_before is null or e.not_before <= :at)
    order by due.due_at limit :limit
    """
)


def reserve_deliveries(
    session: Session, *, limit: int, is_slow: bool, at: datetime
) -> list[Letter]:
    """Take what is due, one attempt each, from endpoints that answer quickly or from the others.

    Nobody else takes it while the lease lasts, and the attempt is written before it is made.
    """
    if limit <= 0:
        return []
    # Senders choose one after another, or two of them would exceed an endpoint's lanes.
    session.execute(_TURN)
    chosen = session.execute(
        _CLAIM, {"at": at, "lanes": LANES, "is_slow": is_slow, "limit": limit}
    ).scalars()
    ids = list(chosen)
    if not ids:
        return []
    rows = session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_(ids), WebhookDelivery.state.in_(OPEN))
        .values(leased_until=at + LEASE, attempts=WebhookDelivery.attempts + 1)
        .returning(WebhookDelivery),
        execution_options={"populate_existing": True},
    ).scalars()
    taken = sorted(rows, key=lambda one: (one.due_at, one.seq or 0))
    letters = _letters(session, taken, at=at)
    session.execute(
        insert(WebhookAttempt),
        [
            {
                "delivery_id": one.id,
                "number": one.attempts,
                "tenant_id": one.tenant_id,
                "began_at": at,
            }
            for one in taken
        ],
    )
    return letters


def _letters(session: Session, taken: Sequence[WebhookDelivery], *, at: datetime) -> list[Letter]:
    owners: dict[UUID, tuple[WebhookEndpoint, tuple[SigningKey, ...]]] = {}
    for owner_id in {one.endpoint_id for one in taken}:
        owner = session.get_one(WebhookEndpoint, owner_id)
        owners[owner_id] = (
            owner,
            tuple(
                SigningKey(SignatureKind(key.kind), keyring.unseal(key.sealed).decode())
                for key in keys_in_force(session, owner_id, at=at)
            ),
        )
    rows = {
        row.id: row
        for row in session.scalars(
            select(EventRow).where(EventRow.id.in_([one.event_id for one in taken]))
        )
    }
    letters = []
    for one in taken:
        owner, keys = owners[one.endpoint_id]
        row = rows.get(one.event_id) if one.event_id else None
        letters.append(
            Letter(
                delivery_id=one.id,
                number=one.attempts,
                url=owner.url,
                message_id=wire_id("whd", one.id) if row is None else wire_id("evt", row.id),
                body=_ping_body(one) if row is None else body_of(session, owner, row),
                keys=keys,
                is_slow=owner.is_slow,
            )
        )
    return letters


def body_of(session: Session, owner: WebhookEndpoint, row: EventRow) -> bytes:
    """An event as an endpoint gets it: in full if it asked so, unless that were too long."""
    feed = feed_heard(owner)
    for is_full in (owner.is_full, False):
        body = msgspec.json.encode(envelopes(session, feed, [row], is_full=is_full)[0])
        if len(body) < MAX_BODY_BYTES:
            break
    return body


def _ping_body(one: WebhookDelivery) -> bytes:
    return msgspec.json.encode(
        {
            "id": wire_id("whd", one.id),
            "type": PING,
            "timestamp": one.created_at,
            "data": {"says": "this is a test; nothing has happened"},
        }
    )


def record_result(
    session: Session,
    delivery_id: UUID,
    number: int,
    result: Result,
    *,
    spread: float,
    at: datetime,
) -> None:
    """Write down how an attempt went, and what follows: arrival, another attempt, or giving up.

    The result of an attempt that lost its lease is logged; it only counts if the message arrived.
    """
    found = session.get_one(WebhookDelivery, delivery_id)
    owner = _owner_for_update(session, found, result)
    session.refresh(found, with_for_update=True)
    session.execute(
        update(WebhookAttempt)
        .where(WebhookAttempt.delivery_id == delivery_id, WebhookAttempt.number == number)
        .values(
            ended_at=at,
            outcome=result.outcome.value,
            status=result.status,
            error=result.error,
            reply=result.reply,
            ms=result.ms,
        )
    )
    if owner is not None:
        _mark_endpoint(session, owner, result, at=at)
    if found.state not in OPEN:
        return
    if result.outcome is Outcome.DELIVERED:
        found.leased_until, found.settled_at = None, at
        change_state(session, DELIVERY, found, "deliver", at=at)
    elif found.attempts == number:
        _fail_delivery(session, found, result, spread=spread, at=at)


def _owner_for_update(
    session: Session, found: WebhookDelivery, result: Result
) -> WebhookEndpoint | None:
    """The endpoint, locked before its delivery; None where nothing about it changes, so that a
    healthy endpoint's messages do not wait for one another.
    """
    statement = select(WebhookEndpoint).where(WebhookEndpoint.id == found.endpoint_id)
    if result.outcome is Outcome.DELIVERED:
        statement = statement.where(
            (WebhookEndpoint.failing_since.is_not(None))
            | (WebhookEndpoint.slow_level > 0)
            | (WebhookEndpoint.is_slow != result.is_slow)
        )
    return session.scalar(
        statement.with_for_update(key_share=True), execution_options={"populate_existing": True}
    )


def _mark_endpoint(
    session: Session, owner: WebhookEndpoint, result: Result, *, at: datetime
) -> None:
    owner.is_slow = result.is_slow or result.outcome is not Outcome.DELIVERED
    if result.outcome is Outcome.DELIVERED:
        owner.failing_since = owner.not_before = None
        owner.slow_level = 0
        session.flush()
        if owner.state == "failing":
            change_state(session, ENDPOINT, owner, "recover", at=at)
        return
    owner.failing_since = owner.failing_since or at
    if result.asks_for_less or result.retry_after is not None:
        owner.not_before = at + slow_down(owner.slow_level, result.retry_after)
        owner.slow_level += 1
    session.flush()
    if owner.state == "disabled":
        return
    failed_for = at - owner.failing_since
    if result.outcome is Outcome.GONE:
        disable_endpoint(session, owner, reason="gone", at=at)
    elif failed_for >= DISABLE_AFTER:
        disable_endpoint(session, owner, reason="failing", at=at)
    elif failed_for >= WARN_AFTER and owner.state == "active":
        move_endpoint(session, owner, "fail", Event.WEBHOOK_ENDPOINT_FAILING, at=at)


def _fail_delivery(
    session: Session, found: WebhookDelivery, result: Result, *, spread: float, at: datetime
) -> None:
    found.failures += 1
    found.leased_until = None
    wait = next_wait(found.failures, spread, retry_after=result.retry_after)
    # A ping is somebody waiting for an answer: it is not sent again behind its back.
    if wait is None or found.event_id is None:
        found.settled_at = at
        change_state(session, DELIVERY, found, "exhaust", at=at)
        return
    found.due_at = at + wait
    if found.state == "pending":
        change_state(session, DELIVERY, found, "retry", at=at)
    session.flush()
