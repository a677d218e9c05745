"""Feeds: one sequencer gives every event its place, dense and in order, in the feed of each tenant
that it concerns: the platform, an organisation, a person.

An event becomes readable when it is published, by the transaction that numbers it. One transaction
numbers at a time, and ends before the next one begins, so that nobody can ever see place n + 1 and
not place n. A sequencer that dies in between has numbered nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Select, select, text, update
from sqlalchemy.orm import InstrumentedAttribute, Mapped, Session, mapped_column

from market.auth import Part, Principal
from market.db import Base
from market.events import EventRow

BATCH = 500
CHANNEL = "stumpwork_published"
"""Where a listener hears that something was published; the payload is the newest platform place."""

PLATFORM_FEED = UUID(int=0)
"""The tenant whose feed holds everything."""


class FeedKind(StrEnum):
    """Whose feeds there are."""

    PLATFORM = "platform"
    ORGANISATION = "organisation"
    PERSON = "person"


class FeedHead(Base):
    """How far a tenant's feed goes: its newest place, and the oldest one that is still told."""

    __tablename__ = "feed_head"
    __table_args__ = (
        CheckConstraint("kind in ('platform', 'organisation', 'person')", name="kind"),
    )

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    last_seq: Mapped[int]
    oldest_seq: Mapped[int]


@dataclass(frozen=True, slots=True)
class Feed:
    """Whose feed: everything, an organisation's, or a person's."""

    tenant_id: UUID
    kind: FeedKind

    def seq(self) -> InstrumentedAttribute[int | None]:
        """The column that holds an event's place in this feed."""
        return {
            FeedKind.PLATFORM: EventRow.platform_seq,
            FeedKind.ORGANISATION: EventRow.organisation_seq,
            FeedKind.PERSON: EventRow.person_seq,
        }[self.kind]

    def events(self) -> Select[EventRow]:
        """Every published event of this feed; row level security says the same once more."""
        statement = select(EventRow).where(self.seq().is_not(None))
        if self.kind is FeedKind.ORGANISATION:
            return statement.where(EventRow.organisation_id == self.tenant_id)
        if self.kind is FeedKind.PERSON:
            return statement.where(EventRow.person_id == self.tenant_id)
        return statement


EVERYTHING = Feed(PLATFORM_FEED, FeedKind.PLATFORM)


def feed_of(principal: Principal) -> Feed:
    """What concerns a principal: everything for ops, its organisation's for a lab, its own else."""
    if principal.part is Part.OPS:
        return EVERYTHING
    if principal.part is Part.LAB:
        return Feed(principal.tenant, FeedKind.ORGANISATION)
    return Feed(principal.person_id, FeedKind.PERSON)


def seq_in(feed: Feed, row: EventRow) -> int:
    """The place of a published event in a feed that it belongs to."""
    place: int | None = getattr(row, feed.seq().key)
    if place is None:
        raise LookupError(f"event {row.id} has no place in the feed of {feed.tenant_id}")
    return place


def head_of(session: Session, tenant_id: UUID) -> tuple[int, int]:
    """The oldest place that a feed still tells, and its newest; 1 and 0 before anything."""
    found = session.execute(
        select(FeedHead.oldest_seq, FeedHead.last_seq).where(FeedHead.tenant_id == tenant_id)
    ).first()
    return (1, 0) if found is None else (found.oldest_seq, found.last_seq)


def read_feed(
    session: Session,
    feed: Feed,
    *,
    after: int,
    limit: int,
    up_to: int | None = None,
    types: Collection[str] = (),
) -> Sequence[EventRow]:
    """The events that follow a place, in order; with types, only those."""
    statement = feed.events().where(feed.seq() > after)
    if up_to is not None:
        statement = statement.where(feed.seq() <= up_to)
    if types:
        statement = statement.where(EventRow.type.in_(types))
    return session.scalars(statement.order_by(feed.seq()).limit(limit)).all()


# Publishing ---------------------------------------------------------------------------------------

# The lock is taken by a statement of its own: the next one must see what its holder committed.
_TAKE_TURN = text("select pg_try_advisory_xact_lock(hashtextextended('stumpwork sequencer', 0))")

# A sequencer that stands still must not keep the others from their turn.
_PATIENCE = text("select set_config('idle_in_transaction_session_timeout', '5000', true)")

_NUMBER = text(
    """
    with waiting as materialized (
        select id, position, organisation_id, person_id from market.event
        where platform_seq is null order by position limit :limit
    ), numbered as (
        select id, organisation_id, person_id,
            row_number() over (order by position) as nth,
            row_number() over (partition by organisation_id order by position) as nth_organisation,
            row_number() over (partition by person_id order by position) as nth_person
        from waiting
    ), share as (
        select tenant_id, kind, count(*) as events from (
            select cast(:platform as uuid) as tenant_id, 'platform' as kind from waiting
            union all select organisation_id, 'organisation' from waiting
            union all select person_id, 'person' from waiting
        ) concerned where tenant_id is not null group by tenant_id, kind
    ), head as (
        insert into market.feed_head as h (tenant_id, kind, last_seq, oldest_seq)
        select tenant_id, kind, events, 1 from share
        on conflict (tenant_id) do update set last_seq = h.last_seq + excluded.last_seq
        returning h.tenant_id, h.last_seq
    ), base as (
        select tenant_id, head.last_seq - share.events as seq from head join share using (tenant_id)
    )
    update market.event e set
        platform_seq = whole.seq + numbered.nth,
        organisation_seq = lab.seq + numbered.nth_organisation,
        person_seq = own.seq + numbered.nth_person,
        published_at = :at
    from numbered
        join base whole on whole.tenant_id = cast(:platform as uuid)
        left join base lab on lab.tenant_id = numbered.organisation_id
        left join base own on own.tenant_id = numbered.person_id
    where e.id = numbered.id
    returning e.platform_seq
    """
)


def publish(session: Session, *, at: datetime, limit: int = BATCH) -> int:
    """Number the oldest events that have no place yet; how many those were.

    Nothing is done while another transaction is at it.
    """
    session.execute(_PATIENCE)
    if not session.scalar(_TAKE_TURN):
        return 0
    places = session.execute(
        _NUMBER, {"limit": limit, "platform": PLATFORM_FEED, "at": at}
    ).scalars()
    newest, count = 0, 0
    for place in places:
        newest, count = max(newest, place), count + 1
    if count:
        session.execute(
            text("select pg_notify(:channel, :newest)"),
            {"channel": CHANNEL, "newest": str(newest)},
        )
    return count


def trim_feeds(session: Session, *, before: datetime) -> None:
    """Stop telling what was published before a time; the events themselves stay, as history."""
    for head in session.scalars(select(FeedHead).order_by(FeedHead.tenant_id)).all():
        feed = Feed(head.tenant_id, FeedKind(head.kind))
        oldest = session.scalar(
            feed.events()
            .where(feed.seq() >= head.oldest_seq, EventRow.published_at >= before)
            .order_by(feed.seq())
            .limit(1)
        )
        session.execute(
            update(FeedHead)
            .where(FeedHead.tenant_id == head.tenant_id)
            .values(oldest_seq=FeedHead.last_seq + 1 if oldest is None else seq_in(feed, oldest))
        )
