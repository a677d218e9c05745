"""The page of a lab about preferences: who wins, raw and with style held equal."""

from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Template

from market.console.frame import page
from market.console.visitors import LAB
from market.db import PLATFORM, database
from market.http import read_id
from market.preferences.queries import preference_report
from market.preferences.routes import LeastS
from market.preferences.rules import BIAS_P, LEAST_S
from market.projects.queries import project

FEATURES = {"length": "Length", "markdown": "Marks of markup", "emoji": "Emoji"}


@get("/projects/{project_id:str}/preferences", guards=LAB, sync_to_thread=True)
def get_preferences(
    request: Request[Any, Any, Any], project_id: FromPath[str], least_s: LeastS = LEAST_S
) -> Template:
    """Who wins accepted comparisons, and what the mere dress of an answer does."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
    # As the platform, since recorded time is no lab's to read; what it leaves out is counted.
    with database.begin(PLATFORM) as session:
        read = preference_report(session, found.id, least_s=least_s)
    told = read.report
    place = {one.source: n for n, one in enumerate(told.raw, 1)}
    return page(
        request,
        "lab/preferences.html",
        project=found,
        told=told,
        rows=[(n, one, place[one.source]) for n, one in enumerate(told.controlled, 1)],
        raw={one.source: one for one in told.raw},
        unreadable=read.unreadable,
        is_cut=read.is_cut or told.is_cut,
        least_s=least_s,
        features=FEATURES,
        bias_p=BIAS_P,
    )


ROUTES: list[HTTPRouteHandler] = [get_preferences]
