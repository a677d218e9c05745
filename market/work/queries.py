"""Reads of sessions and recorded time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from sqlalchemy import Row, Select, and_, func, or_, select, text
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import Session

from market.events import StateChange
from market.offers.models import Offer
from market.work.models import Heartbeat, TimeEntry, WorkSession
from market.work.rules import (
    LOST_S,
    MAX_PAUSE_S,
    NEAR_CAP_S,
    OPEN_SESSIONS,
    PAUSE_BUDGET_S,
    PROMPT_S,
    SESSION,
    TIME_ENTRY,
    Piece,
    Proof,
    Room,
    SessionNotFound,
    TimeEntryNotFound,
    monday_of,
    pieces,
    quiet_end,
    room_after,
    seconds_between,
    stretches,
    whole,
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


def quiet_sessions(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Running sessions whose expert has been quiet for so long that it is to be asked, and was not
    since it was last active.
    """
    return list(
        session.scalars(
            select(WorkSession.id)
            .where(
                WorkSession.state == "running",
                WorkSession.last_active_at <= at - timedelta(seconds=PROMPT_S),
                or_(
                    WorkSession.warned_at.is_(None),
                    WorkSession.warned_at < WorkSession.last_active_at,
                ),
            )
            .limit(limit)
        )
    )


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


def end_of(during: Range[datetime]) -> datetime:
    """When a recorded stretch ends; the database refuses one without an end."""
    if during.upper is None:
        raise ValueError("a recorded stretch has an end")
    return during.upper


def recorded_s(session: Session, offer_id: UUID) -> int:
    """All seconds recorded on an offer by sessions whose stretches have closed, paid or not."""
    statement = select(func.coalesce(func.sum(WorkSession.paid_s + WorkSession.capped_s), 0))
    return int(session.scalar(statement.where(WorkSession.offer_id == offer_id)) or 0)


def time_entry(session: Session, entry_id: UUID) -> TimeEntry:
    """The time entry with this id, locked.

    Raises:
        TimeEntryNotFound.
    """
    found = session.get(TimeEntry, entry_id, with_for_update=True, populate_existing=True)
    if found is None:
        raise TimeEntryNotFound(entry_id)
    return found


@dataclass(frozen=True, slots=True)
class Compared:
    """A stretch of a day as its raw proofs say it was, beside what stands recorded of it.

    Either is None when the other side knows nothing of such a stretch.

    Units: paid seconds, and how many of them are overtime.
    """

    session_id: UUID
    starts_at: datetime
    ends_at: datetime
    proven_s: int | None
    recorded_s: int | None
    proven_overtime_s: int = 0
    recorded_overtime_s: int = 0

    @property
    def is_equal(self) -> bool:
        """Whether the record is what the proofs give."""
        return (self.proven_s, self.proven_overtime_s) == (
            self.recorded_s,
            self.recorded_overtime_s,
        )


def time_by_proofs(session: Session, expert_id: UUID) -> list[Compared]:
    """All time of an expert computed again from nothing but heartbeats and moves of its sessions,
    beside what is recorded; a stretch that still runs comes when it closes.

    All of it, because the caps of a day, a week and an offer depend on what came before.
    """
    rows = session.scalars(
        select(WorkSession)
        .where(WorkSession.expert_id == expert_id)
        .order_by(WorkSession.started_at, WorkSession.id)
    ).all()
    proofs = _proofs(session, [row.id for row in rows])
    entries = session.scalars(select(TimeEntry).where(TimeEntry.expert_id == expert_id)).all()
    caps = {
        offer_id: int(cap_s)
        for offer_id, cap_s in session.execute(
            select(Offer.id, Offer.terms["cap_s"].as_integer()).where(
                Offer.id.in_({row.offer_id for row in rows})
            )
        )
    }
    ledger = _Spent(session, entries)
    proven: dict[tuple[UUID, datetime, datetime], tuple[int, int]] = {}
    for row in rows:
        for start, end in stretches(row.started_at, proofs[row.id], quiet_s=row.quiet_s):
            room = ledger.room(row, start, cap_s=caps[row.offer_id])
            for piece in pieces(start, end, room):
                place = row.id, piece.starts_at, piece.ends_at
                proven[place] = (piece.paid_s, piece.overtime_s)
                ledger.add(row, piece)
    recorded = {
        (entry.session_id, start_of(entry.during), end_of(entry.during)): (
            entry.seconds - entry.capped_s,
            entry.overtime_s,
        )
        for entry in entries
        if entry.session_id is not None
    }
    nothing = (None, 0)
    return [
        Compared(
            *place, ours[0], theirs[0], proven_overtime_s=ours[1], recorded_overtime_s=theirs[1]
        )
        for place in sorted(proven.keys() | recorded.keys(), key=lambda place: place[1])
        for ours, theirs in [(proven.get(place, nothing), recorded.get(place, nothing))]
    ]


