"""Reads of sessions, of what they have recorded and of what is left of a deadline."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Row, Select, and_, func, or_, select, text
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import Session

from market.offers.models import Offer
from market.work.models import WorkSession
from market.work.rules import (
    LOST_S,
    MAX_PAUSE_S,
    NEAR_CAP_S,
    OPEN_SESSIONS,
    PAUSE_BUDGET_S,
    PROMPT_S,
    Room,
    SessionNotFound,
    monday_of,
    pieces,
    quiet_end,
    room_after,
    seconds_between,
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a session has recorded so far, the running stretch included.

    Units: seconds.
    """

    paid_s: int
    capped_s: int
    cap_left_s: int
    left_s: int
    """What can still be paid before the nearest cap: the offer's, the day's or the week's."""
    is_overtime: bool
    """Whether what is worked next is paid as overtime."""
    is_near_cap: bool
    """Whether that is little, so that the expert should know before it works unpaid."""
    is_prompted: bool
    """Whether it has been quiet for so long that the expert is asked if it is still there."""
    quiet_from: datetime | None
    """From when the clock stands still for want of activity."""


@dataclass(frozen=True, slots=True)
class Before:
    """What stands recorded before a stretch begins.

    Units: seconds.
    """

    offer_paid_s: int
    day_paid_s: int
    week_paid_s: int
    is_taken: bool
    """Whether time at or after this moment is recorded already."""
    declared_quiet_s: object
    """For how long its task says that one may be quiet, as the task says it, if it does."""


PRIOR = text(
    """
    select
        (select coalesce(sum(s.paid_s), 0) from market.work_session s
            where s.offer_id = :offer_id) as offer_paid_s,
        (select coalesce(sum(e.seconds - e.capped_s), 0) from market.time_entry e
            where e.expert_id = :expert_id and e.state <> 'voided'
            and e.during && tstzrange(:day, :next_day)) as day_paid_s,
        (select coalesce(sum(e.seconds - e.capped_s), 0) from market.time_entry e
            where e.expert_id = :expert_id and e.state <> 'voided'
            and e.project_id = (select o.project_id from market.offer o where o.id = :offer_id)
            and e.during && tstzrange(:monday, :next_monday)) as week_paid_s,
        exists (select from market.time_entry e
            where e.expert_id = :expert_id and e.state <> 'voided'
            and e.during && tstzrange(:at, null)) as is_taken,
        (select t.payload -> 'quiet_s' from market.task t join market.offer o on o.task_id = t.id
            where o.id = :offer_id) as declared_quiet_s
    """
)


def before(session: Session, *, offer_id: UUID, expert_id: UUID, at: datetime) -> Before:
    """What an offer and a day have been paid for already, in one statement."""
    day = at.replace(hour=0, minute=0, second=0)
    monday = monday_of(day)
    row = session.execute(
        PRIOR,
        {
            "offer_id": offer_id,
            "expert_id": expert_id,
            "at": at,
            "day": day,
            "next_day": day + timedelta(days=1),
            "monday": monday,
            "next_monday": monday + timedelta(days=7),
        },
    ).one()
    return Before(
        int(row.offer_paid_s),
        int(row.day_paid_s),
        int(row.week_paid_s),
        bool(row.is_taken),
        row.declared_quiet_s,
    )


def figures(row: WorkSession | Row[tuple[object, ...]]) -> Figures:
    """What a session shows now, from its columns alone."""
    paid_s, capped_s = row.paid_s, row.capped_s
    until = min(row.last_beat_at, quiet_end(row.last_active_at, row.quiet_s))
    room = room_of(row)
    if row.stretch_at is not None:
        running = pieces(row.stretch_at, until, room)
        paid_s += sum(piece.paid_s for piece in running)
        capped_s += sum(piece.capped_s for piece in running)
        room = room_after(room, running)
    spent = paid_s - row.paid_s
    quiet = seconds_between(row.last_active_at, row.last_beat_at)
    return Figures(
        paid_s=paid_s,
        capped_s=capped_s,
        cap_left_s=row.cap_left_s - spent,
        left_s=room.left_s,
        is_overtime=room.is_overtime,
        is_near_cap=room.left_s <= NEAR_CAP_S,
        is_prompted=row.state in ("running", "idle") and quiet >= PROMPT_S,
        quiet_from=until if row.state == "idle" else None,
    )


