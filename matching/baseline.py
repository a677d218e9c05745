"""People and a model on the same items: how each stands, and whether anybody is above the model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from matching.arrays import ArrayInvalid, real_array
from matching.problem import Bool, Float64

DRAWS = 4000
LEAST_ITEMS = 20
"""Items that somebody must have had before it is said whether the model is above them."""

LEAST_PEOPLE = 3
SURE = 0.9


class Standing(StrEnum):
    """Who is above whom; `thin` while there are too few answers to say."""

    HUMAN = "human"
    UNCLEAR = "unclear"
    SATURATED = "saturated"
    THIN = "thin"


@dataclass(frozen=True, slots=True)
class Share:
    """A share of right answers with the interval of nine tenths."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The model and the people, on one scale.

    Shapes: beats (people,), the probability that each is better than the model, on the items that
        both had; is_counted (people,), who had items enough. Units: shares of right answers.
    """

    model: Share
    human: Share
    people: tuple[Share, ...]
    beats: Float64
    is_counted: Bool
    standing: Standing


def compare(right: Float64, model: Float64, *, seed: int = 0) -> Comparison:
    """Compare people with a model by the items that they answered under the same rules.

    Items are weighed anew in every draw, and people drawn anew for the mean of people, so that the
    intervals tell of other items and other people. It is saturated when nobody who had items enough
    is better than the model with a chance above one tenth.

    Shapes: right (people, items), 1 right, 0 wrong, NaN not asked; model (items,), likewise.
    Source: Rubin, Annals of Statistics 9 (1981), the Bayesian bootstrap.
    Raises: ArrayInvalid.
    """
    machine = real_array("model", model)
    table = np.asarray(right, np.float64)
    if table.ndim != 2 or table.shape[1] != len(machine):
        raise ArrayInvalid("right", None, f"shape {table.shape} does not fit {len(machine)} items")
    if not np.isin(table[np.isfinite(table)], (0.0, 1.0)).all() or np.isinf(table).any():
        raise ArrayInvalid("right", None, "must be 0, 1 or NaN")
    rng = np.random.default_rng(seed)
    people, items = table.shape
    weight = rng.standard_exponential((DRAWS, items))
    there = np.isfinite(table)
    known = np.where(there, table, 0.0)
    # One pseudo-answer, half right, so that all right or all wrong is not certainty.
    mass = weight @ there.T
    each = (weight @ known.T + 0.5) / (mass + 1.0)
    whole = (weight @ machine + 0.5) / (weight.sum(axis=1) + 1.0)
    same = (weight @ (there * machine).T + 0.5) / (mass + 1.0)
    beats = (each > same + 1e-12).mean(axis=0) if people else np.zeros(0)
    drawn = rng.multinomial(people, np.full(people, 1 / people), DRAWS) if people else None
    human = whole * 0 if drawn is None else (each * drawn).sum(axis=1) / people
    counted = there.sum(axis=1) >= min(LEAST_ITEMS, items)
    return Comparison(
        model=_share(whole),
        human=_share(human) if people else Share(0.5, 0.0, 1.0),
        people=tuple(_share(each[:, n]) for n in range(people)),
        beats=beats,
        is_counted=counted,
        standing=_standing(beats[counted], items),
    )


def _standing(beats: Float64, items: int) -> Standing:
    if len(beats) < LEAST_PEOPLE or items < LEAST_ITEMS:
        return Standing.THIN
    if beats.max() >= SURE:
        return Standing.HUMAN
    return Standing.SATURATED if beats.max() <= 1 - SURE else Standing.UNCLEAR


def _share(draws: Float64) -> Share:
    low, high = np.quantile(draws, [0.05, 0.95]).tolist()
    return Share(float(draws.mean()), low, high)
