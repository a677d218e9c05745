"""Reads of what kept plans have to know: as it stands now, whatever happened in between."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, func, select, text
from sqlalchemy.orm import Session

from market.explanations.rules import Ids
from market.offers.models import Offer
from market.plans.models import KeptPlanRow, PlanChange, PlanStep

_SEATS = text(
    """
    select t.id, t.project_id, (p.state = 'live' and t.state in ('queued', 'active')) as is_open,
        (select count(*) from market.task_slot s where s.task_id = t.id and s.state = 'open')
            as seats
    from market.task t join market.project p on p.id = t.project_id
    where t.id = any(:tasks)
    """
).bindparams(bindparam("tasks", type_=ARRAY(Uuid())))

_PROJECTS = text("select id, project_id from market.task where id = any(:tasks)").bindparams(
    bindparam("tasks", type_=ARRAY(Uuid()))
)


@dataclass(frozen=True, slots=True)
class TaskNow:
    """A task as it stands: whose it is, and how many seats of it can be offered."""

    project_id: UUID
    seats: int


def open_plans(session: Session) -> list[KeptPlanRow]:
    """The plans that are kept, the oldest first."""
    rows = select(KeptPlanRow).where(KeptPlanRow.closed_at.is_(None))
    return list(session.scalars(rows.order_by(KeptPlanRow.opened_at, KeptPlanRow.run_id)))


def steps_of(session: Session, run_id: UUID) -> list[PlanStep]:
    """The steps of a plan, in their order."""
    rows = select(PlanStep).where(PlanStep.run_id == run_id)
    return list(session.scalars(rows.order_by(PlanStep.number)))


def waiting_changes(session: Session, *, limit: int) -> list[PlanChange]:
    """What has not been answered yet, the oldest first; the keeper alone answers."""
    return list(session.scalars(select(PlanChange).order_by(PlanChange.id).limit(limit)))


def tasks_now(session: Session, task_ids: Sequence[UUID]) -> dict[UUID, TaskNow]:
    """How tasks stand."""
    rows = session.execute(_SEATS, {"tasks": list(task_ids)})
    return {row.id: TaskNow(row.project_id, int(row.seats) if row.is_open else 0) for row in rows}


def standing_offers(
    session: Session, pairs: Sequence[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], str]:
    """The state of the newest offer of each pair of task and expert that ever had one."""
    rows = session.execute(
        select(Offer.task_id, Offer.expert_id, Offer.state)
        .where(
            Offer.task_id.in_({task for task, _ in pairs}),
            Offer.expert_id.in_({expert for _, expert in pairs}),
        )
        .order_by(Offer.id)
    )
    return {(row.task_id, row.expert_id): row.state for row in rows}


def given_up(session: Session, project_id: UUID | None, *, since: datetime) -> int:
    """How many plans of a scope were lost since then."""
    rows = select(func.count()).where(
        KeptPlanRow.project_id.is_not_distinct_from(project_id),
        KeptPlanRow.given_up.is_not(None),
        KeptPlanRow.closed_at >= since,
    )
    return session.scalar(rows) or 0


def new_tasks(session: Session, project_id: UUID, *, limit: int) -> list[UUID]:
    """Tasks of a project that have an open seat, some at most."""
    rows = session.scalars(
        text(
            "select distinct t.id from market.task t join market.task_slot s on s.task_id = t.id"
            " where t.project_id = :project and t.state in ('queued', 'active')"
            " and s.state = 'open' order by t.id limit :limit"
        ).columns(id=Uuid()),
        {"project": project_id, "limit": limit},
    )
    return list(rows)


def imported_subjects(session: Session, import_id: UUID, *, limit: int) -> list[tuple[str, UUID]]:
    """Tasks or experts that came with an import, some at most, with their kind."""
    rows = session.execute(
        text(
            "(select 'task' as kind, id from market.task where import_id = :import limit :limit)"
            " union all (select 'expert', id from market.expert where source = :source limit"
            " :limit)"
        ).columns(id=Uuid()),
        {"import": import_id, "source": f"imp_{import_id.hex}", "limit": limit},
    )
    return [(row.kind, row.id) for row in rows]


def projects_of(session: Session, task_ids: Ids) -> list[UUID]:
    """The project of each of some tasks."""
    ids = [UUID(bytes=row.tobytes()) for row in task_ids]
    rows = session.execute(_PROJECTS, {"tasks": ids})
    found = {row.id: row.project_id for row in rows}
    return [found[one] for one in ids]
