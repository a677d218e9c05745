"""How somebody is tested, graded, and keeps or loses what was granted.

Everything here runs as the platform: an expert's domains move with its qualifications.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.db import new_id
from market.events import Event, change_state, emit
from market.experts.models import Expert, ExpertDomain
from market.experts.rules import is_domain
from market.people.models import Person
from market.people.rules import PersonNotFound
from market.qualifications.models import Qualification, SittingRate
from market.qualifications.queries import last_ended, qualification, sitting_rate
from market.qualifications.rules import (
    HELD_FOR,
    INVITED_FOR,
    MAX_RATE_MINOR,
    MIN_NOTE,
    MIN_REASON,
    QUALIFICATION,
    RETAKE_AFTER,
    REVIEW_LEVELS,
    RUNNING,
    QualificationHeld,
    QualificationNotFound,
    QualificationUnfit,
    RetakeTooSoon,
)
from payouts.money import exponent_of

EVENTS = {
    "granted": Event.QUALIFICATION_GRANTED,
    "denied": Event.QUALIFICATION_DENIED,
    "expired": Event.QUALIFICATION_EXPIRED,
    "revoked": Event.QUALIFICATION_REVOKED,
    "regraded": Event.QUALIFICATION_REGRADED,
}


def invite_to_qualify(
    session: Session,
    person_id: UUID,
    *,
    domain: str | None = None,
    review_level: int | None = None,
    pass_score: int = 70,
    unpaid_reason: str | None = None,
    at: datetime,
    actor_id: UUID | None = None,
) -> Qualification:
    """Ask a person to a test: in a domain, or to review at a level.

    Its time is paid at the rate that is in force now, unless a reason against it is recorded, which
    the person reads before it begins.

    Raises:
        PersonNotFound, QualificationUnfit, QualificationHeld, RetakeTooSoon.
    """
    if (domain is None) == (review_level is None):
        raise QualificationUnfit("domain", "given, or review_level instead of it")
    if domain is not None and not is_domain(domain):
        raise QualificationUnfit("domain", "a domain, such as chemistry.organic")
    if review_level is not None and review_level not in REVIEW_LEVELS:
        raise QualificationUnfit("review_level", "2 to 6")
    if not 1 <= pass_score <= 100:
        raise QualificationUnfit("pass_score", "1 to 100")
    if unpaid_reason is not None and len(unpaid_reason.strip()) < MIN_REASON:
        raise QualificationUnfit("unpaid_reason", f"at least {MIN_REASON} characters, or left out")
    if session.get(Person, person_id) is None:
        raise PersonNotFound(person_id)
    rate = None if unpaid_reason is not None else sitting_rate(session, at)
    before = last_ended(session, person_id, domain, review_level)
    if before is not None and before.decided_at is not None:
        again_at = before.decided_at + RETAKE_AFTER
        if at < again_at:
            raise RetakeTooSoon(again_at)
    # One statement decides, so that of two invitations at once one is made.
    made: Qualification | None = session.scalar(
        insert(Qualification)
        .values(
            id=new_id(),
            person_id=person_id,
            domain=domain,
            review_level=review_level,
            pass_score=pass_score,
            invited_at=at,
            ends_at=at + INVITED_FOR,
            invited_by=actor_id,
            state="invited",
            evidence=[],
            pay_minor_per_hour=None if rate is None else rate.rate_minor_per_hour,
            pay_currency=None if rate is None else rate.currency,
            unpaid_reason=unpaid_reason,
            version=1,
        )
        .on_conflict_do_nothing(
            # As text: a predicate with parameters matches no index once it is prepared.
            index_elements=["person_id", "domain", "review_level"],
            index_where=text(f"state in {RUNNING}"),
        )
        .returning(Qualification)
    )
    if made is None:
        raise QualificationHeld("running")
    emit(
        session,
        Event.QUALIFICATION_INVITED,
        made.id,
        at=at,
        person_id=person_id,
        actor_id=actor_id,
        data=_subject(made),
    )
    return made


def begin_qualification(
    session: Session, qualification_id: UUID, *, person_id: UUID, at: datetime
) -> Qualification:
    """Begin a test that one was asked to; beginning twice changes nothing.

    Raises:
        QualificationNotFound, StateConflict.
    """
    row = qualification(session, qualification_id, lock=True)
    if row.person_id != person_id:
        raise QualificationNotFound(qualification_id)
    if row.state == "in_progress":
        return row
    row.begun_at = at
    row.ends_at = at + INVITED_FOR
    _move(session, row, "begin", at=at, actor_id=person_id)
    return row


def grade_qualification(
    session: Session,
    qualification_id: UUID,
    *,
    score: int,
    evidence: Sequence[str] = (),
    at: datetime,
    actor_id: UUID | None = None,
) -> Qualification:
    """Say what a test came to: with the score that it asks for, or more, it is granted.

    Raises:
        QualificationNotFound, QualificationUnfit, StateConflict.
    """
    return _grade(session, qualification_id, "grade", score, evidence, at=at, actor_id=actor_id)


def regrade_qualification(
    session: Session,
    qualification_id: UUID,
    *,
    score: int,
    reason_code: str,
    evidence: Sequence[str] = (),
    at: datetime,
    actor_id: UUID | None = None,
) -> Qualification:
    """Say what a test is worth after all: a key was wrong, or an appeal was won.

    Raises:
        QualificationNotFound, QualificationUnfit, QualificationHeld, StateConflict.
    """
    return _grade(
        session,
        qualification_id,
        "regrade",
        score,
        evidence,
        at=at,
        actor_id=actor_id,
        reason_code=reason_code,
    )


def revoke_qualification(
    session: Session,
    qualification_id: UUID,
    *,
    reason_code: str,
    note: str,
    evidence: Sequence[str],
    at: datetime,
    actor_id: UUID | None = None,
) -> Qualification:
    """Take a qualification away, with the reason and the evidence that its holder reads.

    Raises:
        QualificationNotFound, QualificationUnfit, StateConflict.
    """
    if not reason_code.strip():
        raise QualificationUnfit("reason_code", "given")
    if len(note.strip()) < MIN_NOTE:
        raise QualificationUnfit("note", f"at least {MIN_NOTE} characters")
    if not evidence:
        raise QualificationUnfit("evidence", "one piece at least")
    row = qualification(session, qualification_id, lock=True)
    row.reason_code, row.note, row.evidence = reason_code, note, list(evidence)
    row.decided_at, row.decided_by = at, actor_id
    _move(session, row, "revoke", at=at, actor_id=actor_id, reason_code=reason_code, note=note)
    _set_level(session, row, "claimed")
    return row


def expire_qualification(session: Session, qualification_id: UUID, *, at: datetime) -> bool:
    """End what has run out: an invitation, a test, a qualification; whether there was one."""
    row = qualification(session, qualification_id, lock=True)
    if row.state not in ("invited", "in_progress", "granted") or row.ends_at > at:
        return False
    was_granted = row.state == "granted"
    _move(session, row, "expire", at=at, reason_code="time_over")
    if was_granted:
        _set_level(session, row, "claimed")
    return True


def _grade(
    session: Session,
    qualification_id: UUID,
    action: str,
    score: int,
    evidence: Sequence[str],
    *,
    at: datetime,
    actor_id: UUID | None,
    reason_code: str | None = None,
) -> Qualification:
    if not 0 <= score <= 100:
        raise QualificationUnfit("score", "0 to 100")
    row = qualification(session, qualification_id, lock=True)
    QUALIFICATION.target(row.state, action)
    if row.state in ("denied", "revoked") and _is_running(session, row):
        raise QualificationHeld("running")
    row.score = score
    row.evidence = [*row.evidence, *evidence]
    row.decided_at, row.decided_by = at, actor_id
    _move(session, row, action, at=at, actor_id=actor_id, reason_code=reason_code)
    is_passed = score >= row.pass_score
    if is_passed:
        row.ends_at = at + HELD_FOR
        row.reason_code = row.note = None
    _move(session, row, "grant" if is_passed else "deny", at=at, actor_id=actor_id)
    _set_level(session, row, "qualified" if is_passed else "claimed")
    return row


def _is_running(session: Session, row: Qualification) -> bool:
    # A retake that is under way, or passed, stands in the place of this one.
    other = exists().where(
        Qualification.person_id == row.person_id,
        Qualification.id != row.id,
        Qualification.domain.is_not_distinct_from(row.domain),
        Qualification.review_level.is_not_distinct_from(row.review_level),
        Qualification.state.in_(RUNNING),
    )
    return bool(session.scalar(select(other)))


def _set_level(session: Session, row: Qualification, level: str) -> None:
    """An expert's domain is as sure as the last word on its test; reviewers have no such row."""
    if row.domain is None or session.get(Expert, row.person_id) is None:
        return
    statement = insert(ExpertDomain).values(
        expert_id=row.person_id, domain=row.domain, years=0, level=level, ability=None
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["expert_id", "domain"], set_={"level": level}
        )
    )


