"""What is done with webhooks: endpoints and their keys, what becomes a delivery, how one ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.auth import keyring
from market.db import Json, new_id
from market.deliveries.models import (
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookKey,
)
from market.deliveries.queries import endpoint, keys_in_force, number_of_endpoints, wanted_by
from market.deliveries.rules import (
    DELIVERY,
    DISABLE_AFTER,
    ENDPOINT,
    LONGEST_OVERLAP,
    MAX_BODY_BYTES,
    MAX_ENDPOINTS,
    MAX_REPLAY,
    OPEN,
    WARN_AFTER,
    DeliveryOpen,
    EndpointDisabled,
    Outcome,
    OverlapInvalid,
    ReplayRangeInvalid,
    SignatureKind,
    SigningKey,
    TooManyEndpoints,
    fresh_key,
    next_wait,
    slow_down,
)
from market.events import Changes, Event, EventRow, change_state
from market.feeds import Feed, FeedKind, head_of, read_feed
from market.http import wire_id
from market.notices.queries import envelopes

FAN_OUT = 500
LEASE = timedelta(seconds=60)
"""How long a sender may hold a delivery: its time-out, and as long again and more to say so."""

LANES = 4
"""How many messages one endpoint is sent at once; a slow one gets one at a time."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to hear, and where."""

    url: str
    description: str = ""
    types: frozenset[str] = frozenset()
    project_ids: frozenset[UUID] = frozenset()
    is_full: bool = False


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


# Endpoints ----------------------------------------------------------------------------------------


def create_endpoint(
    session: Session,
    feed: Feed,
    wish: Wish,
    *,
    signature: SignatureKind,
    created_by: UUID,
    at: datetime,
) -> tuple[WebhookEndpoint, SigningKey]:
    """Let a tenant hear what happens from now on, and give the key that is shown once.

    Raises:
        TooManyEndpoints.
    """
    # One at a time, so that two requests cannot both make the last one.
    session.execute(
        text("select pg_advisory_xact_lock(hashtextextended(:name, 0))"),
        {"name": f"webhook endpoints {feed.tenant_id}"},
    )
    if number_of_endpoints(session, feed.tenant_id) >= MAX_ENDPOINTS:
        raise TooManyEndpoints()
    made = WebhookEndpoint(
        tenant_id=feed.tenant_id,
        feed_kind=feed.kind.value,
        url=wish.url,
        description=wish.description,
        types=sorted(wish.types),
        project_ids=sorted(wish.project_ids),
        is_full=wish.is_full,
        signature=signature.value,
        created_by=created_by,
        created_at=at,
        told_seq=head_of(session, feed.tenant_id)[1],
    )
    session.add(made)
    session.flush()
    return made, _add_key(session, made, at=at)


def change_endpoint(session: Session, found: WebhookEndpoint, wish: Wish) -> None:
    """Let an endpoint hear something else, or elsewhere; the caller holds it locked."""
    found.url, found.description, found.is_full = wish.url, wish.description, wish.is_full
    found.types, found.project_ids = sorted(wish.types), sorted(wish.project_ids)
    found.version += 1
    session.flush()


def rotate_key(
    session: Session, found: WebhookEndpoint, *, overlap: timedelta, at: datetime
) -> SigningKey:
    """Sign with a new key from now on, and with the old ones too until the overlap ends.

    Raises:
        OverlapInvalid.
    """
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise OverlapInvalid()
    for old in keys_in_force(session, found.id, at=at):
        old.retires_at = min(old.retires_at or at + overlap, at + overlap)
    return _add_key(session, found, at=at)


def _add_key(session: Session, owner: WebhookEndpoint, *, at: datetime) -> SigningKey:
    made = fresh_key(SignatureKind(owner.signature))
    session.add(
        WebhookKey(
            endpoint_id=owner.id,
            kind=made.kind.value,
            sealed=keyring.seal(made.secret.encode()),
            public_key=made.public_key,
            created_at=at,
        )
    )
    session.flush()
    return made


