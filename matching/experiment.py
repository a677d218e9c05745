"""Always-valid A/B tests on sums by cluster: intervals that may be looked at as often as one likes.

plan = plan_test(baseline=0.25, effect=0.05, per_cluster=20, icc=0.05)
arms = cluster_sums(expert, arm, outcome, covariate=predicted)
seen = effect_of(arms, planned_se=plan.se)
seen.low, seen.estimate, seen.high          # valid at every look, however often one looks
decide(seen, guardrails=(guard,))           # "promote", "stop_harm", "stop_futile", "continue"
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

from matching.arm_sums import ArmSums
from matching.arrays import number_within
from matching.problem import Bool, Float64

LEAST_CLUSTERS = 10
"""Clusters in an arm below which an experiment says nothing: a variance needs something to vary."""

LEAST_DF = 4.0
"""Degrees of freedom of the variance below which an experiment says nothing."""

HUMP = 1.1
"""Where the mixture looks for an effect; between 1 and 1.2 the bound changes by 0.02."""

Decision = Literal["continue", "promote", "stop_harm", "stop_futile"]


@dataclass(frozen=True, slots=True)
class Effect:
    """The difference treated less control at one look, with an interval valid at every look.

    Units: estimate, low, high, se, control_mean in the metric's unit an assignment; p_value the
        always-valid p, the least alpha at which nought has been excluded at this look; reduction
        the share of the variance that the covariates took away.
    """

    estimate: float
    low: float
    high: float
    se: float
    p_value: float
    control_mean: float
    treated_mean: float
    clusters: tuple[int, int]
    units: tuple[int, int]
    reduction: float

    @property
    def is_known(self) -> bool:
        """Whether there is enough to say anything; the interval is the whole line until then."""
        return bool(np.isfinite(self.low))


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric that may not get worse: rejections, time to match, newcomer share, fairness.

    Units: tolerance a share of the control's mean, 0.02 for two per cent. `higher_is_better`
        says which way is worse.
    """

    name: str
    effect: Effect
    tolerance: float = 0.02
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with an experiment at this look, and the sentence that says why."""

    decision: Decision
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a test must be, for a fixed sample and with the freedom to stop at any time.

    Units: units in assignments an arm; se the standard error at the planned end; price the factor
        of size that the freedom to look costs at most.
    """

    units: int
    clusters: int
    fixed_units: int
    se: float
    price: float
    design_effect: float


def log_evidence(ratio: float, progress: float, alpha: float = 0.05) -> float:
    """The logarithm of the e-value against "no difference" of a difference over its standard error.

    The Gaussian mixture has two humps, each one wide and `HUMP` root(2 log(2 / alpha)) off nought,
    in standard errors of the planned end. A single hump at nought needs 3.04 standard errors at
    the planned end, two humps 2.84, at the price of wider intervals far beyond it.

    Units: progress is the information so far over that of the planned end, (planned_se / se)^2.
    Source: Robbins, Annals of Mathematical Statistics 41 (1970), for mixtures; Waudby-Smith,
        Arbour, Sinha, Kennedy, Ramdas, Annals of Statistics 52 (2024), for their asymptotics.
    """
    centre = HUMP * math.sqrt(2 * math.log(2 / alpha))
    grown = 1 + progress
    size = abs(ratio)
    along = size * centre * math.sqrt(progress)
    middle = (size**2 * progress - centre**2 * progress) / 2
    # The two humps together: (exp(along / grown) + exp(-along / grown)) / 2.
    both = along / grown + math.log1p(math.exp(-2 * along / grown)) - math.log(2)
    return -0.5 * math.log(grown) + middle / grown + both


def boundary(progress: float, alpha: float = 0.05) -> float:
    """How many standard errors a difference must be off, at this progress, to be one at all."""
    progress = max(progress, 1e-9)
    wanted = -math.log(alpha)
    high = 4.0
    while log_evidence(high, progress, alpha) < wanted:
        high *= 2
    return float(brentq(lambda ratio: log_evidence(ratio, progress, alpha) - wanted, 0.0, high))


