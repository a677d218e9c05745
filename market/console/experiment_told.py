"""How what was seen of an experiment is told on a page: as rows, and as charts; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from market.console.charts import Chart, bounded
from market.console.words import HELD_TOGETHER, NOTHING, share
from market.experiments.models import ExperimentLook
from market.experiments.rules import METRICS, TOGETHER

KIND_WORDS = {
    "policy": "a policy",
    "pay": "pay",
    "instructions": "instructions",
    "tool_version": "a version of a tool",
    "draft": "an attached draft",
}
METRIC_WORDS = {
    "stump": "Stumps an assignment",
    "accepted": "Offers accepted",
    "rejected": "Work rejected",
    "wait_h": "Hours to acceptance",
    "work_h": "Hours of work",
}
IN_HOURS = ("wait_h", "work_h")
SHOWN_LOOKS = 60
LEAST_TOLD = 0.05
"""Share of the spread between units that their past explained, below which it is not told."""


@dataclass(frozen=True, slots=True)
class Told:
    """One metric of both arms in words; `verdict` says what its interval allows to say."""

    name: str
    unit: str
    control: str
    treated: str
    difference: str
    verdict: str
    tone: str
    evidence: str


Effect = Mapping[str, Any]


def metric_told(metric: str, effects: Mapping[str, Effect]) -> Told | None:
    """What the metric comes to at a look; none where the look has nothing of it."""
    effect = effects.get(metric)
    if effect is None:
        return None
    better = 1 if METRICS[metric].higher_is_better else -1
    low, high = effect["low"], effect["high"]
    if low is None or high is None:
        verdict, tone = "too early to tell", ""
    elif better * low > 0 and better * high > 0:
        verdict, tone = "better for sure", "good"
    elif better * low < 0 and better * high < 0:
        verdict, tone = "worse for sure", "bad"
    else:
        verdict, tone = "no difference for sure yet", "live"
    return _told(metric, effect, verdict, tone)


def guardrails_told(names: Sequence[str], effects: Mapping[str, Effect]) -> list[Told]:
    """Every guardrail at a look: whether it holds, may not hold, or is broken."""
    found = []
    for name in names:
        effect = effects.get(f"guard.{name}")
        if effect is None:
            continue
        sign = 1 if METRICS[name].higher_is_better else -1
        low, high, mean = effect["low"], effect["high"], effect["control_mean"]
        if low is None or high is None or mean is None:
            verdict, tone = "too early to tell", ""
        else:
            allowed = -METRICS[name].tolerance * abs(mean)
            if max(sign * low, sign * high) < 0 and sign * effect["estimate"] < allowed:
                verdict, tone = "broken", "bad"
            elif min(sign * low, sign * high) < allowed:
                verdict, tone = "may still be worse", "warn"
            else:
                verdict, tone = "holds", "good"
        found.append(_told(name, effect, verdict, tone))
    return found


def together_told(effects: Mapping[str, Effect]) -> list[Told]:
    """Time and quality side by side: intervals that hold all at once, so that both can be read."""
    seen = {name: effects.get(f"together.{name}") for name in TOGETHER}
    told = [metric_told(name, {name: one}) for name, one in seen.items() if one is not None]
    return [one for one in told if one is not None]


def _told(metric: str, effect: Effect, verdict: str, tone: str) -> Told:
    difference = NOTHING
    if effect["estimate"] is not None:
        difference = _said(metric, effect["estimate"], signed=True)
        if effect["low"] is not None and effect["high"] is not None:
            low, high = (_said(metric, effect[name], signed=True) for name in ("low", "high"))
            difference = f"{difference} ({low} to {high})"
    # Looks of before this was told have nothing to say of it.
    known = effect.get("reduction") or 0.0
    control, treated = (
        NOTHING if effect[f"{arm}_mean"] is None else _said(metric, effect[f"{arm}_mean"])
        for arm in ("control", "treated")
    )
    return Told(
        METRIC_WORDS[metric],
        METRICS[metric].unit,
        control,
        treated,
        difference,
        verdict,
        tone,
        f"{effect['control_assignments'] + effect['treated_assignments']:,} assignments of"
        f" {effect['control_units'] + effect['treated_units']:,}"
        + (f"; {share(known)} of the spread was known before" if known >= LEAST_TOLD else ""),
    )


def _said(metric: str, amount: float, *, signed: bool = False) -> str:
    if metric in IN_HOURS:
        return f"{amount:{'+' if signed else ''}.2f}{HELD_TOGETHER}h".replace("-", "−")
    if signed:
        return f"{100 * amount:+.1f}{HELD_TOGETHER}points".replace("-", "−")
    return share(amount)


def effect_chart(metric: str, looks: Sequence[ExperimentLook]) -> Chart:
    """The difference at every look, with an interval that holds at all of them together."""
    shown = [
        (one, one.effects[metric])
        for one in reversed(looks[:SHOWN_LOOKS])
        if metric in one.effects and one.effects[metric]["low"] is not None
    ]
    return Chart(
        f"{METRIC_WORDS[metric]}, treated less control",
        "The band holds the truth at every look together, so that looking often declares nothing"
        " false; when it leaves nought, the difference is certain.",
        "Look",
        "Hours" if metric in IN_HOURS else "Points",
        (
            bounded(
                "Difference",
                [
                    (float(n), effect["estimate"], effect["low"], effect["high"])
                    for n, (_, effect) in enumerate(shown)
                ],
                "line",
            ),
        )
        if shown
        else (),
        x_names=tuple(f"{one.at:%-d %b, %H:%M}" for one, _ in shown),
        y_unit="number" if metric in IN_HOURS else "change",
        level_line="No difference",
    )


def guardrails_chart(names: Sequence[str], looks: Sequence[ExperimentLook]) -> Chart:
    """Every guardrail at the last look, as a share of the control's mean; worse is below nought."""
    points: list[tuple[float, float, float, float]] = []
    labels: list[str] = []
    limits: list[tuple[float, float, float, float]] = []
    effects = looks[0].effects if looks else {}
    for name in names:
        effect = effects.get(f"guard.{name}")
        if effect is None or effect["low"] is None or not effect["control_mean"]:
            continue
        sign = 1 if METRICS[name].higher_is_better else -1
        mean = abs(effect["control_mean"])
        ends = sorted((sign * effect["low"] / mean, sign * effect["high"] / mean))
        place, tolerance = float(len(labels)), -METRICS[name].tolerance
        points.append((place, sign * effect["estimate"] / mean, *ends))
        limits.append((place, tolerance, tolerance, tolerance))
        labels.append(METRIC_WORDS[name])
    return Chart(
        "What may not get worse",
        "Each guardrail at the last look, in per cent of the control's mean; better is above.",
        "Guardrail",
        "Better or worse",
        (bounded("Difference", points, "points"), bounded("Tolerance", limits, "points"))
        if points
        else (),
        x_names=tuple(labels),
        y_unit="change",
        level_line="No difference",
    )
