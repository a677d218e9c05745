"""How disputes are answered, decided and appealed, and what each step does to time and pay.

All of it runs as the platform: both sides' rows move. Locks are taken in one order: offer, the
expert's pay, dispute, lines, time.
"""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import Session

from market.approvals.actions import (
    approve_time,
    free_line,
    restore_line,
    split_line,
    withhold_line,
)
from market.disputes.models import Dispute
from market.disputes.queries import (
    dispute,
    is_of_lab,
    lines_of,
    overlapping,
)
from market.disputes.rules import (
    APPEAL_FOR,
    DECIDE_DAYS,
    DISPUTE,
    FINAL_DAYS,
    AppealTooLate,
    AwardInvalid,
    NotYoursToDecide,
    checked_statement,
    working_days_after,
)
from market.earnings.actions import keep_from_recording, lock_pay
from market.earnings.models import Earning
from market.earnings.rules import EARNING, Period
from market.events import Event, change_state, emit
from market.work.models import TimeEntry
from market.work.rules import TIME_ENTRY, by_day, seconds_between


def respond(
    session: Session,
    dispute_id: UUID,
    *,
    statement: str,
    concedes: bool,
    actor_id: UUID,
    at: datetime,
) -> Dispute:
    """The other side answers; when it concedes, the side that opened has its way at once.

    Raises:
        DisputeNotFound, DisputeReasonMissing, StateConflict.
    """
    said = checked_statement(statement)
    found = _locked(session, dispute_id)
    action = "concede" if concedes else "respond"
    DISPUTE.target(found.state, action)
    found.response, found.responded_by, found.responded_at = said, actor_id, at
    if not concedes:
        found.due_at = working_days_after(at, DECIDE_DAYS)
        _tell(session, found, action, at=at, actor_id=actor_id)
        return found
    found.is_conceded = True
    # The lab gives what was asked of it; an expert gives up what the lab contests.
    awarded_s = 0 if found.kind == "hours" else found.claimed_s
    _decide(session, found, action, awarded_s, by=actor_id, note=said, at=at)
    return found


def withdraw(session: Session, dispute_id: UUID, *, actor_id: UUID, at: datetime) -> Dispute:
    """The side that opened takes it back; what was held is the expert's.

    Raises:
        DisputeNotFound, StateConflict.
    """
    found = _locked(session, dispute_id)
    _tell(session, found, "withdraw", at=at, actor_id=actor_id)
    if found.kind == "hours":
        _settle_hours(session, found, found.claimed_s, at=at, actor_id=actor_id)
    return found


def decide(
    session: Session, dispute_id: UUID, *, awarded_s: int, note: str, by: UUID, at: datetime
) -> Dispute:
    """A person who is no side decides, or another one decides the appeal: how many of the seconds
    are paid. An appeal can only give more.

    Raises:
        DisputeNotFound, DisputeReasonMissing, AwardInvalid, NotYoursToDecide, StateConflict.
    """
    said = checked_statement(note)
    found = _locked(session, dispute_id)
    action = "decide_appeal" if found.state == "appealed" else "decide"
    DISPUTE.target(found.state, action)
    sides = {found.opened_by, found.responded_by, found.expert_id}
    if by in sides or by == found.decided_by or is_of_lab(session, by, found.organisation_id):
        raise NotYoursToDecide()
    if not (found.awarded_s or 0) <= awarded_s <= found.claimed_s:
        raise AwardInvalid(found.claimed_s)
    if action == "decide_appeal":
        _decide_appeal(session, found, action, awarded_s, by=by, note=said, at=at)
    else:
        _decide(session, found, action, awarded_s, by=by, note=said, at=at)
    return found


def appeal(
    session: Session, dispute_id: UUID, *, expert_id: UUID, statement: str, at: datetime
) -> Dispute:
    """An expert who was denied some of its time has it decided again, by another person.

    Raises:
        DisputeNotFound, DisputeReasonMissing, AppealTooLate, StateConflict.
    """
    said = checked_statement(statement)
    found = _locked(session, dispute_id)
    DISPUTE.target(found.state, "appeal")
    if found.awarded_s == found.claimed_s:
        raise AppealTooLate("the decision gave you all that was disputed")
    if found.due_at <= at:
        raise AppealTooLate(f"an appeal was possible until {found.due_at:%Y-%m-%dT%H:%M:%SZ}")
    found.appeal, found.appealed_at = said, at
    found.due_at = working_days_after(at, FINAL_DAYS)
    _tell(session, found, "appeal", at=at, actor_id=expert_id)
    return found


def run_out(session: Session, dispute_id: UUID, *, at: datetime) -> bool:
    """End a state whose time is over; whether it was. No answer lets a person decide without it,
    and a decision that did not come is the expert's.

    Raises:
        DisputeNotFound.
    """
    found = _locked(session, dispute_id)
    if found.due_at > at:
        return False
    if found.state == "open":
        found.due_at = working_days_after(at, DECIDE_DAYS)
        _tell(session, found, "lapse", at=at, actor_id=None)
    elif found.state == "answered":
        _decide(session, found, "miss_deadline", found.claimed_s, by=None, note=None, at=at)
    elif found.state == "appealed":
        _decide_appeal(session, found, "miss_appeal", found.claimed_s, by=None, note=None, at=at)
    elif found.state == "decided":
        found.final_s, found.final_at = found.awarded_s, at
        _tell(session, found, "close", at=at, actor_id=None)
    else:
        return False
    return True


def _locked(session: Session, dispute_id: UUID) -> Dispute:
    seen = dispute(session, dispute_id)
    keep_from_recording(session)
    lock_pay(session, seen.expert_id)
    return dispute(session, dispute_id, locked=True)


