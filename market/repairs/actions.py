"""How skips are noted, tasks held for repair, and repairs ended."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.events import Event, StateChange, change_state, emit
from market.offers.queries import offer as any_offer
from market.offers.rules import OFFER, REASONS
from market.repairs.models import TaskRepair, TaskSkip
from market.repairs.queries import repair_of
from market.repairs.rules import (
    HELD_AT,
    MAX_CLARIFICATION,
    OF_THE_TASK,
    TASK_REPAIR,
    RepairUnfit,
)
from market.tasks.actions import move_task
from market.tasks.models import Task
from market.tasks.queries import task
from market.tasks.rules import OPEN


def note_skipped(session: Session, offer_id: UUID, *, at: datetime) -> TaskSkip | None:
    """Note why an expert declined an offer or gave its task back; none where it was not its doing.

    A reason that speaks of the task opens its repair, and so many of them hold the task. Noting a
    skip twice changes nothing.

    Raises:
        OfferNotFound.
    """
    said = session.execute(
        select(StateChange.reason_code, StateChange.note, StateChange.at)
        .where(
            StateChange.machine == OFFER.name,
            StateChange.subject_id == offer_id,
            StateChange.to_state.in_(("declined", "released")),
            StateChange.reason_code.in_(REASONS),
        )
        .order_by(StateChange.id.desc())
        .limit(1)
    ).one_or_none()
    if said is None:
        return None
    offer = any_offer(session, offer_id)
    # Locked before its repair, so that of two complaints at once the second counts the first.
    found = task(session, offer.task_id, lock=True)
    # Noted before its repair ended: told again, it opens no other.
    if session.get(TaskSkip, offer_id) is not None:
        return None
    repair_id = _open_repair(session, found, at=at) if said.reason_code in OF_THE_TASK else None
    made = session.scalar(
        insert(TaskSkip)
        .values(
            offer_id=offer.id,
            organisation_id=offer.organisation_id,
            task_id=offer.task_id,
            expert_id=offer.expert_id,
            reason=said.reason_code,
            note=said.note,
            at=said.at,
            repair_id=repair_id,
        )
        .on_conflict_do_nothing(index_elements=["offer_id"])
        .returning(TaskSkip)
    )
    if made is not None and repair_id is not None:
        _hold(session, repair_id, found, at=at)
    return made


def _open_repair(session: Session, found: Task, *, at: datetime) -> UUID:
    open_now = session.scalar(
        select(TaskRepair.id).where(TaskRepair.task_id == found.id, TaskRepair.state == "open")
    )
    if open_now is not None:
        return open_now
    made = TaskRepair(
        organisation_id=found.organisation_id,
        project_id=found.project_id,
        task_id=found.id,
        opened_at=at,
    )
    session.add(made)
    session.flush()
    emit(
        session,
        Event.TASK_REPAIR_OPENED,
        made.id,
        at=at,
        organisation_id=found.organisation_id,
        data={"task_id": str(found.id)},
    )
    return made.id


def _hold(session: Session, repair_id: UUID, found: Task, *, at: datetime) -> None:
    said = session.scalar(select(func.count()).where(TaskSkip.repair_id == repair_id)) or 0
    if said < HELD_AT or found.state not in OPEN:
        return
    row = repair_of(session, repair_id, locked=True)
    move_task(session, found.id, "hold", at=at, reason_code="task_repair")
    row.holds_task = True


def end_repair(
    session: Session,
    repair_id: UUID,
    *,
    was_wrong: bool,
    note: str,
    at: datetime,
    actor_id: UUID | None = None,
) -> TaskRepair:
    """Say that a task was put right, or that nothing was wrong; if it was held for it, offers go
    on. What was put right stands beside the task from now on.

    Raises:
        RepairNotFound, RepairUnfit, StateConflict.
    """
    action = "repair" if was_wrong else "close"
    said = note.strip()
    if not 1 <= len(said) <= MAX_CLARIFICATION:
        raise RepairUnfit()
    found = task(session, repair_of(session, repair_id).task_id, lock=True)
    row = repair_of(session, repair_id, locked=True)
    TASK_REPAIR.target(row.state, action)
    row.note, row.ended_at, row.ended_by = said, at, actor_id
    change_state(
        session,
        TASK_REPAIR,
        row,
        action,
        at=at,
        event=Event.TASK_REPAIR_ENDED,
        organisation_id=row.organisation_id,
        actor_id=actor_id,
    )
    if was_wrong:
        found.clarification = said
    # Whoever held or ended the task meanwhile meant something of its own.
    if row.holds_task and found.state == "held":
        move_task(session, found.id, "release", at=at, actor_id=actor_id, reason_code="task_repair")
    session.flush()
    return row