def unproven_time(session: Session) -> list[str]:
    """Recorded time that is not what its heartbeats give, a sentence each: there must be none."""
    experts = session.scalars(select(WorkSession.expert_id).distinct()).all()
    return [
        f"session {one.session_id} from {one.starts_at:%Y-%m-%dT%H:%M:%SZ}: its proofs pay"
        f" {one.proven_s} s, recorded are {one.recorded_s} s"
        for expert_id in sorted(experts)
        for one in time_by_proofs(session, expert_id)
        if not one.is_equal
    ]


class _Spent:
    """What an expert has been paid for so far, as the caps count it."""

    def __init__(self, session: Session, entries: Sequence[TimeEntry]) -> None:
        self._of_offer: Counter[UUID] = Counter()
        self._of_day: Counter[date] = Counter()
        self._of_week: Counter[tuple[UUID, date]] = Counter()
        # What was taken out again counts until then, and what was granted from then on.
        gone = {entry.id: entry for entry in entries if entry.state == "voided"}
        moves = session.execute(
            select(StateChange.subject_id, StateChange.at).where(
                StateChange.machine == TIME_ENTRY.name,
                StateChange.action == "void",
                StateChange.subject_id.in_(list(gone)),
            )
        )
        late = [(whole(at), gone[entry_id], -1) for entry_id, at in moves]
        late += [(entry.recorded_at, entry, 1) for entry in entries if entry.session_id is None]
        self._late = sorted(late, key=lambda change: change[0])

    def room(self, row: WorkSession, at: datetime, *, cap_s: int) -> Room:
        while self._late and self._late[0][0] <= at:
            _, entry, sign = self._late.pop(0)
            seconds = sign * (entry.seconds - entry.capped_s)
            day = start_of(entry.during).astimezone(UTC).date()
            self._of_day[day] += seconds
            self._of_week[entry.project_id, monday_of(day)] += seconds
        day = at.astimezone(UTC).date()
        return Room(
            max(0, cap_s - self._of_offer[row.offer_id]),
            self._of_day[day],
            row.week_cap_s,
            self._of_week[row.project_id, monday_of(day)],
            row.overtime_after_s,
        )

    def add(self, row: WorkSession, piece: Piece) -> None:
        day = piece.starts_at.astimezone(UTC).date()
        self._of_offer[row.offer_id] += piece.paid_s
        self._of_day[day] += piece.paid_s
        self._of_week[row.project_id, monday_of(day)] += piece.paid_s


def _proofs(session: Session, session_ids: Sequence[UUID]) -> dict[UUID, list[Proof]]:
    found: dict[UUID, list[Proof]] = {one: [] for one in session_ids}
    for session_id, seq, at, is_active in session.execute(
        select(Heartbeat.session_id, Heartbeat.seq, Heartbeat.at, Heartbeat.is_active).where(
            Heartbeat.session_id.in_(session_ids)
        )
    ):
        found[session_id].append(Proof(at, "beat", is_active, seq))
    for session_id, at, action in session.execute(
        select(StateChange.subject_id, StateChange.at, StateChange.action).where(
            StateChange.machine == SESSION.name,
            StateChange.subject_id.in_(session_ids),
            StateChange.action.in_(("pause", "resume", "end", "lose")),
        )
    ):
        found[session_id].append(Proof(at, action))
    return found
