"""What can be done about work: sessions, and the time that their heartbeats prove.

A start moves the offer, which is not an expert's to write: it runs as the platform and looks for
everything by its id and its expert together. Locks are taken in one order: offer, session.
"""

from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
    Table,
    Text,
    Uuid,
    bindparam,
    insert,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import Session

from market.db import Json, new_id
from market.events import Event, change_state
from market.offers.models import Offer
from market.offers.queries import offer as any_offer
from market.offers.queries import own_offer
from market.offers.rules import LeaseLost
from market.seats.actions import activate_offer
from market.work.models import TimeEntry, WorkSession
from market.work.queries import before, is_stale, pause_left, room_of
from market.work.rules import (
    MAX_QUIET_S,
    OPEN_SESSIONS,
    QUIET_S,
    SESSION,
    Piece,
    SessionAlreadyOpen,
    SessionNotFound,
    SessionNotOpen,
    TimeTaken,
    pieces,
    seconds_between,
    stretch_end,
    whole,
)

_START = (
    select(WorkSession)
    .from_statement(
        text(
            """
            with started as (
                insert into market.work_session (id, organisation_id, project_id, task_id, offer_id,
                    expert_id, cap_left_s, day_used_s, week_cap_s, week_used_s, overtime_after_s,
                    quiet_s, started_at, last_beat_at, last_active_at, stretch_at, state, last_seq,
                    paid_s, capped_s, paused_s, version)
                values (:id, :organisation_id, :project_id, :task_id, :offer_id,
                    :expert_id, :cap_left_s, :day_used_s, :week_cap_s, :week_used_s,
                    :overtime_after_s, :quiet_s, :at, :at, :at, :at, 'running', 0,
                    0, 0, 0, 1)
                on conflict (expert_id) where state in ('running', 'idle', 'paused') do nothing
                returning *
            ), told as (
                insert into market.event
                    (id, type, subject_id, at, organisation_id, person_id, actor_id, cause, data)
                select :event, :event_type, id, started_at, organisation_id, expert_id, expert_id,
                    :cause, '{}'
                from started
            )
            select {columns} from started
            """.replace("{columns}", ", ".join(WorkSession.__table__.c.keys()))
        )
        .bindparams(
            bindparam("at", type_=DateTime(timezone=True)),
            bindparam("cause", type_=Text()),
            *(bindparam(name, type_=BigInteger()) for name in ("week_cap_s", "overtime_after_s")),
            *(
                bindparam(name, type_=Uuid())
                for name in ("id", "organisation_id", "project_id", "task_id", "offer_id")
            ),
            *(bindparam(name, type_=Uuid()) for name in ("expert_id", "event")),
        )
        # In their order, so that they are not looked up by name each time.
        .columns(*WorkSession.__table__.c)
    )
    .execution_options(populate_existing=True)
)
"""A session of someone who has no other open, and that it began; of two at once, one finds room."""

_ON_OFFER = (
    select(WorkSession)
    .where(WorkSession.offer_id == bindparam("offer"))
    .with_for_update()
    .execution_options(populate_existing=True)
)


_ENTER = insert(cast("Table", TimeEntry.__table__))


def start_session(
    session: Session, offer_id: UUID, *, expert_id: UUID, at: datetime
) -> WorkSession:
    """Begin to work on an accepted offer; the start is the session's first proof of time.

    Raises:
        OfferNotFound, LeaseLost, ProjectNotLive, StateConflict, SessionAlreadyOpen, TimeTaken.
    """
    at = whole(at)
    offer = activate_offer(session, offer_id, expert_id=expert_id, at=at)
    if offer.lease_until is not None and offer.lease_until <= at:
        raise LeaseLost(offer.lease_until)
    found = before(session, offer_id=offer_id, expert_id=expert_id, at=at)
    if found.is_taken:
        raise TimeTaken()
    started: WorkSession | None = session.scalar(
        _START,
        {
            "id": new_id(),
            "organisation_id": offer.organisation_id,
            "project_id": offer.project_id,
            "task_id": offer.task_id,
            "offer_id": offer_id,
            "expert_id": expert_id,
            "at": at,
            "cap_left_s": max(0, cast("int", offer.terms["cap_s"]) - found.offer_paid_s),
            "day_used_s": found.day_paid_s,
            "week_cap_s": offer.terms.get("weekly_cap_s"),
            "week_used_s": found.week_paid_s,
            "overtime_after_s": offer.terms.get("overtime_after_s"),
            "quiet_s": _quiet_time(found.declared_quiet_s),
            "event": new_id(),
            "event_type": Event.SESSION_STARTED.value,
            "cause": session.info.get("cause"),
        },
    )
    if started is None:
        raise SessionAlreadyOpen()
    return started


