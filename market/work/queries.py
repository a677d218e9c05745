"""Reads of sessions and recorded time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Row, Select, and_, func, or_, select, text
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import Session

from market.work.models import TimeEntry, WorkSession
from market.work.rules import (
    LOST_S,
    MAX_PAUSE_S,
    OPEN_SESSIONS,
    PROMPT_S,
    SessionNotFound,
    TimeEntryNotFound,
    pieces,
    quiet_end,
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
    is_taken: bool
    """Whether time at or after this moment is recorded already."""


PRIOR = text(
    """
    select
        (select coalesce(sum(s.paid_s), 0) from market.work_session s
            where s.offer_id = :offer_id) as offer_paid_s,
        (select coalesce(sum(e.seconds - e.capped_s), 0) from market.time_entry e
            where e.expert_id = :expert_id and e.state <> 'voided'
            and e.during && tstzrange(:day, :next_day)) as day_paid_s,
        exists (select from market.time_entry e
            where e.expert_id = :expert_id and e.state <> 'voided'
            and e.during && tstzrange(:at, null)) as is_taken
    """
)


def before(session: Session, *, offer_id: UUID, expert_id: UUID, at: datetime) -> Before:
    """What an offer and a day have been paid for already, in one statement."""
    day = at.replace(hour=0, minute=0, second=0)
    row = session.execute(
        PRIOR,
        {
            "offer_id": offer_id,
            "expert_id": expert_id,
            "at": at,
            "day": day,
            "next_day": day + timedelta(days=1),
        },
    ).one()
    return Before(int(row.offer_paid_s), int(row.day_paid_s), bool(row.is_taken))


def figures(row: WorkSession | Row[tuple[object, ...]]) -> Figures:
    """What a session shows now, from its columns alone."""
    paid_s, capped_s = row.paid_s, row.capped_s
    until = min(row.last_beat_at, quiet_end(row.last_active_at, row.quiet_s))
    if row.stretch_at is not None:
        running = pieces(
            row.stretch_at, until, cap_left_s=row.cap_left_s, day_used_s=row.day_used_s
        )
        paid_s += sum(piece.paid_s for piece in running)
        capped_s += sum(piece.capped_s for piece in running)
    spent = paid_s - row.paid_s
    quiet = seconds_between(row.last_active_at, row.last_beat_at)
    return Figures(
        paid_s=paid_s,
        capped_s=capped_s,
        cap_left_s=row.cap_left_s - spent,
        is_prompted=row.state in ("running", "idle") and quiet >= PROMPT_S,
        quiet_from=until if row.state == "idle" else None,
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


def sessions(offer_id: UUID | None = None) -> Select[WorkSession]:
    """Sessions that the caller may see, as a statement to page through."""
    statement = select(WorkSession)
    return statement if offer_id is None else statement.where(WorkSession.offer_id == offer_id)


def time_entries(session: Session, offer_id: UUID) -> list[TimeEntry]:
    """The recorded time of an offer, in its order; what was voided is left out."""
    return list(
        session.scalars(
            select(TimeEntry)
            .where(TimeEntry.offer_id == offer_id, TimeEntry.state != "voided")
            .order_by(TimeEntry.during)
        )
    )


def start_of(during: Range[datetime]) -> datetime:
    """When a recorded stretch begins; the database refuses one without a beginning."""
    if during.lower is None:
        raise ValueError("a recorded stretch has a beginning")
    return during.lower


def recorded_s(session: Session, offer_id: UUID) -> int:
    """All seconds recorded on an offer by sessions whose stretches have closed, paid or not."""
    statement = select(func.coalesce(func.sum(WorkSession.paid_s + WorkSession.capped_s), 0))
    return int(session.scalar(statement.where(WorkSession.offer_id == offer_id)) or 0)


def time_entry(session: Session, entry_id: UUID) -> TimeEntry:
    """The time entry with this id, locked.

    Raises:
        TimeEntryNotFound.
    """
    found = session.scalar(select(TimeEntry).where(TimeEntry.id == entry_id).with_for_update())
    if found is None:
        raise TimeEntryNotFound(entry_id)
    return found
