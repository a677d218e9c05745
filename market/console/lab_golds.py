"""A lab's page on its gold: tasks whose answer is known, put as hidden checks."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template

from market.console.forms import Form, field, once, tried, whole_number
from market.console.frame import Notice, page
from market.console.visitors import LAB, FormUnreadable
from market.db import database, now
from market.golds.actions import accept_candidate, add_golds, retire_gold
from market.golds.models import Gold
from market.golds.queries import gold, gold_candidates, golds, graded
from market.golds.rules import MOST_EXPOSURES, GoldRow
from market.http import page_of, read_id
from market.projects.queries import project
from market.submissions.models import Submission
from market.submissions.queries import submission

PAGE = 50


@get("/projects/{project_id:str}/golds", guards=LAB, sync_to_thread=True)
def get_golds(
    request: Request[Any, Any, Any],
    project_id: FromPath[str],
    cursor: FromQuery[str | None] = None,
) -> Template:
    """The gold of a project and how it was answered."""
    return _golds(request, read_id("prj", project_id), cursor=cursor)


def _golds(
    request: Request[Any, Any, Any],
    project_id: UUID,
    *,
    cursor: str | None = None,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    with database.begin() as session:
        found = project(session, project_id)
        rows, following = page_of(
            session,
            golds(found.id),
            Gold.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"gold of {found.id}",
        )
        return page(
            request,
            "lab/golds.html",
            status=status,
            notice=notice,
            project=found,
            rows=rows,
            proposed=session.execute(
                gold_candidates(found.id).order_by(Submission.id.desc()).limit(PAGE)
            ).all(),
            right=graded(session, [one.id for one in rows]),
            following=following,
            most=MOST_EXPOSURES,
            typed=typed or {},
        )


@post("/projects/{project_id:str}/golds", guards=LAB, sync_to_thread=True, status_code=303)
def post_gold(
    request: Request[Any, Any, Any], project_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Add a task whose answer is known."""
    found_id = read_id("prj", project_id)

    def act() -> str:
        row = GoldRow(
            external_id=field(data, "external_id"),
            domain=field(data, "domain"),
            payload={"instructions": text} if (text := field(data, "instructions")) else {},
            answers=tuple(one.strip() for one in field(data, "answers").split("\n") if one.strip()),
            complexity=whole_number(data, "complexity", "complexity", least=1, most=10, absent=1),
            expected_s=60
            * whole_number(data, "minutes", "the minutes", least=1, most=10_000, absent=30),
        )
        with database.begin() as session:
            (told,) = add_golds(session, found_id, [row], at=now())
        if told.detail is not None:
            raise FormUnreadable(told.detail)
        return f"/console/lab/projects/{project_id}/golds?said=gold"

    return tried(data, act, partial(_golds, request, found_id, typed=data))


@post("/submissions/{submission_id:str}/gold", guards=LAB, sync_to_thread=True, status_code=303)
def post_candidate(
    request: Request[Any, Any, Any], submission_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Make gold of work that a senior settled."""
    found_id = read_id("sub", submission_id)
    with database.begin() as session:
        owner = submission(session, found_id).project_id

    def act() -> str:
        with database.begin() as session:
            accept_candidate(session, found_id, name=field(data, "field"), at=now())
        return f"/console/lab/projects/prj_{owner.hex}/golds?said=gold"

    return tried(data, act, partial(_golds, request, owner))


@post("/golds/{gold_id:str}/retire", guards=LAB, sync_to_thread=True, status_code=303)
def post_retire(request: Request[Any, Any, Any], gold_id: FromPath[str], data: Form) -> Redirect:
    """Put an item to nobody any more."""
    del request
    found_id = read_id("gld", gold_id)

    def act() -> str:
        with database.begin() as session:
            retire_gold(session, found_id, why="withdrawn", at=now())
            owner = gold(session, found_id).project_id
        return f"/console/lab/projects/prj_{owner.hex}/golds?said=gold_retired"

    return once(data, act)


ROUTES: list[HTTPRouteHandler] = [get_golds, post_gold, post_candidate, post_retire]
