"""Reads of what people are told."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, Uuid, bindparam, func, select, text
from sqlalchemy.orm import Session

from market.events import EventRow
from market.experts.models import Expert
from market.inbox.models import NoticePreference, Notification
from market.inbox.rules import Audience, Notice, NotificationNotFound
from market.people.models import Membership

FEWEST_READ = 5
"""Of how many verdicts that were read it is told how soon at least, so that it tells of nobody."""

# A verdict reaches its author in the feed of its events, which the stream sends on; it was read
# when the author marked what it was told of it, at the latest.
_FEEDBACK = text(
    """
    with given as (
        select extract(epoch from e.at - s.submitted_at)::float8 as decided_s,
            extract(epoch from e.published_at - s.submitted_at)::float8 as told_s,
            extract(epoch from (select min(n.read_at) from market.notification n
                where n.person_id = s.expert_id and n.subject_id = s.id and n.read_at >= e.at
                    and n.event_type like 'submission.%') - s.submitted_at)::float8 as read_s
        from market.verdict v join market.submission s on s.id = v.submission_id
        join lateral (
            select first.at, first.published_at from market.event first
            where first.subject_id = s.id and first.type = 'verdict.recorded'
            order by first.position limit 1
        ) e on e.at >= s.submitted_at
        where v.decided_at > :since
            and (cast(:project as uuid) is null or v.project_id = :project)
    )
    select count(*) as verdicts, count(read_s) as read,
        percentile_cont(array[0.5, 0.95]) within group (order by decided_s) as decided_s,
        percentile_cont(array[0.5, 0.95]) within group (order by told_s) as told_s,
        percentile_cont(array[0.5, 0.95]) within group (order by read_s) as read_s
    from given
    """
).bindparams(bindparam("project", type_=Uuid()))


@dataclass(frozen=True, slots=True)
class Feedback:
    """How soon authors have verdicts on what they handed in: decided, told, and read by them.

    Units: seconds since it was handed in, the half and 95 in 100 below it; None where none was.
    """

    verdicts: int
    read: int
    decided_s: tuple[float, float] | None
    told_s: tuple[float, float] | None
    read_s: tuple[float, float] | None


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


def feedback(session: Session, project_id: UUID | None, *, since: datetime) -> Feedback:
    """How soon the verdicts since a time came to those who wait for them, of one project or of all.

    Runs as the platform, since what people have read is their own.
    """
    row = session.execute(_FEEDBACK, {"project": project_id, "since": since}).one()
    read_s = _two(row.read_s) if row.read >= FEWEST_READ else None
    return Feedback(row.verdicts, row.read, _two(row.decided_s), _two(row.told_s), read_s)


def _two(found: Sequence[float | None] | None) -> tuple[float, float] | None:
    if not found or found[0] is None:
        return None
    half, most = (float(one or 0) for one in found)
    return half, most


def own_zone(session: Session, person_id: UUID) -> str:
    """The time zone that a person works in, as far as it said so."""
    zone = select(Expert.timezone).where(Expert.id == person_id)
    return session.scalar(zone) or "UTC"


def recipients(session: Session, notice: Notice, row: EventRow) -> Collection[UUID]:
    """Who is told of an event; never whoever did it."""
    people = set() if row.person_id is None else {row.person_id}
    is_for_lab = notice.audience is Audience.PERSON_AND_LAB or (
        not people and notice.audience in (Audience.LAB, Audience.LAB_AND_OPS)
    )
    if is_for_lab and row.organisation_id is not None:
        people |= set(
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