def pause_session(
    session: Session, session_id: UUID, *, expert_id: UUID, at: datetime
) -> WorkSession:
    """Stop the clock; pausing twice changes nothing.

    Raises:
        SessionNotFound, SessionNotOpen.
    """
    at = whole(at)
    row = _open_row(session, session_id, expert_id)
    if row.state == "paused":
        return row
    closed = close_stretch(session, row, at) if row.state == "running" else {}
    change_state(
        session,
        SESSION,
        row,
        "pause",
        at=at,
        event=Event.SESSION_PAUSED,
        organisation_id=row.organisation_id,
        person_id=expert_id,
        actor_id=expert_id,
        changes={**closed, "paused_at": max(at, row.last_beat_at)},
    )
    return row


def resume_session(
    session: Session, session_id: UUID, *, expert_id: UUID, at: datetime
) -> WorkSession:
    """Let the clock run again; the offer's deadline moves by the pause, as far as the budget of
    pauses reaches. Doing it twice is harmless.

    Raises:
        SessionNotFound, SessionNotOpen, LeaseLost, StateConflict.
    """
    at = whole(at)
    # The offer is locked before its session, as everywhere.
    offer_id = session.scalar(
        select(WorkSession.offer_id).where(
            WorkSession.id == session_id, WorkSession.expert_id == expert_id
        )
    )
    if offer_id is None:
        raise SessionNotFound(session_id)
    offer = own_offer(session, offer_id, expert_id, locked=True)
    row = _open_row(session, session_id, expert_id)
    if row.state == "running":
        return row
    SESSION.target(row.state, "resume")
    at = max(at, row.paused_at or at)
    lease_until = offer.lease_until
    _move_deadline(session, offer, row, at=at)
    if lease_until is not None and offer.lease_until is not None and offer.lease_until <= at:
        raise LeaseLost(lease_until)
    row.paused_at = None
    open_stretch(session, row, at)
    row.last_beat_at = at
    row.last_active_at = at
    change_state(session, SESSION, row, "resume", at=at, actor_id=expert_id)
    return row


def end_session(
    session: Session, session_id: UUID, *, expert_id: UUID, at: datetime
) -> WorkSession:
    """Stop working; the offer stays, and another session may follow. Stopping twice is harmless.

    Raises:
        SessionNotFound.
    """
    at = whole(at)
    offer = _paused_offer(session, session_id)
    row = own_session(session, session_id, expert_id)
    if row.state in OPEN_SESSIONS:
        if offer is not None:
            _move_deadline(session, offer, row, at=at)
        _end(session, row, at=at, actor_id=expert_id)
    return row


