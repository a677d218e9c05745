"""What another policy would have done, from decisions whose probabilities were recorded.

    log = Log(decision=seat, probability=drawn_with, taken=chosen, outcome=stumped, cluster=expert)
    q = cross_fit(FactorModel(), log, factors=(expert, domain), covariates=features)
    told = evaluate(log, target=candidate_probability, direct=q)
    told.robust.low, told.robust.value, told.robust.high, told.refusal

An edge is one expert who could have had one decision (a seat of a task). A batch draws many edges
at once; their marginal probabilities serve as well as those of separate draws.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtri
from scipy.stats import t as student

from matching.arrays import ArrayInvalid, groups_of, number_within, real_array, truth_array
from matching.assignment import totals
from matching.problem import Bool, Float64, Int64

CLIP = 20.0
"""Largest weight of one outcome; what that may cost is shown as `bias_check`."""

MOST_WEIGHT = 1000.0
"""Weight beyond which an edge is as good as never tried."""

LEAST_KEPT = 0.05
"""Share of the correction that must be left for the rest to be judged by it."""

LEAST_ESS = 100.0
"""Effective sample size below which no verdict is given."""

MOST_UNSUPPORTED = 0.1
"""Share of the target's probability on edges that the log could never have drawn, above which
no verdict is given."""


@dataclass(frozen=True, eq=False)
class Log:
    """Every eligible edge of every decision, with its recorded probability and what came of it.

    The outcome is read only where the edge was taken and its outcome is known. Decisions are
    separate draws unless `cluster` says otherwise; with the expert as cluster, the interval also
    holds for experts who keep their manner through many decisions.

    Shapes: all (edges,); decision and cluster labels of any kind.
    Units: probability that the edge was taken, 0 to 1; outcome in the unit of the question;
        known_probability the chance that the outcome of this edge is known by now, 1 if it has
        no delay (see `known_by_now`).
    Raises: ArrayInvalid, when an edge was taken that could not have been, or its outcome is NaN.
    """

    decision: Int64
    probability: Float64
    taken: Bool
    outcome: Float64
    cluster: Int64 | None = None
    known: Bool | None = None
    known_probability: Float64 | None = None
    decisions: int = field(init=False)

    def __post_init__(self) -> None:
        size = len(np.asarray(self.decision))
        place, decisions = groups_of("decision", self.decision, size)
        object.__setattr__(self, "decision", place)
        object.__setattr__(self, "decisions", decisions)
        probability = real_array("probability", self.probability, size, low=0.0, high=1.0)
        object.__setattr__(self, "probability", probability)
        taken = truth_array("taken", self.taken, size)
        object.__setattr__(self, "taken", taken)
        if self.cluster is not None:
            object.__setattr__(self, "cluster", groups_of("cluster", self.cluster, size)[0])
        known = np.ones(size, np.bool_)
        if self.known is not None:
            known = truth_array("known", self.known, size)
        object.__setattr__(self, "known", known)
        chance = np.ones(size)
        if self.known_probability is not None:
            chance = real_array("known_probability", self.known_probability, size, high=1.0, low=0)
        object.__setattr__(self, "known_probability", chance)
        raw = np.asarray(self.outcome)
        if raw.ndim != 1 or len(raw) != size or raw.dtype.kind not in "iufb":
            raise ArrayInvalid("outcome", None, f"is not {size} numbers")
        used = taken & known
        real = np.where(used, raw, 0.0).astype(np.float64)
        object.__setattr__(self, "outcome", real_array("outcome", real, size, low=-1e12, high=1e12))
        for name, wrong, reason in (
            ("probability", taken & (probability <= 0), "is nought, but the edge was taken"),
            ("known_probability", used & (chance <= 0), "is nought, but the outcome is known"),
        ):
            if wrong.any():
                raise ArrayInvalid(name, int(np.flatnonzero(wrong)[0]), reason)

    @property
    def edges(self) -> int:
        """Eligible edges of all decisions."""
        return len(self.decision)

    @property
    def used(self) -> Bool:
        """Edges whose outcome counts: taken, and known by now; shape (edges,)."""
        return np.asarray(self.taken & np.asarray(self.known), np.bool_)

    @property
    def weight(self) -> Float64:
        """One over the chance of having seen each used edge's outcome; nought elsewhere."""
        chance = self.probability * np.asarray(self.known_probability)
        return np.where(self.used, 1 / np.where(self.used, chance, 1.0), 0.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A policy's value a decision by one estimator, with an interval.

    Units: all in the outcome's unit a decision.
    """

    value: float
    low: float
    high: float
    se: float


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A candidate's value by five estimators, and how much the log can say of it at all.

    The intervals of `robust` and `switch` hold what their cut weights may have left out: the
    correction that was made, taken to be as large a share where it was cut, beside the standard
    error. Without it nine intervals of ten hold the truth in eight.

    Shapes: edge_value (edges,), what each edge brings to `robust`, to be added up by expert,
        domain or project (`value_by`); they sum to value times decisions.
    Units: values in the outcome's unit a decision; effective the effective sample size;
        unsupported the share of the target's probability on edges that were as good as never drawn;
        clipped the share of the correction that clipping leaves out, by the recorded
        probabilities; bias_check what that may come to, a decision; bounds the worst and the
        best that unsupported edges could make of `robust`.
    """

    ips: Estimate
    snips: Estimate
    direct: Estimate
    robust: Estimate
    switch: Estimate
    effective: float
    unsupported: float
    largest_weight: float
    clipped: float
    bias_check: float
    bounds: tuple[float, float]
    refusal: str | None
    edge_value: Float64


@dataclass(frozen=True, slots=True)
class Limits:
    """When to cut a weight, and when to say nothing.

    Units: clip a weight; effective in effective outcomes; unsupported a share; level of the
        interval, 0.9 for ninety per cent; most_weight the weight beyond which an edge counts as
        never tried; outcome_low and outcome_high bound any outcome.
    """

    clip: float = CLIP
    effective: float = LEAST_ESS
    unsupported: float = MOST_UNSUPPORTED
    level: float = 0.9
    most_weight: float = MOST_WEIGHT
    outcome_low: float = 0.0
    outcome_high: float = 1.0

    def __post_init__(self) -> None:
        number_within("clip", self.clip, 1.0, 1e12)
        number_within("level", self.level, 0.01, 0.9999)
        number_within("outcome_high", self.outcome_high, self.outcome_low, 1e12)


DEFAULT = Limits()


def evaluate(log: Log, target: object, direct: object, *, limits: Limits = DEFAULT) -> Evaluation:
    """What the target policy would have earned a decision, beside what can be known of it.

    `direct` is the outcome each edge is predicted to have, by a model that was not fitted on that
    edge's own outcome (`cross_fit`), or by the predictions that were stored at the time.

    Shapes: target (edges,) probabilities; direct (edges,).
    Source: doubly robust: Dudik, Langford, Li, ICML 2011; SWITCH: Wang, Agarwal, Dudik, ICML 2017;
        effective sample size: Kong (1992). Intervals by sums over clusters, Student's t.
    Raises: ArrayInvalid.
    """
    wanted = real_array("target", target, log.edges, low=0.0, high=1.0)
    q = real_array("direct", direct, log.edges, low=-1e12, high=1e12)
    if not log.edges:
        raise ArrayInvalid("decision", None, "holds no decision")
    weight = wanted * log.weight
    cut = np.minimum(weight, limits.clip)
    rest = np.where(log.used, log.outcome - q, 0.0)
    model = wanted * q
    value = model + cut * rest
    mass = float(wanted.sum())
    effective = _effective(weight)
    supported = limits.most_weight * log.probability >= wanted
    missing = float(wanted[~supported].sum())
    unsupported = missing / mass if mass > 0 else 0.0
    direct_value = float(model.sum()) / log.decisions
    robust = _mean(log, value, limits.level)
    heavy = wanted > limits.clip * log.probability
    kept = np.where(heavy, limits.clip * log.probability, wanted)
    clipped = 1 - float(kept.sum()) / mass if mass > 0 else 0.0
    check = _left_out(robust.value - direct_value, clipped)
    switched = _mean(log, model + np.where(heavy, 0.0, weight) * rest, limits.level)
    dropped = float(wanted[heavy].sum()) / mass if mass > 0 else 0.0
    spread = float(wanted[~supported] @ q[~supported]) / log.decisions
    base = robust.value - spread
    some = missing / log.decisions
    return Evaluation(
        ips=_mean(log, weight * log.outcome, limits.level),
        snips=_ratio(log, weight, mass, limits.level),
        direct=_mean(log, model, limits.level),
        robust=_widened(robust, check),
        switch=_widened(switched, _left_out(switched.value - direct_value, dropped)),
        effective=effective,
        unsupported=unsupported,
        largest_weight=float(weight.max()),
        clipped=clipped,
        bias_check=check,
        bounds=(base + some * limits.outcome_low, base + some * limits.outcome_high),
        refusal=_refusal(effective, unsupported, mass, limits),
        edge_value=value,
    )


def compare(
    log: Log, target: object, other: object, direct: object, *, limits: Limits = DEFAULT
) -> Estimate:
    """The value of one policy less another's, from the same outcomes, with an interval.

    What both would have done alike cancels, so this is narrower than two intervals side by side.
    Refusal is for `evaluate` of each to say.
    """
    one = evaluate(log, target, direct, limits=limits)
    two = evaluate(log, other, direct, limits=limits)
    told = _mean(log, one.edge_value - two.edge_value, limits.level)
    return _widened(told, one.bias_check - two.bias_check)


def value_by(
    log: Log, edge_value: object, group: object, *, level: float = 0.9
) -> tuple[np.ndarray, list[Estimate]]:
    """Who gains and who loses: a total for each group (experts, domains), with its interval.

    `edge_value` is that of an evaluation, or the difference of two. Labels come sorted.

    Units: the outcome's unit, summed over all decisions.
    """
    each = real_array("edge_value", edge_value, log.edges, low=-1e15, high=1e15)
    place, size = groups_of("group", group, log.edges)
    labels = np.unique(np.asarray(group))
    total = totals(place, each, size)
    # Sums by decision within a group, squared: a decision is one draw.
    unit = _units(log)
    pair, index = np.unique(place * (int(unit.max()) + 1) + unit, return_inverse=True)
    parts = totals(index, each, len(pair))
    owner = pair // (int(unit.max()) + 1)
    count = int(unit.max()) + 1
    square = totals(owner, parts**2, size)
    variance = np.maximum(square - total**2 / count, 0) * count / max(count - 1, 1)
    reach = float(-ndtri((1 - level) / 2))
    told = [
        Estimate(float(v), float(v - reach * s), float(v + reach * s), float(s))
        for v, s in zip(total, np.sqrt(variance), strict=True)
    ]
    return labels, told


def known_by_now(age: object, delay: object, known: object) -> Float64:
    """The chance that an outcome is known at each age, from the delays seen and those still open.

    For `Log.known_probability`. It takes delays not to depend on the outcome; where they do (bad
    work is reviewed faster), call it for each kind apart.

    Shapes: age, delay, known (rows,); delay is read where known.
    Units: age since the decision and delay until the outcome, in one unit of time.
    Source: Kaplan, Meier, JASA 53 (1958), the open ones censored at their age.
    Raises: ArrayInvalid.
    """
    old = real_array("age", age, low=0.0, high=1e15)
    done = truth_array("known", known, len(old))
    raw = np.asarray(delay, np.float64)
    waited = real_array("delay", np.where(done, raw, 0.0), len(old), low=0.0, high=1e15)
    time = np.where(done, waited, old)
    order = np.lexsort((~done, time))
    at_risk = len(time) - np.arange(len(time))
    step = np.where(done[order], 1 - 1 / np.maximum(at_risk, 1), 1.0)
    survival = np.concatenate([[1.0], np.cumprod(step)])
    # Delays beyond the oldest decision cannot be seen: the curve is taken to end there.
    place = np.searchsorted(time[order], old, side="right")
    return np.asarray(1 - survival[place], np.float64)


def _units(log: Log) -> Int64:
    """The independent draws: decisions, or the cluster of each edge."""
    return log.decision if log.cluster is None else log.cluster


def _mean(log: Log, each: Float64, level: float) -> Estimate:
    """The sum over edges per decision; its variance from sums over independent draws."""
    unit = _units(log)
    count = int(unit.max()) + 1
    parts = totals(unit, each, count)
    value = float(each.sum()) / log.decisions
    if log.cluster is None:
        rest = parts - value
    else:
        # A cluster with more of the target's edges is expected to bring more.
        share = totals(unit, np.ones(len(each)), count) / len(each)
        rest = parts - share * each.sum()
    return _interval(value, rest, log.decisions, count, level)


def _ratio(log: Log, weight: Float64, mass: float, level: float) -> Estimate:
    total = float(weight.sum())
    if total <= 0:
        return Estimate(0.0, -np.inf, np.inf, np.inf)
    scale = mass / log.decisions
    middle = float(weight @ log.outcome) / total
    unit = _units(log)
    count = int(unit.max()) + 1
    rest = totals(unit, weight * (log.outcome - middle), count)
    return _interval(middle * scale, rest * scale, total, count, level)


def _interval(value: float, rest: Float64, over: float, count: int, level: float) -> Estimate:
    if count < 2:
        return Estimate(value, -np.inf, np.inf, np.inf)
    se = float(np.sqrt((rest**2).sum() * count / (count - 1))) / over
    reach = float(-student.ppf((1 - level) / 2, count - 1)) * se
    return Estimate(value, value - reach, value + reach, se)


def _left_out(correction: float, share: float) -> float:
    """What a cut correction would have come to, were the model as wrong there as elsewhere."""
    return correction * share / max(1 - share, LEAST_KEPT)


def _widened(told: Estimate, bias: float) -> Estimate:
    """The interval with a possible bias beside the standard error, in quadrature."""
    if not 0 < told.se < np.inf:
        reach = abs(bias) * float(-ndtri(0.05)) + (told.high - told.value)
        return Estimate(told.value, told.value - reach, told.value + reach, told.se)
    se = float(np.hypot(told.se, bias))
    reach = (told.high - told.value) * se / told.se
    return Estimate(told.value, told.value - reach, told.value + reach, se)


def _effective(weight: Float64) -> float:
    largest = float(weight.max(initial=0.0))
    if largest <= 0:
        return 0.0
    scaled = weight / largest
    return float(scaled.sum() ** 2 / (scaled**2).sum())


def _refusal(effective: float, unsupported: float, mass: float, limits: Limits) -> str | None:
    if mass <= 0:
        return "the target policy never takes any of these edges"
    if unsupported > limits.unsupported:
        return (
            f"{unsupported:.0%} of what the policy would do was never tried: "
            "give it randomness, or run an experiment"
        )
    if effective < limits.effective:
        return (
            f"the log holds the worth of {effective:.0f} outcomes under this policy, "
            f"fewer than {limits.effective:.0f}: too few to tell"
        )
    return None
