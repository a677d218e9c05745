"""Fixes, over HTTP: what was changed and why, whose part is how large."""

from datetime import datetime
from typing import Any

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from market.auth import Part, Principal
from market.db import database
from market.fixes.models import SubmissionFix
from market.fixes.queries import changes_of, fixes_of, settled_fix
from market.http import Cursor, Limit, Page, StateFilter, Wire, get, listed, read_id, wire_id
from market.projects.queries import project
from market.submissions.queries import submission


class FixOut(Wire):
    """A reviewer's version of an author's work, delivered in its place while it is `standing`.

    `distance` is in words put in, taken out or replaced; `edited_share` of the words is the
    corrector's part of the credit, and the rest the author's. Who corrected is told to the lab and
    to ops.
    """

    id: str
    submission_id: str
    state: str
    round: int
    note: str
    author_words: int
    fixed_words: int
    distance: int
    edited_share: float
    author_share: float
    at: datetime
    settled_at: datetime | None
    author_id: str
    corrector_id: str | None


class StretchOut(Wire):
    """A part of a field as its author wrote it, and what stands for it; alike where it was kept."""

    author: str
    fixed: str
    is_kept: bool


class FieldFixOut(Wire):
    """What was changed in one field, part by part in their order; `distance` in words."""

    name: str
    distance: int
    stretches: list[StretchOut]


class FixWholeOut(FixOut):
    """The same with the work as it was fixed, and each field that differs."""

    payload: dict[str, Any]
    fields: list[FieldFixOut]


@get("/submissions/{submission_id:str}/fix", scope="work:read", tags=["Work"])
def get_fix(submission_id: FromPath[str], principal: NamedDependency[Principal]) -> FixWholeOut:
    """What a reviewer changed in accepted work, and why; its author may appeal against it."""
    with database.begin() as session:
        work = submission(session, read_id("sub", submission_id))
        fix = settled_fix(session, work.id)
        return FixWholeOut(
            **_fields(fix, principal),
            payload=fix.payload,
            fields=[
                FieldFixOut(
                    name=one.name,
                    distance=one.distance,
                    stretches=[
                        StretchOut(author=part.draft, fixed=part.text, is_kept=part.is_kept)
                        for part in one.stretches
                    ],
                )
                for one in changes_of(fix, work)
            ],
        )


@get("/projects/{project_id:str}/fixes", scope="project:read", tags=["Work"])
def get_fixes(
    project_id: FromPath[str],
    principal: NamedDependency[Principal],
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[FixOut]:
    """The fixes in a project that stand or stood, the newest first: whose part is how large."""
    with database.begin() as session:
        which = project(session, read_id("prj", project_id)).id
        return listed(
            session,
            fixes_of(which, state=in_state),
            SubmissionFix.id,
            lambda row: fix_out(row, principal),
            limit=limit,
            cursor=cursor,
            filters=f"fixes {which} {in_state}",
        )


def fix_out(row: SubmissionFix, principal: Principal) -> FixOut:
    """A fix as it travels."""
    return FixOut(**_fields(row, principal))


def _fields(row: SubmissionFix, principal: Principal) -> dict[str, Any]:
    is_named = principal.part in (Part.LAB, Part.OPS)
    return {
        "id": wire_id("fix", row.id),
        "submission_id": wire_id("sub", row.submission_id),
        "state": row.state,
        "round": row.round,
        "note": row.note,
        "author_words": row.author_words,
        "fixed_words": row.fixed_words,
        "distance": row.distance,
        "edited_share": row.edited_share,
        "author_share": 1 - row.edited_share,
        "at": row.at,
        "settled_at": row.settled_at,
        "author_id": wire_id("per", row.author_id),
        "corrector_id": wire_id("per", row.corrector_id) if is_named else None,
    }


ROUTES: list[HTTPRouteHandler] = [get_fix, get_fixes]
