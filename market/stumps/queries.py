"""Reads of stumps with what proves them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from market.attempts.models import Attempt, AttemptResponse
from market.submissions.models import Submission
from market.tasks.models import Task
from market.verdicts.models import Verdict


def evidence(session: Session, attempt_ids: Sequence[UUID]) -> dict[UUID, list[AttemptResponse]]:
    """The samples of some attempts, each attempt's in their order."""
    found: dict[UUID, list[AttemptResponse]] = {attempt_id: [] for attempt_id in attempt_ids}
    statement = select(AttemptResponse).where(AttemptResponse.attempt_id.in_(attempt_ids))
    for row in session.scalars(statement.order_by(AttemptResponse.attempt_id, AttemptResponse.k)):
        found[row.attempt_id].append(row)
    return found


def stumps(project_id: UUID) -> Select[Submission, Verdict, Attempt, Task]:
    """The validated stumps of a project with what proves them, as a statement to page through."""
    return (
        select(Submission, Verdict, Attempt, Task)
        .join(Verdict, Verdict.submission_id == Submission.id)
        .join(Attempt, Attempt.id == Submission.attempt_id)
        .join(Task, Task.id == Submission.task_id)
        .where(Verdict.project_id == project_id, Verdict.is_stump)
    )
