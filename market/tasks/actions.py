"""How tasks come in, move, and get the interest of experts."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import uuid_utils
from sqlalchemy import CursorResult, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.events import Event, change_state, emit
from market.experts.rules import domain_within, is_domain
from market.imports import (
    BulkImport,
    copied,
    copied_fault,
    copying,
    end_import,
    staging,
    start_import,
)
from market.projects.models import Project
from market.projects.queries import project
from market.projects.rules import FILLABLE, PROJECT
from market.states import StateConflict
from market.tasks.models import Interest, Task, TaskSlot
from market.tasks.queries import task, tasks_open_to
from market.tasks.rules import (
    ASKED,
    AXES,
    EVENTS,
    FILLED,
    INTEREST_ROWS,
    OPEN,
    RETIRED,
    SLOT,
    TASK,
    TASK_ROWS,
    InterestInvalid,
    InterestRow,
    TaskMoveUnasked,
    TaskNotFound,
    TaskRow,
    axes_wrong,
)
from market.uploads import Batch, Fault, Upload, has_nul, read_rows

_STAGED_TASK = """
    line bigint, external_id text, code text, pointer text, detail text, id uuid, domain text,
    payload jsonb, complexity smallint, expected_s bigint, value_weight double precision
"""

# A row that is there already is left as it is; the seats of new ones come in the same statement.
# A slot's id begins as its task's, so that both come in the order of time.
_TAKE_TASKS = """
    with made as (
        insert into market.task
            (id, organisation_id, project_id, external_id, domain, payload, expected_s,
            created_at, complexity, value_weight, state, import_id, import_line, version)
        select id, :organisation, :project, external_id, domain, payload, expected_s, :at,
            complexity, value_weight, :state, :import, line, 1
        from {staged} where code is null
        on conflict (project_id, external_id) do nothing
        returning id
    )
    insert into market.task_slot (id, organisation_id, task_id, number, state, version)
    select (left(made.id::text, 19) || substr(gen_random_uuid()::text, 20))::uuid, :organisation,
        made.id, number, 'open', 1
    from made cross join generate_series(1, :answers) number
"""

_JUDGE_TASKS = """
    insert into market.import_row
        (import_id, line, organisation_id, verdict, external_id, code, pointer, detail)
    select :import, line, :organisation,
        case when code is not null or is_again then 'rejected'
            when is_same then 'unchanged' else 'conflict' end,
        external_id,
        case when code is not null then code when is_again then 'duplicate_in_file'
            when is_same then null else 'content_differs' end,
        case when code is not null then pointer when is_again or not is_same then '/external_id'
            end,
        case when code is not null then detail
            when is_again then 'line ' || first_line || ' has this external_id too'
            when not is_same then 'a task with this external_id and other content is there already'
            end
    from (
        select s.line, s.external_id, s.code, s.pointer, s.detail,
            t.import_id = :import or row_number() over same_id > 1 as is_again,
            case when t.import_id = :import then t.import_line
                else min(s.line) over same_id end as first_line,
            (t.domain, t.payload, t.expected_s, t.complexity, t.value_weight)
                = (s.domain, s.payload, s.expected_s, s.complexity, s.value_weight) as is_same
        from {staged} s
        left join market.task t on s.code is null
            and t.project_id = :project and t.external_id = s.external_id
        where s.code is not null or t.id <> s.id
        window same_id as (partition by s.code is null, s.external_id order by s.line)
    ) judged
"""

_STAGED_INTEREST = """
    line bigint, external_id text, code text, pointer text, detail text, expert text,
    value double precision