def lose_session(session: Session, session_id: UUID, *, at: datetime) -> bool:
    """End a session that nobody proves any more; whether it was one.

    What was proven before stays recorded, to the second of the last proof.
    """
    at = whole(at)
    offer = _paused_offer(session, session_id)
    row = session.scalar(
        select(WorkSession)
        .where(WorkSession.id == session_id, WorkSession.state.in_(OPEN_SESSIONS))
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    # A heartbeat may have come since the sweep looked.
    if row is None or not is_stale(row, at):
        return False
    if row.state == "running":
        _end(session, row, at=at, proven_at=row.last_beat_at, action="lose", reason="lost")
    else:
        if offer is not None:
            _move_deadline(session, offer, row, at=at)
        _end(session, row, at=at, reason="left")
    return True


def end_work_on(session: Session, offer_id: UUID, *, actor_id: UUID | None, at: datetime) -> int:
    """Stop whatever session is open on an offer, and say what is recorded on it then; whoever calls
    holds the offer locked.

    Units: seconds, paid or not.
    """
    rows = session.scalars(_ON_OFFER, {"offer": offer_id}).all()
    for row in rows:
        if row.state in OPEN_SESSIONS:
            _end(session, row, at=at, actor_id=actor_id)
    return sum(row.paid_s + row.capped_s for row in rows)


def _quiet_time(declared: object) -> int:
    # A task of reading or listening declares more; nothing declares less.
    if not isinstance(declared, int):
        return QUIET_S
    return min(MAX_QUIET_S, max(QUIET_S, declared))


def own_session(session: Session, session_id: UUID, expert_id: UUID) -> WorkSession:
    """A session of this expert, locked and as it is now.

    Raises:
        SessionNotFound.
    """
    row = session.scalar(
        select(WorkSession)
        .where(WorkSession.id == session_id, WorkSession.expert_id == expert_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise SessionNotFound(session_id)
    return row


def _paused_offer(session: Session, session_id: UUID) -> Offer | None:
    """The offer of a session that pauses, locked, as it is before its session everywhere."""
    offer_id = session.scalar(
        select(WorkSession.offer_id).where(
            WorkSession.id == session_id, WorkSession.state == "paused"
        )
    )
    return None if offer_id is None else any_offer(session, offer_id, locked=True)


def _move_deadline(session: Session, offer: Offer, row: WorkSession, *, at: datetime) -> None:
    """A pause ends: the deadline comes later by it, as far as the budget of pauses reaches."""
    if row.state != "paused" or row.paused_at is None or offer.lease_until is None:
        return
    moved = min(max(0, seconds_between(row.paused_at, at)), pause_left(session, offer.id))
    offer.lease_until += timedelta(seconds=moved)
    row.paused_s += moved


def _open_row(session: Session, session_id: UUID, expert_id: UUID) -> WorkSession:
    row = own_session(session, session_id, expert_id)
    if row.state not in OPEN_SESSIONS:
        raise SessionNotOpen(row.state)
    return row


def close_stretch(session: Session, row: WorkSession, at: datetime) -> Json:
    """Turn the running stretch into time entries, up to the last second that is proven, and say
    what changes of the session with it.
    """
    if row.stretch_at is None:
        return {}
    until = stretch_end(
        row.last_beat_at, at, last_active_at=row.last_active_at, quiet_s=row.quiet_s
    )
    found = pieces(row.stretch_at, until, room_of(row))
    if not found:
        return {"stretch_at": None}
    _record(session, row, found, at)
    paid = sum(piece.paid_s for piece in found)
    return {
        "stretch_at": None,
        "paid_s": row.paid_s + paid,
        "capped_s": row.capped_s + sum(piece.capped_s for piece in found),
        "cap_left_s": row.cap_left_s - paid,
    }


def _record(session: Session, row: WorkSession, found: list[Piece], at: datetime) -> None:
    # Into the table, because the row is between two states here: it is written with its move.
    session.execute(
        _ENTER,
        [
            {
                "id": new_id(),
                "session_id": row.id,
                "offer_id": row.offer_id,
                "expert_id": row.expert_id,
                "organisation_id": row.organisation_id,
                "project_id": row.project_id,
                "during": Range(piece.starts_at, piece.ends_at),
                "seconds": piece.seconds,
                "capped_s": piece.capped_s,
                "recorded_at": at,
                "source": "heartbeats",
                "granted_s": 0,
                "overtime_s": piece.overtime_s,
                "state": "recorded",
                "version": 1,
            }
            for piece in found
        ],
    )


def open_stretch(session: Session, row: WorkSession, at: datetime) -> None:
    """Let time run from now on, under what the caps of day and week have left."""
    with session.no_autoflush:
        found = before(session, offer_id=row.offer_id, expert_id=row.expert_id, at=at)
    row.stretch_at = at
    row.day_used_s = found.day_paid_s
    row.week_used_s = found.week_paid_s


def _end(
    session: Session,
    row: WorkSession,
    *,
    at: datetime,
    proven_at: datetime | None = None,
    action: str = "end",
    actor_id: UUID | None = None,
    reason: str | None = None,
) -> None:
    closed: Json = {}
    if row.state == "running":
        closed = close_stretch(session, row, at if proven_at is None else proven_at)
    change_state(
        session,
        SESSION,
        row,
        action,
        at=at,
        event=Event.SESSION_ENDED,
        organisation_id=row.organisation_id,
        person_id=row.expert_id,
        actor_id=actor_id,
        reason_code=reason,
        changes={**closed, "ended_at": max(at, row.last_beat_at)},
    )
