"""Snapshots, over HTTP."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.status_codes import HTTP_201_CREATED

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.fixes.models import SubmissionFix
from market.fixes.routes import FixOut, fix_out
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    get,
    listed,
    page,
    page_of,
    post,
    read_id,
    wire_id,
)
from market.projects.queries import project
from market.snapshots.actions import take_snapshot
from market.snapshots.models import Snapshot, SnapshotAnswer
from market.snapshots.queries import answers_of, snapshot, snapshots
from market.submissions.models import Submission
from market.tasks.models import Task
from market.threads.models import Remark, Thread
from market.threads.queries import threads_on
from market.threads.routes import ThreadOut, threads_out


class SnapshotOut(Wire):
    """What was delivered at once."""

    id: str
    project_id: str
    number: int
    tasks: int
    answers: int
    taken_at: datetime


class SnapshotAnswerOut(Wire):
    """One answer of a snapshot: the verdict on it then, and its state now.

    `payload` is the work as it is delivered: its author's, or, with a `fix`, as its corrector has
    it while the author's stays in the submission. Author, reviewers in their order and corrector
    are named apart. A fix that is `withdrawn` fell to an appeal since: take the author's version. A
    state of `voided` says that it was found to be a fraud since; leave it out of your data.
    `threads` are those on it that your side reads, as they stand now.
    """

    submission_id: str
    task_id: str
    external_id: str
    task: dict[str, Any]
    payload: dict[str, Any]
    share: int
    is_stump: bool
    author_id: str
    reviewer_ids: list[str]
    fix: FixOut | None
    submitted_at: datetime | None
    state: str
    threads: list[ThreadOut]


@post(
    "/projects/{project_id:str}/snapshots",
    scope="project:write",
    status_code=HTTP_201_CREATED,
    tags=["Snapshots"],
)
def post_snapshot(project_id: FromPath[str], principal: NamedDependency[Principal]) -> SnapshotOut:
    """Deliver the tasks that were accepted since the last snapshot, up to 5,000 at once."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id)).id
    # As the platform, because tasks move by it; the project is the caller's own.
    with database.begin(PLATFORM) as session:
        return _out(take_snapshot(session, found, at=now(), actor_id=principal.person_id))


@get("/projects/{project_id:str}/snapshots", scope="project:read", tags=["Snapshots"])
def get_snapshots(
    project_id: FromPath[str], limit: Limit = 50, cursor: Cursor = None
) -> Page[SnapshotOut]:
    """A project's snapshots, newest first."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id)).id
        return listed(
            session,
            snapshots(found),
            Snapshot.id,
            _out,
            limit=limit,
            cursor=cursor,
            filters=f"snapshots|{found}",
        )


@get("/snapshots/{snapshot_id:str}/answers", scope="work:read", tags=["Snapshots"])
def get_snapshot_answers(
    snapshot_id: FromPath[str],
    principal: NamedDependency[Principal],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[SnapshotAnswerOut]:
    """The answers of a snapshot, newest first."""
    with database.begin() as session:
        found = snapshot(session, read_id("snp", snapshot_id)).id
        rows, following = page_of(
            session,
            answers_of(found),
            Submission.id,
            limit=limit,
            cursor=cursor,
            filters=f"snapshot_answers|{found}",
        )
        talk = threads_on(session, [row[0].id for row in rows])
        return page([_answer_out(principal, talk[row[0].id], *row) for row in rows], following)


def _out(row: Snapshot) -> SnapshotOut:
    return SnapshotOut(
        id=wire_id("snp", row.id),
        project_id=wire_id("prj", row.project_id),
        number=row.number,
        tasks=row.tasks,
        answers=row.answers,
        taken_at=row.taken_at,
    )


def _answer_out(
    principal: Principal,
    talk: Sequence[tuple[Thread, list[Remark]]],
    work: Submission,
    row: SnapshotAnswer,
    task: Task,
    fix: SubmissionFix | None,
    reviewers: list[UUID],
) -> SnapshotAnswerOut:
    return SnapshotAnswerOut(
        submission_id=wire_id("sub", work.id),
        task_id=wire_id("tsk", task.id),
        external_id=task.external_id,
        task=task.payload,
        payload=work.payload if fix is None else fix.payload,
        share=row.share,
        is_stump=row.is_stump,
        author_id=wire_id("per", work.expert_id),
        reviewer_ids=[wire_id("per", one) for one in dict.fromkeys(reviewers)],
        fix=None if fix is None else fix_out(fix, principal),
        submitted_at=work.submitted_at,
        state=work.state,
        threads=threads_out(talk, principal),
    )


ROUTES: list[HTTPRouteHandler] = [post_snapshot, get_snapshots, get_snapshot_answers]
