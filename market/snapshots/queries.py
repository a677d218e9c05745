"""Reads of snapshots."""

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

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


def answers_of(snapshot_id: UUID) -> Select[Submission, SnapshotAnswer, Task]:
    """The answers of a snapshot with their work and their tasks, as a statement to page through."""
    return (
        select(Submission, SnapshotAnswer, Task)
        .join(SnapshotAnswer, SnapshotAnswer.submission_id == Submission.id)
        .join(Task, Task.id == Submission.task_id)
        .where(SnapshotAnswer.snapshot_id == snapshot_id)
    )
