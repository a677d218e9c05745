"""The steps that are taken about an expert's standing, and how they end."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from market.events import Event, change_state, emit
from market.experts.models import Expert, Measure
from market.experts.queries import expert
from market.experts.rules import STANDING, ReasonMissing, checked_domains
from market.standings.queries import is_added_to, is_over
from market.standings.rules import STEPS, EvidenceMissing, MeasureUnfit
from market.states import StateConflict


def change_standing(
    session: Session,
    expert_id: UUID,
    action: str,
    *,
    at: datetime,
    reason_code: str | None,
    note: str | None,
    evidence: Sequence[str] = (),
    domains: Sequence[str] = (),
    until: datetime | None = None,
    reviews_all: bool = False,
    actor_id: UUID | None = None,
) -> Expert:
    """Take one step of an expert's standing; each step says why, and its expert reads it.

    Whoever is suspended or shut out is told on what evidence. A step with an end is lifted by it.
    With `reviews_all` all work of somebody watched is reviewed; that can be added to a watch or a
    limit in force, too.

    Raises:
        ExpertNotFound, ReasonMissing, EvidenceMissing, MeasureUnfit, DomainInvalid, StateConflict.
    """
    found = expert(session, expert_id, lock=True)
    # Closer review is no further step down for somebody who is watched or limited already.
    is_added = action == "watch" and reviews_all and found.state in ("watched", "limited")
    # What only a departure moves is no step that anybody can take.
    allowed = STANDING.allowed(found.state) & set(STEPS)
    if not is_added and action not in allowed:
        raise StateConflict(STANDING.name, found.state, action, allowed)
    if not (reason_code or "").strip() or not (note or "").strip():
        raise ReasonMissing(action)
    if action in ("suspend", "close") and not evidence:
        raise EvidenceMissing(action)
    if until is not None and (until <= at or action == "lift"):
        raise MeasureUnfit("until", "later than now, for a step that is not a lifting")
    if domains and action != "limit":
        raise MeasureUnfit("domains", "given with limit only")
    if reviews_all and action != "watch":
        raise MeasureUnfit("reviews_all", "given with watch only")
    if action == "lift":
        _end_measures(session, expert_id, str(reason_code), at=at, actor_id=actor_id)
    else:
        session.add(
            Measure(
                expert_id=expert_id,
                step=action,
                reason_code=str(reason_code),
                note=str(note),
                evidence=list(evidence),
                domains=checked_domains(domains),
                reviews_all=reviews_all,
                until=until,
                taken_at=at,
                taken_by=actor_id,
            )
        )
        session.flush()
    if is_added:
        _tell_added(session, expert_id, action, str(reason_code), at=at, actor_id=actor_id)
        return found
    change_state(
        session,
        STANDING,
        found,
        action,
        at=at,
        event=Event.STANDING_CHANGED,
        person_id=expert_id,
        actor_id=actor_id,
        reason_code=reason_code,
        note=note,
        evidence=evidence,
    )
    return found


def lift_measure(
    session: Session,
    measure_id: UUID,
    *,
    reason_code: str,
    at: datetime,
    actor_id: UUID | None = None,
) -> bool:
    """Lift a step that is in force, because an appeal was won; whether it was in force.

    What it was built on ends with it, and what was built on it. Closer review that was added to a
    step ends alone.
    """
    found, measure = _locked(session, measure_id)
    if measure.ended_at is not None:
        return False
    _lift(session, found, measure, reason_code, at=at, actor_id=actor_id)
    return True


def end_measure(session: Session, measure_id: UUID, *, at: datetime) -> bool:
    """Lift a step whose time is over, as `lift_measure`; whether it was. While a later step goes
    on, the one that it was built on goes on with it.
    """
    found, measure = _locked(session, measure_id)
    if session.scalar(select(is_over(at)).where(Measure.id == measure_id)) is not True:
        return False
    _lift(session, found, measure, "time_over", at=at, actor_id=None)
    return True


def _locked(session: Session, measure_id: UUID) -> tuple[Expert, Measure]:
    """A step and its expert, who is locked before it, as everywhere."""
    measure = session.get_one(Measure, measure_id)
    found = expert(session, measure.expert_id, lock=True)
    session.refresh(measure, with_for_update=True)
    return found, measure


def _lift(
    session: Session,
    found: Expert,
    measure: Measure,
    reason_code: str,
    *,
    at: datetime,
    actor_id: UUID | None,
) -> None:
    if is_added_to(session, measure):
        measure.ended_at, measure.ended_by, measure.end_reason = at, actor_id, reason_code
        session.flush()
        _tell_added(session, found.id, "lift", reason_code, at=at, actor_id=actor_id)
        return
    _end_measures(session, found.id, reason_code, at=at, actor_id=actor_id)
    if "lift" in STANDING.allowed(found.state):
        change_state(
            session,
            STANDING,
            found,
            "lift",
            at=at,
            event=Event.STANDING_CHANGED,
            person_id=found.id,
            actor_id=actor_id,
            reason_code=reason_code,
        )


def _end_measures(
    session: Session, expert_id: UUID, reason_code: str, *, at: datetime, actor_id: UUID | None
) -> None:
    session.execute(
        update(Measure)
        .where(Measure.expert_id == expert_id, Measure.ended_at.is_(None))
        .values(ended_at=at, ended_by=actor_id, end_reason=reason_code)
    )


def _tell_added(
    session: Session,
    expert_id: UUID,
    action: str,
    reason_code: str,
    *,
    at: datetime,
    actor_id: UUID | None,
) -> None:
    """Closer review was added to a step, or lifted from it: the standing itself stays."""
    emit(
        session,
        Event.STANDING_CHANGED,
        expert_id,
        at=at,
        person_id=expert_id,
        actor_id=actor_id,
        data={"step": action, "reason_code": reason_code},
    )
