"""Two arms of experts whose rates differ, looked at again and again while work comes in."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtri

from matching.arm_sums import cluster_sums
from matching.experiment import effect_of

BASE = -1.1
"""Log-odds of a typical expert's stump: a rate of a quarter."""


@dataclass(frozen=True, slots=True)
class Arms:
    """How many experts an arm, their assignments, how they differ, and what is known before.

    Units: spread and blur are standard deviations in log-odds, of true ability and of its
        prediction's error; uneven is the standard deviation of log assignments an expert.
    """

    name: str
    clusters: int
    per: int
    spread: float
    blur: float | None = None
    uneven: float = 0.0
    waves: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    """One test from its first look to its last: what each way of looking declared, and when."""

    sequence: int
    stopped: int
    naive: bool
    ignoring: bool


def one_test(rng: np.random.Generator, arms: Arms, effect: float, looks: int, se: float) -> Story:
    """Draw the experts and their outcomes, then look at equal steps until something is declared."""
    experts = 2 * arms.clusters
    ability = rng.normal(0.0, arms.spread, experts)
    size = np.full(experts, arms.per)
    if arms.uneven:
        drawn = np.exp(rng.normal(0.0, arms.uneven, experts))
        size = np.maximum(np.rint(arms.per * drawn / drawn.mean()).astype(np.int64), 1)
    cluster = np.repeat(np.arange(experts), size)
    treated = rng.permutation(experts)[cluster] % 2
    chance = np.clip(expit(BASE + ability[cluster]) + effect * treated, 0, 1)
    outcome = (rng.random(len(cluster)) < chance).astype(np.float64)
    known = None
    if arms.blur is not None:
        known = expit(BASE + (ability + rng.normal(0.0, arms.blur, experts))[cluster])
    # Experts come one after another when there are waves; else everybody works all the time.
    start = rng.random(experts) if arms.waves else np.zeros(experts)
    order = np.argsort(start[cluster] + rng.random(len(cluster)))
    cluster, treated, outcome = cluster[order], treated[order], outcome[order]
    known = None if known is None else known[order]
    declared, stopped, naive, ignoring = 0, 0, False, False
    for upto in np.linspace(len(cluster) / looks, len(cluster), looks).astype(int):
        part = slice(0, upto)
        covariate = None if known is None else known[part]
        sums = cluster_sums(cluster[part], treated[part], outcome[part], covariate=covariate)
        seen = effect_of(sums, planned_se=se)
        mean, count = seen.control_mean, seen.units
        alone = np.sqrt(max(mean * (1 - mean), 1e-9) * (1 / count[0] + 1 / count[1]))
        naive |= bool(abs(seen.estimate) > -ndtri(0.025) * seen.se)
        ignoring |= bool(abs(seen.treated_mean - mean) > -ndtri(0.025) * alone)
        if not declared and (seen.low > 0 or seen.high < 0):
            declared, stopped = (1 if seen.low > 0 else -1), int(upto) // 2
    return Story(declared, stopped, naive, ignoring)


def hoped_se(arms: Arms) -> float:
    """The standard error that a planner would have expected at the end of such a test."""
    drawn = expit(BASE + np.random.default_rng(0).normal(0.0, arms.spread, 20_000))
    within, between = float((drawn * (1 - drawn)).mean()), float(drawn.var())
    return float(np.sqrt(2 * (within / arms.per + between) / arms.clusters))


def many_tests(
    arms: Arms, *, seed: int, rounds: int, effect: float, looks: int = 20
) -> dict[str, object]:
    """Shares of tests that declared something, by the sequence and by two ways that should not."""
    rng = np.random.default_rng(seed)
    se = hoped_se(arms)
    stories = [one_test(rng, arms, effect, looks, se) for _ in range(rounds)]
    stopped = [story.stopped for story in stories if story.sequence]
    return {
        "declared": round(float(np.mean([story.sequence != 0 for story in stories])), 4),
        "declared_gain": round(float(np.mean([story.sequence > 0 for story in stories])), 4),
        "median_stop_per_arm": int(np.median(stopped)) if stopped else None,
        "naive_peeking": round(float(np.mean([story.naive for story in stories])), 4),
        "naive_without_clusters": round(float(np.mean([story.ignoring for story in stories])), 4),
    }
