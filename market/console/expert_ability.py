"""What is believed of an expert and what its work was worth, for its own eyes, with reasons."""

from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery
from litestar.response import Template
from sqlalchemy import select

from market.console.charts import Chart, bounded, picture
from market.console.expert import zone_of
from market.console.frame import page
from market.console.visitors import EXPERT, my_id
from market.console.words import domain
from market.db import PLATFORM, database
from market.impact.queries import impacts, latest_credits
from market.impact.rules import what_would_change
from market.predictions.models import Ability
from market.projects.models import TargetModel
from market.quality.queries import abilities, evidence_of_ability
from market.quality.rules import what_would_change as move_of_ability
from market.tasks.models import Task

SHOWN = 8


def ability_chart(rows: list[Ability], models: dict[Any, str]) -> Chart:
    """The chance of a stump by field, with what it may be."""
    shown = sorted(rows, key=lambda row: -row.outcomes)[:SHOWN]
    names = tuple(
        f"{domain(row.domain)}, {models[row.target_model_id]}"
        if row.target_model_id in models
        else domain(row.domain)
        for row in shown
    )
    return Chart(
        "Your chance of a stump",
        "For a piece of work of the middle complexity; the line holds nine tenths of what it may"
        " be.",
        "Field",
        "Chance",
        (
            bounded(
                "Chance",
                [(float(n), row.chance, row.low, row.high) for n, row in enumerate(shown)],
                "points",
            ),
        )
        if shown
        else (),
        x_names=names,
        y_unit="share",
    )


@get("/ability", guards=EXPERT, sync_to_thread=True)
def get_ability(request: Request[Any, Any, Any]) -> Template:
    """What is believed of the visitor, on what it rests, and what would change it."""
    me = my_id(request)
    # As the platform, because the outcomes behind it are no expert's rows; only the visitor's own.
    with database.begin(PLATFORM) as session:
        rows = list(session.scalars(abilities(expert_id=me).order_by(Ability.domain, Ability.id)))
        evidence = evidence_of_ability(session, me)
        worth = impacts(session, expert_id=me)
        tasks = dict(
            session.execute(
                select(Task.id, Task.external_id).where(
                    Task.id.in_({one.task_id for one in evidence})
                )
            ).all()
        )
        models = dict(
            session.execute(
                select(TargetModel.id, TargetModel.name).where(
                    TargetModel.id.in_({row.target_model_id for row in rows})
                )
            ).all()
        )
        return page(
            request,
            "expert/ability.html",
            abilities=rows,
            evidence=evidence,
            tasks=tasks,
            models=models,
            chart=ability_chart(rows, models),
            what_would_change=lambda row: move_of_ability(row.chance, row.sd, row.outcomes),
            impacts=[(row, what_would_change(row.items, row.sd)) for row in worth],
            credits=latest_credits(session, me),
            zone=zone_of(session, me),
        )


@get("/ability.svg", guards=EXPERT, sync_to_thread=True)
def get_picture(
    request: Request[Any, Any, Any],
    scheme: FromQuery[str] = "light",
    v: FromQuery[str | None] = None,
) -> Response[bytes]:
    """The picture of what is believed of the visitor."""
    with database.begin(PLATFORM) as session:
        wanted = abilities(expert_id=my_id(request)).order_by(Ability.domain, Ability.id)
        rows = list(session.scalars(wanted))
        models = dict(
            session.execute(
                select(TargetModel.id, TargetModel.name).where(
                    TargetModel.id.in_({row.target_model_id for row in rows})
                )
            ).all()
        )
        chart = ability_chart(rows, models)
    return picture(chart, scheme, v)


ROUTES: list[HTTPRouteHandler] = [get_ability, get_picture]
