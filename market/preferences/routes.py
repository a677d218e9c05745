"""A project's preferences, raw and with style held equal, over HTTP."""

from dataclasses import asdict
from typing import Annotated

from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, QueryParameter

from market.db import PLATFORM, database
from market.http import Wire, get, read_id
from market.preferences.queries import preference_report
from market.preferences.rules import LEAST_S
from market.projects.queries import project

LeastS = Annotated[
    int, QueryParameter(ge=0, le=3600, description="Seconds that a preference takes at least.")
]


class StandingOut(Wire):
    """One source beside the others: worth in logits around nought, with its 95 % interval."""

    source: str
    comparisons: int
    worth: float
    low: float | None
    high: float | None


class BiasOut(Wire):
    """What a feature alone does to preferences, in logits for all of it beside none of it.

    `twice_chance` is the chance that the response with twice as much wins, all else alike.
    """

    feature: str
    effect: float
    low: float | None
    high: float | None
    p_value: float | None
    twice_chance: float
    is_biased: bool


class PreferencesOut(Wire):
    """Who wins a project's comparisons as they are, and with length, markup and emoji held equal.

    Left out are `too_fast` preferences, under `least_s` seconds, and `unreadable` ones; `is_cut`
    says that only the latest were read. Sources in different `groups` were never compared.
    """

    project_id: str
    least_s: int
    preferences: int
    comparisons: int
    raters: int
    groups: int
    too_fast: int
    unreadable: int
    is_cut: bool
    raw: list[StandingOut]
    controlled: list[StandingOut]
    bias: list[BiasOut]


@get("/projects/{project_id:str}/preferences", scope="project:read", tags=["Agreement"])
def get_preferences(project_id: FromPath[str], least_s: LeastS = LEAST_S) -> PreferencesOut:
    """Who wins accepted comparisons, raw and with style held equal, and what style alone does."""
    with database.begin() as session:
        which = project(session, read_id("prj", project_id)).id
    # As the platform, since recorded time is no lab's to read; what it leaves out is counted.
    with database.begin(PLATFORM) as session:
        found = preference_report(session, which, least_s=least_s)
    told = found.report
    return PreferencesOut(
        project_id=project_id,
        least_s=least_s,
        preferences=told.preferences,
        comparisons=told.comparisons,
        raters=told.raters,
        groups=told.groups,
        too_fast=told.too_fast,
        unreadable=found.unreadable,
        is_cut=found.is_cut or told.is_cut,
        raw=[StandingOut(**asdict(one)) for one in told.raw],
        controlled=[StandingOut(**asdict(one)) for one in told.controlled],
        bias=[BiasOut(**asdict(one), is_biased=one.is_biased) for one in told.bias],
    )


ROUTES: list[HTTPRouteHandler] = [get_preferences]
