"""What became of drafts, over HTTP and as CSV."""

import csv
import io
from datetime import datetime

from litestar import Response
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from sqlalchemy.orm import Session

from market.db import database
from market.edits.models import SubmissionEdit
from market.edits.queries import edit_summary, edits_of, last_edit, told
from market.http import Cursor, Limit, Page, Wire, get, listed, read_id, wire_id
from market.projects.queries import project

COLUMNS = (
    *("submission_id", "round", "at", "draft_words", "text_words", "distance"),
    *("untouched_share", "is_exact", "is_flagged"),
)
MOST_ROWS = 100_000


class EditOut(Wire):
    """What became of the draft that a submission began from.

    `distance` is in words put in, taken out or replaced, at the least unless `is_exact` is false;
    `untouched_share` is of the draft's words.
    """

    submission_id: str
    project_id: str
    round: int
    at: datetime
    draft_words: int
    text_words: int
    distance: int
    untouched_share: float
    is_exact: bool
    is_flagged: bool


class RegionOut(Wire):
    """A stretch of the draft and what stands in its place, as spans of characters, the end
    exclusive, in both texts: NFC, one kind of line end, one blank where there were several.
    """

    draft_from: int
    draft_to: int
    text_from: int
    text_to: int


class EditWholeOut(EditOut):
    """The same with every edited region, and the SHA-256 of the draft as it was given."""

    draft_digest: str
    regions: list[RegionOut]


class QuartilesOut(Wire):
    """What a quarter, a half and three quarters stay below."""

    low: float
    middle: float
    high: float


class EditSummaryOut(Wire):
    """What became of a project's drafts, by each submission's last hand-in."""

    project_id: str
    unedited_drafts: str
    submissions: int
    unedited: int
    flagged: int
    untouched_share: QuartilesOut | None
    distance: QuartilesOut | None


@get("/submissions/{submission_id:str}/edit", scope="work:read", tags=["Work"])
def get_edit(submission_id: FromPath[str]) -> EditWholeOut:
    """How far a submission is from the draft that it began from, and where."""
    with database.begin() as session:
        found = last_edit(session, read_id("sub", submission_id))
        return EditWholeOut(
            submission_id=submission_id,
            project_id=wire_id("prj", found.project_id),
            **told(found),
            draft_digest=found.draft_digest.hex(),
            regions=[RegionOut(*one) for one in found.regions],
        )


@get("/projects/{project_id:str}/edits", scope="project:read", tags=["Work"])
def get_edits(
    project_id: FromPath[str],
    flagged: FromQuery[bool | None] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[EditOut]:
    """What became of each draft in a project, the newest first."""
    with database.begin() as session:
        which = project(session, read_id("prj", project_id)).id
        return listed(
            session,
            edits_of(which, is_flagged=flagged),
            SubmissionEdit.id,
            _edit_out,
            limit=limit,
            cursor=cursor,
            filters=f"edits {which} {flagged}",
        )


@get("/edits", scope="project:read", tags=["Work"])
def get_all_edits(
    flagged: FromQuery[bool | None] = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[EditOut]:
    """What became of each draft in every project that the caller may see, the newest first."""
    with database.begin() as session:
        return listed(
            session,
            edits_of(None, is_flagged=flagged),
            SubmissionEdit.id,
            _edit_out,
            limit=limit,
            cursor=cursor,
            filters=f"all edits {flagged}",
        )


@get("/projects/{project_id:str}/edits/summary", scope="project:read", tags=["Work"])
def get_edit_summary(project_id: FromPath[str]) -> EditSummaryOut:
    """What became of a project's drafts in all."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        seen = edit_summary(session, found.id)
        return EditSummaryOut(
            project_id=project_id,
            unedited_drafts=found.unedited_drafts,
            submissions=seen.submissions,
            unedited=seen.unedited,
            flagged=seen.flagged,
            untouched_share=None if seen.untouched is None else QuartilesOut(*seen.untouched),
            distance=None if seen.distance is None else QuartilesOut(*seen.distance),
        )


@get(
    "/projects/{project_id:str}/edits.csv",
    scope="project:read",
    tags=["Work"],
    media_type="text/csv",
)
def get_edits_csv(project_id: FromPath[str]) -> Response[str]:
    """The same, of every draft, as CSV."""
    with database.begin() as session:
        content = edits_table(session, project_id)
    headers = {"Content-Disposition": 'attachment; filename="edits.csv"'}
    return Response(content, media_type="text/csv", headers=headers)


def edits_table(session: Session, project_id: str) -> str:
    """Every edit of a project as CSV, the newest first."""
    which = project(session, read_id("prj", project_id)).id
    rows = session.scalars(edits_of(which).order_by(SubmissionEdit.id.desc()).limit(MOST_ROWS))
    content = io.StringIO()
    write = csv.writer(content, lineterminator="\r\n").writerow
    write(COLUMNS)
    for row in rows:
        cells = {**told(row), "submission_id": wire_id("sub", row.submission_id)}
        write([cells["at"].isoformat() if name == "at" else cells[name] for name in COLUMNS])
    return content.getvalue()


def _edit_out(row: SubmissionEdit) -> EditOut:
    return EditOut(
        submission_id=wire_id("sub", row.submission_id),
        project_id=wire_id("prj", row.project_id),
        **told(row),
    )


ROUTES: list[HTTPRouteHandler] = [
    get_edit,
    get_edits,
    get_all_edits,
    get_edit_summary,
    get_edits_csv,
]
