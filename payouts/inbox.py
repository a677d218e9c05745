"""The inbox of Stripe's webhooks: kept as they came, once, whether they came or had to be fetched.

The signature is checked here and not by Stripe's library, which reads the clock itself and lets
times from the future pass.
"""

import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from payouts.errors import EventRefused, SignatureRefused
from payouts.models import Payee, StripeEvent, Transfer
from payouts.outcomes import Begin, Now
from payouts.proof_models import PullMark
from payouts.states import InboxState

if TYPE_CHECKING:
    from payouts.gateway import Gateway

TOLERANCE = timedelta(minutes=5)
SNAPSHOT, THIN = "snapshot", "thin"
OBJECT_OF = {SNAPSHOT: "event", THIN: "v2.core.event"}
OPEN = (InboxState.STORED, InboxState.PARKED)
DONE = (InboxState.APPLIED, InboxState.IGNORED)
OWN_EVENTS = "platform events"
"""Under which it is kept until when they have been listed."""
OF_A_BANK = "account.external_account."
"""Events that say themselves what happened: two of one object are not about the same."""


def verify_signature(payload: bytes, header: str, secret: str, *, at: datetime) -> None:
    """Check that Stripe sent these very bytes, within five minutes of now in either direction.

    Several `v1` parts are allowed, as there are while a secret is being replaced.

    Raises:
        SignatureRefused.
    Source: Stripe, "Verify webhook signatures manually".
    """
    if not secret:
        raise SignatureRefused("no secret is set")
    parts = [part.partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name.strip() == "t"]
    marks = [value for name, _, value in parts if name.strip() == "v1"]
    if len(times) != 1 or not times[0].isascii() or not times[0].isdigit() or not marks:
        raise SignatureRefused("the signature header cannot be read")
    signed = times[0].encode() + b"." + payload
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()
    # Every mark is compared, so that the time taken tells nothing.
    matches = [hmac.compare_digest(expected, mark.encode()) for mark in marks]
    if not any(matches):
        raise SignatureRefused("the signature does not belong to this body")
    age = abs(at.timestamp() - int(times[0]))
    if age > TOLERANCE.total_seconds():
        raise SignatureRefused("the signature is too old, or from the future")


def store_event(
    session: Session,
    *,
    payload: bytes,
    signature: str,
    secret: str,
    at: datetime,
    endpoint: str = SNAPSHOT,
    expect_livemode: bool = False,
) -> UUID | None:
    """Keep a webhook's raw bytes, once; None when it is here already.

    Raises:
        SignatureRefused: answer 400 and keep nothing.
        EventRefused: signed well, and still not ours: another mode, or another kind of body.
    """
    verify_signature(payload, signature, secret, at=at)
    return _keep(session, payload, at=at, endpoint=endpoint, expect_livemode=expect_livemode)


def _keep(
    session: Session, payload: bytes, *, at: datetime, endpoint: str, expect_livemode: bool
) -> UUID | None:
    try:
        body = json.loads(payload.decode("utf-8"))
    except ValueError as error:
        raise EventRefused("the body is no JSON in UTF-8") from error
    if not isinstance(body, dict) or body.get("object") != OBJECT_OF[endpoint]:
        raise EventRefused(f"this endpoint takes {OBJECT_OF[endpoint]} bodies")
    if body.get("livemode") is not expect_livemode:
        raise EventRefused("the event is from the other mode")
    kind, event_id = body.get("type"), body.get("id")
    if not isinstance(kind, str) or not isinstance(event_id, str):
        raise EventRefused("the event has no type or no id")
    row = {
        "id": uuid7(),
        "endpoint": endpoint,
        "event_id": event_id,
        "type": kind,
        "account": body.get("account"),
        "object_id": _object_of(body, endpoint),
        "api_version": body.get("api_version"),
        "payload": payload,
        "received_at": at,
        "next_try_at": at,
        "state": InboxState.STORED,
    }
    return session.scalar(
        insert(StripeEvent).values(**row).on_conflict_do_nothing().returning(StripeEvent.id)
    )


