"""Pages of ops about the forecasts: how they agreed with what came, and levels that ran dry."""

from datetime import timedelta
from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Template
from sqlalchemy import select

from market.console.charts import Chart, bounded, picture
from market.console.frame import page
from market.console.visitors import OPS, FormUnreadable
from market.console.words import NOTHING, share
from market.console.words import domain as named_domain
from market.db import database, now
from market.http import NotFound
from market.predictions.queries import in_force
from market.projects.models import TargetModel
from market.quality.queries import calibrations, frontier_alarms, frontier_cells
from market.quality.rules import STAGES, Calibration

LATEST = 5_000
"""Forecasts that a page judges, so that it answers at once; the API judges all."""

STAGE_WORDS = {
    "start": "The offer leads to work",
    "fooled": "The model is claimed to fail",
    "valid": "The claim holds",
    "stump": "A stump, all in all",
}
LONGEST_DAYS = 3660


def calibration_chart(stage: str, found: Calibration) -> Chart:
    """What was said beforehand against what came, in groups of one size."""
    sentence = "No forecast of it has come true or false yet."
    if found.ece is not None and found.ece_low is not None and found.ece_high is not None:
        sentence = (
            f"{found.count:,} forecasts, off by {share(found.ece)} on average (likely"
            f" {share(found.ece_low)} to {share(found.ece_high)})."
        )
    return Chart(
        STAGE_WORDS[stage],
        sentence,
        "Said beforehand",
        "Came",
        (
            bounded(
                "Came",
                [
                    (round(one.predicted, 4), one.observed, one.low, one.high)
                    for one in found.points
                ],
                "points",
            ),
        )
        if found.points
        else (),
        x_unit="share",
        y_unit="share",
        even_line="As said",
    )


def _checked_days(days: int) -> int:
    if not 1 <= days <= LONGEST_DAYS:
        raise FormUnreadable(f"days are a whole number from 1 to {LONGEST_DAYS:,}")
    return days


@get("/signals/calibration", guards=OPS, sync_to_thread=True)
def get_calibration(
    request: Request[Any, Any, Any], domain: FromQuery[str] = "", days: FromQuery[int] = 90
) -> Template:
    """How far forecasts can be trusted, link by link, and which levels ran dry."""
    since = now() - timedelta(days=_checked_days(days))
    with database.begin() as session:
        found = calibrations(session, since=since, domain=domain or None, latest=LATEST)
        alarms = frontier_alarms(session, domain=domain or None)
        models = session.execute(
            select(TargetModel.id, TargetModel.name).where(
                TargetModel.id.in_({one.target_model_id for one in alarms})
            )
        )
        return page(
            request,
            "ops/calibration.html",
            charts=[(stage, calibration_chart(stage, found[stage])) for stage in STAGES],
            whole=found["stump"],
            loss=NOTHING if found["stump"].log_loss is None else f"{found['stump'].log_loss:.3f}",
            version=in_force(session),
            alarms=alarms[:20],
            models=dict(models.all()),
            domains=sorted({one.domain for one in frontier_cells(session)}, key=named_domain),
            chosen=domain,
            days=days,
            latest=LATEST,
        )


@get("/signals/calibration/{name:str}", guards=OPS, sync_to_thread=True)
def get_picture(
    name: FromPath[str],
    domain: FromQuery[str] = "",
    days: FromQuery[int] = 90,
    scheme: FromQuery[str] = "light",
    v: FromQuery[str | None] = None,
) -> Response[bytes]:
    """The reliability curve of one link."""
    stage = name.removesuffix(".svg")
    if stage not in STAGES:
        raise NotFound("picture", name[:64])
    since = now() - timedelta(days=_checked_days(days))
    with database.begin() as session:
        found = calibrations(
            session, since=since, domain=domain or None, stages=[stage], latest=LATEST
        )
    return picture(calibration_chart(stage, found[stage]), scheme, v)


ROUTES: list[HTTPRouteHandler] = [get_calibration, get_picture]
