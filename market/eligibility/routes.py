"""Whom a project takes, and the step that a task is at, over HTTP."""

from datetime import datetime
from typing import Annotated

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from market.auth import Part, Principal
from market.db import PLATFORM, database, now
from market.eligibility.actions import set_eligibility
from market.eligibility.models import Eligibility
from market.eligibility.queries import eligibility_of, steps_of, widening_of, widening_steps
from market.eligibility.rules import FIRST_STEP, LEAST_PRIORITY, MAX_STEPS, MOST_PRIORITY, Step
from market.expressions.queries import explained
from market.expressions.rules import told
from market.http import Wire, get, put, read_id, wire_id
from market.projects.queries import project
from market.tasks.queries import task


class StepIn(Wire):
    """Whom tasks take, and after how many seconds without a claim the next step begins; while they
    are at the step, the matching weighs them `priority` times.
    """

    expression: str
    after_s: int | None = None
    priority: Annotated[float, Meta(ge=LEAST_PRIORITY, le=MOST_PRIORITY)] = 1.0


class EligibilityIn(Wire):
    """Whom a project takes, first and as time passes."""

    steps: Annotated[tuple[StepIn, ...], Meta(min_length=1, max_length=MAX_STEPS)]


class StepOut(Wire):
    """A step, how many experts who can work it takes, and the condition that costs most of them.

    Units: `after_s` seconds; a number of 1 to 4 people is null for a lab.
    """

    expression: str
    after_s: int | None
    priority: float
    matching: int | None
    costliest: str | None


class EligibilityOut(Wire):
    """Whom a project takes now."""

    id: str
    project_id: str
    version: int
    steps: list[StepOut]
    set_at: datetime


class CameOut(Wire):
    """A step that a task came to."""

    eligibility_id: str
    step: int
    at: datetime


class TaskEligibilityOut(Wire):
    """Whom a task takes now, when it takes more, and how it came there.

    Units: `left_s` seconds that the step still has, while the task cannot be claimed.
    """

    step: int
    steps: int
    expression: str
    priority: float
    widens_at: datetime | None
    left_s: int | None
    history: list[CameOut]


@put("/projects/{project_id:str}/eligibility", scope="project:write", tags=["Projects"])
def put_eligibility(
    project_id: FromPath[str],
    data: JSONBody[EligibilityIn],
    principal: NamedDependency[Principal],
) -> EligibilityOut:
    """Say whom a project takes; its tasks begin at the first step. Offers made before stay."""
    with database.begin() as session:
        made = set_eligibility(
            session,
            read_id("prj", project_id),
            tuple(Step(one.expression, one.after_s, one.priority) for one in data.steps),
            at=now(),
            actor_id=principal.person_id,
        )
    return _out(made, principal)


@get("/projects/{project_id:str}/eligibility", scope="project:read", tags=["Projects"])
def get_eligibility(
    project_id: FromPath[str], principal: NamedDependency[Principal]
) -> EligibilityOut:
    """Whom a project takes, and how many experts each step finds now."""
    with database.begin() as session:
        found = eligibility_of(session, project(session, read_id("prj", project_id)).id)
    return _out(found, principal)


@get("/tasks/{task_id:str}/eligibility", scope="task:read", tags=["Tasks"])
def get_task_eligibility(task_id: FromPath[str]) -> TaskEligibilityOut:
    """Whom a task takes now, and when it will take more."""
    with database.begin() as session:
        wanted = task(session, read_id("tsk", task_id))
        found = eligibility_of(session, wanted.project_id)
        steps = steps_of(found)
        timer = widening_of(session, wanted.id, found.id)
        step = FIRST_STEP if timer is None else timer.step
        return TaskEligibilityOut(
            step=step,
            steps=len(steps),
            expression=steps[step - 1].expression.source,
            priority=steps[step - 1].priority,
            widens_at=None if timer is None else timer.due_at,
            left_s=None if timer is None else timer.left_s,
            history=[
                CameOut(eligibility_id=wire_id("elg", one.eligibility_id), step=one.step, at=one.at)
                for one in widening_steps(session, wanted.id)
            ],
        )


def _out(found: Eligibility, principal: Principal) -> EligibilityOut:
    is_lab, at = principal.part is Part.LAB, now()
    steps = []
    # As the platform, because experts are counted whom a lab cannot see.
    with database.begin(PLATFORM) as session:
        for one in steps_of(found):
            counts = explained(session, one.expression.tree, at=at)
            costly = max(counts.conditions, key=lambda each: each.found_without, default=None)
            is_costly = costly is not None and costly.found_without > 0
            steps.append(
                StepOut(
                    expression=one.expression.source,
                    after_s=one.after_s,
                    priority=one.priority,
                    matching=told(counts.matching, is_lab=is_lab),
                    costliest=costly.written if costly is not None and is_costly else None,
                )
            )
    return EligibilityOut(
        id=wire_id("elg", found.id),
        project_id=wire_id("prj", found.project_id),
        version=found.version,
        steps=steps,
        set_at=found.set_at,
    )


ROUTES: list[HTTPRouteHandler] = [put_eligibility, get_eligibility, get_task_eligibility]
