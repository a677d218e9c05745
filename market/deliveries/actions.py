"""What is done with webhooks: endpoints and their keys, what becomes a delivery, how one ends."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.auth import keyring
from market.db import Json, new_id
from market.deliveries.models import WebhookDelivery, WebhookEndpoint, WebhookKey
from market.deliveries.queries import (
    endpoint,
    feed_heard,
    keys_in_force,
    number_of_endpoints,
    wanted_by,
)
from market.deliveries.rules import (
    DELIVERY,
    ENDPOINT,
    LONGEST_OVERLAP,
    MAX_ENDPOINTS,
    MAX_REPLAY,
    OPEN,
    DeliveryOpen,
    EndpointDisabled,
    OverlapInvalid,
    ReplayRangeInvalid,
    SignatureKind,
    SigningKey,
    TooManyEndpoints,
    fresh_key,
)
from market.events import Changes, Event, EventRow, change_state
from market.feeds import Feed, FeedKind, head_of, read_feed

FAN_OUT = 500


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to hear, and where."""

    url: str
    description: str = ""
    types: frozenset[str] = frozenset()
    project_ids: frozenset[UUID] = frozenset()
    is_full: bool = False


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
    move_endpoint(session, found, "disable", Event.WEBHOOK_ENDPOINT_DISABLED, by=by, at=at)
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


def move_endpoint(
    session: Session,
    found: WebhookEndpoint,
    action: str,
    event: Event,
    *,
    at: datetime,
    by: UUID | None = None,
) -> None:
    """Move an endpoint and tell whoever hears of it, with the reason where it has one.

    Raises:
        StateConflict.
    """
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
    feed = feed_heard(owner)
    rows = read_feed(session, feed, after=owner.told_seq, limit=FAN_OUT)
    if rows:
        _make_deliveries(session, owner, wanted_by(session, owner, rows), at=at)
        owner.told_seq = getattr(rows[-1], feed.seq().key)
        session.flush()
    return len(rows)


def _make_deliveries(
    session: Session, owner: WebhookEndpoint, rows: Sequence[EventRow], *, at: datetime
) -> int:
    if not rows:
        return 0
    place = feed_heard(owner).seq().key
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
    rows = read_feed(session, feed_heard(owner), after=first - 1, up_to=last, limit=MAX_REPLAY)
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
