"""Reads of what people are told."""

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from market.events import EventRow
from market.experts.models import Expert
from market.inbox.models import NoticePreference, Notification
from market.inbox.rules import Audience, Notice, NotificationNotFound
from market.people.models import Membership


def notifications(person_id: UUID, *, is_unread: bool = False) -> Select[Notification]:
    """What a person was told, as a statement to page through."""
    statement = select(Notification).where(Notification.person_id == person_id)
    return statement.where(Notification.read_at.is_(None)) if is_unread else statement


def unread(session: Session, person_id: UUID) -> int:
    """How much of it the person has not read."""
    waiting = notifications(person_id, is_unread=True).subquery()
    return session.scalar(select(func.count()).select_from(waiting)) or 0


def notification(session: Session, notification_id: UUID, person_id: UUID) -> Notification:
    """One thing that a person was told.

    Raises:
        NotificationNotFound.
    """
    found = session.get(Notification, notification_id)
    if found is None or found.person_id != person_id:
        raise NotificationNotFound(notification_id)
    return found


def preference(session: Session, person_id: UUID) -> NoticePreference | None:
    """How a person wants to be told, if it ever said or was told anything."""
    return session.get(NoticePreference, person_id)


def own_zone(session: Session, person_id: UUID) -> str:
    """The time zone that a person works in, as far as it said so."""
    zone = select(Expert.timezone).where(Expert.id == person_id)
    return session.scalar(zone) or "UTC"


def recipients(session: Session, notice: Notice, row: EventRow) -> Collection[UUID]:
    """Who is told of an event; never whoever did it."""
    people: set[UUID] = set()
    if notice.audience is Audience.PERSON or row.person_id is not None:
        people = set() if row.person_id is None else {row.person_id}
    elif row.organisation_id is not None and notice.audience in (
        Audience.LAB,
        Audience.LAB_AND_OPS,
    ):
        people = set(
            session.scalars(
                select(Membership.person_id).where(
                    Membership.organisation_id == row.organisation_id,
                    Membership.ended_at.is_(None),
                )
            )
        )
    if notice.audience in (Audience.OPS, Audience.LAB_AND_OPS):
        people |= set(
            session.scalars(
                select(Membership.person_id).where(
                    Membership.part == "ops", Membership.ended_at.is_(None)
                )
            )
        )
    return people - {row.actor_id}
