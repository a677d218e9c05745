"""How a message to a cohort is sent; each of these runs as the platform."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from market.db import new_id
from market.events import Event, emit
from market.expressions.queries import read_expression
from market.inbox.actions import tell_person
from market.inbox.rules import Mail
from market.language import from_json, to_json
from market.messages.models import CohortMessage, MessageCopy
from market.messages.queries import message, reachable
from market.messages.rules import (
    MAX_CONTENT,
    MAX_SUBJECT,
    TOPIC,
    NobodyToTell,
    checked_words,
)


def send_message(
    session: Session,
    source: str,
    *,
    subject: str,
    content: str,
    organisation_id: UUID | None,
    by: UUID,
    at: datetime,
) -> CohortMessage:
    """Ask for a message to everybody for whom an expression holds now; copies follow as a job.

    Raises:
        MessageUnfit, NobodyToTell, ExpressionInvalid, ExpressionTooLarge.
    """
    subject = checked_words("subject", subject, MAX_SUBJECT)
    content = checked_words("content", content, MAX_CONTENT)
    wanted = read_expression(session, organisation_id, source)
    if not reachable(session, wanted.tree, organisation_id, at=at):
        raise NobodyToTell()
    message_id = new_id()
    event_id = emit(
        session,
        Event.MESSAGE_ASKED,
        message_id,
        at=at,
        organisation_id=organisation_id,
        actor_id=by,
    )
    row = CohortMessage(
        id=message_id,
        sent_by=by,
        expression=to_json(wanted),
        subject=subject,
        content=content,
        asked_at=at,
        event_id=event_id,
        organisation_id=organisation_id,
    )
    session.add(row)
    session.flush()
    return row


def people_to_tell(session: Session, message_id: UUID, *, at: datetime) -> list[UUID]:
    """Who has not got a message yet; nobody, once it is finished."""
    row = message(session, message_id)
    if row.finished_at is not None:
        return []
    tree = from_json(row.expression).tree
    told = set(
        session.scalars(select(MessageCopy.person_id).where(MessageCopy.message_id == row.id))
    )
    found = reachable(session, tree, row.organisation_id, at=at)
    return [one for one in found if one not in told and one != row.sent_by]


def write_copies(
    session: Session,
    message_id: UUID,
    people: Collection[UUID],
    *,
    has_mail: bool,
    at: datetime,
) -> int:
    """Tell some people, each as it chose and each once; how many that were."""
    # Locked, so that a job that runs twice at once writes no copy twice.
    row = session.get_one(CohortMessage, message_id, with_for_update=True)
    told = set(
        session.scalars(
            select(MessageCopy.person_id).where(
                MessageCopy.message_id == row.id, MessageCopy.person_id.in_(people)
            )
        )
    )
    missing = sorted(set(people) - told)
    for person_id in missing:
        notification_id = tell_person(
            session,
            person_id,
            event_id=row.event_id,
            event_type=Event.MESSAGE_ASKED.value,
            subject_id=row.id,
            topic=TOPIC,
            default=Mail.NOW,
            title=row.subject,
            content=row.content,
            has_mail=has_mail,
            at=at,
        )
        session.add(
            MessageCopy(
                message_id=row.id, person_id=person_id, notification_id=notification_id, at=at
            )
        )
    session.flush()
    return len(missing)


def finish_message(session: Session, message_id: UUID, *, at: datetime) -> None:
    """Say that everybody was told."""
    row = session.get_one(CohortMessage, message_id, with_for_update=True)
    if row.finished_at is None:
        told = select(MessageCopy.person_id).where(MessageCopy.message_id == row.id)
        row.matched, row.finished_at = len(session.scalars(told).all()), at
