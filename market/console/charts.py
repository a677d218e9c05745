"""Charts as data, drawn as SVG: one description gives the picture and the table beside it.

A chart that is drawn twice is the same bytes, so that browsers keep what they have by its digest.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from textwrap import fill
from threading import Lock
from typing import TYPE_CHECKING, Literal

from litestar import Response

from market.console.frame import HEADERS
from market.console.words import HELD_TOGETHER, count, share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scheme = Literal["light", "dark"]
Unit = Literal["share", "change", "number", "count"]
"""What an axis is counted in; a change is a share with its sign, measured from nought."""

INKS: dict[str, dict[str, str]] = {
    "light": {
        "ink": "#1d1b16",
        "quiet": "#635e52",
        "line": "#ddd7c9",
        "series": "#1f5c4d #8a5300 #4a6c9b #8a5a83 #635e52",
    },
    "dark": {
        "ink": "#ece8dc",
        "quiet": "#a9a393",
        "line": "#38352b",
        "series": "#7cc7ae #e7b765 #8fb0dc #c99ac2 #a9a393",
    },
}
"""The colours of the style sheet; a picture in a page cannot read the page's own."""

MARKERS = "osD^v"
SHAPE_INCHES = (7.2, 3.2)
KEPT = 256
_drawing = Lock()


@dataclass(frozen=True, slots=True)
class Series:
    """One thing measured: a line, points, or bars; `low` and `high` bound it where it is doubtful.

    Shapes: x, y, low, high all of one length, low and high also empty.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    kind: Literal["line", "points", "bars"] = "line"


@dataclass(frozen=True, slots=True)
class Chart:
    """What a picture shows, in words and numbers; `x_names` stand at 0, 1, 2 … of the first axis.

    `even_line` names the diagonal and `level_line` the line at nought, where there is one.
    """

    title: str
    sentence: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_names: tuple[str, ...] = ()
    x_unit: Unit = "number"
    y_unit: Unit = "number"
    even_line: str = ""
    level_line: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(series.x for series in self.series)

    @property
    def digest(self) -> str:
        """The same for equal charts."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads of the columns of the table that says the same."""
        return (self.x_label, *(series.name for series in self.series))

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """The table that says the same; intervals stand in words beside their value."""
        places = sorted({x for series in self.series for x in series.x})
        found = []
        for place in places:
            cells = [self._named(place)]
            for series in self.series:
                at = series.x.index(place) if place in series.x else None
                cells.append("–" if at is None else self._cell(series, at))
            found.append(tuple(cells))
        return found

    def _named(self, place: float) -> str:
        if self.x_names:
            return self.x_names[int(place)]
        return said(place, self.x_unit)

    def _cell(self, series: Series, at: int) -> str:
        value = said(series.y[at], self.y_unit)
        if not series.low:
            return value
        low, high = said(series.low[at], self.y_unit), said(series.high[at], self.y_unit)
        return f"{value} ({low} to {high})"


def said(number: float, unit: Unit) -> str:
    """A number of an axis in words."""
    if unit == "share":
        return share(number)
    if unit == "change":
        return f"{100 * number:+.1f}{HELD_TOGETHER}%".replace("-", "−")
    return count(number) if unit == "count" else f"{number:.4g}".replace("-", "−")


def svg_of(chart: Chart, scheme: Scheme) -> bytes:
    """The chart as SVG, the same bytes each time."""
    # Drawing is not safe in two threads at once, and one picture takes a fraction of a second.
    with _drawing:
        return _drawn(chart, scheme)


def picture(chart: Chart, scheme: str, version: str | None) -> Response[bytes]:
    """A chart as an answer; kept by browsers for as long as the address names its digest."""
    known: Scheme = "dark" if scheme == "dark" else "light"
    is_exact = version == chart.digest
    headers = {
        **HEADERS,
        # The drawing styles its own lines; nothing else may be loaded or run by it.
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
        "Cache-Control": "private, max-age=86400, immutable" if is_exact else "private, no-cache",
        "ETag": f'"{chart.digest}-{known}"',
    }
    return Response(svg_of(chart, known), media_type="image/svg+xml", headers=headers)


