"""What can be done about reviews before a vote: opening, claiming, stepping back.

Everything here runs as the platform, because a review moves its submission, which is no reviewer's
to write. Whoever changes the reviews of a submission holds that submission locked; locks are taken
in one order: submission, review.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.attempts.actions import begin_validation
from market.db import Json, new_id
from market.events import Changes, Event, EventRow, emit
from market.offers.models import Offer
from market.people.queries import in_conflict
from market.qualifications.queries import is_qualified_for
from market.review_plans.actions import draw_first
from market.reviews.models import Review
from market.reviews.queries import claimable
from market.reviews.rules import (
    CLAIM_S,
    HELD,
    RESERVED,
    REVIEW,
    SOON,
    WAITS_LONG,
    AlreadyReviewing,
    ConflictOfInterest,
    LevelTooLow,
    QueueEmpty,
    ReviewNotFound,
    ReviewTaken,
    SelfReview,
)
from market.submissions.models import Submission
from market.submissions.rules import SUBMISSION
from market.verdicts.actions import record_verdict
from market.verdicts.rules import Outcome


def open_reviews(session: Session, submission_id: UUID, *, at: datetime) -> int:
    """Put a submission before its reviewers; how many reviews were new. Safe to do twice.

    Work that the project's review plan spares, or that meets its checklist, is accepted here.
    """
    found = session.execute(
        # As many as its terms promised, whatever the project asks for by now.
        select(
            Submission,
            Offer.terms["reviews_per_submission"].as_integer(),
            Offer.terms["review_within_s"].as_integer(),
        )
        .join(Offer, Offer.id == Submission.offer_id)
        .where(Submission.id == submission_id)
        .with_for_update(of=Submission)
    ).one_or_none()
    if found is None or found[0].state not in ("awaiting_review", "in_review"):
        return 0
    row, wanted, within_s = found
    has_claim = row.attempt_id is not None and begin_validation(session, row.attempt_id, at=at)
    drawn = draw_first(session, row, wanted=wanted, has_claim=has_claim, at=at)
    if drawn is None:
        return 0
    plan, votes = drawn
    if votes == 0:
        changes = Changes(at)
        is_met = plan.authority == "checklist"
        spared = Outcome(
            action="auto_approve",
            share=100,
            votes=0,
            rejects=0,
            is_validated=False,
            is_fair=False,
            basis="checklist" if is_met else "sample",
            reason_code="checks_met" if is_met else "not_drawn",
        )
        record_verdict(session, row, spared, changes)
        changes.write(session)
        return 0
    # A majority first, where more are asked only as long as they can change anything.
    first = votes // 2 + 1 if plan.stop_early else votes
    due_at = (row.submitted_at or at) + timedelta(seconds=within_s)
    kept = _reviewers_before(session, row)
    rows = []
    for number in range(1, first + 1):
        one = _queued(row, number, at, has_attempt=has_claim, due_at=due_at)
        if number <= len(kept):
            one |= {"reserved_for": kept[number - 1], "reserved_until": at + RESERVED}
        rows.append(one)
    session.execute(insert(Review), rows)
    changes = Changes(at)
    for one in rows[: len(kept)]:
        changes.event(Event.REVIEW_ASKED, one["id"], row.organisation_id, one["reserved_for"])
    changes.write(session)
    return first


def claim_review(session: Session, review_id: UUID, *, reviewer_id: UUID, at: datetime) -> Review:
    """Take one review of the queue; claiming again what one holds changes nothing.

    Raises:
        ReviewNotFound, ReviewTaken, SelfReview, AlreadyReviewing, ConflictOfInterest, LevelTooLow.
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
    if row.reserved_for not in (None, reviewer_id) and (
        row.reserved_until is not None and row.reserved_until > at
    ):
        raise ReviewTaken("kept for another reviewer")
    theirs = exists().where(
        Review.submission_id == row.submission_id,
        Review.round == row.round,
        Review.reviewer_id == reviewer_id,
    )
    if session.scalar(select(theirs)):
        raise AlreadyReviewing()
    if session.scalar(select(in_conflict(reviewer_id, row.expert_id))):
        raise ConflictOfInterest()
    if row.level > 1 and not session.scalar(select(is_qualified_for(reviewer_id, row.level))):
        raise LevelTooLow(row.level)
    return _claim(session, row, submission.state, reviewer_id=reviewer_id, at=at)


