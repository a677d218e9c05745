"""Tasks, uploads of tasks and interest, and what experts say of tasks, over HTTP."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated

import msgspec
from litestar import Response
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.response import Stream
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta

from market.auth import Principal
from market.db import PLATFORM, Json, current_scope, database, now
from market.filters import Filter, filtered
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    expect_version,
    get,
    listed,
    page,
    page_of,
    post,
    put,
    read_id,
    tagged,
    wire_id,
    wire_ids,
)
from market.imports import ImportOut, RowOut, import_out, take_in
from market.projects.models import Project
from market.projects.queries import project
from market.tasks.actions import import_interests, import_tasks, move_task, state_interest
from market.tasks.models import Task
from market.tasks.queries import (
    bulk_import,
    rungs,
    slot_counts,
    task,
    tasks_of,
    tasks_open_to,
    verdicts,
)
from market.tasks.rules import TASK_FIELDS
from market.uploads import MAX_UPLOAD_BYTES, Upload, UploadOperation, spool_upload

UPLOAD = {"upload": Provide(spool_upload)}


class TaskSummaryOut(Wire):
    """A task without its payload; `slots` counts its seats by state."""

    id: str
    project_id: str
    external_id: str
    domain: str
    complexity: int
    expected_s: int
    value_weight: float
    state: str
    slots: dict[str, int]
    import_id: str | None
    created_at: datetime
    version: int


class TaskOut(TaskSummaryOut):
    """A task with all that an expert is given."""

    payload: Json


class RungOut(Wire):
    """What the tasks of one complexity are made of: medians of hours, tools and steps, the longest
    hours, and all modalities and other domains that are named. `described` say more than `tasks`,
    whose hours are otherwise those that they are expected to take.
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


class TaskMoveIn(Wire):
    """A move that a lab asks for: publish, hold, release, cancel, expire or recall."""

    action: str
    reason_code: Annotated[str, Meta(max_length=100)] | None = None
    note: Annotated[str, Meta(max_length=4000)] | None = None


class VerdictOut(RowOut):
    """The verdict on one row, with the task that it made."""

    task_id: str | None = None


class OpenTaskOut(Wire):
    """A task that you could be offered, and what you said of it.

    Units: `rate_minor_per_hour` minor units of `currency`, null for the rate of your pay tier.
    """

    id: str
    project_name: str
    domain: str
    complexity: int
    expected_s: int
    rate_minor_per_hour: int | None
    currency: str
    interest: float | None


class InterestIn(Wire):
    """How much you want a task: 0 is not at all, 1 is most of all."""

    value: Annotated[float, Meta(ge=0, le=1)]


class InterestOut(Wire):
    """What you said of a task."""

    task_id: str
    value: float
    stated_at: datetime


@post(
    "/projects/{project_id:str}/tasks:import",
    scope="task:write",
    keyed="required",
    streamed=True,
    status_code=HTTP_201_CREATED,
    request_max_body_size=MAX_UPLOAD_BYTES,
    operation_class=UploadOperation,
    dependencies=UPLOAD,
    tags=["Tasks"],
)
def post_tasks_import(
    project_id: FromPath[str], upload: NamedDependency[Upload], publish: FromQuery[bool] = True
) -> Response[bytes]:
    """Upload tasks as JSON lines, CSV or Parquet: every row gets a verdict.

    The body is a file of up to 2 GiB. A row has `external_id`, `domain`, `payload` (an object; JSON
    text in CSV) and may have `complexity`, `expected_s` and `value_weight`. Rows are queued at
    once, or drafted with `publish=false`. All that can be taken is taken together, or nothing.
    A payload may say what makes its task complex, under `complexity_axes`: any of `horizon_h`,
    `tools`, `steps`, `modalities` and `crosses`, the other domains that it goes into.
    """

    def act() -> ImportOut:
        with database.begin() as session:
            found = import_tasks(
                session, read_id("prj", project_id), upload, now=now, publish=publish
            )
            return import_out(session, found)

    return take_in(upload, act)


@post(
    "/projects/{project_id:str}/interests:import",
    scope="task:write",
    keyed="required",
    streamed=True,
    status_code=HTTP_201_CREATED,
    request_max_body_size=MAX_UPLOAD_BYTES,
    operation_class=UploadOperation,
    dependencies=UPLOAD,
    tags=["Tasks"],
)
def post_interests_import(
    project_id: FromPath[str], upload: NamedDependency[Upload]
) -> Response[bytes]:
    """Upload what experts say of tasks: rows of `expert` (e-mail or id), `task` and `value`."""

    def act() -> ImportOut:
        with database.begin() as session:
            # Read as the lab first: another lab's project is not there.
            found = project(session, read_id("prj", project_id))
        # As the platform, since who an expert is, is not the lab's to read.
        with database.begin(PLATFORM) as session:
            return import_out(session, import_interests(session, found.id, upload, now=now))

    return take_in(upload, act)


@get("/imports/{import_id:str}", scope="task:read", tags=["Tasks"])
def get_import(import_id: FromPath[str]) -> ImportOut:
    """An import, how many rows got which verdict, and the first that were not taken."""
    with database.begin() as session:
        return import_out(session, bulk_import(session, read_id("imp", import_id)))


