"""What can be done about reviews: opening, claiming, voting, and what a last vote decides.

Everything here runs as the platform, because a verdict moves the submission, the attempt, the slot
and the task, which are no reviewer's to write. Whoever changes the reviews of a submission holds
that submission locked; locks are taken in one order: submission, review, attempt, slot, task.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.attempts.actions import begin_validation
from market.attempts.models import Attempt
from market.attempts.rules import ATTEMPT
from market.db import Json, new_id
from market.events import Changes, Event
from market.offers.models import Offer
from market.reviews.models import Review, Verdict
from market.reviews.queries import claimable, tally
from market.reviews.rules import (
    CLAIM_S,
    HELD,
    REVIEW,
    AlreadyReviewing,
    QueueEmpty,
    ReviewLapsed,
    ReviewNotFound,
    ReviewTaken,
    SelfReview,
    Tally,
    Vote,
    check_vote,
)
from market.submissions.models import Submission
from market.submissions.rules import SUBMISSION
from market.tasks.models import Task, TaskSlot
from market.tasks.rules import SLOT, TASK


def open_reviews(session: Session, submission_id: UUID, *, at: datetime) -> int:
    """Put a submission before its reviewers; how many reviews were new. Safe to do twice."""
    found = session.execute(
        # As many as its terms promised, whatever the project asks for by now.
        select(Submission, Offer.terms["reviews_per_submission"].as_integer())
        .join(Offer, Offer.id == Submission.offer_id)
        .where(Submission.id == submission_id)
        .with_for_update(of=Submission)
    ).one_or_none()
    if found is None or found[0].state not in ("awaiting_review", "in_review"):
        return 0
    row, wanted = found
    has_claim = row.attempt_id is not None and begin_validation(session, row.attempt_id, at=at)
    opened = session.scalars(
        insert_or(Review)
        .values([_queued(row, number, has_claim, at) for number in range(1, wanted + 1)])
        .on_conflict_do_nothing(index_elements=["submission_id", "round", "number"])
        .returning(Review.id)
    ).all()
    return len(opened)


def claim_review(session: Session, review_id: UUID, *, reviewer_id: UUID, at: datetime) -> Review:
    """Take one review of the queue; claiming again what one holds changes nothing.

    Raises:
        ReviewNotFound, ReviewTaken, SelfReview, AlreadyReviewing.
    """
    submission = session.execute(
        select(Submission.id, Submission.state, Submission.organisation_id, Submission.expert_id)
        .where(
            Submission.id
            == select(Review.submission_id).where(Review.id == review_id).scalar_subquery()
        )
        .with_for_update()
    ).one_or_none()
    if submission is None:
        raise ReviewNotFound(review_id)
    row = session.scalars(
        select(Review)
        .where(Review.id == review_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    if row.expert_id == reviewer_id:
        raise SelfReview()
    if row.reviewer_id == reviewer_id and row.state in HELD:
        return row
    if row.state != "queued":
        raise ReviewTaken(row.state)
    theirs = exists().where(
        Review.submission_id == row.submission_id,
        Review.round == row.round,
        Review.reviewer_id == reviewer_id,
    )
    if session.scalar(select(theirs)):
        raise AlreadyReviewing()
    return _claim(session, row, submission.state, reviewer_id=reviewer_id, at=at)


def claim_next_review(session: Session, *, reviewer_id: UUID, at: datetime) -> Review:
    """Take the longest waiting review that nobody else is taking at this moment.

    Raises:
        QueueEmpty.
    """
    # Both rows in one statement that waits for nobody, so that no order of locks matters.
    found = session.execute(
        claimable(reviewer_id)
        .add_columns(Submission.state)
        .join(Submission, Submission.id == Review.submission_id)
        .order_by(Review.id)
        .limit(1)
        .with_for_update(of=[Review, Submission], skip_locked=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise QueueEmpty()
    return _claim(session, found[0], found[1], reviewer_id=reviewer_id, at=at)


def open_review(session: Session, review_id: UUID, *, reviewer_id: UUID, at: datetime) -> Review:
    """Say that a claimed review is being worked on; saying it twice changes nothing.

    Raises:
        ReviewNotFound, ReviewTaken.
    """
    row = _held(session, review_id, reviewer_id)
    if row.state == "claimed":
        changes = Changes(at, reviewer_id)
        row.state = changes.move(REVIEW, row.id, row.state, "open")
        row.version += 1
        session.flush()
        changes.write(session)
    return row


def recuse_reviewer(
    session: Session, review_id: UUID, *, reviewer_id: UUID, at: datetime
) -> Review:
    """Step back for a conflict of interest; someone else gets a fresh review in its place.

    Raises:
        ReviewNotFound, ReviewTaken.
    """
    row = _held(session, review_id, reviewer_id)
    changes = Changes(at, reviewer_id)
    row.state = changes.move(REVIEW, row.id, row.state, "recuse", reason_code="conflict")
    row.version += 1
    session.flush()
    submission = session.get_one(Submission, row.submission_id)
    last = session.scalar(
        select(func.max(Review.number)).where(
            Review.submission_id == row.submission_id, Review.round == row.round
        )
    )
    number = (last or row.number) + 1
    session.execute(insert(Review), _queued(submission, number, row.has_attempt, at))
    changes.write(session)
    return row


def record_vote(
    session: Session, review_id: UUID, *, reviewer_id: UUID, vote: Vote, at: datetime
) -> Verdict | None:
    """Record what a reviewer says; with the last vote that is needed, the verdict.

    Raises:
        ReviewNotFound, ReviewTaken, ReviewLapsed, SelfReview, RejectionUnfounded, VoteIncomplete,
        VoteUnfit.
    """
    # Locked, so that of two last votes the second one sees the first.
    found = session.execute(
        select(Submission, Review.has_attempt, Review.state, Review.reviewer_id, Review.expires_at)
        .join(Review, Review.submission_id == Submission.id)
        .where(Review.id == review_id)
        .with_for_update(of=Submission)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise ReviewNotFound(review_id)
    submission, has_attempt, before, holder, expires_at = found
    if submission.expert_id == reviewer_id:
        raise SelfReview()
    if holder != reviewer_id or before not in HELD:
        raise ReviewTaken(before if holder == reviewer_id or before != "queued" else "unclaimed")
    if expires_at is None or expires_at <= at:
        raise ReviewLapsed()
    check_vote(vote, has_attempt=has_attempt)
    voted = session.execute(
        update(Review)
        .where(Review.id == review_id, Review.state == before, Review.reviewer_id == reviewer_id)
        .values(
            state=REVIEW.target(before, "vote"),
            verdict=vote.verdict,
            model_failed=vote.model_failed,
            attempt_fair=vote.attempt_fair,
            reason_code=vote.reason_code,
            note=vote.note,
            seconds=vote.seconds,
            voted_at=at,
            version=Review.version + 1,
        )
        .returning(Review.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if voted is None:
        raise ReviewLapsed()
    changes = Changes(at, reviewer_id)
    event_id = changes.event(Event.REVIEW_VOTED, review_id, submission.organisation_id, reviewer_id)
    changes.move(REVIEW, review_id, before, "vote", event_id=event_id)
    counted = tally(session, submission.id, submission.round)
    decided = None
    if counted.is_complete:
        decided = _decide(session, submission, counted, changes)
    changes.write(session)
    return decided


def approve_by_silence(session: Session, submission_id: UUID, *, at: datetime) -> Verdict | None:
    """Accept a submission whose reviews did not come in time; none when they just did.

    The votes that are missing count for nobody: a stump needs a majority of all that were asked.
    """
    submission = session.scalar(
        select(Submission)
        .where(
            Submission.id == submission_id,
            Submission.state.in_(("awaiting_review", "in_review")),
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if submission is None:
        return None
    changes = Changes(at)
    open_states = ("queued", *HELD)
    waiting = session.execute(
        select(Review.id, Review.state)
        .where(Review.submission_id == submission_id, Review.state.in_(open_states))
        .with_for_update()
    ).all()
    counted = tally(session, submission_id, submission.round)
    for review_id, state in waiting:
        changes.move(REVIEW, review_id, state, "expire", reason_code="review_time_over")
    if waiting:
        _write_reviews(session, "expired", Review.id.in_([row.id for row in waiting]))
    decided = _decide(session, submission, counted, changes, is_silent=True)
    changes.write(session)
    return decided


def requeue_reviews(session: Session, *, at: datetime, limit: int) -> int:
    """Put claims that ran out back into the queue; how many there were."""
    rows = session.execute(
        select(Review.id, Review.state)
        .where(Review.state.in_(HELD), Review.expires_at <= at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if not rows:
        return 0
    changes = Changes(at)
    for review_id, state in rows:
        expired = changes.move(REVIEW, review_id, state, "expire", reason_code="claim_time_over")
        changes.move(REVIEW, review_id, expired, "requeue")
    which = Review.id.in_([row.id for row in rows])
    _write_reviews(session, "expired", which)
    _write_reviews(session, "queued", which, reviewer_id=None, claimed_at=None, expires_at=None)
    changes.write(session)
    return len(rows)


def _queued(row: Submission, number: int, has_attempt: bool, at: datetime) -> Json:
    return {
        "id": new_id(),
        "organisation_id": row.organisation_id,
        "project_id": row.project_id,
        "submission_id": row.id,
        "expert_id": row.expert_id,
        "round": row.round,
        "number": number,
        "queued_at": at,
        "has_attempt": has_attempt,
        "level": 1,
        "state": "queued",
        "version": 1,
    }


def _held(session: Session, review_id: UUID, reviewer_id: UUID) -> Review:
    session.execute(
        select(Submission.id)
        .where(
            Submission.id
            == select(Review.submission_id).where(Review.id == review_id).scalar_subquery()
        )
        .with_for_update()
    )
    row = session.scalar(
        select(Review)
        .where(Review.id == review_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise ReviewNotFound(review_id)
    if row.reviewer_id != reviewer_id or row.state not in HELD:
        raise ReviewTaken(row.state)
    return row


def _claim(
    session: Session, row: Review, submission_state: str, *, reviewer_id: UUID, at: datetime
) -> Review:
    changes = Changes(at, reviewer_id)
    row.state = changes.move(REVIEW, row.id, row.state, "claim")
    row.reviewer_id = reviewer_id
    row.claimed_at = at
    row.expires_at = at + timedelta(seconds=CLAIM_S)
    row.version += 1
    try:
        session.flush()
    except IntegrityError:
        # Another claim of the same person on the same submission came first.
        raise AlreadyReviewing() from None
    if submission_state == "awaiting_review":
        session.execute(
            update(Submission)
            .where(Submission.id == row.submission_id)
            .values(
                state=changes.move(SUBMISSION, row.submission_id, submission_state, "claim"),
                version=Submission.version + 1,
            )
            .execution_options(synchronize_session=False)
        )
    changes.write(session)
    return row


def _decide(
    session: Session,
    submission: Submission,
    counted: Tally,
    changes: Changes,
    *,
    is_silent: bool = False,
) -> Verdict:
    is_accepted = is_silent or counted.is_accepted
    # Only a claim can be validated: who concedes has said that the model was right.
    has_claim = submission.attempt_id is not None and bool(
        session.scalar(
            select(Attempt.id).where(
                Attempt.id == submission.attempt_id, Attempt.state == "validating"
            )
        )
    )
    is_validated = has_claim and counted.is_validated
    verdict = Verdict(
        submission_id=submission.id,
        organisation_id=submission.organisation_id,
        project_id=submission.project_id,
        task_id=submission.task_id,
        expert_id=submission.expert_id,
        votes=counted.votes,
        rejects=counted.rejects,
        is_accepted=is_accepted,
        is_tested=submission.attempt_id is not None,
        is_validated=is_validated,
        is_stump=is_accepted and is_validated and counted.is_fair,
        is_silent=is_silent,
        decided_at=changes.at,
    )
    session.add(verdict)
    action = "auto_approve" if is_silent else "accept" if is_accepted else "reject"
    told = Event.SUBMISSION_ACCEPTED if is_accepted else Event.SUBMISSION_REJECTED
    whom = (submission.organisation_id, submission.expert_id)
    event_id = changes.event(told, submission.id, *whom)
    submission.state = changes.move(
        SUBMISSION,
        submission.id,
        submission.state,
        action,
        event_id=event_id,
        reason_code="review_time_over" if is_silent else None,
    )
    submission.decided_at = changes.at
    submission.version += 1
    session.flush()
    _close_reviews(session, submission, counted, is_accepted, changes)
    if has_claim and submission.attempt_id is not None:
        _settle_attempt(session, submission.attempt_id, verdict, changes)
    _settle_slot(session, submission, is_accepted, changes)
    changes.event(Event.VERDICT_RECORDED, submission.id, *whom)
    return verdict


def _close_reviews(
    session: Session,
    submission: Submission,
    counted: Tally,
    is_accepted: bool,
    changes: Changes,
) -> None:
    # Who voted as it was decided is done; who did not stays in conflict, for a senior to look at.
    side = Review.verdict == ("accept" if is_accepted else "reject")
    voted = (
        Review.submission_id == submission.id,
        Review.round == submission.round,
        Review.state == "voted",
    )
    agreed = _write_reviews(session, "agreed", *voted, side)
    for review_id in agreed:
        changes.move(REVIEW, review_id, changes.move(REVIEW, review_id, "voted", "agree"), "close")
    if agreed:
        _write_reviews(session, "final", Review.id.in_(agreed))
    if len(agreed) < counted.votes:
        for review_id in _write_reviews(session, "conflict", *voted):
            changes.move(REVIEW, review_id, "voted", "conflict")


def _write_reviews(
    session: Session, state: str, *which: ColumnElement[bool], **values: object
) -> Sequence[UUID]:
    return session.scalars(
        update(Review)
        .where(*which)
        .values(state=state, **values, version=Review.version + 1)
        .returning(Review.id)
        .execution_options(synchronize_session=False)
    ).all()


def _settle_attempt(session: Session, attempt_id: UUID, verdict: Verdict, changes: Changes) -> None:
    if verdict.is_stump:
        action = "verify"
    elif verdict.is_validated or not verdict.is_accepted:
        action = "refute"
    else:
        action = "clear"
    session.execute(
        update(Attempt)
        .where(Attempt.id == attempt_id)
        .values(
            state=changes.move(ATTEMPT, attempt_id, "validating", action),
            version=Attempt.version + 1,
        )
        .execution_options(synchronize_session=False)
    )


def _settle_slot(
    session: Session, submission: Submission, is_accepted: bool, changes: Changes
) -> None:
    # Not the strongest lock: the verdict that refers to the task holds a share of its key already,
    # and two verdicts on one task would wait for each other.
    slot = session.execute(
        select(TaskSlot.id, TaskSlot.state, TaskSlot.offer_id)
        .where(TaskSlot.id == submission.slot_id)
        .with_for_update(key_share=True)
    ).one()
    # A seat that has gone to another offer in the meantime is not this submission's to move.
    if slot.state != "submitted" or slot.offer_id != submission.offer_id:
        return
    task = session.execute(
        select(Task.id, Task.state)
        .where(Task.id == submission.task_id)
        .with_for_update(key_share=True)
    ).one()
    if is_accepted:
        changes.move(SLOT, slot.id, slot.state, "count")
        _write_slot(session, slot.id, state="counted")
        open_seat = exists().where(TaskSlot.task_id == task.id, TaskSlot.state != "counted")
        if task.state == "in_review" and not session.scalar(select(open_seat)):
            event_id = changes.event(Event.TASK_RESOLVED, task.id, submission.organisation_id, None)
            changes.move(TASK, task.id, task.state, "accept", event_id=event_id)
            _write_task(session, task.id, "accepted")
        return
    released = changes.move(SLOT, slot.id, slot.state, "release")
    changes.move(SLOT, slot.id, released, "reopen")
    _write_slot(session, slot.id, state="released", offer_id=None)
    _write_slot(session, slot.id, state="open")
    state = task.state
    if state == "in_review":
        state = changes.move(TASK, task.id, state, "extend")
        _write_task(session, task.id, state)
    busy = exists().where(
        TaskSlot.task_id == task.id, TaskSlot.state.in_(("claimed", "submitted", "counted"))
    )
    if state == "active" and not session.scalar(select(busy)):
        _write_task(session, task.id, changes.move(TASK, task.id, state, "requeue"))


def _write_slot(session: Session, slot_id: UUID, **values: object) -> None:
    session.execute(
        update(TaskSlot)
        .where(TaskSlot.id == slot_id)
        .values(**values, version=TaskSlot.version + 1)
        .execution_options(synchronize_session=False)
    )


def _write_task(session: Session, task_id: UUID, state: str) -> None:
    session.execute(
        update(Task)
        .where(Task.id == task_id)
        .values(state=state, version=Task.version + 1)
        .execution_options(synchronize_session=False)
    )