def claim_next_review(session: Session, *, reviewer_id: UUID, at: datetime) -> Review:
    """Take the review that is needed most, of those that nobody else is taking at this moment.

    First what silence would decide soon, then what is kept for this reviewer; then whichever
    submission has the fewest reviews begun, so that none waits without any while others have all
    of theirs.

    Raises:
        QueueEmpty.
    """
    found = None
    orders = (
        claimable(reviewer_id, at=at).where(Review.due_at <= at + SOON).order_by(Review.due_at),
        claimable(reviewer_id, at=at)
        .where(Review.reserved_for == reviewer_id, Review.reserved_until > at)
        .order_by(Review.reserved_until),
        claimable(reviewer_id, at=at).order_by(Review.number, Review.id),
    )
    for wanted in orders:
        # Both rows in one statement that waits for nobody, so that no order of locks matters.
        found = session.execute(
            wanted.add_columns(Submission.state)
            .join(Submission, Submission.id == Review.submission_id)
            .limit(1)
            .with_for_update(of=[Review, Submission], skip_locked=True)
            .execution_options(populate_existing=True)
        ).one_or_none()
        if found is not None:
            return _claim(session, found[0], found[1], reviewer_id=reviewer_id, at=at)
    raise QueueEmpty()


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
    _recuse(session, row, "conflict", Changes(at, reviewer_id))
    return row


def recuse_conflicted(session: Session, review_id: UUID, *, at: datetime) -> bool:
    """Take a review from somebody who is tied to the author, be it voted on; whether it was so.

    What is decided is left to an appeal.
    """
    row = _locked(session, review_id)
    if row.reviewer_id is None or row.state not in (*HELD, "voted"):
        return False
    if not session.scalar(select(in_conflict(row.reviewer_id, row.expert_id))):
        return False
    _recuse(session, row, "conflict_found", Changes(at))
    return True


