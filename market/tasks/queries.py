"""Reads about tasks, their slots, the interest in them, and imports."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Row, Select, Uuid, bindparam, exists, func, select, text
from sqlalchemy.orm import Session

from market.db import Scope, database
from market.experts.models import Expert, ExpertDomain
from market.experts.rules import DOMAINS_MEET, LIMITED, WORKING
from market.imports import BulkImport, ImportNotFound
from market.projects.models import Project
from market.tasks.models import Interest, Task, TaskSlot
from market.tasks.rules import OFFERABLE, OPEN, TaskNotFound

LATEST = 20_000
"""Tasks of a project, the latest, of which it is said what its levels are made of."""

_RUNGS = text(
    """
    with task as (
        select complexity, expected_s, payload -> 'complexity_axes' as axes
        from market.task where project_id = :project and state <> 'cancelled'
        order by id desc limit :limit
    ), measured as (
        select complexity, expected_s, axes,
            case when jsonb_typeof(axes -> 'horizon_h') = 'number'
                then (axes ->> 'horizon_h')::float8 else expected_s / 3600.0 end as horizon_h,
            case when jsonb_typeof(axes -> 'tools') = 'number'
                then (axes ->> 'tools')::float8 end as tools,
            case when jsonb_typeof(axes -> 'steps') = 'number'
                then (axes ->> 'steps')::float8 end as steps
        from task
    ), named as (
        select complexity, axis, array_agg(distinct name order by name) as names
        from task, unnest(array['modalities', 'crosses']) axis,
            jsonb_array_elements_text(
                case when jsonb_typeof(axes -> axis) = 'array' then axes -> axis else '[]' end
            ) name
        group by complexity, axis
    )
    select m.complexity, count(*) as tasks, count(m.axes) as described,
        percentile_cont(0.5) within group (order by m.horizon_h) as horizon_h,
        max(m.horizon_h) as longest_h,
        percentile_cont(0.5) within group (order by m.tools) as tools,
        percentile_cont(0.5) within group (order by m.steps) as steps,
        coalesce((select names from named n
            where n.complexity = m.complexity and n.axis = 'modalities'), '{}') as modalities,
        coalesce((select names from named n
            where n.complexity = m.complexity and n.axis = 'crosses'), '{}') as crosses
    from measured m group by m.complexity order by m.complexity
    """
).bindparams(bindparam("project", type_=Uuid()))

VERDICTS_AT_ONCE = 5_000
"""How many verdicts one transaction reads, so that no reader holds one open for long."""


@dataclass(frozen=True, slots=True)
class Rung:
    """What the tasks of one complexity are made of, in a project; None where nothing was said.

    Units: horizon_h, the median, and longest_h hours; tools and steps medians; modalities and
        crosses whatever any of them names.
    """

    complexity: int
    tasks: int
    described: int
    horizon_h: float
    longest_h: float
    tools: float | None
    steps: float | None
    modalities: list[str]
    crosses: list[str]


_VERDICTS = text(
    """
    select line, 'created' as verdict, external_id, task_id,
        null as code, null as pointer, null as detail
    from (
        select import_line as line, external_id, id as task_id
        from market.task where import_id = :import and import_line > :after
        order by import_line limit :limit
    ) taken
    union all
    select line, verdict, external_id, null, code, pointer, detail
    from (
        select * from market.import_row where import_id = :import and line > :after
        order by line limit :limit
    ) judged
    order by line limit :limit
    """
)


_CONTESTED = text(
    """
    select exists (
        select from market.submission where project_id = :project_id and state = 'appealed'
    ) or exists (
        select from market.dispute where project_id = :project_id
            and state not in ('final', 'withdrawn')
    )
    """
)


def rungs(session: Session, project_id: UUID) -> list[Rung]:
    """What each complexity of a project means, by the latest of its tasks; the lowest first."""
    rows = session.execute(_RUNGS, {"project": project_id, "limit": LATEST})
    return [Rung(*row) for row in rows]


def task(session: Session, task_id: UUID, *, lock: bool = False) -> Task:
    """The task with this id; locked, when it is about to be changed.

    Raises:
        TaskNotFound.
    """
    found = session.get(Task, task_id, with_for_update=lock or None, populate_existing=lock)
    if found is None:
        raise TaskNotFound(task_id)
    return found


def tasks_of(project_id: UUID, state: str | None = None) -> Select[Task]:
    """The tasks of a project, or those in a state, as a statement to page through."""
    statement = select(Task).where(Task.project_id == project_id)
    return statement if state is None else statement.where(Task.state == state)


def slot_counts(session: Session, task_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    """How many slots of each of some tasks are in which state."""
    found: dict[UUID, dict[str, int]] = {task_id: {} for task_id in task_ids}
    rows = session.execute(
        select(TaskSlot.task_id, TaskSlot.state, func.count())
        .where(TaskSlot.task_id.in_(task_ids))
        .group_by(TaskSlot.task_id, TaskSlot.state)
    )
    for task_id, state, count in rows:
        found[task_id][state] = count
    return found


def tasks_open_to(expert_id: UUID) -> Select[Task, Project, float | None]:
    """Tasks that an expert could be offered, with their projects and the interest it stated.

    They have an open slot, their project is live, and the expert knows their domain well enough.
    """
    met = text(DOMAINS_MEET.format(one="market.expert_domain.domain", other="market.task.domain"))
    known = exists().where(
        ExpertDomain.expert_id == expert_id,
        (Project.minimum_level == "claimed") | (ExpertDomain.level == "qualified"),
        met,
    )
    limited = LIMITED.format(expert="market.expert.id", domain="market.task.domain")
    works = exists().where(
        Expert.id == expert_id, Expert.state.in_(WORKING), text(f"not {limited}")
    )
    is_free = exists().where(TaskSlot.task_id == Task.id, TaskSlot.state == "open")
    # A check is for the one expert that it is put to, and looks to that one as any other task.
    anothers = text(
        "not exists (select from market.gold_check c where c.task_id = market.task.id"
        " and c.expert_id <> :checked)"
    ).bindparams(bindparam("checked", expert_id, Uuid()))
    return (
        select(Task, Project, Interest.value)
        .join(Project, Project.id == Task.project_id)
        .outerjoin(Interest, (Interest.task_id == Task.id) & (Interest.expert_id == expert_id))
        .where(Project.state == "live", Task.state.in_(OFFERABLE), is_free, known, works, anothers)
    )


def unresolved_tasks(session: Session, project_id: UUID) -> list[UUID]:
    """The tasks of a project that something can still come of."""
    wanted = select(Task.id).where(Task.project_id == project_id, Task.state.in_((*OPEN, "held")))
    return list(session.scalars(wanted.order_by(Task.id)))


def has_work_under_way(session: Session, project_id: UUID) -> bool:
    """Whether an offer of a project is still out or being worked on."""
    return _has_slots(session, project_id, ("offered", "claimed"))


def has_decisions_due(session: Session, project_id: UUID) -> bool:
    """Whether anything that was handed in for a project, or an hour of it, is still to be decided.

    What a dispute or its appeal gives an expert is paid from the project's budget.
    """
    undecided = exists().where(
        Task.project_id == project_id, Task.state.in_(("in_review", "disputed"))
    )
    return _has_slots(session, project_id, ("submitted",)) or bool(
        session.scalar(select(undecided))
        # In the words of the database, since work and what is contested of it come after tasks.
        or session.scalar(_CONTESTED, {"project_id": project_id})
    )


def _has_slots(session: Session, project_id: UUID, states: tuple[str, ...]) -> bool:
    slots = (
        exists()
        .where(TaskSlot.task_id == Task.id)
        .where(Task.project_id == project_id, TaskSlot.state.in_(states))
    )
    return bool(session.scalar(select(slots)))


def bulk_import(session: Session, import_id: UUID) -> BulkImport:
    """The import with this id.

    Raises:
        ImportNotFound.
    """
    found = session.get(BulkImport, import_id)
    if found is None:
        raise ImportNotFound(import_id)
    return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one row of an import."""

    line: int
    verdict: str
    external_id: str | None
    task_id: UUID | None
    code: str | None
    pointer: str | None
    detail: str | None


def verdicts(import_id: UUID, scope: Scope) -> Iterator[list[Verdict]]:
    """The verdicts on all rows of an import in the order of their lines, some thousands at a time.

    Each lot is read in a transaction of its own, as whoever asks.
    """
    after = 0
    while True:
        with database.begin(scope) as session:
            rows: Sequence[Row[int, str, str, UUID, str, str, str]] = session.execute(
                _VERDICTS, {"import": import_id, "after": after, "limit": VERDICTS_AT_ONCE}
            ).all()
        if not rows:
            return
        yield [Verdict(*row) for row in rows]
        after = rows[-1][0]