def enable_endpoint(session: Session, found: WebhookEndpoint, *, by: UUID, at: datetime) -> None:
    """Send again, from what happens now on; what was missed can be replayed.

    Raises:
        StateConflict.
    """
    found.told_seq = head_of(session, found.tenant_id)[1]
    found.failing_since = found.not_before = found.disabled_reason = None
    found.slow_level, found.is_slow = 0, False
    change_state(session, ENDPOINT, found, "enable", at=at, actor_id=by)


def disable_endpoint(
    session: Session, found: WebhookEndpoint, *, reason: str, at: datetime, by: UUID | None = None
) -> None:
    """Send nothing more; what was still to be sent is given up, and can be replayed.

    Raises:
        StateConflict.
    """
    found.disabled_reason = reason
    _move_endpoint(session, found, "disable", Event.WEBHOOK_ENDPOINT_DISABLED, by=by, at=at)
    waiting = session.execute(
        select(WebhookDelivery.id, WebhookDelivery.state)
        .where(WebhookDelivery.endpoint_id == found.id, WebhookDelivery.state.in_(OPEN))
        .with_for_update()
    ).all()
    changes = Changes(at)
    for delivery_id, state in waiting:
        changes.move(DELIVERY, delivery_id, state, "exhaust", reason_code="endpoint_disabled")
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_([row.id for row in waiting]))
        .values(state="exhausted", settled_at=at, version=WebhookDelivery.version + 1)
    )
    changes.write(session)


def remove_endpoint(session: Session, found: WebhookEndpoint, *, by: UUID, at: datetime) -> None:
    """Take an endpoint away; its log stays, its keys do not."""
    if found.state != "disabled":
        disable_endpoint(session, found, reason="removed", by=by, at=at)
    found.removed_at = at
    session.execute(delete(WebhookKey).where(WebhookKey.endpoint_id == found.id))
    session.flush()


def _move_endpoint(
    session: Session,
    found: WebhookEndpoint,
    action: str,
    event: Event,
    *,
    at: datetime,
    by: UUID | None = None,
) -> None:
    is_lab = found.feed_kind == FeedKind.ORGANISATION
    change_state(
        session,
        ENDPOINT,
        found,
        action,
        at=at,
        event=event,
        organisation_id=found.tenant_id if is_lab else None,
        person_id=None if is_lab else found.created_by,
        actor_id=by,
        reason_code=found.disabled_reason,
        data={"url": found.url, "reason": found.disabled_reason},
    )


# From events to deliveries ------------------------------------------------------------------------


def fan_out(session: Session, endpoint_id: UUID, *, at: datetime) -> int:
    """Make deliveries of what was published since an endpoint was last told; how many events that
    were. Somebody else who is at it already is left to it.
    """
    owner = session.scalar(
        select(WebhookEndpoint)
        .where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.state != "disabled")
        .with_for_update(skip_locked=True, key_share=True)
    )
    if owner is None:
        return 0
    feed = _feed_of(owner)
    rows = read_feed(session, feed, after=owner.told_seq, limit=FAN_OUT)
    if rows:
        _make_deliveries(session, owner, wanted_by(session, owner, rows), at=at)
        owner.told_seq = getattr(rows[-1], feed.seq().key)
        session.flush()
    return len(rows)


def _feed_of(owner: WebhookEndpoint) -> Feed:
    return Feed(owner.tenant_id, FeedKind(owner.feed_kind))


def _make_deliveries(
    session: Session, owner: WebhookEndpoint, rows: Sequence[EventRow], *, at: datetime
) -> int:
    if not rows:
        return 0
    place = _feed_of(owner).seq().key
    statement = insert(WebhookDelivery).on_conflict_do_nothing(
        index_elements=["endpoint_id", "event_id"], index_where=text("state <> 'replayed'")
    )
    made = session.execute(
        statement.returning(WebhookDelivery.id),
        [
            _delivery(owner, row.type, at=at, event_id=row.id, seq=getattr(row, place))
            for row in rows
        ],
    )
    return len(made.all())