def effect_of(arms: ArmSums, *, planned_se: float, alpha: float = 0.05) -> Effect:
    """The difference of the arms' means per assignment, adjusted, with an always-valid interval.

    The variance is that of cluster sums about their arm's mean, so that an expert with a hundred
    assignments counts as one draw. Covariates, and what was known of clusters before, are taken out
    by the slope within arms (CUPED). For few clusters the normal bound is turned into the Student
    bound of the same tail.

    Units: planned_se is the standard error hoped for at the end (`plan_test`), which shapes the
        interval and must not be chosen by looking at the outcomes.
    Raises: ArrayInvalid, for a planned_se or an alpha that is none.
    """
    number_within("planned_se", planned_se, 1e-12, 1e12)
    number_within("alpha", alpha, 1e-9, 0.5)
    touched = arms.units > 0
    count = (int((touched & ~arms.treated).sum()), int((touched & arms.treated).sum()))
    units = (int(arms.units[~arms.treated].sum()), int(arms.units[arms.treated].sum()))
    if min(units) == 0:
        return Effect(0.0, -np.inf, np.inf, np.inf, 1.0, 0.0, 0.0, count, units, 0.0)
    columns = arms.covariate if arms.covariate.size else np.zeros((len(arms.units), 0))
    table = np.column_stack([arms.total, columns])
    mean, rest = _residuals(table, arms.units, arms.treated)
    if arms.past.size:
        before, left_of = _past_residuals(arms.past, arms.treated)
        mean, rest = np.column_stack([mean, before]), np.column_stack([rest, left_of])
    slope, rank = _slope(rest[:, 1:], rest[:, 0])
    left = rest[:, 0] - rest[:, 1:] @ slope
    difference = mean[1] - mean[0]
    estimate = float(difference[0] - difference[1:] @ slope)
    variance, freedom = _variance(left, arms.treated, count)
    # A slope that was fitted fits its own noise too.
    variance *= sum(count) / max(sum(count) - rank, 1)
    raw, _ = _variance(rest[:, 0], arms.treated, count)
    reduction = 1 - variance / raw if raw > 0 else 0.0
    if min(count) < LEAST_CLUSTERS or freedom < LEAST_DF:
        low, high, p, se = -np.inf, np.inf, 1.0, float(np.sqrt(variance)) or np.inf
    elif variance <= 0:
        # Every cluster has the same mean: either there is nothing to learn or a metric is stuck.
        low, high, p, se = -np.inf, np.inf, 1.0, np.inf
    else:
        se = float(np.sqrt(variance))
        progress = planned_se**2 / variance
        tail = max(float(ndtr(-boundary(progress, alpha))), 1e-300)
        reach = float(-student.ppf(tail, freedom)) * se
        low, high = estimate - reach, estimate + reach
        normal = -ndtri(max(float(student.sf(abs(estimate) / se, freedom)), 1e-300))
        p = math.exp(min(-log_evidence(float(normal), progress, alpha), 0.0))
    return Effect(
        estimate=estimate,
        low=low,
        high=high,
        se=se,
        p_value=p,
        control_mean=float(mean[0, 0]),
        treated_mean=float(mean[1, 0]),
        clusters=count,
        units=units,
        reduction=float(np.clip(reduction, -1.0, 1.0)),
    )


def decide(
    primary: Effect, *, guardrails: Sequence[Guardrail] = (), smallest_effect: float | None = None
) -> Verdict:
    """Promote, stop or go on. An effect's interval should be at alpha over the guardrails, for
    each guardrail, if the chance of one false stop among them is to stay at alpha.

    Harm stops: a guardrail that is worse for sure, and by more than its tolerance as far as one
    can tell; or a primary metric that is worse for sure. Promotion needs the primary metric better
    for sure and no guardrail that could still be worse than its tolerance.
    """
    for guard in guardrails:
        sign = 1.0 if guard.higher_is_better else -1.0
        best = max(sign * guard.effect.low, sign * guard.effect.high)
        allowed = -guard.tolerance * abs(guard.effect.control_mean)
        if best < 0 and sign * guard.effect.estimate < allowed:
            change = guard.effect.estimate
            return Verdict("stop_harm", f"{guard.name} is worse by {abs(change):.4g} for sure")
    if primary.high < 0:
        return Verdict("stop_harm", f"the metric is lower by {-primary.high:.4g} at least")
    if primary.low > 0:
        for guard in guardrails:
            sign = 1.0 if guard.higher_is_better else -1.0
            worst = min(sign * guard.effect.low, sign * guard.effect.high)
            if worst < -guard.tolerance * abs(guard.effect.control_mean):
                said = f"better, but {guard.name} may still be worse than its tolerance"
                return Verdict("continue", said)
        return Verdict("promote", f"the metric is higher by {primary.low:.4g} at least")
    if smallest_effect is not None and primary.high < smallest_effect:
        said = f"a gain of {smallest_effect:.4g} is excluded"
        return Verdict("stop_futile", said)
    if not primary.is_known:
        said = f"fewer than {LEAST_CLUSTERS} clusters in an arm, or nothing that varies"
        return Verdict("continue", said)
    return Verdict("continue", "the interval still holds nought")


