"""Gold over HTTP."""

from datetime import datetime
from typing import Annotated, Any

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta

from market.auth import Principal
from market.db import database, now
from market.golds.actions import add_golds, retire_gold
from market.golds.models import Gold
from market.golds.queries import gold, golds, graded, people_checked
from market.golds.rules import MAX_ROWS, GoldRow, share_for
from market.http import Cursor, Limit, Page, Wire, get, page, page_of, post, read_id, wire_id
from market.projects.queries import project
from market.verdicts.routes import ShareOut
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


@get("/projects/{project_id:str}/checks", scope="expert:read", tags=["Gold"])
def get_checks(project_id: FromPath[str]) -> list[CheckedOut]:
    """How each expert did on the checks of a project, and how often it is checked now."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        return [
            CheckedOut(
                expert_id=wire_id("per", one.expert_id),
                put=one.put,
                right=_share_out(one.right),
                share=share_for(one.right.part, one.right.whole - one.right.part),
            )
            for one in people_checked(session, found.id)
        ]


def _share_out(one: Share) -> ShareOut:
    return ShareOut(part=one.part, whole=one.whole, value=one.value, low=one.low, high=one.high)


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
        right=_share_out(right),
        created_at=row.created_at,
        retired_at=row.retired_at,
        retired_for=row.retired_for,
    )


ROUTES: list[HTTPRouteHandler] = [post_golds, get_golds, get_gold, post_retire, get_checks]
