"""What a run's prices say: which budgets bind, which skills are scarce, whom to recruit first."""

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Template
from sqlalchemy import select

from market.candidates.rules import id_at
from market.console.frame import page
from market.console.visitors import OPS
from market.db import database
from market.explanations.queries import recorded
from market.http import read_id
from market.projects.models import Project
from market.runs.queries import run as matching_run


@get("/runs/{run_id:str}/prices", guards=OPS, sync_to_thread=True)
def get_prices(request: Request[Any, Any, Any], run_id: FromPath[str]) -> Template:
    """Where one more expert, or more money, would have brought the most to a run."""
    # Numpy and the matcher's own arrays are enough; the solver is not loaded.
    from matching.signals import signals

    with database.begin() as session:
        run = matching_run(session, read_id("mrn", run_id))
        file = recorded(session, run.id)
    facts = file.facts
    if facts is None:
        return page(
            request, "ops/prices.html", run=run, skills=None, nobody=[], short=[], budgets=[]
        )
    told = signals(file.problem, file.assignment, facts.task_domain.astype("int64"))
    ids = {one.project: id_at(facts.project_ids, one.project) for one in told.budgets}
    with database.begin() as session:
        projects = {
            one.id: one
            for one in session.scalars(select(Project).where(Project.id.in_(ids.values())))
        }
    skills = [(facts.domains[one.group], one) for one in told.skills]
    wanting = [(domain, one) for domain, one in skills if one.open_seats]
    return page(
        request,
        "ops/prices.html",
        run=run,
        skills=skills,
        # A bound says nothing of a field without anybody to go by, which wants for people the most.
        nobody=[(domain, one) for domain, one in wanting if not one.candidates],
        short=[(domain, one) for domain, one in wanting if one.candidates],
        budgets=[(projects[ids[one.project]], one) for one in told.budgets],
    )


ROUTES: list[HTTPRouteHandler] = [get_prices]
