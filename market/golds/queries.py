"""Reads of gold and of what came of checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Select, exists, func, select
from sqlalchemy.orm import Session

from market.fixes.models import SubmissionFix
from market.fixes.queries import stands_for
from market.golds.models import Gold, GoldCheck
from market.golds.rules import GoldNotFound
from market.submissions.models import Submission
from market.tasks.models import Task
from market.verdicts.models import Verdict
from market.verdicts.rules import Share, wilson


@dataclass(frozen=True, slots=True)
class Checked:
    """How an expert did on the checks of a project."""

    expert_id: UUID
    put: int
    right: Share


def gold(session: Session, gold_id: UUID, *, lock: bool = False) -> Gold:
    """The gold task with this id, if the caller may see it.

    Raises:
        GoldNotFound.
    """
    found = session.get(Gold, gold_id, with_for_update=lock or None, populate_existing=lock)
    if found is None:
        raise GoldNotFound(gold_id)
    return found


def golds(project_id: UUID) -> Select[Gold]:
    """The gold of a project, as a statement to page through."""
    return select(Gold).where(Gold.project_id == project_id)


def gold_candidates(project_id: UUID) -> Select[Submission, Task, SubmissionFix | None]:
    """Work whose answer a senior settled, as a statement to page through: with its task, and the
    fix that stands in its place, if any.

    Not of a task that is gold already, or that people cannot resolve; nor of a check.
    """
    return (
        select(Submission, Task, SubmissionFix)
        .join(Verdict, Verdict.submission_id == Submission.id)
        .join(Task, Task.id == Submission.task_id)
        .outerjoin(SubmissionFix, stands_for(Submission.id))
        .where(
            Submission.project_id == project_id,
            Submission.state == "accepted",
            Verdict.basis == "adjudication",
            Verdict.share == 100,
            Task.state != "unresolvable",
            ~exists().where(GoldCheck.task_id == Task.id),
            ~exists().where(
                Gold.project_id == Task.project_id, Gold.external_id == Task.external_id
            ),
        )
    )


def graded(session: Session, gold_ids: Sequence[UUID]) -> dict[UUID, Share]:
    """Of each gold task, how many answers to it were right."""
    rows = session.execute(
        select(
            GoldCheck.gold_id,
            func.count(GoldCheck.is_right),
            func.count().filter(GoldCheck.is_right.is_(True)),
        )
        .where(GoldCheck.gold_id.in_(gold_ids))
        .group_by(GoldCheck.gold_id)
    )
    found = {gold_id: wilson(right, whole) for gold_id, whole, right in rows}
    return {gold_id: found.get(gold_id, wilson(0, 0)) for gold_id in gold_ids}


def record_of(session: Session, expert_id: UUID) -> tuple[int, int]:
    """How many checks an expert answered rightly, and how many wrongly."""
    row = session.execute(
        select(
            func.count().filter(GoldCheck.is_right.is_(True)),
            func.count().filter(GoldCheck.is_right.is_(False)),
        ).where(GoldCheck.expert_id == expert_id)
    ).one()
    return int(row[0]), int(row[1])


def people_checked(session: Session, project_id: UUID) -> list[Checked]:
    """How each expert did on the checks of a project, whoever was put the most first."""
    rows = session.execute(
        select(
            GoldCheck.expert_id,
            func.count(),
            func.count(GoldCheck.is_right),
            func.count().filter(GoldCheck.is_right.is_(True)),
        )
        .where(GoldCheck.project_id == project_id)
        .group_by(GoldCheck.expert_id)
        .order_by(func.count().desc(), GoldCheck.expert_id)
    )
    return [Checked(who, put, wilson(right, whole)) for who, put, whole, right in rows]