def _tell(
    session: Session, found: Dispute, action: str, *, at: datetime, actor_id: UUID | None
) -> None:
    is_over = DISPUTE.target(found.state, action) in ("decided", "final")
    change_state(
        session,
        DISPUTE,
        found,
        action,
        at=at,
        event=Event.PAY_DISPUTE_DECIDED if is_over else Event.PAY_DISPUTE_CHANGED,
        organisation_id=found.organisation_id,
        person_id=found.expert_id,
        actor_id=actor_id,
        reason_code=None if actor_id else "time_over",
        evidence=found.evidence,
        data={"action": action, "awarded_s": found.awarded_s, "claimed_s": found.claimed_s},
    )


def _decide(
    session: Session,
    found: Dispute,
    action: str,
    awarded_s: int,
    *,
    by: UUID | None,
    note: str | None,
    at: datetime,
) -> None:
    found.awarded_s, found.decided_by, found.decided_at = awarded_s, by, at
    found.decision_note = note
    found.due_at = at + APPEAL_FOR
    _tell(session, found, action, at=at, actor_id=by)
    if found.kind == "hours":
        _settle_hours(session, found, awarded_s, at=at, actor_id=by)
    else:
        _grant(session, found, awarded_s, at=at)


def _decide_appeal(
    session: Session,
    found: Dispute,
    action: str,
    final_s: int,
    *,
    by: UUID | None,
    note: str | None,
    at: datetime,
) -> None:
    more_s = final_s - (found.awarded_s or 0)
    found.final_s, found.final_by, found.final_at, found.final_note = final_s, by, at, note
    _tell(session, found, action, at=at, actor_id=by)
    if more_s == 0:
        return
    if found.kind != "hours":
        _grant(session, found, more_s, at=at)
        return
    for line in lines_of(session, found.id, ["withheld"]):
        given = _part(session, line, min(more_s, line.seconds), at=at)
        more_s -= given.seconds
        restore_line(session, given, at=at, actor_id=by)
        if more_s == 0:
            return


def _settle_hours(
    session: Session, found: Dispute, awarded_s: int, *, at: datetime, actor_id: UUID | None
) -> None:
    """Free what is awarded of the disputed lines, first seconds first, and withhold the rest."""
    left_s = awarded_s
    lines = lines_of(session, found.id, ["disputed"])
    for line in lines:
        if left_s >= line.seconds:
            left_s -= line.seconds
            free_line(session, line, "uphold", at=at, actor_id=actor_id)
            continue
        denied = line
        if left_s:
            denied = _part(session, line, line.seconds - left_s, at=at)
            free_line(session, line, "uphold", at=at, actor_id=actor_id)
            left_s = 0
        withhold_line(session, denied, at=at, actor_id=actor_id)
    action = "uphold" if awarded_s == found.claimed_s else "adjust"
    for entry in overlapping(session, found.offer_id, found.starts_at, found.ends_at):
        if entry.state == "disputed":
            move_entry(session, entry, action, at=at, actor_id=actor_id)
            if action == "uphold":
                move_entry(session, entry, "lock", at=at, actor_id=actor_id)
    for week in sorted({line.week for line in lines}):
        monday = Period(week).starts_at
        approve_time(session, found.offer_id, monday, at=at, actor_id=actor_id)


def _part(session: Session, line: Earning, seconds: int, *, at: datetime) -> Earning:
    """So many seconds of a decided or disputed line, as a line in the same state."""
    part = split_line(session, line, seconds, at=at)
    for action, state in (("dispute", "disputed"), ("withhold", "withheld")):
        if part is not line and part.state != line.state:
            change_state(session, EARNING, part, action, at=at)
            assert part.state == state
    return part


def _grant(session: Session, found: Dispute, awarded_s: int, *, at: datetime) -> None:
    """Record awarded time; the line that it becomes follows, at the rate in force when it was."""
    if found.kind == "unpaid_time":
        for entry in overlapping(session, found.offer_id, found.starts_at, found.ends_at):
            more_s = min(awarded_s, entry.capped_s - entry.granted_s)
            if more_s > 0:
                entry.granted_s += more_s
                entry.decision_id = found.id
                entry.version += 1
                awarded_s -= more_s
                _tell_time(session, entry, at=at)
        session.flush()
        return
    starts_at = found.starts_at + timedelta(seconds=_granted_before(session, found))
    for first, last in by_day(starts_at, starts_at + timedelta(seconds=awarded_s)):
        entry = TimeEntry(
            session_id=None,
            offer_id=found.offer_id,
            expert_id=found.expert_id,
            organisation_id=found.organisation_id,
            project_id=found.project_id,
            during=Range(first, last, bounds="[)"),
            seconds=seconds_between(first, last),
            capped_s=0,
            recorded_at=at,
            source="granted",
            decision_id=found.id,
        )
        session.add(entry)
        session.flush()
        _tell_time(session, entry, at=at)


def _granted_before(session: Session, found: Dispute) -> int:
    given = select(func.coalesce(func.sum(TimeEntry.seconds), 0)).where(
        TimeEntry.decision_id == found.id, TimeEntry.source == "granted"
    )
    return int(session.scalar(given) or 0)


def _tell_time(session: Session, entry: TimeEntry, *, at: datetime) -> None:
    emit(
        session,
        Event.TIME_ENTRY_CHANGED,
        entry.id,
        at=at,
        organisation_id=entry.organisation_id,
        person_id=entry.expert_id,
    )


def move_entry(
    session: Session, entry: TimeEntry, action: str, *, at: datetime, actor_id: UUID | None
) -> None:
    """Take one move of recorded time, and tell both sides."""
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
    )
