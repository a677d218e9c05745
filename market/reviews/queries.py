"""Reads of reviews and of their queue."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, exists, or_, select
from sqlalchemy.orm import Session, aliased

from market.db import Json
from market.filters import narrowed
from market.people.models import Membership
from market.people.queries import in_conflict
from market.qualifications.queries import is_qualified_for
from market.reviews.models import Review
from market.reviews.rules import ReviewNotFound
from market.submissions.models import Submission
from market.tasks.models import Task

ANSWERS = ("awaiting_review", "in_review", "accepted", "partially_accepted")
"""States of a submission that is one of its task's answers, or may become one."""


def review(session: Session, review_id: UUID) -> Review:
    """The review with this id, if the caller may see it.

    Raises:
        ReviewNotFound.
    """
    found = session.scalar(select(Review).where(Review.id == review_id))
    if found is None:
        raise ReviewNotFound(review_id)
    return found


def answers_beside(session: Session, seen: Review) -> list[Json]:
    """What others answered to the same task, for the senior alone who settles a split over one of
    the answers; whose they are is not told. Runs as the platform.
    """
    if seen.kind != "adjudication":
        return []
    judged = select(Submission.task_id).where(Submission.id == seen.submission_id)
    return list(
        session.scalars(
            select(Submission.payload)
            .where(
                Submission.task_id == judged.scalar_subquery(),
                Submission.id != seen.submission_id,
                Submission.state.in_(ANSWERS),
            )
            .order_by(Submission.id)
        )
    )


def reviews(*, state: str | None = None, submission_id: UUID | None = None) -> Select[Review]:
    """Reviews that the caller may see, as a statement to page through."""
    return narrowed(select(Review), (Review.state, state), (Review.submission_id, submission_id))


def claimable(reviewer_id: UUID, *, at: datetime) -> Select[Review]:
    """Reviews that wait and that this person may take: of nobody that it is tied to, nobody's
    twice, none that is kept for another, and at the first level unless it is qualified for more.
    """
    mine = aliased(Review)
    return select(Review).where(
        Review.state == "queued",
        Review.expert_id != reviewer_id,
        or_(
            Review.reserved_for.is_(None),
            Review.reserved_for == reviewer_id,
            Review.reserved_until <= at,
        ),
        ~exists().where(
            mine.submission_id == Review.submission_id,
            mine.round == Review.round,
            mine.reviewer_id == reviewer_id,
        ),
        or_(Review.level == 1, is_qualified_for(reviewer_id, Review.level)),
        # Last, since it is asked for each row.
        ~in_conflict(reviewer_id, Review.expert_id),
    )


def reviewers(session: Session) -> list[UUID]:
    """Everybody who reviews."""
    playing = (Membership.part == "reviewer", Membership.ended_at.is_(None))
    return list(session.scalars(select(Membership.person_id).where(*playing)))


def held_in_conflict(session: Session, person_id: UUID) -> list[UUID]:
    """Undecided reviews between a person, as reviewer or as author, and somebody it is tied to."""
    return list(
        session.scalars(
            select(Review.id)
            .where(
                or_(Review.reviewer_id == person_id, Review.expert_id == person_id),
                Review.state.in_(("claimed", "in_progress", "voted")),
                in_conflict(Review.reviewer_id, Review.expert_id),
            )
            .order_by(Review.id)
        )
    )


def task_of(session: Session, handed: Submission) -> Task:
    """The task that was worked on, for whoever may see its submission."""
    return session.get_one(Task, handed.task_id)
