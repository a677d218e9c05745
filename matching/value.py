"""What a pair is worth: named parts, each with a unit and a bound, weighed by a policy."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from matching.policy import Policy
from matching.problem import Float64, ProblemInvalid

MONEY_STEP = 100
"""Minor units that the weight of cost counts as one."""


@dataclass(frozen=True, slots=True)
class PartKind:
    """What a part measures: its unit, the bounds it is checked against, and what it means."""

    unit: str
    low: float
    high: float
    meaning: str


PART_KINDS = {
    "stump": PartKind("probability", 0, 1, "chance that the expert makes a valid stump"),
    "stump_sd": PartKind("probability", 0, 0.5, "standard deviation of that chance"),
    "worth": PartKind("units of value", 0, 1e4, "what one stump is worth to the project"),
    "novelty": PartKind("share", 0, 1, "how new the expert's stumps are expected to be"),
    "urgency": PartKind("share", 0, 1, "how pressing the task is, 1 when it is due"),
    "quality": PartKind("share", 0, 1, "posterior quality of the expert's accepted work"),
    "interest": PartKind("share", 0, 1, "how much the expert asked for this task"),
    "affinity": PartKind("share", 0, 1, "how near the profile is to the task"),
    "learning": PartKind("share", 0, 1, "how much the outcome would teach about the expert"),
    "cost": PartKind("minor units", 0, 1e15, "expected pay plus fee"),
    "concentration": PartKind("share", 0, 1, "share of the project the expert holds already"),
}
"""Every part that `PairParts` knows, under its name."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairParts:
    """What is known of each pair before weights; a part left out counts as nought.

    Worth and novelty scale a stump and count as 1 when left out, so that stump probabilities
    alone are a value.

    Shapes: every part (pairs,) float64.
    Units: as in PART_KINDS.
    Raises: ProblemInvalid, naming the part and the pair that is out of bounds.
    """

    stump: Float64 | None = None
    stump_sd: Float64 | None = None
    worth: Float64 | None = None
    novelty: Float64 | None = None
    urgency: Float64 | None = None
    quality: Float64 | None = None
    interest: Float64 | None = None
    affinity: Float64 | None = None
    learning: Float64 | None = None
    cost: Float64 | None = None
    concentration: Float64 | None = None

    def __post_init__(self) -> None:
        size: int | None = None
        for each in fields(self):
            given = getattr(self, each.name)
            if given is None:
                continue
            checked = _checked(each.name, given, size)
            size = len(checked)
            object.__setattr__(self, each.name, checked)

    @property
    def pairs(self) -> int:
        """Pairs described; nought when no part is given."""
        sizes = (getattr(self, each.name) for each in fields(self))
        return next((len(part) for part in sizes if part is not None), 0)


@dataclass(frozen=True, slots=True, eq=False)
class ValuePart:
    """One named part of the value, as measured and as weighed.

    Shapes: measured, weighed (pairs,) float64.
    Units: measured in `unit`; weighed in units of value, negative where it is subtracted.
    """

    name: str
    unit: str
    weight: float
    measured: Float64
    weighed: Float64


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """What each pair is worth, and the parts that sum to it.

    Shapes: total (pairs,) float64.
    Units: units of value.
    """

    total: Float64
    parts: tuple[ValuePart, ...]


def pair_value(parts: PairParts, policy: Policy) -> Value:
    """Weigh the parts of every pair: stump, exploration, urgency, quality and the rest.

    A stump counts probability times worth times novelty; exploration adds the policy's number of
    standard deviations to the probability (never beyond 1) and is listed on its own. Urgency
    scales with the worth of the task, not with the chance of a stump. A part whose weight is
    nought is not computed at all, so that a policy of interest alone returns the interest to the
    last bit.

    Shapes: total and parts (pairs,).
    Units: units of value.
    Source: upper confidence bound exploration as in Auer, Cesa-Bianchi, Fischer 2002, with a
        posterior standard deviation for the radius.
    """
    weights, size = policy.weights, parts.pairs
    found: list[ValuePart] = []
    worth = _or_one(parts.worth, size)
    if parts.stump is not None and weights.stump:
        scale = worth * _or_one(parts.novelty, size)
        found.append(_part("stump", weights.stump, parts.stump * scale))
        if parts.stump_sd is not None and policy.exploration:
            hoped = np.minimum(parts.stump + policy.exploration * parts.stump_sd, 1.0)
            found.append(_part("exploration", weights.stump, (hoped - parts.stump) * scale))
    if parts.urgency is not None and weights.urgency:
        found.append(_part("urgency", weights.urgency, parts.urgency * worth))
    for name in ("quality", "interest", "affinity", "learning"):
        measured = getattr(parts, name)
        weight = float(getattr(weights, name))
        if measured is not None and weight:
            found.append(_part(name, weight, measured))
    if parts.cost is not None and weights.cost:
        found.append(_part("cost", weights.cost, parts.cost, -weights.cost / MONEY_STEP))
    if parts.concentration is not None and weights.concentration:
        measured, weight = parts.concentration, weights.concentration
        found.append(_part("concentration", weight, measured, -weight))
    total = np.zeros(size)
    for index, part in enumerate(found):
        total = part.weighed.copy() if index == 0 else total + part.weighed
    return Value(total, tuple(found))


def _part(name: str, weight: float, measured: Float64, factor: float | None = None) -> ValuePart:
    kind = PART_KINDS.get(name)
    unit = "units of value" if kind is None or name in ("stump", "urgency") else kind.unit
    return ValuePart(
        name, unit, weight, measured, measured * (weight if factor is None else factor)
    )


def _or_one(part: Float64 | None, size: int) -> Float64:
    return np.ones(size) if part is None else part


def _checked(name: str, given: object, size: int | None) -> Float64:
    part = np.asarray(given)
    if part.ndim != 1 or (size is not None and len(part) != size):
        raise ProblemInvalid(name, None, f"has shape {part.shape}, not ({size},)")
    if len(part) and part.dtype.kind not in "iuf":
        raise ProblemInvalid(name, None, f"holds {part.dtype}, not numbers")
    kind, real = PART_KINDS[name], part.astype(np.float64)
    inside = (real >= kind.low) & (real <= kind.high)
    if not inside.all():
        at = int(np.flatnonzero(~inside)[0])
        reason = f"{real[at]} is not a {kind.unit} from {kind.low:g} to {kind.high:g}"
        raise ProblemInvalid(name, at, reason)
    real.flags.writeable = False
    return real
