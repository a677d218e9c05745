"""How threads are opened, answered, resolved and reopened; each of these runs as the platform."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market.auth import Principal
from market.events import Event, StateChange, change_state, emit
from market.threads.models import Remark, Thread
from market.threads.queries import concerned
from market.threads.rules import (
    MAX_REMARKS,
    SIDE_OF,
    THREAD,
    About,
    Pin,
    ThreadFull,
    checked_text,
    placed,
    read_sides,
)


def open_thread(
    session: Session,
    subject: About,
    *,
    by: Principal,
    content: str,
    pin: Pin | None = None,
    sides: Sequence[str] | None = None,
    at: datetime,
) -> Thread:
    """Begin a thread with its first remark.

    Raises:
        PinUnfit, RemarkUnfit.
    """
    side, said = SIDE_OF[by.part], checked_text(content)
    place, quote = placed(pin or Pin(), subject)
    row = Thread(
        kind=subject.kind,
        subject_id=subject.subject_id,
        organisation_id=subject.organisation_id,
        project_id=subject.project_id,
        task_id=subject.task_id,
        submission_id=subject.submission_id,
        author_id=subject.author_id,
        opened_by=by.person_id,
        opened_side=side,
        sides=read_sides(sides, subject, side),
        opened_at=at,
        field=place.field,
        span_start=place.start,
        span_end=place.end,
        criterion=place.criterion,
        quote=quote,
    )
    session.add(row)
    session.flush()
    session.add(
        StateChange(
            machine=THREAD.name,
            subject_id=row.id,
            from_state="",
            to_state="open",
            action="open",
            at=at,
            actor_id=by.person_id,
        )
    )
    _say(session, row, by, said, number=1, at=at)
    _tell(session, row, Event.THREAD_OPENED, by, at=at)
    return row


def add_remark(
    session: Session, row: Thread, *, by: Principal, content: str, at: datetime
) -> Remark:
    """Say something in a thread, whether it is resolved or not.

    Raises:
        RemarkUnfit, ThreadFull.
    """
    said = checked_text(content)
    # Locked, so that two who speak at once get two places.
    session.refresh(row, with_for_update=True)
    count = session.scalar(select(func.max(Remark.number)).where(Remark.thread_id == row.id)) or 0
    if count >= MAX_REMARKS:
        raise ThreadFull()
    made = _say(session, row, by, said, number=count + 1, at=at)
    _tell(session, row, Event.THREAD_ANSWERED, by, at=at)
    return made


def move_thread(
    session: Session, row: Thread, action: str, *, by: Principal, at: datetime
) -> Thread:
    """Resolve a thread, or open it again; done twice it is done once.

    Raises:
        StateConflict.
    """
    session.refresh(row, with_for_update=True)
    if (action, row.state) in (("resolve", "resolved"), ("reopen", "open")):
        return row
    change_state(session, THREAD, row, action, at=at, actor_id=by.person_id)
    event = Event.THREAD_RESOLVED if row.state == "resolved" else Event.THREAD_REOPENED
    _tell(session, row, event, by, at=at)
    return row


def _say(
    session: Session, row: Thread, by: Principal, content: str, *, number: int, at: datetime
) -> Remark:
    made = Remark(
        thread_id=row.id,
        number=number,
        person_id=by.person_id,
        side=SIDE_OF[by.part],
        content=content,
        at=at,
    )
    session.add(made)
    session.flush()
    return made


def _tell(session: Session, row: Thread, event: Event, by: Principal, *, at: datetime) -> None:
    """One event for the lab and one for each person, so that nobody's feed names another."""
    speaker = SIDE_OF[by.part]
    told = concerned(session, row, speaker=speaker)
    if "lab" in row.sides:
        emit(
            session,
            event,
            row.id,
            at=at,
            organisation_id=row.organisation_id,
            actor_id=by.person_id,
            subject_version=row.version,
        )
    for person_id in sorted(told - {by.person_id}):
        emit(
            session,
            event,
            row.id,
            at=at,
            person_id=person_id,
            actor_id=by.person_id,
            subject_version=row.version,
        )
