"""Reads of lift studies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ARRAY, Row, Select, Uuid, and_, any_, exists, func, literal, select
from sqlalchemy.orm import Session

from market.fixes.models import SubmissionFix
from market.fixes.queries import stands_for
from market.golds.models import GoldCheck
from market.lifts.models import LiftBatch, LiftEffect, LiftItem, LiftReport, LiftStudy
from market.lifts.rules import LiftStudyNotFound, lift_reason
from market.submissions.models import Submission
from market.tasks.models import Task
from market.verdicts.models import Verdict


def lift_study(session: Session, study_id: UUID, *, lock: bool = False) -> LiftStudy:
    """One study.

    Raises:
        LiftStudyNotFound.
    """
    found = session.get(LiftStudy, study_id, with_for_update=lock or None, populate_existing=lock)
    if found is None:
        raise LiftStudyNotFound(study_id)
    return found


def lift_studies(project_id: UUID) -> Select[LiftStudy]:
    """The studies of a project, as a statement to page through."""
    return select(LiftStudy).where(LiftStudy.project_id == project_id)


def delivered(
    session: Session, project_id: UUID, *, again: bool, limit: int
) -> Sequence[Row[UUID, UUID, str, UUID | None]]:
    """Accepted items of a project with their contributor, domain and the fix that stands, in the
    order of their ids; those that no study has had, unless told otherwise.
    """
    statement = (
        select(Verdict.submission_id, Verdict.expert_id, Task.domain, SubmissionFix.id)
        .join(Task, Task.id == Verdict.task_id)
        .outerjoin(SubmissionFix, stands_for(Verdict.submission_id))
        .where(Verdict.project_id == project_id, Verdict.is_accepted)
        .where(~exists().where(GoldCheck.task_id == Verdict.task_id))
        .order_by(Verdict.submission_id)
        .limit(limit)
    )
    if not again:
        had = select(LiftItem.submission_id).where(LiftItem.submission_id == Verdict.submission_id)
        statement = statement.where(~had.exists())
    return session.execute(statement).all()


def batches_of(session: Session, study_id: UUID) -> Sequence[LiftBatch]:
    """The batches of a study, by number."""
    return session.scalars(
        select(LiftBatch).where(LiftBatch.study_id == study_id).order_by(LiftBatch.number)
    ).all()


def lift_batch(session: Session, batch_id: UUID) -> LiftBatch:
    """One batch.

    Raises:
        LiftStudyNotFound.
    """
    found = session.get(LiftBatch, batch_id)
    if found is None:
        raise LiftStudyNotFound(batch_id)
    return found


def items_of(batch_id: UUID) -> Select[Submission, Task, SubmissionFix | None]:
    """The items of a batch with what they answer and the fix that each was dealt with, as a
    statement to page through.
    """
    return (
        select(Submission, Task, SubmissionFix)
        .join(LiftItem, LiftItem.submission_id == Submission.id)
        .join(Task, Task.id == Submission.task_id)
        .outerjoin(SubmissionFix, SubmissionFix.id == LiftItem.fix_id)
        .where(LiftItem.batch_id == batch_id)
    )


def latest_reports(session: Session, study_id: UUID) -> dict[UUID, LiftReport]:
    """What was reported last of each batch of which anything was."""
    rows = session.scalars(
        select(LiftReport)
        .join(LiftBatch, LiftBatch.id == LiftReport.batch_id)
        .where(LiftBatch.study_id == study_id)
        .order_by(LiftReport.batch_id, LiftReport.number)
    )
    return {row.batch_id: row for row in rows}


def dealt(session: Session, study_id: UUID) -> Sequence[Row[UUID, UUID, str, int]]:
    """How many items of each contributor and domain each batch of a study has."""
    return session.execute(
        select(LiftItem.batch_id, LiftItem.expert_id, LiftItem.domain, func.count())
        .where(LiftItem.study_id == study_id)
        .group_by(LiftItem.batch_id, LiftItem.expert_id, LiftItem.domain)
    ).all()


def effects_of(session: Session, study_id: UUID) -> Sequence[LiftEffect]:
    """What a study came to: domains first, then contributors, the greatest lift first."""
    return session.scalars(
        select(LiftEffect)
        .where(LiftEffect.study_id == study_id)
        .order_by(LiftEffect.expert_id.is_not(None), LiftEffect.relative.desc(), LiftEffect.id)
    ).all()


@dataclass(frozen=True, slots=True)
class Lift:
    """The lift of an item: its contributor's in the latest study that has one for it."""

    metric: str
    batches: int
    relative: float
    low: float
    high: float


def lift_words(lift: Lift | None) -> str | None:
    """Why the lift of an item is what it is; nothing where it was not measured."""
    if lift is None:
        return None
    return lift_reason(lift.metric, lift.relative, lift.low, lift.high, lift.batches)


def lifts_of(session: Session, submission_ids: Sequence[UUID]) -> Mapping[UUID, Lift]:
    """The lifts of those items that a lab measured."""
    rows = session.execute(
        select(LiftItem.submission_id, LiftStudy.metric, LiftEffect)
        .join(LiftStudy, LiftStudy.id == LiftItem.study_id)
        .join(
            LiftEffect,
            and_(
                LiftEffect.study_id == LiftItem.study_id,
                LiftEffect.expert_id == LiftItem.expert_id,
            ),
        )
        .where(LiftItem.submission_id == any_(literal(list(submission_ids), ARRAY(Uuid()))))
        .order_by(LiftItem.submission_id, LiftItem.study_id)
    )
    return {
        submission_id: Lift(metric, found.batches, found.relative, found.low, found.high)
        for submission_id, metric, found in rows
    }


def lifts_of_study(session: Session, study_id: UUID) -> dict[UUID, float]:
    """The relative lift of every item of a study, where a later study has none for it."""
    items = list(
        session.scalars(select(LiftItem.submission_id).where(LiftItem.study_id == study_id))
    )
    return {which: lift.relative for which, lift in lifts_of(session, items).items()}
