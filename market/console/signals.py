"""Pages of ops about the models: where the frontier stands, how true predictions are, who does
how much.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Template
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market.console.charts import Chart, bounded, line, picture
from market.console.finance import pay_by_week
from market.console.frame import page
from market.console.visitors import OPS
from market.console.words import domain, share
from market.db import database
from market.http import NotFound
from market.offers.models import Offer
from market.runs.models import MatchingRun
from market.submissions.models import Submission
from market.tasks.models import Task
from market.verdicts.models import Verdict
from market.verdicts.rules import wilson
from matching.concentration import Concentration, concentration, lorenz

if TYPE_CHECKING:
    from matching.frontier import FrontierTracker

LATEST = 20_000
SHOWN_LEVELS = 4
BINS = 8
LEAST_IN_BIN = 3
RUNS = 60
WEEK = timedelta(days=7)
DRAWS = 300
"""Of the people, for an interval: enough for a page that shows whole per cents."""


@dataclass(frozen=True, slots=True)
class Level:
    """One field at one complexity: its stump rate now, with nine tenths of what it may be.

    `dried_at` is when a fall was beyond doubt; `opening` its rate at the start, once known.
    """

    name: str
    attempts: int
    stumps: int
    mean: float
    low: float
    high: float
    opening: float | None
    dried_at: datetime | None

    @property
    def is_dry(self) -> bool:
        """Whether it fell beyond doubt and has not risen to its beginning since."""
        return self.dried_at is not None and self.opening is not None and self.mean < self.opening


@dataclass(frozen=True, slots=True)
class Frontier:
    """Every level that has verdicts, the busiest first, and the picture of the busiest."""

    levels: tuple[Level, ...]
    chart: Chart


def frontier(session: Session, project_id: UUID | None = None) -> Frontier:
    """Stump rates by field and complexity, week by week, from the validated verdicts that the
    caller may see, or from those of one project.
    """
    wanted = (
        select(Task.domain, Task.complexity, Verdict.is_stump, Verdict.decided_at)
        .join(Task, Task.id == Verdict.task_id)
        .where(Verdict.is_tested)
        .order_by(Verdict.decided_at.desc())
        .limit(LATEST)
    )
    if project_id is not None:
        wanted = wanted.where(Verdict.project_id == project_id)
    rows = session.execute(wanted).all()[::-1]
    if not rows:
        return Frontier((), _levels_chart((), (), {}))
    began = rows[0].decided_at
    weeks = 1 + (rows[-1].decided_at - began) // WEEK
    # SciPy comes with the tracker, and the other pages never need it.
    from matching.frontier import FrontierTracker

    tracker = FrontierTracker()
    cells: dict[tuple[str, int], int] = {}
    seen: dict[int, list[tuple[datetime, bool]]] = {}
    dried: dict[int, datetime] = {}
    series: dict[int, list[tuple[float, float, float, float]]] = {}
    week = 0
    for field, complexity, is_stump, at in rows:
        while (at - began) // WEEK > week:
            _note(tracker, series, seen, week)
            week += 1
        key = (field.partition(".")[0], complexity)
        if key not in cells:
            cells[key] = tracker.open(at=(at - began) / WEEK)
            seen[cells[key]] = []
        cell = cells[key]
        seen[cell].append((at, is_stump))
        if tracker.observe(cell, float(is_stump), at=(at - began) / WEEK) is not None:
            dried[cell] = at
    _note(tracker, series, seen, week)
    levels = {}
    for (field, complexity), cell in cells.items():
        rate = tracker.rate(cell, at=(rows[-1].decided_at - began) / WEEK)
        levels[cell] = Level(
            f"{domain(field)}, complexity {complexity}",
            len(seen[cell]),
            sum(is_stump for _, is_stump in seen[cell]),
            rate.mean,
            rate.low,
            rate.high,
            rate.opening,
            dried.get(cell),
        )
    busiest = sorted(levels, key=lambda cell: (-levels[cell].attempts, levels[cell].name))
    names = tuple(f"{began + n * WEEK:%-d %b}" for n in range(weeks))
    shown = {levels[cell].name: series[cell] for cell in busiest[:SHOWN_LEVELS]}
    return Frontier(tuple(levels[cell] for cell in busiest), _levels_chart(rows, names, shown))


def _note(
    tracker: "FrontierTracker",
    series: dict[int, list[tuple[float, float, float, float]]],
    seen: dict[int, list[tuple[datetime, bool]]],
    week: int,
) -> None:
    """Keep where every level stands at the end of a week."""
    for cell in seen:
        rate = tracker.rate(cell, at=week + 1.0)
        series.setdefault(cell, []).append((float(week), rate.mean, rate.low, rate.high))


def _levels_chart(
    rows: Any, names: tuple[str, ...], shown: dict[str, list[tuple[float, float, float, float]]]
) -> Chart:
    return Chart(
        "Stump rate by level",
        f"From {len(rows):,} validated verdicts; the bands hold nine tenths of what each rate may"
        " be.",
        "Week of",
        "Stump rate",
        tuple(bounded(name, points, "line") for name, points in shown.items()),
        x_names=names,
        y_unit="share",
    )


def reliability_chart(session: Session) -> Chart:
    """What was predicted of stumps when offers were made, against what came of them."""
    rows = session.execute(
        # What a pair was worth holds the task's weight, too, which is no part of the chance.
        select(Offer.parts["stump"]["measured"].as_float() / Task.value_weight, Verdict.is_stump)
        .select_from(Offer)
        .join(Submission, Submission.offer_id == Offer.id)
        .join(Verdict, Verdict.submission_id == Submission.id)
        .join(Task, Task.id == Verdict.task_id)
        .where(
            Verdict.is_tested,
            Task.value_weight > 0,
            Offer.parts["stump"]["measured"].as_string().is_not(None),
        )
        .order_by(Verdict.decided_at.desc())
        .limit(LATEST)
    ).all()
    predicted = np.clip(np.array([row[0] for row in rows], np.float64), 0.0, 1.0)
    came = np.array([row[1] for row in rows], np.bool_)
    points = []
    for number in range(BINS):
        within = (predicted >= number / BINS) & (
            (predicted < (number + 1) / BINS) | (number == BINS - 1)
        )
        size = int(within.sum())
        if size >= LEAST_IN_BIN:
            found = wilson(int(came[within].sum()), size)
            mean = round(float(predicted[within].mean()), 4)
            points.append((mean, found.part / size, found.low, found.high))
    sentence = f"{len(rows):,} offers that ended in a verdict."
    if len(rows):
        off = abs(float(predicted.mean()) - float(came.mean()))
        sentence = (
            f"{sentence} Predicted {share(float(predicted.mean()))} on average, came"
            f" {share(float(came.mean()))}: {100 * off:.1f} points apart. Groups of fewer than"
            f" {LEAST_IN_BIN} are not drawn."
        )
    return Chart(
        "Calibration of the chance of a stump",
        sentence,
        "Predicted when the offer was made",
        "Share that came true",
        (bounded("Came true", points, "points"),) if points else (),
        x_unit="share",
        y_unit="share",
        even_line="As predicted",
    )


@dataclass(frozen=True, slots=True)
class Spread:
    """How the work and its stumps are spread over people."""

    work: Concentration
    stumps: Concentration
    chart: Chart


def spread(session: Session) -> Spread:
    """Who does how much of the accepted work, and of the stumps."""
    # Loads scipy, which no other page of the console needs.
    from matching.tail import fit_tail

    rows = session.execute(
        select(
            func.count().filter(Verdict.is_accepted), func.count().filter(Verdict.is_stump)
        ).group_by(Verdict.expert_id)
    ).all()
    work = np.array([row[0] for row in rows], np.float64)
    stumps = np.array([row[1] for row in rows], np.float64)
    found = concentration(stumps, draws=DRAWS)
    series = [
        line(name, [(round(float(a), 4), float(b)) for a, b in _thinned(amount)], "line")
        for name, amount in (("Accepted work", work), ("Stumps", stumps))
        if len(amount) and amount.sum() > 0
    ]
    chart = Chart(
        "Who does how much",
        f"{len(rows):,} people with a verdict. {found.sentence('validated stumps')}"
        f" {fit_tail(stumps).sentence()}",
        "Share of people, those with the least first",
        "Share of the whole",
        tuple(series),
        x_unit="share",
        y_unit="share",
        even_line="Everybody the same",
    )
    return Spread(concentration(work, draws=DRAWS), found, chart)


def _thinned(amount: np.ndarray[Any, np.dtype[np.float64]]) -> list[tuple[float, float]]:
    """At most twenty-one points of a Lorenz curve: as many as an eye can tell apart."""
    people, held = lorenz(amount)
    at = np.unique(np.linspace(0, len(people) - 1, min(len(people), 21)).astype(int))
    return [(float(people[n]), float(held[n])) for n in at]


def runs_chart(session: Session) -> Chart:
    """How many of the seats that runs saw they filled."""
    rows = session.scalars(
        select(MatchingRun)
        .where(MatchingRun.state == "succeeded")
        .order_by(MatchingRun.id.desc())
        .limit(RUNS)
    ).all()[::-1]
    points: list[tuple[float, float]] = []
    names: list[str] = []
    for run in rows:
        seats = run.offers + run.open_seats
        if seats:
            points.append((float(len(names)), run.offers / seats))
            names.append(f"{run.requested_at:%-d %b, %H:%M}")
    return Chart(
        "Seats filled by run",
        f"The last {len(names):,} runs that found a seat to fill." if names else "No run yet.",
        "Asked for",
        "Seats filled",
        (line("Filled", points, "line"),) if points else (),
        x_names=tuple(names),
        y_unit="share",
    )


CHARTS: dict[str, Callable[[Session], Chart]] = {
    "levels": lambda session: frontier(session).chart,
    "calibration": reliability_chart,
    "spread": lambda session: spread(session).chart,
    "runs": runs_chart,
    "pay": pay_by_week,
}


@get("/signals", guards=OPS, sync_to_thread=True)
def get_signals(request: Request[Any, Any, Any]) -> Template:
    """Where the frontier stands, and how far predictions can be trusted."""
    with database.begin() as session:
        return page(
            request,
            "ops/signals.html",
            frontier=frontier(session),
            calibration=reliability_chart(session),
            spread=spread(session),
            filled=runs_chart(session),
        )


@get("/charts/{name:str}", guards=OPS, sync_to_thread=True)
def get_chart(
    name: FromPath[str], scheme: FromQuery[str] = "light", v: FromQuery[str | None] = None
) -> Response[bytes]:
    """One picture of the page, from what is true now."""
    kind = CHARTS.get(name.removesuffix(".svg"))
    if kind is None:
        raise NotFound("chart", name[:64])
    with database.begin() as session:
        chart = kind(session)
    return picture(chart, scheme, v)


ROUTES: list[HTTPRouteHandler] = [get_signals, get_chart]
