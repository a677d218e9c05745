"""How a preview's and a search's results are told on a page: as rows, and as charts; pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from market.console.charts import Chart, bounded, line
from market.console.words import HELD_TOGETHER, NOTHING, domain, money, share
from market.db import Json
from market.http import NotFound
from market.previews.models import PolicyPreview

LABELS = {
    ("planned", "fill"): "Seats filled",
    ("planned", "stumps"): "Stumps, expected",
    ("planned", "cost"): "Cost, planned",
    ("planned", "newcomer_share"): "Seats of newcomers",
    ("planned", "top_10_share"): "Pay of the best-paid tenth",
    ("planned", "gini"): "Inequality of pay",
    ("realised", "taken_up"): "Offers taken up",
    ("realised", "stumps"): "Stumps, realised",
    ("realised", "cost"): "Cost, realised",
    ("realised", "wait"): "Hours to acceptance",
}
"""What each figure is called, in the order of the page."""

SHOWN_DOMAINS = 8
SHARES = ("fill", "newcomer_share", "top_10_share", "taken_up")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure side by side, in words; `verdict` says which way it goes, if that can be told."""

    label: str
    unit: str
    kind: str
    today: str
    candidate: str
    change: str
    verdict: str
    is_told: bool


def figures_told(result: Json, currency: str) -> list[Figure]:
    """Every figure of a preview; where the record is too thin, what would have come is not told."""
    known = {(one["kind"], one["name"]): one for one in result["figures"]}
    found = []
    for (kind, name), label in LABELS.items():
        one = known.get((kind, name))
        if one is None:
            continue
        is_thin = kind == "realised" and result["refusal"] is not None
        found.append(
            Figure(
                label,
                _unit(name, one["unit"], currency),
                kind,
                _spanned(name, one["today"], currency),
                NOTHING if is_thin else _spanned(name, one["candidate"], currency),
                NOTHING if is_thin else _spanned(name, one["change"], currency, signed=True),
                "too little to tell" if is_thin else _way(one["change"]),
                not is_thin and _way(one["change"]) not in ("unsure", "the same"),
            )
        )
    return found


def _unit(name: str, unit: str, currency: str) -> str:
    return "" if name == "cost" and currency else unit


def _way(change: Mapping[str, float | None]) -> str:
    low, high = change["low"], change["high"]
    if low is None or high is None:
        return "unsure"
    # Replays end within a rounding of each other where nothing differs.
    if max(abs(low), abs(high)) < 1e-6:
        return "the same"
    if low <= 0 <= high:
        return "unsure"
    return "more" if low > 0 else "less"


def _spanned(
    name: str, told: Mapping[str, float | None], currency: str, *, signed: bool = False
) -> str:
    value, low, high = told["value"], told["low"], told["high"]
    if value is None:
        return NOTHING
    text = _said(name, value, currency, signed=signed)
    if low is None or high is None or low == high:
        return text
    one, other = (_said(name, bound, currency, signed=signed) for bound in (low, high))
    return f"{text} ({one} to {other})"


def _said(name: str, value: float, currency: str, *, signed: bool) -> str:
    plus = "+" if signed and value > 0 else ""
    if name in SHARES:
        points = f"{100 * value:.1f}{HELD_TOGETHER}points".replace("-", "−")
        return f"{plus}{points}" if signed else share(value)
    if name == "cost":
        amount = money(round(value), currency) if currency else f"{round(value):,}"
        return plus + amount.replace("-", "−")
    decimals = 2 if name == "gini" else 1
    return f"{plus}{value:,.{decimals}f}".replace("-", "−")


def figures_chart(result: Json) -> Chart:
    """How far each figure moves, in per cent of today, with its interval."""
    known = {(one["kind"], one["name"]): one for one in result["figures"]}
    names: list[str] = []
    points: dict[str, list[tuple[float, float, float, float]]] = {"planned": [], "realised": []}
    for (kind, name), label in LABELS.items():
        one = known.get((kind, name))
        if one is None or (kind == "realised" and result["refusal"] is not None):
            continue
        today, change = one["today"]["value"], one["change"]
        if not today or None in change.values():
            continue
        parts = (change["value"] / today, change["low"] / today, change["high"] / today)
        points[kind].append((float(len(names)), *parts))
        names.append(label)
    return Chart(
        "What would change",
        "Each figure under the candidate less today's, in per cent of today's; the lines hold nine"
        " tenths of what it may be.",
        "Figure",
        "Change",
        tuple(
            bounded(title, points[kind], "points")
            for kind, title in (("planned", "As planned"), ("realised", "As it would have come"))
            if points[kind]
        ),
        x_names=tuple(names),
        y_unit="change",
        level_line="As today",
    )


def domains_chart(result: Json) -> Chart:
    """How many of the seats of each field are filled, before and after."""
    some = sorted(result["domains"], key=lambda one: -one["seats"])[:SHOWN_DOMAINS]
    return Chart(
        "Seats filled by field",
        f"The {len(some)} fields with the most seats." if some else "No field had a seat.",
        "Field",
        "Seats filled",
        tuple(
            line(title, [(float(n), one[key]) for n, one in enumerate(some)], "bars")
            for title, key in (("Today", "fill_before"), ("Candidate", "fill_after"))
        )
        if some
        else (),
        x_names=tuple(domain(one["domain"]) for one in some),
        y_unit="share",
    )


def choices_told(result: Json) -> list[Json]:
    """The choices of a search, the one with the most stumps first, each with its number."""
    return [{**one, "number": number} for number, one in enumerate(result["choices"])]


def choices_chart(result: Json) -> Chart:
    """The frontier of choices: what more seats cost in stumps, and where today stands."""
    choices = sorted((one["fill"], one["stumps"]) for one in result["choices"])
    today = result["today"]
    return Chart(
        "What more seats cost in stumps",
        "Each point is a policy that no other one beats in both; the plan of the recorded runs"
        " under it.",
        "Seats filled",
        "Stumps expected",
        (
            line("Choices", choices, "line"),
            line("Today", [(today["fill"], today["stumps"])], "points"),
        ),
        x_unit="share",
    )


def chosen_document(found: PolicyPreview, choice: int) -> tuple[Json, str]:
    """The settings of a choice that a search found, and a reason that says where they are from.

    Raises:
        NotFound.
    """
    choices = (found.result or {}).get("choices", [])
    if not 0 <= choice < len(choices):
        raise NotFound("choice of that search", str(choice))
    one = choices[choice]
    return one["document"], (
        f"Choice {choice + 1} of a search over {found.since:%-d %b} to {found.until:%-d %b %Y}:"
        f" {one['fill']:.1%} of seats filled, {one['stumps']:.1f} stumps expected."
    )
