"""Reads of snapshots."""

from uuid import UUID

from sqlalchemy import ARRAY, Select, Uuid, func, select
from sqlalchemy.orm import Session

from market.fixes.models import SubmissionFix
from market.reviews.models import Review
from market.snapshots.models import Snapshot, SnapshotAnswer
from market.snapshots.rules import SnapshotNotFound
from market.submissions.models import Submission
from market.tasks.models import Task


def snapshots(project_id: UUID) -> Select[Snapshot]:
    """A project's snapshots, as a statement to page through."""
    return select(Snapshot).where(Snapshot.project_id == project_id)


def snapshot(session: Session, snapshot_id: UUID) -> Snapshot:
    """One snapshot.

    Raises:
        SnapshotNotFound.
    """
    found = session.scalar(select(Snapshot).where(Snapshot.id == snapshot_id))
    if found is None:
        raise SnapshotNotFound(snapshot_id)
    return found


def answers_of(
    snapshot_id: UUID,
) -> Select[Submission, SnapshotAnswer, Task, SubmissionFix | None, list[UUID]]:
    """The answers of a snapshot with their work, their tasks, the fixes that they carry and who
    reviewed them, as a statement to page through.
    """
    reviewers = (
        select(Review.reviewer_id)
        .where(Review.submission_id == Submission.id, Review.verdict.is_not(None))
        .where(Review.state != "recused")
        .order_by(Review.round, Review.number)
        .correlate(Submission)
        .scalar_subquery()
    )
    return (
        select(
            Submission,
            SnapshotAnswer,
            Task,
            SubmissionFix,
            func.array(reviewers, type_=ARRAY(Uuid)),
        )
        .join(SnapshotAnswer, SnapshotAnswer.submission_id == Submission.id)
        .join(Task, Task.id == Submission.task_id)
        .outerjoin(SubmissionFix, SubmissionFix.id == SnapshotAnswer.fix_id)
        .where(SnapshotAnswer.snapshot_id == snapshot_id)
    )
