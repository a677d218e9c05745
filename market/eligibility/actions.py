"""How a project says whom it takes, and how its tasks come from one step to the next."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Uuid, text
from sqlalchemy.orm import Session

from market.db import new_id
from market.eligibility.models import Eligibility, Widening, WideningStep
from market.eligibility.queries import ReadStep, eligibilities_of, steps_of
from market.eligibility.rules import FIRST_STEP, Step, check_steps
from market.events import Event, emit
from market.expressions.queries import read_expression
from market.language import to_json
from market.projects.queries import project

AT_ONCE = 5_000
"""Tasks that one look at a project takes up; the next one comes soon."""

_UNTIMED = text(
    """
    select t.id from market.task t
    where t.project_id = :project and t.state in ('queued', 'active')
        and not exists (select from market.widening w
            where w.task_id = t.id and w.eligibility_id = :eligibility)
    order by t.id limit :most
    """
).columns(id=Uuid())

_OPEN = """
    exists (select from market.task t join market.project p on p.id = t.project_id
        where t.id = w.task_id and t.state in ('queued', 'active') and p.state = 'live')
    """

_STOP = """
    update market.widening w set due_at = null,
        left_s = greatest(ceil(extract(epoch from w.due_at - cast(:at as timestamptz))), 0)
    where w.project_id = :project and w.due_at is not null and not {is_open}
    """

_GO_ON = """
    update market.widening w set left_s = null,
        due_at = cast(:at as timestamptz) + make_interval(secs => w.left_s)
    where w.project_id = :project and w.left_s is not null and {is_open}
    """

_DUE = text(
    """
    select w.task_id as id, (select max(o.accepted_at) from market.offer o
        where o.task_id = w.task_id and o.accepted_at > w.since) as claimed_at
    from market.widening w
    where w.project_id = :project and w.eligibility_id = :eligibility and w.due_at <= :at
        and exists (select from market.task_slot s where s.task_id = w.task_id and s.state = 'open')
    order by w.due_at, w.task_id limit :most for update of w skip locked
    """
).columns(id=Uuid())


def set_eligibility(
    session: Session,
    project_id: UUID,
    steps: tuple[Step, ...],
    *,
    at: datetime,
    actor_id: UUID | None = None,
) -> Eligibility:
    """Say whom a project takes, from now on: its tasks begin at the first step again. Offers that
    were made before stay.

    Raises:
        ProjectNotFound, StepsInvalid, ExpressionInvalid, ExpressionTooLarge.
    """
    # Locked, so that of two changes at once each gets a version of its own.
    found = project(session, project_id, lock=True)
    check_steps(steps)
    read = [
        {
            "expression": to_json(read_expression(session, found.organisation_id, step.source)),
            "after_s": step.after_s,
            "priority": step.priority,
        }
        for step in steps
    ]
    before = eligibilities_of(session, [project_id]).get(project_id)
    made = Eligibility(
        organisation_id=found.organisation_id,
        project_id=project_id,
        version=1 if before is None else before.version + 1,
        steps={"steps": read},
        set_at=at,
        set_by=actor_id,
    )
    session.add(made)
    session.flush()
    _tell(session, made, {"version": made.version, "tasks": 0}, at, actor_id)
    return made


def widen_project(session: Session, project_id: UUID, *, at: datetime) -> int:
    """Bring the timers of a project's tasks to what is so now: start those that are new, stop those
    whose task cannot be claimed, and let the next step begin where nobody claimed in time; how many
    tasks came to a further step.

    A claim starts the time of its step anew. Runs as the platform; running it twice changes no
    more than running it once.
    """
    found = eligibilities_of(session, [project_id]).get(project_id)
    if found is None:
        return 0
    steps = steps_of(found)
    names = {"project": project_id, "at": at, "eligibility": found.id, "most": AT_ONCE}
    _start(session, found, steps, names, at)
    session.execute(text(_STOP.format(is_open=_OPEN)), names)
    session.execute(text(_GO_ON.format(is_open=_OPEN)), names)
    widened = 0
    for row in session.execute(_DUE, names).all():
        timer = session.get_one(Widening, row.id, populate_existing=True)
        wait = timedelta(seconds=steps[timer.step - 1].after_s or 0)
        if row.claimed_at is not None and row.claimed_at + wait > at:
            timer.due_at = row.claimed_at + wait
            continue
        timer.step += 1
        timer.since = at
        timer.due_at = _due(steps, timer.step, at)
        session.add(_came_to(timer, at))
        widened += 1
    session.flush()
    if widened:
        _tell(session, found, {"version": found.version, "tasks": widened}, at, None)
    return widened


def _start(
    session: Session,
    found: Eligibility,
    steps: list[ReadStep],
    names: dict[str, object],
    at: datetime,
) -> None:
    for task_id in session.scalars(_UNTIMED, names).all():
        timer = session.get(Widening, task_id) or Widening(
            task_id=task_id,
            organisation_id=found.organisation_id,
            project_id=found.project_id,
            eligibility_id=found.id,
            step=FIRST_STEP,
            since=at,
        )
        timer.eligibility_id, timer.step, timer.since = found.id, FIRST_STEP, at
        timer.due_at, timer.left_s = _due(steps, FIRST_STEP, at), None
        session.add_all((timer, _came_to(timer, at)))
    session.flush()


def _due(steps: list[ReadStep], step: int, at: datetime) -> datetime | None:
    after_s = steps[step - 1].after_s
    return None if after_s is None else at + timedelta(seconds=after_s)


def _came_to(timer: Widening, at: datetime) -> WideningStep:
    return WideningStep(
        id=new_id(),
        task_id=timer.task_id,
        organisation_id=timer.organisation_id,
        eligibility_id=timer.eligibility_id,
        step=timer.step,
        at=at,
    )


def _tell(
    session: Session, found: Eligibility, data: dict[str, object], at: datetime, actor: UUID | None
) -> None:
    emit(
        session,
        Event.ELIGIBILITY_CHANGED,
        found.project_id,
        at=at,
        organisation_id=found.organisation_id,
        actor_id=actor,
        data=data,
    )
