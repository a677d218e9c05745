"""Why there is no work, for the expert who wonders."""

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.experts.rules import ExpertNotFound
from market.explanations.queries import work_for
from market.http import Wire, get


class ReasonOut(Wire):
    """One reason, as a code for machines and in words."""

    code: str
    detail: str


class AvailabilityOut(Wire):
    """How many open tasks fit you now, and why you have no offer of one."""

    fitting_tasks: int
    reasons: list[ReasonOut]


@get("/work-availability", scope="offer:read", tags=["Offers"])
def get_work_availability(principal: NamedDependency[Principal]) -> AvailabilityOut:
    """Why no work is offered to you at this moment; never a soft no, always the reason."""
    # As the platform, because what is counted is work that the expert may not see yet.
    with database.begin(PLATFORM) as session:
        found = work_for(session, principal.person_id, at=now())
    if found is None:
        raise ExpertNotFound(principal.person_id)
    return AvailabilityOut(
        fitting_tasks=found.fitting_tasks,
        reasons=[ReasonOut(code=code, detail=words) for code, words in found.reasons],
    )


ROUTES: list[HTTPRouteHandler] = [get_work_availability]
