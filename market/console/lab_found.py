"""What a lab gets: stumps with their proof, one submission whole, and a file of all of them."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Stream, Template
from sqlalchemy.orm import Session

from market.appeals.actions import unreject_submission
from market.attempts.models import Attempt
from market.auth import Principal
from market.console.forms import Form, field
from market.console.frame import HEADERS, back_to, page
from market.console.threads import talk_on
from market.console.visitors import LAB, my_id
from market.db import PLATFORM, database, now, run_as
from market.edits.models import SubmissionEdit
from market.edits.queries import edit_rounds, stretches
from market.edits.rules import Stretch
from market.fixes.queries import changes_of, fix_to_tell
from market.http import page_of, principal_of_request, read_id
from market.profiles.queries import model_profiles
from market.profiles.routes import models_table
from market.projects.queries import project
from market.reviews.rules import REASON_CODES
from market.stumps.queries import evidence, stumps
from market.stumps.routes import stumps_out
from market.submissions.models import Submission
from market.submissions.queries import submission
from market.submissions.rules import SubmissionNotFound
from market.tasks.models import Task
from market.verdicts.queries import verdict
from market.votes.queries import votes

PAGE = 20
LOT = 200
REJECTED = ("rejected", "rejected_final")


@get("/projects/{project_id:str}/stumps", guards=LAB, sync_to_thread=True)
def get_stumps(
    request: Request[Any, Any, Any],
    project_id: FromPath[str],
    cursor: FromQuery[str | None] = None,
) -> Template:
    """The validated stumps of a project: where the model fails, proven."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        rows, following = page_of(
            session,
            stumps(found.id),
            Submission.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"stumps of {found.id}",
        )
        outputs = evidence(session, [asked.id for _, _, asked, _ in rows])
        return page(
            request,
            "lab/stumps.html",
            project=found,
            stumps=[
                (row, decided, asked, task, outputs[asked.id]) for row, decided, asked, task in rows
            ],
            following=following,
        )


def _lines(project_id: UUID, principal: Principal) -> Iterator[bytes]:
    """Every stump of a project on a line of its own, oldest first, a lot at a time."""
    after: UUID | None = None
    while True:
        with database.begin(principal.scope) as session:
            wanted = stumps(project_id).order_by(Submission.id).limit(LOT)
            if after is not None:
                wanted = wanted.where(Submission.id > after)
            rows = session.execute(wanted).all()
            lot = b"".join(
                msgspec.json.encode(one) + b"\n"
                for one in stumps_out(session, [row.tuple() for row in rows], principal)
            )
        yield lot
        if len(rows) < LOT:
            return
        after = rows[-1][0].id


@get("/projects/{project_id:str}/stumps.jsonl", guards=LAB, sync_to_thread=True)
def get_stumps_file(request: Request[Any, Any, Any], project_id: FromPath[str]) -> Stream:
    """All stumps of a project with their proof, as JSON lines."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
    name = f"stumps-{project_id}.jsonl"
    return Stream(
        # What is streamed is read after this function ends, so it is told as whom to read.
        _lines(found.id, principal_of_request(request)),
        media_type="application/x-ndjson",
        headers={**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'},
    )


@get("/projects/{project_id:str}/models", guards=LAB, sync_to_thread=True)
def get_models(request: Request[Any, Any, Any], project_id: FromPath[str]) -> Template:
    """Model by model: how often it was stumped, and which stumps it shares with the target."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        return page(
            request, "lab/models.html", project=found, models=model_profiles(session, found.id)
        )


@get("/projects/{project_id:str}/models.csv", guards=LAB, sync_to_thread=True)
def get_models_file(project_id: FromPath[str]) -> Response[str]:
    """The same as a table to keep."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        text = models_table(model_profiles(session, found.id))
    kept = {**HEADERS, "Content-Disposition": 'attachment; filename="models.csv"'}
    return Response(text, media_type="text/csv", headers=kept)


@get("/submissions/{submission_id:str}", guards=LAB, sync_to_thread=True)
def get_submission(request: Request[Any, Any, Any], submission_id: FromPath[str]) -> Template:
    """One submission whole: the work, the model's answers with their digests, the votes."""
    found_id = read_id("sub", submission_id)
    talk = talk_on(request, found_id)
    with database.begin() as session:
        row = submission(session, found_id)
        edited = edit_rounds(session, row.id)[:1]
        if row.submitted_at is None:
            raise SubmissionNotFound(found_id)
        attempt = session.get(Attempt, row.attempt_id) if row.attempt_id else None
        fix = fix_to_tell(session, row.id)
        return page(
            request,
            "lab/submission.html",
            row=row,
            project=project(session, row.project_id),
            task=session.get(Task, row.task_id),
            attempt=attempt,
            responses=evidence(session, [attempt.id])[attempt.id] if attempt else [],
            talk=talk,
            edited=edited[0] if edited else None,
            fix=fix,
            fixed=changes_of(fix, row) if fix else [],
            begun=_begun(session, edited[0]) if edited else [],
            verdict=verdict(session, row.id),
            votes=votes(session, [row.id])[row.id],
            may_unreject=row.state in REJECTED,
            reason_codes=REASON_CODES,
        )


def _begun(session: Session, edit: SubmissionEdit) -> list[Stretch]:
    # As the platform, since what is tried is for ops to read; of this the lab sees its own.
    with run_as(session, PLATFORM):
        return stretches(session, edit)


@post("/submissions/{submission_id:str}/unreject", guards=LAB, sync_to_thread=True, status_code=303)
def post_unreject(
    request: Request[Any, Any, Any], submission_id: FromPath[str], data: Form
) -> Redirect:
    """Take a rejection back; the work is then accepted and paid as such."""
    found = read_id("sub", submission_id)
    with database.begin() as session:
        # Whether the lab may see it at all; the correction is the platform's.
        submission(session, found)
    with database.begin(PLATFORM) as session:
        unreject_submission(
            session,
            found,
            reason_code=field(data, "reason_code") or "by_lab",
            at=now(),
            actor_id=my_id(request),
        )
    return back_to(f"/console/lab/submissions/{submission_id}", "unrejected")


ROUTES: list[HTTPRouteHandler] = [
    get_stumps,
    get_stumps_file,
    get_models,
    get_models_file,
    get_submission,
    post_unreject,
]
