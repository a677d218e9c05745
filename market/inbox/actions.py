"""What is done with notifications: made from events, read, gathered into digests, and sent."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.db import new_id
from market.events import EventRow
from market.experts.rules import is_timezone
from market.feeds import EVERYTHING, read_feed, seq_in
from market.inbox.models import FeedReader, Letter, NoticePreference, Notification
from market.inbox.queries import own_zone, recipients
from market.inbox.rules import (
    DIGEST_HOUR,
    NOTICES,
    TOPICS,
    Digest,
    Mail,
    PreferenceInvalid,
    TopicUnknown,
    next_digest,
    next_try,
)
from market.people.models import Person

READER = "inbox"
BATCH = 200
LEASE = timedelta(minutes=3)


def take_notices(session: Session, *, has_mail: bool, at: datetime) -> int:
    """Tell people of what was published since this was last done; how many events that were.

    The place that was reached and what people are told are one transaction, so that nobody is told
    twice, and somebody else who is at it already is left to it.
    """
    reader = session.scalar(
        select(FeedReader).where(FeedReader.name == READER).with_for_update(skip_locked=True)
    )
    if reader is None:
        return 0
    rows = read_feed(session, EVERYTHING, after=reader.seq, limit=BATCH)
    for row in rows:
        if row.type in NOTICES:
            _tell(session, row, has_mail=has_mail, at=at)
    if rows:
        reader.seq = seq_in(EVERYTHING, rows[-1])
        session.flush()
    return len(rows)


def _tell(session: Session, row: EventRow, *, has_mail: bool, at: datetime) -> None:
    notice = NOTICES[row.type]
    for person_id in sorted(recipients(session, notice, row)):
        tell_person(
            session,
            person_id,
            event_id=row.id,
            event_type=row.type,
            subject_id=row.subject_id,
            topic=notice.topic,
            default=notice.mail,
            title=notice.title,
            content=notice.text,
            has_mail=has_mail,
            at=at,
        )


def tell_person(
    session: Session,
    person_id: UUID,
    *,
    event_id: UUID,
    event_type: str,
    subject_id: UUID,
    topic: str,
    default: Mail,
    title: str,
    content: str,
    has_mail: bool,
    at: datetime,
) -> UUID:
    """Tell one person of something, and by e-mail as it chose for the topic; the notification."""
    wishes = preference_of(session, person_id, at=at)
    mail = Mail(wishes.mails.get(topic, default)) if has_mail else Mail.NEVER
    letter_id = None
    if mail is Mail.NOW:
        letter_id = _write_letter(session, person_id, title, content, at=at)
    notification_id = new_id()
    session.execute(
        insert(Notification).values(
            id=notification_id,
            person_id=person_id,
            event_id=event_id,
            event_type=event_type,
            subject_id=subject_id,
            topic=topic,
            title=title,
            content=content,
            mail=mail.value,
            created_at=at,
            letter_id=letter_id,
        )
    )
    return notification_id


def preference_of(session: Session, person_id: UUID, *, at: datetime) -> NoticePreference:
    """How a person wants to be told; made, by the person's own zone, when it is first asked for."""
    found = session.get(NoticePreference, person_id)
    if found is not None:
        return found
    zone = own_zone(session, person_id)
    session.execute(
        insert(NoticePreference)
        .values(
            person_id=person_id,
            timezone=zone,
            digest=Digest.DAILY.value,
            hour=DIGEST_HOUR,
            mails={},
            next_digest_at=next_digest(at, zone, hour=DIGEST_HOUR, digest=Digest.DAILY),
            version=1,
        )
        .on_conflict_do_nothing(index_elements=["person_id"])
    )
    return session.get_one(NoticePreference, person_id)