def _delivery(
    owner: WebhookEndpoint, kind: str, *, at: datetime, event_id: UUID | None, seq: int | None
) -> Json:
    return {
        "id": new_id(),
        "endpoint_id": owner.id,
        "tenant_id": owner.tenant_id,
        "type": kind,
        "created_at": at,
        "due_at": at,
        "event_id": event_id,
        "seq": seq,
        "state": "pending",
        "attempts": 0,
        "failures": 0,
        "version": 1,
    }


def ping_endpoint(session: Session, owner: WebhookEndpoint, *, at: datetime) -> WebhookDelivery:
    """Send a message that tells of nothing, once, so that a receiver can be tried.

    Raises:
        EndpointDisabled.
    """
    if owner.state == "disabled":
        raise EndpointDisabled()
    made = WebhookDelivery(
        endpoint_id=owner.id, tenant_id=owner.tenant_id, type=PING, created_at=at, due_at=at
    )
    session.add(made)
    session.flush()
    return made


PING = "webhook.ping"


def replay_delivery(
    session: Session, found: WebhookDelivery, *, by: UUID, at: datetime
) -> WebhookDelivery:
    """Send what was delivered or given up once more, under the same message id.

    Raises:
        DeliveryOpen, EndpointDisabled.
    """
    owner = endpoint(session, found.endpoint_id, found.tenant_id, lock=True)
    if owner.state == "disabled":
        raise EndpointDisabled()
    session.refresh(found, with_for_update=True)
    if found.state in OPEN:
        raise DeliveryOpen(found.state)
    change_state(session, DELIVERY, found, "replay", at=at, actor_id=by)
    again = WebhookDelivery(
        endpoint_id=found.endpoint_id,
        tenant_id=found.tenant_id,
        type=found.type,
        created_at=at,
        due_at=at,
        event_id=found.event_id,
        seq=found.seq,
        replay_of=found.id,
    )
    session.add(again)
    session.flush()
    return again


def replay_range(
    session: Session, owner: WebhookEndpoint, *, first: int, last: int, by: UUID, at: datetime
) -> int:
    """Send everything an endpoint asks for between two places of its feed once more; how many
    messages. What is being sent already is left alone. The caller holds the endpoint locked.

    Raises:
        EndpointDisabled, ReplayRangeInvalid.
    """
    if owner.state == "disabled":
        raise EndpointDisabled()
    newest = head_of(session, owner.tenant_id)[1]
    if not 1 <= first <= last <= newest:
        raise ReplayRangeInvalid(f"it runs from 1 to {newest}, the first place first")
    if last - first >= MAX_REPLAY:
        raise ReplayRangeInvalid(f"at most {MAX_REPLAY} places at once")
    rows = read_feed(session, _feed_of(owner), after=first - 1, up_to=last, limit=MAX_REPLAY)
    wanted = wanted_by(session, owner, rows)
    done = session.execute(
        select(WebhookDelivery.id, WebhookDelivery.state)
        .where(
            WebhookDelivery.endpoint_id == owner.id,
            WebhookDelivery.event_id.in_([row.id for row in wanted]),
            WebhookDelivery.state.in_(("delivered", "exhausted")),
        )
        .with_for_update()
    ).all()
    changes = Changes(at, actor_id=by)
    for delivery_id, state in done:
        changes.move(DELIVERY, delivery_id, state, "replay")
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_([row.id for row in done]))
        .values(state="replayed", version=WebhookDelivery.version + 1)
    )
    changes.write(session)
    # What lies ahead of `told_seq` would come by itself, and comes now instead.
    return _make_deliveries(session, owner, wanted, at=at)


# Sending ------------------------------------------------------------------------------------------

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
    feed = _feed_of(owner)
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
        _move_endpoint(session, owner, "fail", Event.WEBHOOK_ENDPOINT_FAILING, at=at)


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


def open_deliveries(session: Session) -> int:
    """How many messages are still to be sent."""
    waiting = select(func.count()).select_from(WebhookDelivery)
    return session.scalar(waiting.where(WebhookDelivery.state.in_(OPEN))) or 0