@get("/imports/{import_id:str}/verdicts", scope="task:read", tags=["Tasks"])
def get_verdicts(import_id: FromPath[str]) -> Stream:
    """The verdict on every row, as JSON lines in the order of the file."""
    with database.begin() as session:
        found = bulk_import(session, read_id("imp", import_id))
    # What is streamed is read after this function ends, so it is told as whom to read.
    scope = current_scope.get()

    def lines() -> Iterator[bytes]:
        for lot in verdicts(found.id, scope):
            yield b"".join(
                msgspec.json.encode(
                    VerdictOut(
                        line=one.line,
                        verdict=one.verdict,
                        external_id=one.external_id,
                        code=one.code,
                        pointer=one.pointer,
                        detail=one.detail,
                        task_id=wire_ids("tsk", one.task_id),
                    )
                )
                + b"\n"
                for one in lot
            )

    return Stream(lines(), media_type="application/x-ndjson")


@get("/projects/{project_id:str}/tasks", scope="task:read", tags=["Tasks"])
def get_tasks(
    project_id: FromPath[str],
    in_state: StateFilter = None,
    matching: Filter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[TaskSummaryOut]:
    """The tasks of a project, newest first, or those in a state, or those for which the expression
    `filter` holds, such as `complexity >= 3 and open_seats > 0`.
    """
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        rows, following = page_of(
            session,
            filtered(
                tasks_of(found.id, in_state), matching, TASK_FIELDS, row="market.task", at=now()
            ),
            Task.id,
            limit=limit,
            cursor=cursor,
            filters=f"tasks {found.id} {in_state} {matching}",
        )
        counts = slot_counts(session, [row.id for row in rows])
        return page([_summary_out(row, counts[row.id]) for row in rows], following)


@get("/projects/{project_id:str}/complexities", scope="task:read", tags=["Tasks"])
def get_complexities(project_id: FromPath[str]) -> list[RungOut]:
    """What each complexity of a project means, by its latest tasks: horizon, tools, steps,
    modalities and the domains that they cross into. A proposed complexity is read against it.
    """
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        return [RungOut(**asdict(one)) for one in rungs(session, found.id)]


@get("/tasks/{task_id:str}", scope="task:read", tags=["Tasks"])
def get_task(task_id: FromPath[str]) -> Response[TaskOut]:
    """One task."""
    with database.begin() as session:
        found = task(session, read_id("tsk", task_id))
        return _task_out(found, slot_counts(session, [found.id])[found.id])


@post(
    "/tasks/{task_id:str}/transitions", scope="task:write", status_code=HTTP_200_OK, tags=["Tasks"]
)
def post_task_transition(
    task_id: FromPath[str], data: JSONBody[TaskMoveIn], principal: NamedDependency[Principal]
) -> Response[TaskOut]:
    """Publish, hold, release, cancel, expire or recall a task; send its ETag as If-Match."""
    with database.begin() as session:
        found = task(session, read_id("tsk", task_id), lock=True)
        expect_version(found.version)
        moved = move_task(
            session,
            found.id,
            data.action,
            at=now(),
            reason_code=data.reason_code,
            note=data.note,
            actor_id=principal.person_id,
        )
        return _task_out(moved, slot_counts(session, [moved.id])[moved.id])


@get("/open-tasks", scope="offer:read", tags=["Tasks"])
def get_open_tasks(
    principal: NamedDependency[Principal], limit: Limit = 50, cursor: Cursor = None
) -> Page[OpenTaskOut]:
    """Tasks that you could be offered, without their contents, to say which of them you want."""
    # As the platform, since tasks are their lab's rows; only what is open to this expert is asked.
    with database.begin(PLATFORM) as session:
        return listed(
            session,
            tasks_open_to(principal.person_id),
            Task.id,
            lambda one: _open_out(*one),
            limit=limit,
            cursor=cursor,
            filters=f"open tasks {principal.person_id}",
        )


@put("/tasks/{task_id:str}/interest", scope="offer:write", tags=["Tasks"])
def put_interest(
    task_id: FromPath[str], data: JSONBody[InterestIn], principal: NamedDependency[Principal]
) -> Response[InterestOut]:
    """Say how much you want a task that you could be offered; your last word counts."""
    # As the platform, since tasks are their lab's rows; the action takes only what is open to you.
    with database.begin(PLATFORM) as session:
        said = state_interest(
            session, principal.person_id, read_id("tsk", task_id), data.value, at=now()
        )
        out = InterestOut(
            task_id=wire_id("tsk", said.task_id), value=said.value, stated_at=said.stated_at
        )
        return tagged(out, said.version)


def _open_out(found: Task, owner: Project, interest: float | None) -> OpenTaskOut:
    return OpenTaskOut(
        id=wire_id("tsk", found.id),
        project_name=owner.name,
        domain=found.domain,
        complexity=found.complexity,
        expected_s=found.expected_s,
        rate_minor_per_hour=owner.rate_minor_per_hour,
        currency=owner.currency,
        interest=interest,
    )


def _summary_out(row: Task, slots: Mapping[str, int]) -> TaskSummaryOut:
    return TaskSummaryOut(
        id=wire_id("tsk", row.id),
        project_id=wire_id("prj", row.project_id),
        external_id=row.external_id,
        domain=row.domain,
        complexity=row.complexity,
        expected_s=row.expected_s,
        value_weight=row.value_weight,
        state=row.state,
        slots=dict(slots),
        import_id=wire_ids("imp", row.import_id),
        created_at=row.created_at,
        version=row.version,
    )


def _task_out(row: Task, slots: Mapping[str, int]) -> Response[TaskOut]:
    summary = _summary_out(row, slots)
    out = TaskOut(**msgspec.structs.asdict(summary), payload=row.payload)
    return tagged(out, row.version)


ROUTES: list[HTTPRouteHandler] = [
    post_tasks_import,
    post_interests_import,
    get_import,
    get_verdicts,
    get_tasks,
    get_complexities,
    get_task,
    post_task_transition,
    get_open_tasks,
    put_interest,
]
