"""A lab's page on how the work of a project is reviewed, and where it goes that is not taken."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template

from market.console.forms import Form, field, tried, whole_number
from market.console.frame import Notice, page
from market.console.visitors import LAB, FormUnreadable, my_id
from market.db import database, now
from market.http import read_id
from market.projects.queries import project
from market.review_plans.actions import set_plan
from market.review_plans.queries import newest_plan
from market.review_plans.rules import FurtherLevel, Plan, SampleRule

CHOICES = {
    "adjudicate": ("never", "ties", "splits"),
    "rejected": ("others", "drop"),
    "stop_early": ("no", "yes"),
}
"""What a form may choose: when a senior decides, who does anew what was rejected, how votes are
asked for.
"""


@get("/projects/{project_id:str}/plan", guards=LAB, sync_to_thread=True)
def get_plan(
    request: Request[Any, Any, Any],
    project_id: FromPath[str],
    said: FromQuery[str | None] = None,
) -> Template:
    """How a project's work is reviewed, and the form to say so."""
    del said
    return _page(request, project_id, None)


@post("/projects/{project_id:str}/plan", guards=LAB, sync_to_thread=True, status_code=303)
def post_plan(
    request: Request[Any, Any, Any], project_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Review a project's work so from now on."""

    def act() -> str:
        found = read_id("prj", project_id)
        with database.begin() as session:
            _, before = newest_plan(session, found)
            set_plan(session, found, _read(data, before), at=now(), actor_id=my_id(request))
        return f"/console/lab/projects/{project_id}/plan?said=plan-set"

    return tried(data, act, partial(_page, request, project_id, data))


def _page(
    request: Request[Any, Any, Any],
    project_id: str,
    typed: Mapping[str, str] | None,
    *,
    status: int = 200,
    notice: Notice | None = None,
) -> Template:
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        version, plan = newest_plan(session, found.id)
        return page(
            request,
            "lab/plan.html",
            status=status,
            notice=notice,
            project=found,
            version=version,
            plan=plan,
            choices=CHOICES,
            typed=_typed(plan) if typed is None else typed,
        )


def _typed(plan: Plan) -> dict[str, str]:
    """What the form holds before anybody types: the plan as it is."""
    found = {
        "control": _per_cent(plan.control_rate),
        "stop_early": "yes" if plan.stop_early else "no",
        "adjudicate": plan.adjudicate,
        "max_rework": str(plan.max_rework),
        "rework_hours": str(plan.rework_within_s // 3600),
        "rejected": plan.rejected,
    }
    for one in plan.rules[:1]:
        found |= {"rate": _per_cent(one.rate), "min_decided": str(one.min_decided)}
        found["min_accepted"] = _per_cent(one.min_accepted)
    for above in plan.further[:1]:
        found |= {"above": _per_cent(above.rate), "above_votes": str(above.votes)}
    return found


def _read(data: Mapping[str, str], before: Plan) -> Plan:
    """The plan before, with what a form says instead; what it has no field for stays.

    Raises:
        FormUnreadable.
    """
    shown = _typed(before)
    rule = before.rules[0] if before.rules else SampleRule(rate=1.0)
    rules, further = before.rules, before.further
    # More than one of a kind comes over the API, and is not the form's to cut down.
    if len(rules) <= 1:
        found = SampleRule(
            rate=_share(data, shown, "rate", "the share that is reviewed", rule.rate),
            min_decided=whole_number(
                data, "min_decided", "decided works", least=0, most=1_000_000, absent=0
            ),
            min_accepted=_share(data, shown, "min_accepted", "accepted work", rule.min_accepted),
        )
        rules = (found,) if field(data, "rate") else ()
    if len(further) <= 1:
        above = further[0] if further else FurtherLevel(level=2, rate=0.0)
        looked = FurtherLevel(
            level=above.level,
            rate=_share(data, shown, "above", "the share that goes further", above.rate),
            votes=whole_number(data, "above_votes", "votes above", least=1, most=15, absent=1),
        )
        further = (looked,) if field(data, "above") else ()
    hours = whole_number(
        data, "rework_hours", "hours for changes", least=1, most=14 * 24, absent=48
    )
    whole_hours = before.rework_within_s // 3600
    return msgspec.convert(
        msgspec.to_builtins(before)
        | {
            "control_rate": _share(
                data, shown, "control", "the control share", before.control_rate
            ),
            "rules": msgspec.to_builtins(rules),
            "further": msgspec.to_builtins(further),
            "stop_early": _chosen(data, shown, "stop_early") == "yes",
            "adjudicate": _chosen(data, shown, "adjudicate"),
            "rejected": _chosen(data, shown, "rejected"),
            "max_rework": whole_number(
                data, "max_rework", "rounds of changes", least=0, most=5, absent=0
            ),
            # The form knows whole hours; a finer time stays while it is not changed.
            "rework_within_s": before.rework_within_s if hours == whole_hours else 3600 * hours,
        },
        Plan,
    )


def _per_cent(share: float) -> str:
    return f"{100 * share:g}"


def _share(
    data: Mapping[str, str], shown: Mapping[str, str], name: str, label: str, kept: float
) -> float:
    # The form knows whole per cents; a finer share stays while it is not changed.
    if name in shown and field(data, name) == shown[name]:
        return kept
    return whole_number(data, name, label + " in per cent", least=0, most=100, absent=0) / 100


def _chosen(data: Mapping[str, str], shown: Mapping[str, str], name: str) -> str:
    found = data.get(name, shown[name])
    if found not in CHOICES[name]:
        raise FormUnreadable(f"{name.replace('_', ' ')} is one of {', '.join(CHOICES[name])}")
    return found


ROUTES: list[HTTPRouteHandler] = [get_plan, post_plan]