def plan_test(
    *,
    baseline: float,
    effect: float,
    per_cluster: float = 1.0,
    icc: float = 0.0,
    size_variation: float = 0.0,
    explained: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Plan:
    """The size of two equal arms of a rate that will show the effect with this power.

    Units: baseline and effect in the metric's unit (a share); per_cluster assignments an expert;
        icc the correlation of two assignments of one expert; size_variation the standard
        deviation of assignments an expert over their mean; explained the share of variance that
        covariates take away.
    Source: design effect 1 + ((1 + cv^2) m - 1) icc, Eldridge, Ashby, Kerry, Int. J. Epidemiology
        35 (2006). The power of the sequence counts its last look alone, so it is a lower bound.
    Raises: ArrayInvalid.
    """
    number_within("baseline", baseline, 1e-6, 1 - 1e-6)
    number_within("baseline + effect", baseline + effect, 1e-6, 1 - 1e-6)
    number_within("abs(effect)", abs(effect), 1e-6, 1.0)
    number_within("per_cluster", per_cluster, 1.0, 1e9)
    number_within("icc", icc, 0.0, 1.0)
    number_within("size_variation", size_variation, 0.0, 100.0)
    number_within("explained", explained, 0.0, 0.999)
    number_within("alpha", alpha, 1e-9, 0.5)
    number_within("power", power, 0.01, 0.999)
    grown = 1 + ((1 + size_variation**2) * per_cluster - 1) * icc
    after = baseline + effect
    each = (baseline * (1 - baseline) + after * (1 - after)) * grown * (1 - explained)
    gain = float(ndtri(power))
    fixed = each * ((float(-ndtri(alpha / 2)) + gain) / effect) ** 2
    bound = boundary(1.0, alpha)
    needed = each * ((bound + gain) / effect) ** 2
    return Plan(
        units=int(np.ceil(needed)),
        clusters=max(int(np.ceil(needed / per_cluster)), LEAST_CLUSTERS),
        fixed_units=int(np.ceil(fixed)),
        se=float(abs(effect) / (bound + gain)),
        price=float(needed / fixed),
        design_effect=float(grown),
    )


def _residuals(table: Float64, units: Float64, treated: Bool) -> tuple[Float64, Float64]:
    """Means by arm; each cluster's sums less what the mean would have made of them, over units."""
    mean, rest = np.zeros((2, table.shape[1])), np.empty_like(table)
    for arm in (0, 1):
        inside = treated == bool(arm)
        size = units[inside].sum()
        mean[arm] = table[inside].sum(axis=0) / size
        rest[inside] = (table[inside] - units[inside, None] * mean[arm]) / size
    return mean, rest


def _past_residuals(past: Float64, treated: Bool) -> tuple[Float64, Float64]:
    """Means by arm over the clusters that have a past; each one's deviation, over their number.

    Who has a past was settled before the draw; the others count as nought, neither above nor below.
    """
    has_past = ~np.isnan(past).any(axis=1)
    mean, rest = np.zeros((2, past.shape[1])), np.zeros_like(past)
    if min((has_past & treated).sum(), (has_past & ~treated).sum()) < LEAST_CLUSTERS:
        return mean, rest
    for arm in (0, 1):
        inside = has_past & (treated == bool(arm))
        mean[arm] = past[inside].mean(axis=0)
        rest[inside] = (past[inside] - mean[arm]) / inside.sum()
    return mean, rest


def _slope(columns: Float64, target: Float64) -> tuple[Float64, int]:
    """The slope within arms, and of how many columns; a constant or repeated covariate gets nought,
    not an error.
    """
    slope = np.zeros(columns.shape[1])
    spread = np.sqrt((columns**2).mean(axis=0))
    usable = spread > 1e-12 * max(float(spread.max(initial=0.0)), 1e-300)
    if not usable.any():
        return slope, 0
    scaled = columns[:, usable] / spread[usable]
    found, _, rank, _ = np.linalg.lstsq(scaled, target, rcond=1e-8)
    slope[usable] = found / spread[usable]
    return slope, int(rank)


def _variance(left: Float64, treated: Bool, counts: tuple[int, int]) -> tuple[float, float]:
    """The variance of the difference from cluster sums, and Welch's degrees of freedom for it.

    `counts` is how many clusters of each arm were touched: those that only have a past add to the
    sum and not to what is known, however many they are.
    Few clusters that hold most of the units have less freedom than their number says: the
    effective number is that of equal clusters with the same sum of squared sizes.
    """
    parts, freedom = [], []
    for arm, count in zip((False, True), counts, strict=True):
        square = left[treated == arm] ** 2
        part = float(square.sum()) * count / max(count - 1, 1)
        fourth = float((square**2).sum())
        heavy = float(square.sum()) ** 2 / fourth if fourth > 0 else float(count)
        # Sums that are all alike have heavy = count; a single outlier has heavy = 1.
        parts.append(part)
        freedom.append(max(min(count - 1.0, heavy * 3 - 1.0), 1.0))
    total = parts[0] + parts[1]
    if total <= 0:
        return 0.0, min(freedom)
    welch = total**2 / sum(p**2 / f for p, f in zip(parts, freedom, strict=True) if p > 0)
    return total, float(welch)