def requeue_reviews(session: Session, *, at: datetime, limit: int) -> int:
    """Put claims that ran out back into the queue; how many there were."""
    rows = session.execute(
        select(Review.id, Review.state, Review.organisation_id, Review.reviewer_id)
        .where(Review.state.in_(HELD), Review.expires_at <= at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if not rows:
        return 0
    changes = Changes(at)
    for review_id, state, organisation_id, reviewer_id in rows:
        told = changes.event(Event.REVIEW_EXPIRED, review_id, organisation_id, reviewer_id)
        expired = changes.move(
            REVIEW, review_id, state, "expire", event_id=told, reason_code="claim_time_over"
        )
        changes.move(REVIEW, review_id, expired, "requeue")
    which = Review.id.in_([row.id for row in rows])
    write_reviews(session, "expired", which)
    write_reviews(session, "queued", which, reviewer_id=None, claimed_at=None, expires_at=None)
    changes.write(session)
    return len(rows)


def tell_reviewer(session: Session, reviewer_id: UUID, *, at: datetime) -> bool:
    """Tell somebody who reviews of the work that has waited longest, of all that it may take;
    whether it was told. Of the same work nobody is told twice.
    """
    oldest = claimable(reviewer_id, at=at).where(Review.queued_at <= at - WAITS_LONG)
    row = session.scalar(oldest.order_by(Review.number, Review.id).limit(1))
    if row is None:
        return False
    was_told = exists().where(
        EventRow.subject_id == row.id,
        EventRow.person_id == reviewer_id,
        EventRow.type == Event.REVIEW_WAITING,
    )
    if session.scalar(select(was_told)):
        return False
    emit(
        session,
        Event.REVIEW_WAITING,
        row.id,
        at=at,
        organisation_id=row.organisation_id,
        person_id=reviewer_id,
    )
    return True


def _recuse(session: Session, row: Review, reason: str, changes: Changes) -> None:
    row.state = changes.move(REVIEW, row.id, row.state, "recuse", reason_code=reason)
    row.version += 1
    session.flush()
    submission = session.get_one(Submission, row.submission_id)
    add_review(session, submission, row.level, row.kind, changes.at, has_attempt=row.has_attempt)
    changes.write(session)


def add_review(
    session: Session,
    submission: Submission,
    level: int,
    kind: str,
    at: datetime,
    *,
    has_attempt: bool,
) -> None:
    """Ask for one more review of a submission; the caller holds the submission locked."""
    last, due_at = session.execute(
        select(func.coalesce(func.max(Review.number), 0), func.max(Review.due_at)).where(
            Review.submission_id == submission.id, Review.round == submission.round
        )
    ).one()
    fresh = _queued(submission, last + 1, at, has_attempt=has_attempt, due_at=due_at)
    session.execute(insert(Review), fresh | {"level": level, "kind": kind})


def _reviewers_before(session: Session, handed: Submission) -> list[UUID]:
    """Who looked at the round before, in the order of its reviews: they look at this one first."""
    if handed.round == 1:
        return []
    found = session.scalars(
        select(Review.reviewer_id)
        .where(
            Review.submission_id == handed.id,
            Review.round == handed.round - 1,
            Review.level == 1,
            Review.verdict.is_not(None),
            Review.state != "recused",
        )
        .order_by(Review.number)
    )
    return [one for one in found if one is not None]


def _queued(
    row: Submission, number: int, at: datetime, *, has_attempt: bool, due_at: datetime | None
) -> Json:
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
        "due_at": due_at,
        "kind": "vote",
        "level": 1,
        "reserved_for": None,
        "reserved_until": None,
        "state": "queued",
        "version": 1,
    }


def _locked(session: Session, review_id: UUID) -> Review:
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
    return row


def _held(session: Session, review_id: UUID, reviewer_id: UUID) -> Review:
    row = _locked(session, review_id)
    if row.reviewer_id != reviewer_id or row.state not in HELD:
        raise ReviewTaken(row.state)
    return row


def _claim(
    session: Session, row: Review, submission_state: str, *, reviewer_id: UUID, at: datetime
) -> Review:
    changes = Changes(at, reviewer_id)
    told = changes.event(Event.REVIEW_CLAIMED, row.id, row.organisation_id, reviewer_id)
    row.state = changes.move(REVIEW, row.id, row.state, "claim", event_id=told)
    row.reviewer_id = reviewer_id
    row.claimed_at = at
    row.expires_at = at + timedelta(seconds=CLAIM_S)
    row.version += 1
    try:
        session.flush()
    except IntegrityError as refused:
        if "conflict_of_interest" in str(refused.orig):
            raise ConflictOfInterest() from None
        # Another claim of the same person on the same submission came first.
        raise AlreadyReviewing() from None
    if row.kind == "adjudication":
        # A senior has taken the case on.
        taken = write_reviews(
            session,
            "adjudicating",
            Review.submission_id == row.submission_id,
            Review.round == row.round,
            Review.state == "conflict",
            Review.level == row.level - 1,
        )
        for review_id in taken:
            changes.move(REVIEW, review_id, "conflict", "assign_senior")
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


def write_reviews(
    session: Session, state: str, *which: ColumnElement[bool], **values: object
) -> Sequence[UUID]:
    """Put the reviews that a condition names into a state; the caller writes their history."""
    return session.scalars(
        update(Review)
        .where(*which)
        .values(state=state, **values, version=Review.version + 1)
        .returning(Review.id)
        .execution_options(synchronize_session=False)
    ).all()
