"""Reads of whom projects take, and of the step that a task is at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from sqlalchemy import exists, select
from sqlalchemy.orm import Session, aliased

from market.eligibility.models import Eligibility, Widening, WideningStep
from market.eligibility.rules import EligibilityNotFound
from market.language import Expression, from_json


@dataclass(frozen=True, slots=True)
class ReadStep:
    """A step as it was stored: whom it takes, its seconds, and what it makes its tasks worth."""

    expression: Expression
    after_s: int | None
    priority: float


def eligibilities_of(session: Session, project_ids: Sequence[UUID]) -> dict[UUID, Eligibility]:
    """The newest eligibility of each of some projects; a project without one is absent."""
    later = aliased(Eligibility)
    newer = exists().where(
        later.project_id == Eligibility.project_id, later.version > Eligibility.version
    )
    rows = session.scalars(
        select(Eligibility)
        .where(Eligibility.project_id.in_(project_ids), ~newer)
        .order_by(Eligibility.project_id)
    )
    return {row.project_id: row for row in rows}


def eligibility_of(session: Session, project_id: UUID) -> Eligibility:
    """The newest eligibility of a project.

    Raises:
        EligibilityNotFound.
    """
    found = eligibilities_of(session, [project_id]).get(project_id)
    if found is None:
        raise EligibilityNotFound()
    return found


def steps_of(found: Eligibility) -> list[ReadStep]:
    """The steps of an eligibility, in their order."""
    stored = cast(list[dict[str, object]], found.steps["steps"])
    return [
        ReadStep(
            from_json(one["expression"]),
            cast(int | None, one["after_s"]),
            # Steps that were stored before they had one are worth what their tasks are.
            cast(float, one.get("priority", 1.0)),
        )
        for one in stored
    ]


def widening_of(session: Session, task_id: UUID, eligibility_id: UUID) -> Widening | None:
    """The timer of a task under an eligibility; None before it was first looked at."""
    found = session.get(Widening, task_id)
    return found if found is not None and found.eligibility_id == eligibility_id else None


def widening_steps(session: Session, task_id: UUID) -> list[WideningStep]:
    """The steps that a task came to, under whatever eligibility, in their order."""
    rows = select(WideningStep).where(WideningStep.task_id == task_id)
    return list(session.scalars(rows.order_by(WideningStep.at, WideningStep.id)))


def projects_with_timers(session: Session) -> list[UUID]:
    """The projects that have an eligibility."""
    rows = select(Eligibility.project_id).distinct().order_by(Eligibility.project_id)
    return list(session.scalars(rows))
