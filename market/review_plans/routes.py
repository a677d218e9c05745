"""Review plans and draws, over HTTP."""

from datetime import datetime

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody

from market.auth import Principal
from market.db import database, now
from market.http import Wire, get, put, read_id
from market.projects.queries import project
from market.review_plans.actions import set_plan
from market.review_plans.queries import draws, newest_plan
from market.review_plans.rules import Plan
from market.submissions.queries import submission


class PlanOut(Wire):
    """How a project's work is reviewed; version 0 is what holds where nobody has said anything."""

    project_id: str
    version: int
    plan: Plan


class DrawOut(Wire):
    """How it was decided whether a submission goes to a level of review."""

    round: int
    level: int
    plan_version: int
    rule: int | None
    rate: float
    draw: float
    is_control: bool
    votes: int
    decided: int
    accepted: int
    low: float
    authority: str | None
    unmet: list[str]
    at: datetime


class DrawsOut(Wire):
    """All draws on a submission."""

    submission_id: str
    items: list[DrawOut]


@get("/projects/{project_id:str}/review-plan", scope="project:read", tags=["Reviews"])
def get_review_plan(project_id: FromPath[str]) -> PlanOut:
    """How a project's work is reviewed."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        version, plan = newest_plan(session, found.id)
        return PlanOut(project_id=project_id, version=version, plan=plan)


@put("/projects/{project_id:str}/review-plan", scope="project:write", tags=["Reviews"])
def put_review_plan(
    project_id: FromPath[str], data: JSONBody[Plan], principal: NamedDependency[Principal]
) -> PlanOut:
    """Review a project's work by this plan from now on; it is a new version."""
    with database.begin() as session:
        made = set_plan(
            session,
            read_id("prj", project_id),
            data,
            at=now(),
            actor_id=principal.person_id,
        )
        return PlanOut(project_id=project_id, version=made.version, plan=data)


@get("/submissions/{submission_id:str}/draws", scope="work:read", tags=["Reviews"])
def get_draws(submission_id: FromPath[str]) -> DrawsOut:
    """Why a submission was reviewed or not, with the numbers that decided it."""
    with database.begin() as session:
        found = submission(session, read_id("sub", submission_id))
        return DrawsOut(
            submission_id=submission_id,
            items=[
                DrawOut(
                    round=one.round,
                    level=one.level,
                    plan_version=one.plan_version,
                    rule=one.rule,
                    rate=one.rate,
                    draw=one.draw,
                    is_control=one.is_control,
                    votes=one.votes,
                    decided=one.decided,
                    accepted=one.accepted,
                    low=one.low,
                    authority=one.authority,
                    unmet=one.unmet,
                    at=one.at,
                )
                for one in draws(session, found.id)
            ],
        )


ROUTES: list[HTTPRouteHandler] = [get_review_plan, put_review_plan, get_draws]