"""

_TAKE_INTERESTS = """
    with known as (
        select s.line, s.value, e.id as expert_id, t.id as task_id,
            row_number() over (partition by e.id, t.id order by s.line) as place
        from {staged} s
        join market.task t on t.project_id = :project and t.external_id = s.external_id
        join market.person p on p.id = case when s.expert ~ '^per_[0-9a-f]{{32}}$'
            then substr(s.expert, 5)::uuid
            else (select id from market.person where lower(email) = lower(s.expert)) end
        join market.expert e on e.id = p.id
        where s.code is null
    ), made as (
        insert into market.interest
            (expert_id, task_id, organisation_id, project_id, value, stated_at, version)
        select expert_id, task_id, :organisation, :project, value, :at, 1
        from known where place = 1
        on conflict do nothing
        returning expert_id, task_id
    )
    insert into market.import_row
        (import_id, line, organisation_id, verdict, external_id, code, pointer, detail)
    select :import, s.line, :organisation,
        case when s.code is not null or known.line is null or known.place > 1 then 'rejected'
            when made.task_id is not null then 'created'
            when i.value = s.value then 'unchanged' else 'conflict' end,
        s.external_id,
        case when s.code is not null then s.code
            when known.line is null and t.id is null then 'task_unknown'
            when known.line is null then 'expert_unknown'
            when known.place > 1 then 'duplicate_in_file'
            when made.task_id is null and i.value <> s.value then 'content_differs' end,
        case when s.code is not null then s.pointer
            when known.line is null and t.id is null then '/task'
            when known.line is null or known.place > 1 then '/expert'
            when made.task_id is null and i.value <> s.value then '/value' end,
        case when s.code is not null then s.detail
            when known.line is null and t.id is null then 'the project has no such task'
            when known.line is null then 'there is no such expert'
            when known.place > 1 then 'another line before has this expert and task too'
            when made.task_id is null and i.value <> s.value
                then 'the expert has said ' || i.value || ' of this task already' end
    from {staged} s
    left join known on known.line = s.line
    left join made on made.expert_id = known.expert_id and made.task_id = known.task_id
    left join market.interest i on i.expert_id = known.expert_id and i.task_id = known.task_id
    left join market.task t on t.project_id = :project and t.external_id = s.external_id
