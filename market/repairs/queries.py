"""Reads of skips and repairs."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from market.filters import narrowed
from market.offers.rules import REASONS
from market.repairs.models import TaskRepair, TaskSkip
from market.repairs.rules import BUDGET, BUDGET_SPAN, RepairNotFound, frees_at, is_counted
from market.tasks.models import Task

COUNTED = tuple(one for one in REASONS if is_counted(one))


@dataclass(frozen=True, slots=True)
class SkipBudget:
    """How often an expert skipped of late; `frees_at` is when there is one more, if any is used."""

    budget: int
    days: int
    used: int
    frees_at: datetime | None

    @property
    def left(self) -> int:
        """Skips that nobody asks about; never below nought, since skipping stays free."""
        return max(0, self.budget - self.used)


def repair_of(session: Session, repair_id: UUID, *, locked: bool = False) -> TaskRepair:
    """The repair with this id, if the caller may see it.

    Raises:
        RepairNotFound.
    """
    wanted = select(TaskRepair).where(TaskRepair.id == repair_id)
    if locked:
        wanted = wanted.with_for_update().execution_options(populate_existing=True)
    found = session.scalar(wanted)
    if found is None:
        raise RepairNotFound(repair_id)
    return found


def repairs(
    *, project_id: UUID | None = None, state: str | None = None
) -> Select[TaskRepair, Task]:
    """Repairs that the caller may see with their tasks, as a statement to page through."""
    return narrowed(
        select(TaskRepair, Task).join(Task, Task.id == TaskRepair.task_id),
        (TaskRepair.project_id, project_id),
        (TaskRepair.state, state),
    )


def reasons_of(session: Session, task_ids: Collection[UUID]) -> Mapping[UUID, Mapping[str, int]]:
    """How often tasks were skipped, by reason, the most frequent first."""
    rows = session.execute(
        select(TaskSkip.task_id, TaskSkip.reason, func.count())
        .where(TaskSkip.task_id.in_(task_ids))
        .group_by(TaskSkip.task_id, TaskSkip.reason)
        .order_by(func.count().desc(), TaskSkip.reason)
    )
    found: dict[UUID, dict[str, int]] = {}
    for task_id, reason, count in rows:
        found.setdefault(task_id, {})[reason] = count
    return found


def complaints(session: Session, repair_ids: Collection[UUID]) -> Mapping[UUID, list[TaskSkip]]:
    """What experts said that led to repairs, the first first; who said it is no lab's to read."""
    found: dict[UUID, list[TaskSkip]] = {}
    wanted = select(TaskSkip).where(TaskSkip.repair_id.in_(repair_ids)).order_by(TaskSkip.at)
    for one in session.scalars(wanted):
        found.setdefault(one.repair_id or one.offer_id, []).append(one)
    return found


def skip_budget(session: Session, expert_id: UUID, *, at: datetime) -> SkipBudget:
    """How much of its skip budget an expert has used in the last days."""
    rows = session.execute(
        select(TaskSkip.reason, TaskSkip.at).where(
            TaskSkip.expert_id == expert_id, TaskSkip.at > at - BUDGET_SPAN, TaskSkip.at <= at
        )
    ).all()
    counted = [row.at for row in rows if is_counted(row.reason)]
    return SkipBudget(BUDGET, BUDGET_SPAN.days, len(counted), frees_at(counted))


def over_budget(session: Session, *, at: datetime, limit: int) -> list[tuple[UUID, int]]:
    """Experts who skipped more than nobody asks about, and how often, the most often first."""
    counted = func.count()
    rows = session.execute(
        select(TaskSkip.expert_id, counted)
        .where(TaskSkip.at > at - BUDGET_SPAN, TaskSkip.at <= at, TaskSkip.reason.in_(COUNTED))
        .group_by(TaskSkip.expert_id)
        .having(counted > BUDGET)
        .order_by(counted.desc(), TaskSkip.expert_id)
        .limit(limit)
    )
    return [(expert_id, count) for expert_id, count in rows]