def room_of(row: WorkSession | Row[tuple[object, ...]]) -> Room:
    """What the caps allowed when the running stretch of a session began."""
    return Room(
        row.cap_left_s, row.day_used_s, row.week_cap_s, row.week_used_s, row.overtime_after_s
    )


def work_session(session: Session, session_id: UUID) -> WorkSession:
    """The work session with this id.

    Raises:
        SessionNotFound.
    """
    found = session.scalar(select(WorkSession).where(WorkSession.id == session_id))
    if found is None:
        raise SessionNotFound(session_id)
    return found


def open_session(session: Session, expert_id: UUID) -> WorkSession | None:
    """The one session that an expert has open."""
    return session.scalar(
        select(WorkSession).where(
            WorkSession.expert_id == expert_id, WorkSession.state.in_(OPEN_SESSIONS)
        )
    )


def stale_sessions(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Open sessions that nobody proves: lost while running, left idle, or paused for too long."""
    lost = at - timedelta(seconds=LOST_S)
    over = at - timedelta(seconds=MAX_PAUSE_S)
    return list(
        session.scalars(
            select(WorkSession.id)
            .where(
                # Written so that the small index of open sessions serves.
                WorkSession.state.in_(OPEN_SESSIONS),
                or_(
                    and_(WorkSession.state != "paused", WorkSession.last_beat_at < lost),
                    and_(WorkSession.state == "idle", WorkSession.last_active_at < over),
                    and_(WorkSession.state == "paused", WorkSession.paused_at < over),
                ),
            )
            .limit(limit)
        )
    )


def is_stale(row: WorkSession, at: datetime) -> bool:
    """The same of one session, for whoever has it locked."""
    if row.state == "paused":
        return row.paused_at is not None and seconds_between(row.paused_at, at) > MAX_PAUSE_S
    if seconds_between(row.last_beat_at, at) > LOST_S:
        return True
    return row.state == "idle" and seconds_between(row.last_active_at, at) > MAX_PAUSE_S


@dataclass(frozen=True, slots=True)
class Deadline:
    """When the work of an offer is due: it waits while its expert pauses, as far as the budget of
    pauses reaches.

    Units: seconds, those of a pause that lasts taken off.
    """

    due_at: datetime | None
    is_paused: bool
    pause_left_s: int


def deadline(session: Session, offer: Offer, *, at: datetime) -> Deadline:
    """When the work of an offer is due, as of a moment."""
    left = pause_left(session, offer.id)
    paused_at = session.scalar(
        select(WorkSession.paused_at).where(
            WorkSession.offer_id == offer.id, WorkSession.state == "paused"
        )
    )
    if paused_at is None or offer.lease_until is None:
        return Deadline(offer.lease_until, paused_at is not None, left)
    moved = min(max(0, seconds_between(paused_at, at)), left)
    return Deadline(offer.lease_until + timedelta(seconds=moved), True, left - moved)


def pause_left(session: Session, offer_id: UUID) -> int:
    """How far pauses may still move an offer's deadline. Units: seconds."""
    used = session.scalar(
        select(func.coalesce(func.sum(WorkSession.paused_s), 0)).where(
            WorkSession.offer_id == offer_id
        )
    )
    return max(0, PAUSE_BUDGET_S - int(used or 0))


def sessions(offer_id: UUID | None = None) -> Select[WorkSession]:
    """Sessions that the caller may see, as a statement to page through."""
    statement = select(WorkSession)
    return statement if offer_id is None else statement.where(WorkSession.offer_id == offer_id)


def start_of(during: Range[datetime]) -> datetime:
    """When a recorded stretch begins; the database refuses one without a beginning."""
    if during.lower is None:
        raise ValueError("a recorded stretch has a beginning")
    return during.lower


def end_of(during: Range[datetime]) -> datetime:
    """When a recorded stretch ends; the database refuses one without an end."""
    if during.upper is None:
        raise ValueError("a recorded stretch has an end")
    return during.upper


def recorded_s(session: Session, offer_id: UUID) -> int:
    """All seconds recorded on an offer by sessions whose stretches have closed, paid or not."""
    statement = select(func.coalesce(func.sum(WorkSession.paid_s + WorkSession.capped_s), 0))
    return int(session.scalar(statement.where(WorkSession.offer_id == offer_id)) or 0)