"""


_RESEATING = text("select pg_advisory_xact_lock(hashtextextended('reseat:' || :task_id, 0))")


def import_tasks(
    session: Session,
    project_id: UUID,
    upload: Upload,
    *,
    now: Callable[[], datetime],
    publish: bool = True,
) -> BulkImport:
    """Take in the tasks of a file: each row that can be is a task, queued or in draft.

    A row whose external id is there with the same content changes nothing; with other content it
    is refused, and the task stays as it was.

    Raises:
        ProjectNotFound, StateConflict, ImportRunning, EncodingRefused, HeaderRefused,
        FileUnreadable.
    """
    found = _fillable(session, project_id)
    at = now()
    started = start_import(
        session,
        "tasks",
        upload,
        at=at,
        organisation_id=found.organisation_id,
        project_id=found.id,
    )
    values = {
        "organisation": found.organisation_id,
        "project": found.id,
        "import": started.id,
        "at": at,
        "state": "queued" if publish else "draft",
        "answers": found.answers_per_task,
    }
    with staging(session, started.id, _STAGED_TASK) as staged:
        rows = 0
        is_known: dict[str, bool] = {}
        columns = (
            "line, external_id, code, pointer, detail, id, domain, payload, complexity,"
            " expected_s, value_weight"
        )
        with copying(session, staged, columns) as copy:
            for batch in read_rows(upload, TASK_ROWS):
                rows += len(batch)
                copy.write(_copied_tasks(batch, found, is_known))
        taken = session.execute(text(_TAKE_TASKS.format(staged=staged)), values)
        created = _count(taken) // found.answers_per_task
        if created < rows:
            session.execute(text(_JUDGE_TASKS.format(staged=staged)), values)
    return _ended(session, started, rows=rows, created=created, at=now())


def import_interests(
    session: Session, project_id: UUID, upload: Upload, *, now: Callable[[], datetime]
) -> BulkImport:
    """Take in what experts say of a project's tasks; what an expert said before stays.

    The caller's transaction sees experts, who are nobody's rows but their own.

    Raises:
        ProjectNotFound, StateConflict, ImportRunning, EncodingRefused, HeaderRefused,
        FileUnreadable.
    """
    found = _fillable(session, project_id)
    at = now()
    started = start_import(
        session,
        "interests",
        upload,
        at=at,
        organisation_id=found.organisation_id,
        project_id=found.id,
    )
    values = {
        "organisation": found.organisation_id,
        "project": found.id,
        "import": started.id,
        "at": at,
    }
    with staging(session, started.id, _STAGED_INTEREST) as staged:
        rows = 0
        columns = "line, external_id, code, pointer, detail, expert, value"
        with copying(session, staged, columns) as copy:
            for batch in read_rows(upload, INTEREST_ROWS):
                rows += len(batch)
                copy.write(_copied_interests(batch))
        session.execute(text(_TAKE_INTERESTS.format(staged=staged)), values)
        created = session.scalar(
            text(
                "select count(*) from market.import_row"
                " where import_id = :import and verdict = 'created'"
            ),
            values,
        )
    return _ended(session, started, rows=rows, created=int(created or 0), at=now())


def move_task(
    session: Session,
    task_id: UUID,
    action: str,
    *,
    at: datetime,
    reason_code: str | None = None,
    note: str | None = None,
    actor_id: UUID | None = None,
) -> Task:
    """Take a move that a lab may ask for; what was promised to experts follows as a reaction.

    Raises:
        TaskNotFound, TaskMoveUnasked, StateConflict.
    """
    if action not in ASKED:
        raise TaskMoveUnasked(action)
    found = task(session, task_id, lock=True)
    wanted = action
    if action == "release":
        if found.held_from is None:
            raise StateConflict("task", found.state, action, set(ASKED) & TASK.allowed(found.state))
        wanted = f"release_to_{found.held_from}"
    target = TASK.target(found.state, wanted)
    if action == "confirm" and not _is_counted(session, found.id):
        raise StateConflict("task", found.state, action, set(ASKED) & TASK.allowed(found.state))
    found.held_from = found.state if action == "hold" else None
    change_state(
        session,
        TASK,
        found,
        wanted,
        at=at,
        event=EVENTS.get(target),
        organisation_id=found.organisation_id,
        actor_id=actor_id,
        reason_code=reason_code,
        note=note,
        data={"project_id": str(found.project_id), "state": target},
    )
    return found


def _is_counted(session: Session, task_id: UUID) -> bool:
    states = select(TaskSlot.state).where(
        TaskSlot.task_id == task_id, TaskSlot.state.not_in(RETIRED)
    )
    return set(session.scalars(states)) == {"counted"}


def extend_task(session: Session, task_id: UUID, *, at: datetime) -> TaskSlot:
    """Ask for one more answer to a task whose answers do not settle it: a further open slot.

    Raises:
        TaskNotFound, StateConflict.
    """
    found = task(session, task_id, lock=True)
    change_state(session, TASK, found, "extend", at=at, organisation_id=found.organisation_id)
    last = session.scalar(select(func.max(TaskSlot.number)).where(TaskSlot.task_id == task_id))
    added = TaskSlot(organisation_id=found.organisation_id, task_id=task_id, number=(last or 0) + 1)
    session.add(added)
    session.flush()
    return added


def reseat_task(session: Session, task_id: UUID, answers: int, *, at: datetime) -> int:
    """Give a task that is not resolved as many seats as its project asks for now; how many it has.

    Seats that somebody holds, works in or has filled stay, so that no promise is broken: what is
    too many is taken from the open ones. Doing it twice changes nothing.

    Raises:
        TaskNotFound.
    """
    # One at a time, since each may add seats that the other has not locked.
    session.execute(_RESEATING, {"task_id": str(task_id)})
    # Seats before their task, as everywhere.
    seats = session.scalars(
        select(TaskSlot)
        .where(TaskSlot.task_id == task_id)
        .order_by(TaskSlot.number)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).all()
    found = session.scalar(
        select(Task)
        .where(Task.id == task_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    )
    if found is None:
        raise TaskNotFound(task_id)
    wanted = [seat for seat in seats if seat.state not in RETIRED]
    if found.state not in (*OPEN, "held"):
        return len(wanted)
    resting = [seat for seat in seats if seat.state in RETIRED]
    for seat in reversed([seat for seat in wanted if seat.state == "open"]):
        if len(wanted) > answers:
            change_state(session, SLOT, seat, "retire", at=at, reason_code="fewer_answers")
            wanted.remove(seat)
    while len(wanted) < answers:
        if resting:
            seat = resting.pop(0)
            change_state(session, SLOT, seat, "reopen", at=at, reason_code="more_answers")
        else:
            number = 1 + max((one.number for one in (*seats, *wanted)), default=0)
            seat = TaskSlot(organisation_id=found.organisation_id, task_id=task_id, number=number)
            session.add(seat)
            session.flush()
        wanted.append(seat)
    _follow_seats(session, found, wanted, at=at)
    return len(wanted)


def _follow_seats(
    session: Session, found: Task, wanted: Sequence[TaskSlot], *, at: datetime
) -> None:
    whom = found.organisation_id
    is_full = all(seat.state in FILLED for seat in wanted)
    if found.state == "active" and wanted and is_full:
        change_state(session, TASK, found, "review", at=at, organisation_id=whom)
    elif found.state in ("in_review", "disputed") and not is_full:
        change_state(session, TASK, found, "extend", at=at, organisation_id=whom)
    if found.state == "in_review" and all(seat.state == "counted" for seat in wanted):
        change_state(
            session,
            TASK,
            found,
            "accept",
            at=at,
            event=Event.TASK_RESOLVED,
            organisation_id=whom,
        )


def state_interest(
    session: Session, expert_id: UUID, task_id: UUID, value: float, *, at: datetime
) -> Interest:
    """Say how much an expert wants a task that it could be offered; the last word counts.

    Raises:
        InterestInvalid, TaskNotFound.
    """
    if not 0 <= value <= 1:
        raise InterestInvalid()
    row = session.execute(tasks_open_to(expert_id).where(Task.id == task_id)).first()
    if row is None:
        raise TaskNotFound(task_id)
    wanted: Task = row[0]
    said = insert(Interest).values(
        expert_id=expert_id,
        task_id=wanted.id,
        organisation_id=wanted.organisation_id,
        project_id=wanted.project_id,
        value=value,
        stated_at=at,
        version=1,
    )
    statement = said.on_conflict_do_update(
        index_elements=["expert_id", "task_id"],
        set_={"value": value, "stated_at": at, "version": Interest.version + 1},
    ).returning(Interest)
    return session.scalars(statement, execution_options={"populate_existing": True}).one()


def _fillable(session: Session, project_id: UUID) -> Project:
    found = project(session, project_id)
    if found.state not in FILLABLE:
        raise StateConflict("project", found.state, "take rows", PROJECT.allowed(found.state))
    return found


def _ended(
    session: Session, started: BulkImport, *, rows: int, created: int, at: datetime
) -> BulkImport:
    end_import(session, started, rows=rows, created=created, at=at)
    emit(
        session,
        Event.TASKS_IMPORTED if started.kind == "tasks" else Event.INTERESTS_IMPORTED,
        started.id,
        at=at,
        organisation_id=started.organisation_id,
        data={"project_id": str(started.project_id), "rows": rows, "created": created},
    )
    return started


def _count(result: object) -> int:
    return result.rowcount if isinstance(result, CursorResult) else 0


def _copied_tasks(batch: Batch[TaskRow], found: Project, is_known: dict[str, bool]) -> bytes:
    """A batch as COPY reads it; the domains met so far are kept, since few make up a project."""
    lines: list[str] = []
    put = lines.append
    encode = msgspec.json.encode
    for line, row in batch:
        if isinstance(row, Fault):
            put(f"{copied_fault(line, row)}{_NO_TASK}")
            continue
        domain = row.domain
        if domain not in is_known:
            if len(is_known) > 10_000:
                is_known.clear()
            is_known[domain] = is_domain(domain) and domain_within(domain, found.domains)
        fault = None
        payload = b""
        if not is_known[domain]:
            detail = f"the project's domains are {', '.join(found.domains) or 'none'}"
            fault = Fault("domain_unknown", "/domain", detail, row.external_id)
        elif "\x00" in row.external_id:
            fault = Fault("nul_character", "/external_id", _NUL, row.external_id)
        else:
            try:
                payload = encode(row.payload)
            except RecursionError as wrong:
                fault = Fault("too_deep", "/payload", str(wrong), row.external_id)
            # The escape is looked for first, and the text itself only where there is one.
            if b"\\u0000" in payload and has_nul(row.payload):
                fault = Fault("nul_character", "/payload", _NUL, row.external_id)
            elif (wrong_axes := axes_wrong(row.payload)) is not None:
                fault = Fault("axes_unfit", f"/payload/{AXES}", wrong_axes, row.external_id)
        if fault is not None:
            put(f"{copied_fault(line, fault)}{_NO_TASK}")
            continue
        escaped = payload.decode().replace("\\", "\\\\")
        put(
            f"{line}\t{copied(row.external_id)}\t\\N\t\\N\t\\N\t{uuid_utils.uuid7()}\t{domain}"
            f"\t{escaped}\t{row.complexity}\t{row.expected_s or found.cap_s}\t{row.value_weight}\n"
        )
    return "".join(lines).encode()


def _copied_interests(batch: Batch[InterestRow]) -> bytes:
    lines: list[str] = []
    for line, row in batch:
        if isinstance(row, Fault):
            lines.append(f"{copied_fault(line, row)}\t\\N\t\\N\n")
        elif has_nul(row.expert) or has_nul(row.task):
            pointer = "/expert" if has_nul(row.expert) else "/task"
            fault = Fault("nul_character", pointer, _NUL, row.task)
            lines.append(f"{copied_fault(line, fault)}\t\\N\t\\N\n")
        else:
            lines.append(
                f"{line}\t{copied(row.task)}\t\\N\t\\N\t\\N\t{copied(row.expert)}\t{row.value}\n"
            )
    return "".join(lines).encode()


_NO_TASK = "\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\n"
_NUL = "it holds a NUL character, which cannot be kept"
