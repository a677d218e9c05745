"""How work lies to the cap of its project, over HTTP."""

from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from market.caps.queries import cap_use
from market.caps.rules import cap_told
from market.db import PLATFORM, database
from market.http import Wire, get, read_id
from market.projects.queries import project
from market.verdicts.rules import FEWEST_DECIDED


class CapUseOut(Wire):
    """How often finished work took as long as is paid for, or longer; times in seconds.

    All but the cap is null where too few works are finished. `proposed_cap_s` is a cap that nine of
    ten works would fit in, where this one is short for certain.
    """

    project_id: str
    cap_s: int
    works: int | None
    works_at_cap: int | None
    experts: int | None
    experts_at_cap: int | None
    proposed_cap_s: int | None
    text: str


@get("/projects/{project_id:str}/cap-use", scope="project:read", tags=["Projects"])
def get_cap_use(project_id: FromPath[str]) -> CapUseOut:
    """How often work on a project reaches its cap, by how many of its experts, and what cap would
    fit.
    """
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
    # As the platform, since time is its expert's; the project is the caller's own.
    with database.begin(PLATFORM) as session:
        use = cap_use(session, found)
    is_told = use.reached.whole >= FEWEST_DECIDED
    return CapUseOut(
        project_id=project_id,
        cap_s=use.cap_s,
        works=use.reached.whole if is_told else None,
        works_at_cap=use.reached.part if is_told else None,
        experts=use.experts if is_told else None,
        experts_at_cap=use.experts_reached if is_told else None,
        proposed_cap_s=use.proposed_s,
        text=cap_told(use),
    )


ROUTES: list[HTTPRouteHandler] = [get_cap_use]
