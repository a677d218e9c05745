"""What can be done about work: sessions, heartbeats, and the time that they prove.

A start moves the offer, which is not an expert's to write: it runs as the platform and looks for
everything by its id and its expert together. Locks are taken in one order: offer, session.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    DateTime,
    Row,
    Table,
    Text,
    Uuid,
    bindparam,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import Session

from market.db import Json, new_id
from market.events import Event, StateChange, change_state, emit
from market.offers.models import Offer
from market.offers.queries import offer as any_offer
from market.offers.queries import own_offer
from market.offers.rules import LeaseLost
from market.seats.actions import activate_offer
from market.work.models import Heartbeat, TimeEntry, WorkSession
from market.work.queries import Figures, before, figures, is_stale, pause_left, room_of, time_entry
from market.work.rules import (
    GAP_S,
    MAX_QUIET_S,
    OPEN_SESSIONS,
    PROMPT_S,
    QUIET_S,
    SESSION,
    SKEW_S,
    TIME_ENTRY,
    FromTheFuture,
    Piece,
    SessionAlreadyOpen,
    SessionNotFound,
    SessionNotOpen,
    TimeHandedIn,
    TimeTaken,
    pieces,
    quiet_end,
    seconds_between,
    stretch_end,
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
        ).bindparams(
            bindparam("at", type_=DateTime(timezone=True)),
            bindparam("cause", type_=Text()),
            *(bindparam(name, type_=BigInteger()) for name in ("week_cap_s", "overtime_after_s")),
            *(
                bindparam(name, type_=Uuid())
                for name in ("id", "organisation_id", "project_id", "task_id", "offer_id")
            ),
            *(bindparam(name, type_=Uuid()) for name in ("expert_id", "event")),
        )
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
    row = _own_session(session, session_id, expert_id)
    if row.state not in OPEN_SESSIONS:
        raise SessionNotOpen(row.state)
    if row.state == "paused" or seq <= row.last_seq or at < row.last_beat_at:
        return Pulse(row.state, False, figures(row))
    is_quiet = at > quiet_end(row.last_active_at, row.quiet_s) and not is_active
    if row.state == "running":
        closed = _close_stretch(session, row, at)
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
            _open_stretch(session, row, at)
    elif is_active:
        _open_stretch(session, row, at)
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
    closed = _close_stretch(session, row, at) if row.state == "running" else {}
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
    _open_stretch(session, row, at)
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
    row = _own_session(session, session_id, expert_id)
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


def confirm_time(session: Session, *, recorded_before: datetime, at: datetime, limit: int) -> int:
    """Confirm recorded time that its expert has not objected to for long enough; how many lines."""
    due = (
        select(TimeEntry.id)
        .where(TimeEntry.state == "recorded", TimeEntry.recorded_at < recorded_before)
        .order_by(TimeEntry.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    confirmed = session.scalars(
        update(TimeEntry)
        .where(TimeEntry.id.in_(due))
        .values(state="confirmed", version=TimeEntry.version + 1)
        .returning(TimeEntry.id)
    ).all()
    if confirmed:
        session.execute(
            insert(StateChange),
            [
                {
                    "id": new_id(),
                    "machine": "time_entry",
                    "subject_id": entry_id,
                    "from_state": "recorded",
                    "to_state": "confirmed",
                    "action": "confirm",
                    "at": at,
                    "reason_code": "time_passed",
                }
                for entry_id in confirmed
            ],
        )
    return len(confirmed)


def change_time(
    session: Session,
    entry_id: UUID,
    action: str,
    *,
    actor_id: UUID,
    at: datetime,
    note: str | None = None,
) -> TimeEntry:
    """Confirm a line of recorded time, or take it out; what is contested has a feature of its own.

    The caller has checked who may do what; a line is voided only while nothing was handed in on it.

    Raises:
        TimeEntryNotFound, TimeHandedIn, StateConflict.
    """
    entry = time_entry(session, entry_id)
    if action == "void" and any_offer(session, entry.offer_id).state == "completed":
        raise TimeHandedIn()
    change_state(
        session,
        TIME_ENTRY,
        entry,
        action,
        at=at,
        event=Event.TIME_ENTRY_CHANGED,
        organisation_id=entry.organisation_id,
        person_id=entry.expert_id,
        actor_id=actor_id,
        note=note,
    )
    return entry


def _quiet_time(declared: object) -> int:
    # A task of reading or listening declares more; nothing declares less.
    if not isinstance(declared, int):
        return QUIET_S
    return min(MAX_QUIET_S, max(QUIET_S, declared))


def _own_session(session: Session, session_id: UUID, expert_id: UUID) -> WorkSession:
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
    row = _own_session(session, session_id, expert_id)
    if row.state not in OPEN_SESSIONS:
        raise SessionNotOpen(row.state)
    return row


def _close_stretch(session: Session, row: WorkSession, at: datetime) -> Json:
    # Turns the running stretch into time entries, up to the last second that is proven, and says
    # what changes of the session with it.
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


def _open_stretch(session: Session, row: WorkSession, at: datetime) -> None:
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
        closed = _close_stretch(session, row, at if proven_at is None else proven_at)
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