def change_preference(
    session: Session,
    found: NoticePreference,
    *,
    timezone: str,
    digest: Digest,
    hour: int,
    mails: dict[str, Mail],
    at: datetime,
) -> None:
    """Tell a person otherwise from now on.

    Raises:
        PreferenceInvalid, TopicUnknown.
    """
    if not is_timezone(timezone):
        raise PreferenceInvalid("timezone must be a time zone, such as Europe/Berlin")
    if not 0 <= hour <= 23:
        raise PreferenceInvalid("hour is an hour of the day, from 0 to 23")
    for topic in mails:
        if topic not in TOPICS:
            raise TopicUnknown(topic)
    found.timezone, found.digest, found.hour = timezone, digest.value, hour
    found.mails = {topic: mail.value for topic, mail in mails.items()}
    found.next_digest_at = next_digest(at, timezone, hour=hour, digest=digest)
    found.version += 1
    session.flush()


def mark_read(session: Session, person_id: UUID, ids: Sequence[UUID], *, at: datetime) -> int:
    """Mark some notifications of a person's as read, or all of them; how many were not yet."""
    statement = update(Notification).where(
        Notification.person_id == person_id, Notification.read_at.is_(None)
    )
    if ids:
        statement = statement.where(Notification.id.in_(ids))
    marked = session.execute(statement.values(read_at=at).returning(Notification.id))
    return len(marked.all())


def gather_digests(session: Session, *, at: datetime, limit: int = 50) -> int:
    """Write the digests that are due, each once; how many persons' time had come.

    What a person has read meanwhile is not told again.
    """
    due = session.scalars(
        select(NoticePreference)
        .where(NoticePreference.next_digest_at <= at)
        .order_by(NoticePreference.next_digest_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for wishes in due:
        told = session.scalars(
            select(Notification)
            .where(
                Notification.person_id == wishes.person_id,
                Notification.mail == Mail.DIGEST.value,
                Notification.letter_id.is_(None),
                Notification.read_at.is_(None),
            )
            .order_by(Notification.id)
        ).all()
        if told:
            lines = [f"{one.created_at:%Y-%m-%d}  {one.title}. {one.content}" for one in told]
            subject = told[0].title if len(told) == 1 else f"{len(told)} things happened"
            letter_id = _write_letter(session, wishes.person_id, subject, "\n".join(lines), at=at)
            for one in told:
                one.letter_id = letter_id
        wishes.next_digest_at = next_digest(
            at, wishes.timezone, hour=wishes.hour, digest=Digest(wishes.digest)
        )
    session.flush()
    return len(due)


def _write_letter(
    session: Session, person_id: UUID, subject: str, content: str, *, at: datetime
) -> UUID:
    letter = Letter(
        person_id=person_id,
        address=session.get_one(Person, person_id).email,
        subject=subject,
        content=content,
        created_at=at,
        due_at=at,
    )
    session.add(letter)
    session.flush()
    return letter.id


def reserve_letters(session: Session, *, limit: int, at: datetime) -> Sequence[Letter]:
    """Take letters that are due, for one attempt each; nobody else has them during the lease."""
    letters = session.scalars(
        select(Letter)
        .where(
            Letter.state == "waiting",
            Letter.due_at <= at,
            (Letter.leased_until.is_(None)) | (Letter.leased_until <= at),
        )
        .order_by(Letter.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    for letter in letters:
        letter.leased_until = at + LEASE
        letter.attempts += 1
    session.flush()
    return letters


def record_letter(
    session: Session, letter_id: UUID, *, error: str | None, is_final: bool, at: datetime
) -> None:
    """Write down whether a letter left; one that did not is tried again, unless that is useless."""
    letter = session.get_one(Letter, letter_id, with_for_update=True)
    if letter.state != "waiting":
        return
    letter.leased_until, letter.error = None, error
    if error is None:
        letter.state, letter.sent_at = "sent", at
        return
    wait = None if is_final else next_try(letter.attempts)
    if wait is None:
        letter.state = "failed"
    else:
        letter.due_at = at + wait
    session.flush()
