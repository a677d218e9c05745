"""Pages of ops about how the work of people went: experts by verdicts, reviewers by their votes."""

from datetime import timedelta
from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery, QueryParameter
from litestar.response import Template

from market.console.frame import HEADERS, page
from market.console.visitors import OPS
from market.db import database, now
from market.people.queries import names_of
from market.profiles.queries import expert_profiles, reviewer_profiles
from market.profiles.routes import experts_table, reviewers_table
from market.profiles.rules import Period

Days = Annotated[int, QueryParameter(ge=1, le=3660)]
SHOWN = 100
ALL = 100_000
SPANS = (7, 30, 90, 365)


def _over(days: int) -> Period:
    at = now()
    return Period(at - timedelta(days=days), at)


@get("/experts/profiles", guards=OPS, sync_to_thread=True)
def get_profiles(
    request: Request[Any, Any, Any],
    days: Days = 90,
    of: FromQuery[str] = "experts",
    domain: FromQuery[str] = "",
) -> Template:
    """How the work of experts, or the votes of reviewers, went in the last days."""
    over, field, is_votes = _over(days), domain.strip() or None, of == "reviewers"
    with database.begin() as session:
        experts = [] if is_votes else expert_profiles(session, over, domain=field, limit=SHOWN)
        votes = reviewer_profiles(session, over, domain=field, limit=SHOWN) if is_votes else []
        people = {one.expert_id for one in experts} | {one.reviewer_id for one in votes}
        return page(
            request,
            "ops/profiles.html",
            of="reviewers" if is_votes else "experts",
            days=days,
            spans=SPANS,
            domain=field or "",
            experts=experts,
            reviewers=votes,
            most=SHOWN,
            names=names_of(session, people),
        )


@get("/experts/profiles.csv", guards=OPS, sync_to_thread=True)
def get_table(
    days: Days = 90, of: FromQuery[str] = "experts", domain: FromQuery[str] = ""
) -> Response[str]:
    """The same, of everybody, as a table to keep."""
    over, field, is_votes = _over(days), domain.strip() or None, of == "reviewers"
    with database.begin() as session:
        if is_votes:
            text = reviewers_table(reviewer_profiles(session, over, domain=field, limit=ALL))
        else:
            text = experts_table(expert_profiles(session, over, domain=field, limit=ALL))
    name = "reviewers.csv" if is_votes else "experts.csv"
    kept = {**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text, media_type="text/csv", headers=kept)


ROUTES: list[HTTPRouteHandler] = [get_profiles, get_table]
