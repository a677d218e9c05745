"""Panels over HTTP."""

from decimal import Decimal
from typing import Annotated

from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta
from sqlalchemy.orm import Session

from market.db import database, now
from market.http import Wire, get, put, read_id, wire_id, wire_ids
from market.panels.actions import set_panel
from market.panels.queries import panel
from market.panels.rules import MAX_PANEL, StumpRule
from market.projects.models import Project
from market.projects.queries import project


class PanelIn(Wire):
    """The models to ask beside the target model, and which of all of them a stump must defeat."""

    model_ids: Annotated[tuple[str, ...], Meta(max_length=MAX_PANEL)]
    stump_rule: StumpRule = "target"


class PanelModelOut(Wire):
    """One model of a panel. Units: minor units of USD."""

    id: str
    name: str
    model: str
    cost_cap_minor: int
    spent_minor: Decimal


class PanelOut(Wire):
    """Which models every question of a project is put to, and which a stump must defeat."""

    project_id: str
    target_model_id: str | None
    stump_rule: str
    models: list[PanelModelOut]


@get("/projects/{project_id:str}/panel", scope="project:read", tags=["Panels"])
def get_panel(project_id: FromPath[str]) -> PanelOut:
    """The models that a project asks beside its target model."""
    with database.begin() as session:
        return _panel_out(session, project(session, read_id("prj", project_id)))


@put(
    "/projects/{project_id:str}/panel",
    scope="project:write",
    status_code=HTTP_200_OK,
    tags=["Panels"],
)
def put_panel(project_id: FromPath[str], data: JSONBody[PanelIn]) -> PanelOut:
    """Ask these models too, from the next question on; each at its own price and cost cap."""
    with database.begin() as session:
        found = set_panel(
            session,
            read_id("prj", project_id),
            [read_id("mdl", one) for one in data.model_ids],
            rule=data.stump_rule,
            at=now(),
        )
        return _panel_out(session, found)


def _panel_out(session: Session, found: Project) -> PanelOut:
    return PanelOut(
        project_id=wire_id("prj", found.id),
        target_model_id=wire_ids("mdl", found.target_model_id),
        stump_rule=found.stump_rule,
        models=[
            PanelModelOut(
                id=wire_id("mdl", one.id),
                name=one.name,
                model=one.model,
                cost_cap_minor=one.cost_cap_minor,
                spent_minor=one.spent_minor,
            )
            for one in panel(session, found.id)
        ],
    )


ROUTES: list[HTTPRouteHandler] = [get_panel, put_panel]
