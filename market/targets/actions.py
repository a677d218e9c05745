"""Setting service targets, and telling of each miss once."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.orm import Session

from market.db import Json, new_id
from market.events import Event, emit
from market.experts.rules import DomainInvalid, is_domain
from market.http import wire_ids
from market.projects.queries import project
from market.targets.models import ServiceTarget, TargetMiss
from market.targets.queries import accepted_answers, seen, targets
from market.targets.rules import (
    PROJECT_KINDS,
    QUEUE_KINDS,
    QUEUES,
    Goal,
    TargetNotFound,
    TargetUnfit,
    check_goal,
    said,
)


def set_project_targets(
    session: Session,
    project_id: UUID,
    goals: Sequence[Goal],
    *,
    at: datetime,
    actor_id: UUID | None = None,
) -> list[ServiceTarget]:
    """Put these targets in the place of those that a project has; what stays the same goes on.

    Raises:
        ProjectNotFound, TargetUnfit.
    """
    found = project(session, project_id, lock=True)
    if len({goal.kind for goal in goals}) != len(goals):
        raise TargetUnfit("targets", "one of each kind at most")
    before = {one.kind: one for one in targets(session, project_id=project_id)}
    kept: list[ServiceTarget] = []
    for goal in goals:
        old = before.get(goal.kind)
        if old is not None and (old.goal, old.due_at) == (goal.goal, goal.due_at):
            kept.append(before.pop(goal.kind))
            continue
        check_goal(goal, kinds=PROJECT_KINDS, at=at)
    _end(session, list(before.values()), at=at)
    done = accepted_answers(session, project_id, at=at)
    made = [
        ServiceTarget(
            kind=goal.kind,
            goal=goal.goal,
            set_at=at,
            organisation_id=found.organisation_id,
            project_id=project_id,
            due_at=goal.due_at,
            baseline=done if goal.kind == "volume" else 0,
            set_by=actor_id,
        )
        for goal in goals
        if goal.kind not in {one.kind for one in kept}
    ]
    session.add_all(made)
    session.flush()
    return sorted([*kept, *made], key=lambda one: PROJECT_KINDS.index(one.kind))


def set_queue_target(
    session: Session,
    queue: str,
    goal: Goal,
    *,
    domain: str | None,
    at: datetime,
    actor_id: UUID | None = None,
) -> ServiceTarget:
    """Want something of a queue, in a domain or in all, in the place of what was wanted before.

    Raises:
        TargetUnfit, DomainInvalid.
    """
    if queue not in QUEUES:
        raise TargetUnfit("queue", "one of " + ", ".join(QUEUES))
    if domain is not None and not is_domain(domain):
        raise DomainInvalid(domain)
    check_goal(goal, kinds=QUEUE_KINDS, at=at)
    # One after the other, so that two at once follow each other.
    session.execute(text("select pg_advisory_xact_lock(hashtext('queue targets'))"))
    before = [
        one
        for one in targets(session)
        if (one.queue, one.domain, one.kind) == (queue, domain, goal.kind)
    ]
    _end(session, before, at=at)
    made = ServiceTarget(
        kind=goal.kind, goal=goal.goal, set_at=at, queue=queue, domain=domain, set_by=actor_id
    )
    session.add(made)
    session.flush()
    return made


def end_target(session: Session, target_id: UUID, *, at: datetime) -> None:
    """Want nothing more of a queue here.

    Raises:
        TargetNotFound.
    """
    found = session.get(ServiceTarget, target_id, with_for_update=True, populate_existing=True)
    if found is None or found.ended_at is not None:
        raise TargetNotFound(target_id)
    _end(session, [found], at=at)


def watch_target(session: Session, target_id: UUID, *, at: datetime) -> TargetMiss | None:
    """Tell, once, that a target is missed; and note when it is met again. The new miss, if any.

    Runs as the platform.
    """
    target = session.get(ServiceTarget, target_id)
    if target is None or target.ended_at is not None:
        return None
    found = seen(session, target, at=at)
    if found.is_met:
        session.execute(
            update(TargetMiss)
            .where(TargetMiss.target_id == target_id, TargetMiss.met_at.is_(None))
            .values(met_at=at)
            .execution_options(synchronize_session=False)
        )
    if not found.is_missed or found.value is None:
        return None
    told = said(target.kind, found)
    miss_id: UUID | None = session.scalar(
        insert_or(TargetMiss)
        .values(
            id=new_id(),
            target_id=target_id,
            opened_at=at,
            value=found.value,
            told=told,
            organisation_id=target.organisation_id,
            project_id=target.project_id,
        )
        .on_conflict_do_nothing()
        .returning(TargetMiss.id)
    )
    if miss_id is None:
        return None
    data: Json = {
        "kind": target.kind,
        "reason": told,
        "project_id": wire_ids("prj", target.project_id),
        "queue": target.queue,
        "domain": target.domain,
    }
    emit(
        session,
        Event.QUALITY_ALERT,
        miss_id,
        at=at,
        organisation_id=target.organisation_id,
        data={name: value for name, value in data.items() if value is not None},
    )
    return session.scalars(select(TargetMiss).where(TargetMiss.id == miss_id)).one()


def _end(session: Session, rows: Sequence[ServiceTarget], *, at: datetime) -> None:
    for row in rows:
        row.ended_at = at
    session.flush()
