"""What came of submissions, over HTTP: the work, its votes, its verdict; and proven stumps."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from sqlalchemy.orm import Session

from market.attempts.models import Attempt
from market.attempts.queries import attempt
from market.attempts.routes import AttemptOut, EvidenceOut, attempt_out, evidence_out
from market.auth import Principal
from market.db import database
from market.fixes.queries import standing_fix, standing_fixes
from market.fixes.routes import FixOut, fix_out
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    listed,
    page,
    page_of,
    read_id,
    read_ids,
    wire_id,
    wire_ids,
)
from market.projects.queries import project
from market.stumps.queries import evidence, stumps
from market.submissions.models import Submission
from market.submissions.queries import submission, submissions
from market.tasks.models import Task
from market.threads.queries import threads_on
from market.threads.routes import ThreadOut, threads_out
from market.verdicts.models import Verdict
from market.verdicts.queries import verdict
from market.verdicts.routes import VerdictOut, verdict_out
from market.votes.queries import votes
from market.votes.routes import VoteOut, vote_out


class SubmissionOut(Wire):
    """A submission in a list."""

    id: str
    project_id: str
    task_id: str
    offer_id: str
    attempt_id: str | None
    state: str
    round: int
    submitted_at: datetime | None
    decided_at: datetime | None


class SubmissionWorkOut(SubmissionOut):
    """A submission with its work, its evidence, and, once there is one, its verdict and why.

    `payload` is its author's own; the `fix` that is delivered in its place has one of its own.
    """

    payload: dict[str, Any]
    fix: FixOut | None
    attempt: AttemptOut | None
    verdict: VerdictOut | None
    votes: list[VoteOut]
    threads: list[ThreadOut]


class StumpOut(Wire):
    """A validated stump with its proof: the question, the model's answers, and the votes.

    `payload` is the work as it is delivered: with a `fix`, as its corrector has it.
    """

    submission_id: str
    task_id: str
    external_id: str
    domain: str
    complexity: int
    attempt_id: str
    prompt: str
    reference: str
    parameters: dict[str, Any]
    payload: dict[str, Any]
    fix: FixOut | None
    judge_missed: int | None
    outputs: list[EvidenceOut]
    votes: list[VoteOut]
    threads: list[ThreadOut]
    submitted_at: datetime | None
    decided_at: datetime


@get("/submissions", scope="work:read", tags=["Work"])
def get_submissions(
    principal: NamedDependency[Principal],
    project_id: FromQuery[str | None] = None,
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[SubmissionOut]:
    """Submissions, newest first: your own, or those to your projects."""
    wanted = read_ids("prj", project_id)
    with database.begin() as session:
        return listed(
            session,
            submissions(project_id=wanted, state=in_state),
            Submission.id,
            lambda row: SubmissionOut(**_submission_fields(row)),
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|submissions|{wanted}|{in_state}",
        )


@get("/submissions/{submission_id:str}", scope="work:read", tags=["Work"])
def get_submission(
    submission_id: FromPath[str], principal: NamedDependency[Principal]
) -> SubmissionWorkOut:
    """One submission with its evidence; its author reads the votes once there is a verdict."""
    with database.begin() as session:
        row = submission(session, read_id("sub", submission_id))
        decided = verdict(session, row.id)
        asked = attempt(session, row.attempt_id) if row.attempt_id else None
        return SubmissionWorkOut(
            **_submission_fields(row),
            payload=row.payload,
            fix=fix_out(fix, principal) if (fix := standing_fix(session, row.id)) else None,
            attempt=attempt_out(session, asked) if asked else None,
            verdict=verdict_out(decided) if decided else None,
            votes=[vote_out(vote) for vote in votes(session, [row.id])[row.id]],
            threads=threads_out(threads_on(session, [row.id])[row.id], principal),
        )


@get("/projects/{project_id:str}/stumps", scope="project:read", tags=["Projects"])
def get_stumps(
    project_id: FromPath[str],
    principal: NamedDependency[Principal],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[StumpOut]:
    """The validated stumps of a project with their proof, newest first."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        rows, following = page_of(
            session,
            stumps(found.id),
            Submission.id,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|stumps|{found.id}",
        )
        return page(
            stumps_out(session, rows, principal),
            following,
        )


def _submission_fields(row: Submission) -> dict[str, Any]:
    return {
        "id": wire_id("sub", row.id),
        "project_id": wire_id("prj", row.project_id),
        "task_id": wire_id("tsk", row.task_id),
        "offer_id": wire_id("ofr", row.offer_id),
        "attempt_id": wire_ids("att", row.attempt_id),
        "state": row.state,
        "round": row.round,
        "submitted_at": row.submitted_at,
        "decided_at": row.decided_at,
    }


def stumps_out(
    session: Session,
    rows: Sequence[tuple[Submission, Verdict, Attempt, Task]],
    principal: Principal,
) -> list[StumpOut]:
    """Stumps as they travel, with their proof and what was said about them."""
    outputs = evidence(session, [asked.id for _, _, asked, _ in rows])
    said = votes(session, [row.id for row, _, _, _ in rows])
    talk = threads_on(session, [row.id for row, _, _, _ in rows])
    fixes = standing_fixes(session, [row.id for row, _, _, _ in rows])
    return [
        StumpOut(
            submission_id=wire_id("sub", row.id),
            task_id=wire_id("tsk", task.id),
            external_id=task.external_id,
            domain=task.domain,
            complexity=task.complexity,
            attempt_id=wire_id("att", asked.id),
            prompt=asked.prompt,
            reference=asked.reference,
            parameters=asked.parameters,
            payload=fixes[row.id].payload if row.id in fixes else row.payload,
            fix=fix_out(fixes[row.id], principal) if row.id in fixes else None,
            judge_missed=asked.judge_missed,
            outputs=[evidence_out(output) for output in outputs[asked.id]],
            votes=[vote_out(vote) for vote in said[row.id]],
            threads=threads_out(talk[row.id], principal),
            submitted_at=row.submitted_at,
            decided_at=decided.decided_at,
        )
        for row, decided, asked, task in rows
    ]


ROUTES: list[HTTPRouteHandler] = [get_submissions, get_submission, get_stumps]