@lru_cache(maxsize=KEPT)
def _drawn(chart: Chart, scheme: Scheme) -> bytes:
    # Loaded with the first picture, since no other page needs it.
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    ink = INKS[scheme]
    with rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "stumpwork",
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "font.size": 10,
            "text.color": ink["ink"],
            "axes.edgecolor": ink["line"],
            "axes.labelcolor": ink["quiet"],
            "xtick.color": ink["quiet"],
            "ytick.color": ink["quiet"],
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        figure = Figure(figsize=SHAPE_INCHES, layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        _plot(axes, chart, ink)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _plot(axes: "Axes", chart: Chart, ink: dict[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    colours = ink["series"].split()
    bars = [series for series in chart.series if series.kind == "bars"]
    for number, series in enumerate(chart.series):
        colour, marker = colours[number % len(colours)], MARKERS[number % len(MARKERS)]
        if series.kind == "bars":
            _bars(axes, series, bars.index(series), len(bars), colour, ink["quiet"])
            continue
        if series.low and series.kind == "points":
            reach = _reach(series)
            axes.errorbar(series.x, series.y, reach, fmt="none", ecolor=colour, elinewidth=1.4)
        elif series.low:
            axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.16, lw=0)
        style = "none" if series.kind == "points" else "-"
        shown = marker if style == "none" or len(series.x) <= 40 else ""
        (drawn,) = axes.plot(series.x, series.y, ls=style, lw=1.8, color=colour, label=series.name)
        drawn.set_marker(shown)
        drawn.set_markersize(4.5)
    if chart.even_line:
        axes.plot([0, 1], [0, 1], "--", color=ink["quiet"], lw=1, label=chart.even_line)
    if chart.level_line:
        axes.axhline(0, ls="--", color=ink["quiet"], lw=1, label=chart.level_line)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.grid(axis="y", color=ink["line"], lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    if chart.y_unit == "share":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(0, 1.02)
    elif chart.y_unit == "change":
        bottom, top = axes.get_ylim()
        axes.set_ylim(min(bottom, -0.02), max(top, 0.02))
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:+.0f}%" if share else "0%")
    elif chart.y_unit == "count":
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if chart.x_unit == "share":
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        if chart.even_line:
            axes.set_xlim(-0.02, 1.02)
    if chart.x_names:
        # More names than that would lie upon each other.
        step = -(-len(chart.x_names) // 8)
        names = [fill(name, 13) for name in chart.x_names[::step]]
        axes.set_xticks(range(0, len(chart.x_names), step), names)
        axes.set_xlim(-0.5, len(chart.x_names) - 0.5)
    if len(chart.series) + bool(chart.even_line) + bool(chart.level_line) > 1:
        axes.legend(frameon=False, fontsize=9, ncols=2)


def _bars(axes: "Axes", series: Series, number: int, of: int, colour: str, quiet: str) -> None:
    width = 0.72 / of
    left = [x - 0.36 + width * (number + 0.5) for x in series.x]
    axes.bar(left, series.y, width * 0.92, color=colour, label=series.name)
    if series.low:
        axes.errorbar(left, series.y, _reach(series), fmt="none", ecolor=quiet, elinewidth=1.2)


def _reach(series: Series) -> list[list[float]]:
    """How far an interval goes below and above its value."""
    below = [max(0.0, y - low) for y, low in zip(series.y, series.low, strict=True)]
    above = [max(0.0, high - y) for y, high in zip(series.y, series.high, strict=True)]
    return [below, above]


def line(
    name: str, points: Sequence[tuple[float, float]], kind: Literal["line", "points", "bars"]
) -> Series:
    """A series without intervals."""
    return Series(name, tuple(x for x, _ in points), tuple(y for _, y in points), kind=kind)


def bounded(
    name: str,
    points: Sequence[tuple[float, float, float, float]],
    kind: Literal["line", "points", "bars"],
) -> Series:
    """A series of places, values, and the low and high bounds of each value."""
    x, y, low, high = (tuple(point[n] for point in points) for n in range(4))
    return Series(name, x, y, low, high, kind)
