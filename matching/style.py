"""Who wins comparisons as they are, and with style held equal: length, markup, emoji.

seen = Styled(left, right, rater, outcome, style, sources=3)
raw, controlled = fit_style(seen, is_controlled=False), fit_style(seen)
controlled.worth, controlled.low, controlled.high     # logits around nought, 95 % of the time
controlled.effect[0], controlled.p_value[0]           # what length alone does
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit
from scipy.stats import t as student

from matching.arrays import ArrayInvalid, real_array, whole_array
from matching.assignment import totals
from matching.problem import Float64, Int64

LEAST_RATERS = 10
"""Raters below which no interval is told: a variance between raters needs some of them."""

PRIOR_SD = 5.0
"""How far worths and effects may lie, in logits: it only keeps what never loses off infinity."""

STEPS = 100


@dataclass(frozen=True, eq=False)
class Styled:
    """Comparisons of two responses, by whom they come from and how they are dressed.

    Shapes: left, right (comparisons,) the sources; rater (comparisons,) who said it, any whole
        numbers; outcome (comparisons,) 1 where left was better, 0 where right was, 0.5 for a tie;
        style (comparisons, features) left less right, nought where they are alike.
    Raises: ArrayInvalid.
    """

    left: Int64
    right: Int64
    rater: Int64
    outcome: Float64
    style: Float64
    sources: int

    def __post_init__(self) -> None:
        size = len(np.asarray(self.left))
        for name in ("left", "right"):
            given = whole_array(name, getattr(self, name), size, below=self.sources)
            object.__setattr__(self, name, given)
        rater = np.unique(np.asarray(self.rater), return_inverse=True)[1].astype(np.int64)
        object.__setattr__(self, "rater", rater)
        if len(rater) != size:
            raise ArrayInvalid("rater", None, f"holds {len(rater)}, not {size}")
        outcome = real_array("outcome", self.outcome, size, low=0.0, high=1.0)
        object.__setattr__(self, "outcome", outcome)
        style = np.asarray(self.style, np.float64)
        if style.ndim != 2 or len(style) != size:
            raise ArrayInvalid(
                "style", None, f"has the shape {style.shape}, not ({size}, features)"
            )
        real_array("style", style.ravel())
        object.__setattr__(self, "style", style)


@dataclass(frozen=True, eq=False)
class StyleFit:
    """What comparisons say of their sources, and of style where that was held equal.

    Shapes: worth, low, high (sources,); effect, effect_low, effect_high, p_value (features,), of
        size nought where style was not held equal.
    Units: logits; effects for a difference of one in the feature. Bounds are infinite, and p_value
        1, with fewer than `LEAST_RATERS` raters, and for what never differs. `groups` counts the
        sets of sources that were never compared with each other: above 1, worths of different sets
        have no order.
    """

    worth: Float64
    low: Float64
    high: Float64
    effect: Float64
    effect_low: Float64
    effect_high: Float64
    p_value: Float64
    raters: int
    groups: int


def fit_style(seen: Styled, *, is_controlled: bool = True) -> StyleFit:
    """Bradley-Terry by maximum likelihood under a faint prior, with or without style beside it.

    A tie is half a win of each. Intervals are sandwiches over raters, whose comparisons need not be
    independent, with Student's t on one degree of freedom less than there are raters.

    Source: Bradley, Terry, Biometrika 39 (1952); style as covariates as in Li, Angelopoulos, Chiang
        (2024) on arena rankings; Liang, Zeger, Biometrika 73 (1986) for the sandwich.
    """
    size, sources = len(seen.left), seen.sources
    rows = np.arange(size)
    design = np.zeros((size, sources))
    np.add.at(design, (rows, seen.left), 1.0)
    np.add.at(design, (rows, seen.right), -1.0)
    if is_controlled:
        design = np.column_stack([design, seen.style])
    best, information = _most_likely(design, seen.outcome)
    raters = int(seen.rater.max(initial=-1)) + 1
    residual = seen.outcome - expit(design @ best)
    spread = np.full(len(best), np.inf)
    if raters >= LEAST_RATERS:
        scores = np.stack(
            [totals(seen.rater, column * residual, raters) for column in design.T], axis=1
        )
        meat = scores.T @ scores * raters / (raters - 1)
        bread = np.linalg.inv(information)
        # Worths have no nought of their own; their mean is it.
        centre = np.eye(len(best))
        centre[:sources, :sources] -= 1.0 / max(sources, 1)
        spread = np.sqrt(np.maximum(np.diag(centre @ bread @ meat @ bread @ centre.T), 0.0))
        spread[~np.abs(design).any(axis=0)] = np.inf
    best[:sources] -= best[:sources].mean() if sources else 0.0
    half = float(student.ppf(0.975, max(raters - 1, 1))) * spread
    # What is nought for sure is no more than nought.
    ratio = np.where(best == 0.0, 0.0, np.inf)
    np.divide(np.abs(best), spread, out=ratio, where=spread > 0)
    chance = 2 * student.sf(ratio, max(raters - 1, 1))
    met = coo_array((np.ones(size), (seen.left, seen.right)), shape=(sources, sources))
    return StyleFit(
        worth=best[:sources],
        low=(best - half)[:sources],
        high=(best + half)[:sources],
        effect=best[sources:],
        effect_low=(best - half)[sources:],
        effect_high=(best + half)[sources:],
        p_value=np.asarray(chance, np.float64)[sources:],
        raters=raters,
        groups=int(connected_components(met, directed=False)[0]) if sources else 0,
    )


def _most_likely(design: Float64, outcome: Float64) -> tuple[Float64, Float64]:
    """The mode and the information there, by Newton's steps, halved where they overshoot."""
    columns = design.shape[1]
    prior = np.eye(columns) / PRIOR_SD**2
    best = np.zeros(columns)

    def loss(at: Float64) -> float:
        z = design @ at
        return float(np.sum(np.logaddexp(0, z) - outcome * z) + at @ prior @ at / 2)

    for _ in range(STEPS):
        chance = expit(design @ best)
        slope = design.T @ (chance - outcome) + prior @ best
        information = design.T @ (design * (chance * (1 - chance))[:, None]) + prior
        step = np.linalg.solve(information, slope)
        size = 1.0
        while size > 1e-6 and loss(best - size * step) > loss(best):
            size /= 2
        best = best - size * step
        if np.abs(step).max(initial=0.0) < 1e-9:
            break
    chance = expit(design @ best)
    return best, design.T @ (design * (chance * (1 - chance))[:, None]) + prior