def _object_of(body: dict[str, object], endpoint: str) -> str | None:
    """The id of the object that an event is about, which is all that is believed of it."""
    found: object = body.get("related_object")
    if endpoint == SNAPSHOT:
        data = body.get("data")
        found = data.get("object") if isinstance(data, dict) else None
    object_id = found.get("id") if isinstance(found, dict) else None
    return object_id if isinstance(object_id, str) else None


def due_events(session: Session, at: datetime, *, limit: int = 100) -> list[UUID]:
    """Events that nobody has applied yet and whose time has come, by when it came."""
    return list(
        session.scalars(
            select(StripeEvent.id)
            .where(StripeEvent.state.in_(OPEN), StripeEvent.next_try_at <= at)
            .order_by(StripeEvent.next_try_at, StripeEvent.id)
            .limit(limit)
        )
    )


def open_about_the_same(session: Session, event: StripeEvent) -> list[UUID]:
    """Events that nobody has applied yet and that one fetch answers: this one, and all others about
    the same object that are here by now.
    """
    if event.object_id is None or event.type.startswith(OF_A_BANK):
        return [event.id]
    family = event.type.partition(".")[0]
    found = session.scalars(
        select(StripeEvent.id).where(
            StripeEvent.object_id == event.object_id,
            StripeEvent.state.in_(OPEN),
            StripeEvent.endpoint == event.endpoint,
            StripeEvent.account.is_not_distinct_from(event.account),
            func.split_part(StripeEvent.type, ".", 1) == family,
        )
    )
    return sorted({event.id, *found})


def locked_events(session: Session, event_ids: list[UUID]) -> dict[UUID, StripeEvent]:
    """Those of some events that are not done yet, held until the transaction ends, so that two
    workers on them do their work one after the other.
    """
    found = session.scalars(
        select(StripeEvent)
        .where(StripeEvent.id.in_(event_ids))
        .order_by(StripeEvent.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return {event.id: event for event in found if event.state not in DONE}


def catch_up(
    begin: Begin,
    gateway: "Gateway",
    *,
    since: datetime,
    now: Now,
    account_id: str | None = None,
    expect_livemode: bool = False,
) -> list[UUID]:
    """List the events since a moment of one connected account, or the platform's own, and keep
    those whose webhook never came; their new ids. That they were listed is kept with them.

    Run it each hour with a moment two hours before the last run.
    """
    at = now()
    payloads = [event.payload for event in gateway.events(since=since, account_id=account_id)]
    new = []
    with begin() as session:
        for payload in payloads:
            kept = _keep(
                session, payload, at=at, endpoint=SNAPSHOT, expect_livemode=expect_livemode
            )
            if kept is not None:
                new.append(kept)
        if account_id is not None:
            listed = update(Payee).where(Payee.account_id == account_id)
            session.execute(listed.values(events_listed_at=at))
        else:
            mark = insert(PullMark).values(place=OWN_EVENTS, pulled_until=at)
            session.execute(
                mark.on_conflict_do_update(index_elements=["place"], set_={"pulled_until": at})
            )
    return new


def own_events_listed_at(session: Session) -> datetime | None:
    """When the platform's own events were listed last, for `catch_up`."""
    return session.scalar(select(PullMark.pulled_until).where(PullMark.place == OWN_EVENTS))


def accounts_to_watch(session: Session, *, since: datetime) -> dict[str, datetime | None]:
    """The connected accounts that money went to lately, for `catch_up`, and when each was listed
    last: those first that were not for the longest.
    """
    listed_at = Payee.events_listed_at
    found = session.execute(
        select(Transfer.destination, listed_at)
        .outerjoin(Payee, Payee.account_id == Transfer.destination)
        .where(Transfer.at >= since.astimezone(UTC))
        .distinct()
        .order_by(listed_at.nulls_first(), Transfer.destination)
    )
    return {row.destination: row.events_listed_at for row in found}