def _subject(row: Qualification) -> dict[str, object]:
    return {"domain": row.domain, "review_level": row.review_level}


def _move(
    session: Session,
    row: Qualification,
    action: str,
    *,
    at: datetime,
    actor_id: UUID | None = None,
    reason_code: str | None = None,
    note: str | None = None,
) -> None:
    change_state(
        session,
        QUALIFICATION,
        row,
        action,
        at=at,
        event=EVENTS.get(QUALIFICATION.target(row.state, action)),
        person_id=row.person_id,
        actor_id=actor_id,
        reason_code=reason_code,
        note=note,
        evidence=row.evidence,
        data=_subject(row),
    )


def set_sitting_rate(
    session: Session,
    rate_minor_per_hour: int,
    *,
    currency: str,
    note: str,
    at: datetime,
    actor_id: UUID | None = None,
) -> SittingRate:
    """Publish what tests are paid with, of invitations from now on; those before keep theirs.

    Raises:
        QualificationUnfit, UnknownCurrency.
    """
    exponent_of(currency)
    if not 0 < rate_minor_per_hour <= MAX_RATE_MINOR:
        raise QualificationUnfit("rate_minor_per_hour", f"1 to {MAX_RATE_MINOR}")
    if len(note.strip()) < MIN_REASON:
        raise QualificationUnfit("note", f"at least {MIN_REASON} characters on why")
    made = SittingRate(
        rate_minor_per_hour=rate_minor_per_hour,
        currency=currency,
        starts_at=at,
        note=note.strip(),
        set_by=actor_id,
    )
    session.add(made)
    session.flush()
    return made
