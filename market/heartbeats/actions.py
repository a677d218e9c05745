"""What a heartbeat does to its session, and what is asked when it tells of nobody.

Here a session is locked without its offer, which no heartbeat moves.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from sqlalchemy import Row, insert, select, text
from sqlalchemy.orm import Session

from market.events import Event, change_state, emit
from market.work.actions import close_stretch, open_stretch, own_session
from market.work.models import Heartbeat, WorkSession
from market.work.queries import Figures, figures
from market.work.rules import (
    GAP_S,
    OPEN_SESSIONS,
    PROMPT_S,
    SESSION,
    SKEW_S,
    FromTheFuture,
    SessionNotOpen,
    quiet_end,
    seconds_between,
    whole,
)


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a heartbeat found and did."""

    state: str
    is_counted: bool
    """Whether it was news: a repeated or late heartbeat changes nothing."""
    figures: Figures


BEAT = text(
    """
    with beat as (
        update market.work_session set
            last_seq = :seq,
            last_beat_at = :at,
            last_active_at = case when :is_active then :at else last_active_at end
        where id = :id and expert_id = :expert_id and state = 'running' and last_seq < :seq
            and last_beat_at <= :at
            and last_beat_at >= cast(:at as timestamptz) - make_interval(secs => :gap_s)
            and last_active_at >= cast(:at as timestamptz) - make_interval(secs => quiet_s)
        returning id, state, paid_s, capped_s, cap_left_s, day_used_s, week_cap_s, week_used_s,
            overtime_after_s, quiet_s, stretch_at, last_beat_at, last_active_at
    ), proof as (
        insert into market.heartbeat (session_id, seq, at, is_active)
        select id, :seq, :at, :is_active from beat
    )
    select * from beat
    """
)
"""The heartbeat of someone who works on, which nearly every heartbeat is, in one round trip."""


def beat(
    session: Session,
    session_id: UUID,
    *,
    expert_id: UUID,
    seq: int,
    is_active: bool,
    at: datetime,
    sent_at: datetime | None = None,
) -> Pulse:
    """Prove that someone is there.

    The time is the server's; `sent_at` is what the caller's clock says, and only refuses a
    heartbeat that claims to come from the future. A heartbeat whose number is not above the last
    one, or that is older than it, changes nothing.

    Raises:
        FromTheFuture, SessionNotFound, SessionNotOpen.
    """
    if sent_at is not None and sent_at > at + timedelta(seconds=SKEW_S):
        raise FromTheFuture(seconds_between(at, sent_at))
    at = whole(at)
    row = session.execute(
        BEAT,
        {
            "id": session_id,
            "expert_id": expert_id,
            "seq": seq,
            "at": at,
            "is_active": is_active,
            "gap_s": GAP_S,
        },
    ).one_or_none()
    if row is not None:
        return Pulse("running", True, figures(cast("Row[tuple[object, ...]]", row)))
    return _turning_beat(session, session_id, expert_id, seq=seq, is_active=is_active, at=at)


def _turning_beat(
    session: Session, session_id: UUID, expert_id: UUID, *, seq: int, is_active: bool, at: datetime
) -> Pulse:
    # After a gap, after a quiet time, in a pause, out of order: whatever is not plain going on.
    row = own_session(session, session_id, expert_id)
    if row.state not in OPEN_SESSIONS:
        raise SessionNotOpen(row.state)
    if row.state == "paused" or seq <= row.last_seq or at < row.last_beat_at:
        return Pulse(row.state, False, figures(row))
    is_quiet = at > quiet_end(row.last_active_at, row.quiet_s) and not is_active
    if row.state == "running":
        closed = close_stretch(session, row, at)
        if is_quiet:
            change_state(
                session,
                SESSION,
                row,
                "go_idle",
                at=at,
                event=Event.SESSION_IDLE,
                organisation_id=row.organisation_id,
                person_id=expert_id,
                actor_id=expert_id,
                changes=closed,
            )
        else:
            for name, value in closed.items():
                setattr(row, name, value)
            open_stretch(session, row, at)
    elif is_active:
        open_stretch(session, row, at)
        change_state(session, SESSION, row, "wake", at=at, actor_id=expert_id)
    row.last_seq = seq
    row.last_beat_at = at
    if is_active:
        row.last_active_at = at
    session.flush()
    session.execute(
        insert(Heartbeat),
        {"session_id": session_id, "seq": seq, "at": at, "is_active": is_active},
    )
    return Pulse(row.state, True, figures(row))


def warn_session(session: Session, session_id: UUID, *, at: datetime) -> bool:
    """Ask the expert of a session that has been quiet whether it is still there, once for each
    quiet time; whether it had to be asked.
    """
    at = whole(at)
    row = session.scalar(
        select(WorkSession)
        .where(WorkSession.id == session_id, WorkSession.state == "running")
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    if row is None or seconds_between(row.last_active_at, at) < PROMPT_S:
        return False
    if row.warned_at is not None and row.warned_at >= row.last_active_at:
        return False
    row.warned_at = at
    emit(
        session,
        Event.SESSION_IDLE_WARNING,
        row.id,
        at=at,
        organisation_id=row.organisation_id,
        person_id=row.expert_id,
        data={"stops_at": quiet_end(row.last_active_at, row.quiet_s).isoformat()},
    )
    return True
