"""Posteriors that are sharp enough and no sharper: several models, tempered, mixed on gold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matching.problem import Float64
from matching.votes import row_max, row_sum

KINSHIP = (0.0, 0.1, 0.25, 0.5, 1.0)
"""How alike votes on one item are, beyond its truth: 0 independent, 1 all of them count as one."""

KINSHIP_PRIOR = (0.02, 0.08, 0.20, 0.35, 0.35)

PRIOR_POWER = (0.0, 0.5, 1.0)
"""How far the classes' frequencies are believed; EM exaggerates the common ones."""

PRIOR_POWER_PRIOR = (0.6, 0.32, 0.08)

INDEPENDENT_KINSHIP = (0.5, 0.2, 0.1, 0.1, 0.1)
INDEPENDENT_POWER = (0.2, 0.3, 0.5)
"""Weights of the same where nothing speaks against votes being independent given the truth."""

GOLD_STRENGTH = 5.0
"""Gold items that the weights of the mixture are worth before any gold is seen."""

NEGLIGIBLE = 1e-4
"""Weights below this are dropped from the mixture."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way from evidence to a posterior: a model, a kinship of votes, a power of the prior."""

    member: int
    kinship: float
    prior_power: float


def exponent(total: Float64, kinship: float) -> Float64:
    """The power b in (0, 1] that the likelihood of each item is raised to, shape (items,).

    Votes on one item err together, so n of them tell as much as n / (1 + (n - 1) kinship)
    independent ones: the design effect of a cluster.
    Source: Kish, Survey Sampling (1965), section 5.4.
    """
    return 1.0 / (1.0 + np.maximum(total - 1.0, 0.0) * kinship)


def recipes(members: int) -> list[Recipe]:
    """Every combination of a model, a kinship and a power, in the order of `first_weights`."""
    return [
        Recipe(member, kinship, power)
        for member in range(members)
        for kinship in KINSHIP
        for power in PRIOR_POWER
    ]


def first_weights(
    member_weight: Sequence[float], majority_weight: float, independence: float = 0.0
) -> Float64:
    """Weights of the recipes, and of the smoothed majority at the end, before any gold.

    `independence` is how far votes may be taken as independent given the truth, from 0 to 1.
    """

    def between(usual: Sequence[float], free: Sequence[float]) -> list[float]:
        pairs = zip(usual, free, strict=True)
        return [(1 - independence) * first + independence * second for first, second in pairs]

    kinships = between(KINSHIP_PRIOR, INDEPENDENT_KINSHIP)
    powers = between(PRIOR_POWER_PRIOR, INDEPENDENT_POWER)
    weight = [m * near * power for m in member_weight for near in kinships for power in powers]
    result = np.array([*weight, majority_weight])
    return np.asarray(result / result.sum(), np.float64)


def tempered(evidence: Float64, total: Float64, prior: Float64, recipe: Recipe) -> Float64:
    """The posterior prior^c x likelihood^b, shape (items, classes).

    Shapes: evidence (items, classes), log likelihood; total (items,), votes; prior (classes,).
    """
    scaled = evidence * exponent(total, recipe.kinship)[:, None]
    weight: Float64 = np.exp(scaled - row_max(scaled)) * prior**recipe.prior_power
    return weight / row_sum(weight)


def stack(
    chance: Float64, first: Float64, strength: float = GOLD_STRENGTH, most_rounds: int = 300
) -> Float64:
    """Weights of a mixture by log loss on gold, drawn to the first weights, shape (recipes,).

    The maximum a posteriori of the weights under a Dirichlet prior of this strength: without gold
    the first weights themselves, with much gold the mixture of least log loss.

    Shapes: chance (gold items, recipes), the probability that each gave to the truth; first
        (recipes,).
    Source: EM for mixture proportions, Dempster, Laird, Rubin, JRSS B 39 (1977), section 4.3.
    """
    weight = first
    if len(chance) == 0:
        return weight
    # Rows are scaled, which moves no responsibility, so that nothing underflows.
    chance = np.maximum(chance, 1e-12)
    chance = chance / chance.max(axis=1, keepdims=True)
    for _ in range(most_rounds):
        share = 1.0 / (chance @ weight)
        moved = weight * (chance.T @ share) + strength * first
        moved = moved / moved.sum()
        change = float(np.abs(moved - weight).max())
        weight = moved
        if change < 1e-6:
            break
    return weight
