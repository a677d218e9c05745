"""How predictions and reviewers are watched, alarms acknowledged, and levels read each week."""

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.orm import Session

from market.alarms.models import Acknowledgement, DriftAlarm, FrontierReading, ReviewerAlarm
from market.alarms.queries import Raised, alarm, said_since_alarm
from market.alarms.rules import WATCHED, AlarmNotFound
from market.db import Json, new_id
from market.events import Event, emit
from market.predictions.queries import readable
from market.quality.actions import propose_complexity
from market.quality.queries import Cell, claims, known_answers
from market.quality.rules import weeks_of

if TYPE_CHECKING:
    from matching.goldwatch import GoldWatch


def watch_calibration_of(
    session: Session, domain: str, target_model_id: UUID, *, at: datetime
) -> DriftAlarm | None:
    """Say, once, that what is predicted of a domain and model no longer holds.

    The record since the last alarm is followed anew, so that it does not matter how often this is
    asked.
    """
    # Loads scipy, which only the jobs that watch need.
    from matching.drift import CalibrationWatch

    watch = CalibrationWatch()
    for said in said_since_alarm(session, domain, target_model_id):
        found = watch.observe(said.predicted, said.came)
        if found is None:
            continue
        alarm_id: UUID | None = session.scalar(
            insert_or(DriftAlarm)
            .values(
                id=new_id(),
                seq=said.seq,
                domain=domain,
                target_model_id=target_model_id,
                at=at,
                expected=found.expected,
                came=found.came,
                evidence=found.evidence,
                outcomes=found.outcomes,
                reason=found.reason,
            )
            .on_conflict_do_nothing()
            .returning(DriftAlarm.id)
        )
        if alarm_id is None:
            return None
        told: Json = {"kind": "drift", "domain": domain, "reason": found.reason}
        emit(session, Event.QUALITY_ALERT, alarm_id, at=at, data=told)
        return session.get_one(DriftAlarm, alarm_id)
    return None


def watch_reviewers(session: Session, *, at: datetime) -> int:
    """Tell ops and the reviewer, once, of whoever is probably poor where the answer is known; note
    when that is so no more. How many it told of.

    Nothing follows by itself. How often it is asked matters little: under three good reviewers in
    a hundred ever see an alarm in a hundred answers (`matching.goldwatch`).
    """
    # Loads scipy, which only the jobs that watch need.
    from matching.goldwatch import GoldWatch

    seen = {
        reviewer_id: GoldWatch(right, wrong)
        for reviewer_id, (right, wrong) in known_answers(session, since=at - WATCHED).items()
    }
    poor = {reviewer_id: watch for reviewer_id, watch in seen.items() if watch.is_alert}
    known: set[UUID] = set()
    for row in session.scalars(select(ReviewerAlarm).where(ReviewerAlarm.ended_at.is_(None))):
        known.add(row.reviewer_id)
        if row.reviewer_id not in poor:
            row.ended_at = at
    session.flush()
    return sum(
        _tell_of_reviewer(session, reviewer_id, watch, at=at)
        for reviewer_id, watch in poor.items()
        if reviewer_id not in known
    )


def _tell_of_reviewer(
    session: Session, reviewer_id: UUID, watch: "GoldWatch", *, at: datetime
) -> bool:
    right, wrong = int(watch.right), int(watch.wrong)
    reason = (
        f"Of {right + wrong} votes on work whose answer is known, {right} were right: with"
        f" probability {watch.poor:.2f} fewer than {watch.least:.0%} of them are in the long run."
    )
    alarm_id = session.scalar(
        insert_or(ReviewerAlarm)
        .values(
            id=new_id(),
            reviewer_id=reviewer_id,
            right=right,
            wrong=wrong,
            poor=watch.poor,
            reason=reason,
            at=at,
        )
        .on_conflict_do_nothing()
        .returning(ReviewerAlarm.id)
    )
    if alarm_id is None:
        return False
    told: Json = {"kind": "reviewer", "reason": reason}
    emit(session, Event.QUALITY_ALERT, alarm_id, at=at, person_id=reviewer_id, data=told)
    return True


def acknowledge_alarm(
    session: Session, alarm_id: UUID, *, note: str, at: datetime, actor_id: UUID | None = None
) -> Raised:
    """Say that an alarm was looked at; the first word stays.

    Raises:
        AlarmNotFound.
    """
    found = alarm(session, alarm_id)
    if found is None:
        raise AlarmNotFound(alarm_id)
    made = session.scalar(
        insert_or(Acknowledgement)
        .values(alarm_id=alarm_id, kind=found.kind, at=at, person_id=actor_id, note=note)
        .on_conflict_do_nothing()
        .returning(Acknowledgement.alarm_id)
    )
    if made is not None:
        emit(
            session,
            Event.QUALITY_ACKNOWLEDGED,
            alarm_id,
            at=at,
            actor_id=actor_id,
            data={"kind": found.kind},
        )
    again = alarm(session, alarm_id)
    if again is None:
        raise AlarmNotFound(alarm_id)
    return again


def read_level(session: Session, cell: Cell, slot: str, *, at: datetime) -> bool:
    """Write how a level stands, once for each slot; whether there is anything to be said of it."""
    # Loads scipy, which only the jobs that read need.
    from matching.frontier import FrontierTracker

    rows = claims(session, cell)
    if not rows or readable(session) is None:
        return False
    follower = FrontierTracker()
    number = follower.open(at=weeks_of(rows[0][0]))
    for when, stump in rows:
        follower.observe(number, stump, at=weeks_of(when))
    rate = follower.rate(number, at=max(weeks_of(at), weeks_of(rows[-1][0])))
    said = propose_complexity(session, cell, at=at)
    session.execute(
        insert_or(FrontierReading)
        .values(
            id=new_id(),
            slot=slot,
            domain=cell.domain,
            level=cell.level,
            target_model_id=cell.target_model_id,
            at=at,
            claims=len(rows),
            rate=rate.mean,
            low=rate.low,
            high=rate.high,
            opening=rate.opening,
            productive=said.productive,
            productive_low=said.low,
            productive_high=said.high,
            proposed_level=said.level,
            reason=said.reason,
        )
        .on_conflict_do_nothing()
    )
    return True
