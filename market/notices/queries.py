"""Reads of what happened, for whom it concerns."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from market.db import Json
from market.events import EventRow, StateChange
from market.feeds import Feed, FeedKind, seq_in
from market.http import wire_id
from market.notices.rules import ENVELOPE, EventOut, ResourceOut, kind_of
from market.people.models import Membership


def happened(feed: Feed, kind: str | None = None) -> Select[EventRow]:
    """Everything of a feed, or what is of one type in it."""
    statement = feed.events()
    return statement if kind is None else statement.where(EventRow.type == kind)


def envelopes(
    session: Session, feed: Feed, rows: Sequence[EventRow], *, is_full: bool = False
) -> list[EventOut]:
    """Events as the owner of a feed may read them; in full, with their facts and their moves."""
    known = _known_actors(session, feed, rows)
    moves = _moves(session, rows) if is_full else {}
    return [
        EventOut(
            id=wire_id("evt", row.id),
            seq=seq_in(feed, row),
            type=row.type,
            timestamp=row.at,
            resource=_resource(row),
            version=ENVELOPE,
            data={**row.data, **moves.get(row.id, {})} if is_full else {},
            actor=wire_id("per", row.actor_id) if row.actor_id in known else None,
            cause=row.cause,
        )
        for row in rows
    ]


def _resource(row: EventRow) -> ResourceOut:
    kind, prefix = kind_of(row.type)
    # Stripe's own objects have no prefix of ours: their rows are known by the bare id.
    text_id = wire_id(prefix, row.subject_id) if prefix else row.subject_id.hex
    return ResourceOut(kind=kind, id=text_id, version=row.subject_version)


def _known_actors(session: Session, feed: Feed, rows: Sequence[EventRow]) -> set[UUID]:
    """Those who acted, as far as the owner of a feed may know them: a reviewer stays unknown to
    the author, and an expert's colleague to everybody.
    """
    actors = {row.actor_id for row in rows if row.actor_id is not None}
    if feed.kind is FeedKind.PLATFORM or not actors:
        return actors
    if feed.kind is FeedKind.PERSON:
        return actors & {feed.tenant_id}
    return set(
        session.scalars(
            select(Membership.person_id).where(
                Membership.organisation_id == feed.tenant_id, Membership.person_id.in_(actors)
            )
        )
    )


def _moves(session: Session, rows: Sequence[EventRow]) -> dict[UUID, Json]:
    # By subject first, which has an index; one event may tell the moves of several things.
    subject_of = {row.id: row.subject_id for row in rows}
    found = session.scalars(
        select(StateChange).where(
            StateChange.subject_id.in_(set(subject_of.values())),
            StateChange.event_id.in_(subject_of),
        )
    )
    return {
        move.event_id: {
            "move": {
                "machine": move.machine,
                "from": move.from_state,
                "to": move.to_state,
                "action": move.action,
                "reason_code": move.reason_code,
            }
        }
        for move in found
        if move.event_id is not None and move.subject_id == subject_of[move.event_id]
    }
