"""Filing appeals, deciding them, and what a decision undoes.

Everything here runs as the platform. Locks are taken in one order: what is appealed, the appeal.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar, cast
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.appeals.models import Appeal
from market.appeals.queries import appeal
from market.appeals.rules import (
    APPEAL,
    APPEAL_WITHIN,
    DECIDED_WITHIN,
    MIN_NOTE,
    AlreadyAppealed,
    AppealTooLate,
    AppealUnfit,
    DeciderInvolved,
    NothingToAppeal,
)
from market.db import new_id
from market.events import Changes, Event, change_state
from market.experts.models import Measure, TierAssignment
from market.experts.queries import expert
from market.fixes.actions import locked_fix, withdraw_fix
from market.fixes.models import SubmissionFix
from market.pay_tiers.actions import postpone_tier, undo_tier
from market.people.queries import in_conflict
from market.qualifications.actions import regrade_qualification
from market.qualifications.models import Qualification
from market.qualifications.rules import QualificationHeld
from market.reviews.models import Review
from market.reviews.rules import REVIEW
from market.standings.actions import lift_measure
from market.submissions.models import Submission
from market.submissions.queries import submission as any_submission
from market.submissions.rules import SUBMISSION
from market.verdicts.actions import correct_verdict
from market.verdicts.models import Verdict
from market.verdicts.rules import Correction
from market.votes.queries import tally

Subject = Submission | Measure | Qualification | TierAssignment | SubmissionFix
"""What somebody decided."""

Step = TypeVar("Step", Measure, TierAssignment)


def file_appeal(
    session: Session,
    kind: str,
    subject_id: UUID,
    *,
    person_id: UUID,
    note: str,
    evidence: Sequence[str] = (),
    at: datetime,
) -> Appeal:
    """Ask for a second look at a verdict, a fix, a step of standing or tier, or a test lost.

    Raises:
        NothingToAppeal, AppealTooLate, AlreadyAppealed, AppealUnfit.
    """
    if len(note.strip()) < MIN_NOTE:
        raise AppealUnfit("note", f"at least {MIN_NOTE} characters on what is wrong")
    subject = _locked(session, kind, subject_id)
    decided_at, owner, involved = _decided(session, subject)
    if owner != person_id or decided_at is None:
        raise NothingToAppeal()
    if at - decided_at > APPEAL_WITHIN:
        raise AppealTooLate()
    organisation_id = None
    if isinstance(subject, Submission | SubmissionFix):
        organisation_id = subject.organisation_id
    # One statement decides, so that of two appeals at once one is filed.
    made: Appeal | None = session.scalar(
        insert(Appeal)
        .values(
            id=new_id(),
            person_id=person_id,
            kind=kind,
            subject_id=subject_id,
            note=note,
            filed_at=at,
            due_at=at + DECIDED_WITHIN,
            involved=involved,
            evidence=list(evidence),
            organisation_id=organisation_id,
            state="filed",
            version=1,
        )
        .on_conflict_do_nothing()
        .returning(Appeal)
    )
    if made is None:
        raise AlreadyAppealed()
    changes = Changes(at, person_id)
    if isinstance(subject, Submission):
        subject.state = changes.move(SUBMISSION, subject.id, subject.state, "appeal")
        subject.version += 1
        session.flush()
    if isinstance(subject, TierAssignment) and _is_to_come(subject, at):
        postpone_tier(session, subject, until=made.due_at)
    changes.event(Event.APPEAL_FILED, made.id, organisation_id, person_id)
    changes.write(session)
    return made


def assign_appeal(session: Session, appeal_id: UUID, *, decider_id: UUID, at: datetime) -> Appeal:
    """Take an appeal on; taking on again what one has changes nothing.

    Raises:
        AppealNotFound, DeciderInvolved, StateConflict.
    """
    row = appeal(session, appeal_id, lock=True)
    if row.state == "assigned" and row.decider_id == decider_id:
        return row
    APPEAL.target(row.state, "assign")
    _check_decider(session, row, decider_id)
    row.decider_id, row.assigned_at = decider_id, at
    _move(session, row, "assign", Event.APPEAL_ASSIGNED, at=at, actor_id=decider_id)
    return row


def decide_appeal(
    session: Session,
    appeal_id: UUID,
    outcome: str,
    *,
    decider_id: UUID,
    decision: str,
    at: datetime,
    share: int | None = None,
) -> Appeal:
    """Uphold what was decided, or overturn it, wholly or (a verdict) in part.

    Units: `share` per cent of the work that is accepted after all.

    Raises:
        AppealNotFound, DeciderInvolved, AppealUnfit, StateConflict.
    """
    if len(decision.strip()) < MIN_NOTE:
        raise AppealUnfit("decision", f"at least {MIN_NOTE} characters on why")
    seen = appeal(session, appeal_id)
    subject = _locked(session, seen.kind, seen.subject_id)
    row = appeal(session, appeal_id, lock=True)
    APPEAL.target(row.state, outcome)
    if row.decider_id != decider_id:
        raise DeciderInvolved()
    _check_decider(session, row, decider_id)
    is_part = outcome == "overturn_partly"
    if is_part != (share is not None) or (share is not None and not 1 <= share <= 99):
        raise AppealUnfit("share", "1 to 99 with overturn_partly, and only with it")
    if is_part and not isinstance(subject, Submission):
        raise AppealUnfit("outcome", "uphold or overturn; only a verdict is overturned in part")
    row.decision, row.decided_at, row.share = decision, at, share
    _move(session, row, outcome, Event.APPEAL_DECIDED, at=at, actor_id=decider_id)
    _apply(session, subject, outcome, share or 100, at=at, actor_id=decider_id)
    return row


def miss_appeal(session: Session, appeal_id: UUID, *, at: datetime) -> bool:
    """Give an appeal that nobody decided in time to whoever filed it; whether it was one."""
    seen = appeal(session, appeal_id)
    subject = _locked(session, seen.kind, seen.subject_id)
    row = appeal(session, appeal_id, lock=True)
    if row.state not in ("filed", "assigned") or row.due_at > at:
        return False
    row.decided_at = at
    _move(session, row, "miss_deadline", Event.APPEAL_SLA_MISSED, at=at)
    _apply(session, subject, "miss_deadline", 100, at=at, actor_id=None)
    return True


def unreject_submission(
    session: Session, submission_id: UUID, *, reason_code: str, at: datetime, actor_id: UUID
) -> Submission:
    """Take a rejection back, at any time: the work is accepted, and its verdict corrected.

    Raises:
        SubmissionNotFound, AppealUnfit, StateConflict.
    """
    if not reason_code.strip():
        raise AppealUnfit("reason_code", "given")
    any_submission(session, submission_id)
    row = cast("Submission", _locked(session, "submission", submission_id))
    SUBMISSION.target(row.state, "unreject")
    changes = Changes(at, actor_id)
    _correct(session, row, "unreject", 100, "unreject", reason_code, changes)
    changes.write(session)
    return row


def _apply(
    session: Session,
    subject: Subject,
    outcome: str,
    share: int,
    *,
    at: datetime,
    actor_id: UUID | None,
) -> None:
    if isinstance(subject, Submission):
        changes = Changes(at, actor_id)
        if outcome == "uphold":
            verdict = session.get_one(Verdict, subject.id)
            action = "uphold_share" if verdict.is_accepted else "uphold"
            subject.state = changes.move(SUBMISSION, subject.id, subject.state, action)
            subject.version += 1
            session.flush()
        else:
            reason = "sla_missed" if outcome == "miss_deadline" else "appeal_won"
            _correct(session, subject, outcome, share, "appeal", reason, changes)
        changes.write(session)
    elif outcome == "uphold":
        return
    elif isinstance(subject, SubmissionFix):
        changes = Changes(at, actor_id)
        reason = "sla_missed" if outcome == "miss_deadline" else "appeal_won"
        withdraw_fix(session, subject, changes, reason=reason)
        changes.write(session)
    elif isinstance(subject, Measure):
        lift_measure(session, subject.id, reason_code="appeal_won", at=at, actor_id=actor_id)
    elif isinstance(subject, TierAssignment):
        undo_tier(session, subject, at=at, actor_id=actor_id)
    else:
        try:
            regrade_qualification(
                session,
                subject.id,
                score=max(subject.score or 0, subject.pass_score),
                reason_code="appeal_won",
                at=at,
                actor_id=actor_id,
            )
        except QualificationHeld:
            # A retake stands in its place by now, and nothing is left to give back.
            return


def _correct(
    session: Session,
    row: Submission,
    action: str,
    share: int,
    basis: str,
    reason_code: str,
    changes: Changes,
) -> None:
    # What its reviewers said of the attempt holds: only what they said of the work did not.
    is_fair = tally(session, row.id, row.round).is_fair
    correction = Correction(
        action=action, share=share, basis=basis, reason_code=reason_code, is_fair=is_fair
    )
    correct_verdict(session, row, correction, changes)
    # Whoever decided against the work was wrong about it, and is told so.
    lost = session.scalars(
        select(Review)
        .where(
            Review.submission_id == row.id,
            Review.round == row.round,
            Review.state == "final",
            Review.verdict != "accept",
        )
        .with_for_update()
    )
    for review in lost:
        told = changes.event(
            Event.REVIEW_OVERTURNED, review.id, review.organisation_id, review.reviewer_id
        )
        review.state = changes.move(REVIEW, review.id, review.state, "overturn", event_id=told)
        review.version += 1
    session.flush()


def _locked(session: Session, kind: str, subject_id: UUID) -> Subject:
    found: Subject | None
    if kind == "submission":
        found = session.get(Submission, subject_id, with_for_update=True, populate_existing=True)
    elif kind == "fix":
        found = locked_fix(session, subject_id)
    elif kind == "measure":
        found = _locked_step(session, Measure, subject_id)
    elif kind == "tier":
        found = _locked_step(session, TierAssignment, subject_id)
    else:
        found = session.get(Qualification, subject_id, with_for_update=True, populate_existing=True)
    if found is None:
        raise NothingToAppeal()
    return found


def _locked_step(session: Session, table: type[Step], step_id: UUID) -> Step | None:
    step = session.get(table, step_id)
    if step is None:
        return None
    # The expert is locked before its steps of standing and pay tier, as everywhere.
    expert(session, step.expert_id, lock=True)
    return session.get(table, step_id, with_for_update=True, populate_existing=True)


def _decided(session: Session, subject: Subject) -> tuple[datetime | None, UUID, list[UUID]]:
    """When it was decided against somebody, against whom, and who had a part in it."""
    if isinstance(subject, Submission):
        against = subject.state in ("rejected", "partially_accepted")
        # A second appeal is told that it is one.
        was = subject.state in ("appealed", "rejected_final")
        when = subject.decided_at if against or was else None
        return when, subject.expert_id, _reviewers_of(session, subject.id)
    if isinstance(subject, SubmissionFix):
        when = subject.settled_at if subject.state in ("standing", "withdrawn") else None
        return when, subject.author_id, _reviewers_of(session, subject.submission_id)
    if isinstance(subject, Measure):
        when = subject.taken_at if subject.ended_at is None else None
        return when, subject.expert_id, [one for one in (subject.taken_by,) if one is not None]
    if isinstance(subject, TierAssignment):
        when = None if subject.during.isempty else subject.announced_at
        return when, subject.expert_id, [one for one in (subject.actor_id,) if one is not None]
    against = subject.state in ("denied", "revoked")
    people_of = {one for one in (subject.decided_by, subject.invited_by) if one is not None}
    return subject.decided_at if against else None, subject.person_id, sorted(people_of)


def _reviewers_of(session: Session, submission_id: UUID) -> list[UUID]:
    people = session.scalars(
        select(Review.reviewer_id).where(
            Review.submission_id == submission_id, Review.reviewer_id.is_not(None)
        )
    )
    return sorted({one for one in people if one is not None})


def _check_decider(session: Session, row: Appeal, decider_id: UUID) -> None:
    if decider_id in row.involved or session.scalar(select(in_conflict(decider_id, row.person_id))):
        raise DeciderInvolved()


def _move(
    session: Session,
    row: Appeal,
    action: str,
    event: Event,
    *,
    at: datetime,
    actor_id: UUID | None = None,
) -> None:
    change_state(
        session,
        APPEAL,
        row,
        action,
        at=at,
        event=event,
        organisation_id=row.organisation_id,
        person_id=row.person_id,
        actor_id=actor_id,
        note=row.decision,
        evidence=row.evidence,
        data={"kind": row.kind, "subject_id": str(row.subject_id)},
    )


def _is_to_come(step: TierAssignment, at: datetime) -> bool:
    return step.during.lower is not None and step.during.lower > at
