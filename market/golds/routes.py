"""Gold over HTTP."""

from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta

from market.auth import Principal
from market.db import database, now
from market.fixes.models import SubmissionFix
from market.golds.actions import accept_candidate, add_golds, retire_gold
from market.golds.models import Gold
from market.golds.queries import gold, gold_candidates, golds, graded, people_checked
from market.golds.rules import MAX_ANSWERS, MAX_ROWS, GoldRow, share_for
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
from market.submissions.models import Submission
from market.tasks.models import Task
from market.verdicts.routes import ShareOut, share_out
from market.verdicts.rules import Share


class GoldIn(Wire):
    """A task whose answer is known; `field` names where the payload of the work has the answer.

    Units: `expected_s` seconds of work.
    """

    external_id: str
    domain: str
    payload: dict[str, Any]
    answers: list[str]
    field: str = "answer"
    complexity: int = 1
    expected_s: int = 1800


class GoldsIn(Wire):
    """Gold to take in."""

    items: Annotated[list[GoldIn], Meta(min_length=1, max_length=MAX_ROWS)]


class GoldRowOut(Wire):
    """What became of one row: created, unchanged or rejected, and then what to change."""

    external_id: str
    verdict: str
    code: str | None
    detail: str | None


class GoldsTakenOut(Wire):
    """What became of all rows, in their order."""

    created: int
    rejected: int
    rows: list[GoldRowOut]


class GoldOut(Wire):
    """A gold task: whom it was put to, how many were right, and whether it is put any more."""

    id: str
    project_id: str
    external_id: str
    domain: str
    complexity: int
    field: str
    answers: list[str]
    state: str
    exposures: int
    right: ShareOut
    created_at: datetime
    retired_at: datetime | None
    retired_for: str | None


class GoldCandidateOut(Wire):
    """Work that a senior accepted after its votes were split: its answer is known, and its task can
    be gold if you say so.
    """

    submission_id: str
    task_id: str
    external_id: str
    domain: str
    task: dict[str, Any]
    payload: dict[str, Any]
    decided_at: datetime | None


class CandidateIn(Wire):
    """Where the work has its answer, and what else counts as right."""

    field: str = "answer"
    also: Annotated[list[str], Meta(max_length=MAX_ANSWERS - 1)] = msgspec.field(
        default_factory=list
    )


class CheckedOut(Wire):
    """How an expert did on checks, and the share of its work that is a check from now on."""

    expert_id: str
    put: int
    right: ShareOut
    share: float


@post(
    "/projects/{project_id:str}/golds",
    scope="project:write",
    status_code=HTTP_200_OK,
    tags=["Gold"],
)
def post_golds(project_id: FromPath[str], data: JSONBody[GoldsIn]) -> GoldsTakenOut:
    """Add tasks whose answer is known; each row has a verdict, and the rows that fit are taken."""
    rows = [
        GoldRow(
            external_id=one.external_id,
            domain=one.domain,
            payload=one.payload,
            answers=one.answers,
            field=one.field,
            complexity=one.complexity,
            expected_s=one.expected_s,
        )
        for one in data.items
    ]
    with database.begin() as session:
        found = add_golds(session, read_id("prj", project_id), rows, at=now())
    return GoldsTakenOut(
        created=sum(one.verdict == "created" for one in found),
        rejected=sum(one.verdict == "rejected" for one in found),
        rows=[
            GoldRowOut(
                external_id=one.external_id, verdict=one.verdict, code=one.code, detail=one.detail
            )
            for one in found
        ],
    )


@get("/projects/{project_id:str}/golds", scope="project:read", tags=["Gold"])
def get_golds(
    project_id: FromPath[str],
    principal: NamedDependency[Principal],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[GoldOut]:
    """The gold of a project with how it was answered, newest first."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        rows, following = page_of(
            session,
            golds(found.id),
            Gold.id,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|golds|{found.id}",
        )
        right = graded(session, [row.id for row in rows])
        return page([_gold_out(row, right[row.id]) for row in rows], following)


@post("/golds/{gold_id:str}/retire", scope="project:write", status_code=HTTP_200_OK, tags=["Gold"])
def post_retire(gold_id: FromPath[str]) -> GoldOut:
    """Put an item to nobody any more."""
    with database.begin() as session:
        found = retire_gold(session, read_id("gld", gold_id), why="withdrawn", at=now())
        return _gold_out(found, graded(session, [found.id])[found.id])


@get("/golds/{gold_id:str}", scope="project:read", tags=["Gold"])
def get_gold(gold_id: FromPath[str]) -> GoldOut:
    """One gold task with how it was answered."""
    with database.begin() as session:
        found = gold(session, read_id("gld", gold_id))
        return _gold_out(found, graded(session, [found.id])[found.id])


@get("/projects/{project_id:str}/gold-candidates", scope="project:read", tags=["Gold"])
def get_gold_candidates(
    project_id: FromPath[str],
    principal: NamedDependency[Principal],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[GoldCandidateOut]:
    """Work whose answer a senior settled and whose task is no gold yet, newest first."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        return listed(
            session,
            gold_candidates(found.id),
            Submission.id,
            lambda row: _candidate_out(*row),
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|gold_candidates|{found.id}",
        )


@post("/submissions/{submission_id:str}/gold", scope="project:write", tags=["Gold"])
def post_candidate(submission_id: FromPath[str], data: JSONBody[CandidateIn]) -> GoldOut:
    """Make gold of a candidate: its task, and the answer of the work as what is right."""
    with database.begin() as session:
        made = accept_candidate(
            session, read_id("sub", submission_id), name=data.field, also=data.also, at=now()
        )
        return _gold_out(made, graded(session, [made.id])[made.id])


@get("/projects/{project_id:str}/checks", scope="expert:read", tags=["Gold"])
def get_checks(project_id: FromPath[str]) -> list[CheckedOut]:
    """How each expert did on the checks of a project, and how often it is checked now."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        return [
            CheckedOut(
                expert_id=wire_id("per", one.expert_id),
                put=one.put,
                right=share_out(one.right),
                share=share_for(one.right.part, one.right.whole - one.right.part),
            )
            for one in people_checked(session, found.id)
        ]


def _candidate_out(work: Submission, task: Task, fix: SubmissionFix | None) -> GoldCandidateOut:
    return GoldCandidateOut(
        submission_id=wire_id("sub", work.id),
        task_id=wire_id("tsk", task.id),
        external_id=task.external_id,
        domain=task.domain,
        task=task.payload,
        payload=work.payload if fix is None else fix.payload,
        decided_at=work.decided_at,
    )


def _gold_out(row: Gold, right: Share) -> GoldOut:
    return GoldOut(
        id=wire_id("gld", row.id),
        project_id=wire_id("prj", row.project_id),
        external_id=row.external_id,
        domain=row.domain,
        complexity=row.complexity,
        field=row.field,
        answers=row.answers,
        state=row.state,
        exposures=row.exposures,
        right=share_out(right),
        created_at=row.created_at,
        retired_at=row.retired_at,
        retired_for=row.retired_for,
    )


ROUTES: list[HTTPRouteHandler] = [
    post_golds,
    get_golds,
    get_gold,
    get_gold_candidates,
    post_candidate,
    post_retire,
    get_checks,
]
