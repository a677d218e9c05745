"""Reads of recorded time, as it stands and as its raw proofs give it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from market.events import StateChange
from market.offers.models import Offer
from market.work.models import Heartbeat, TimeEntry, WorkSession
from market.work.queries import end_of, start_of
from market.work.rules import (
    SESSION,
    TIME_ENTRY,
    Piece,
    Proof,
    Room,
    TimeEntryNotFound,
    monday_of,
    pieces,
    stretches,
    whole,
)


def time_entries(session: Session, offer_id: UUID) -> list[TimeEntry]:
    """The recorded time of an offer, in its order; what was voided is left out."""
    return list(
        session.scalars(
            select(TimeEntry)
            .where(TimeEntry.offer_id == offer_id, TimeEntry.state != "voided")
            .order_by(TimeEntry.during)
        )
    )


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
