"""How far reviewers agree beyond chance on closed questions, with intervals over the items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from matching.assignment import totals
from matching.problem import Float64
from matching.votes import Votes, VotesInvalid

DRAWS = 1000
"""Times that the items are drawn again for an interval."""


class Distance(StrEnum):
    """How far apart two labels are: names are apart or not; grades by rank or by number."""

    NOMINAL = "nominal"
    ORDINAL = "ordinal"
    INTERVAL = "interval"


@dataclass(frozen=True, slots=True)
class Agreement:
    """A coefficient of agreement: 1 is perfect, 0 what chance gives, below 0 is worse than chance.

    None where it is not defined: fewer than two votes on every item, or, for those coefficients
    that divide by the disagreement of chance, one label only.

    Units: low and high bound nine tenths of the draws of items again.
    """

    value: float | None
    low: float | None
    high: float | None
    items: int


@dataclass(frozen=True, slots=True)
class Agreements:
    """The usual coefficients beside each other; they differ most where one label is common."""

    alpha: Agreement
    fleiss: Agreement
    ac1: Agreement
    observed: Agreement


def agreements(
    votes: Votes, *, distance: Distance = Distance.NOMINAL, draws: int = DRAWS, seed: int = 0
) -> Agreements:
    """Krippendorff's alpha, Fleiss' kappa, Gwet's AC1, and the share of pairs that agree.

    Items with one vote say nothing and are left out. Alpha and AC1 take any number of votes on an
    item; Fleiss' kappa is in the form for unequal numbers, which weighs each item alike.

    Source: Krippendorff, Content Analysis (2004), section 11.3; Fleiss, Psychological Bulletin 76
        (1971); Gwet, British Journal of Mathematical and Statistical Psychology 61 (2008).
    """
    return agreements_of(votes.counts(votes.weight()), distance=distance, draws=draws, seed=seed)


def agreements_of(
    counts: Float64,
    items: Float64 | None = None,
    *,
    distance: Distance = Distance.NOMINAL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Agreements:
    """The same of votes that are counted already, as a database counts them.

    Shapes: counts (patterns, classes), votes of an item for each label; items (patterns,), how many
        items have had just these votes, one each where it is left out.
    """
    times = np.ones(len(counts)) if items is None else np.asarray(items, np.float64)
    told = counts.sum(axis=1) > 1.5
    # Items with the same votes are one to every coefficient, so that drawing the items again is
    # drawing how many there are of each kind: few numbers in the place of many.
    counts, place = np.unique(np.asarray(counts[told], np.float64), axis=0, return_inverse=True)
    times = totals(place.ravel(), times[told], len(counts))
    size = int(times.sum())
    far = distances(np.asarray(times @ counts, np.float64), distance)
    rng = np.random.default_rng(seed)
    draw: Float64 = np.zeros((draws, len(counts)))
    if size:
        draw = rng.multinomial(size, times / size, draws).astype(np.float64)

    def with_interval(value: Callable[[Float64], Float64]) -> Agreement:
        whole = value(times[None])[0]
        if not np.isfinite(whole):
            return Agreement(None, None, None, size)
        again = value(draw)
        again = again[np.isfinite(again)]
        if size < 2 or len(again) == 0:
            return Agreement(float(whole), -1.0, 1.0, size)
        low, high = np.quantile(again, [0.05, 0.95])
        return Agreement(float(whole), float(low), float(high), size)

    return Agreements(
        with_interval(lambda w: _alpha(counts, far, w)),
        with_interval(lambda w: _fleiss(counts, w)),
        with_interval(lambda w: _ac1(counts, w)),
        with_interval(lambda w: _observed(counts, w)),
    )


def cohen(votes: Votes, first: int, second: int, *, draws: int = DRAWS, seed: int = 0) -> Agreement:
    """Cohen's kappa of two reviewers over the items that both judged.

    Source: Cohen, Educational and Psychological Measurement 20 (1960), eq. 1.
    Raises: VotesInvalid.
    """
    for reviewer in (first, second):
        if not 0 <= reviewer < votes.reviewers:
            raise VotesInvalid("reviewer", None, f"{reviewer} is not below {votes.reviewers}")
    # The last vote counts, where a reviewer judged an item again.
    said = np.full((2, votes.items), -1)
    for row, reviewer in enumerate((first, second)):
        mine = votes.reviewer == reviewer
        said[row, votes.item[mine]] = votes.label[mine]
    both = (said >= 0).all(axis=0)
    size = int(both.sum())
    if size == 0:
        return Agreement(None, None, None, 0)
    cell = said[0, both] * votes.classes + said[1, both]
    rng = np.random.default_rng(seed)
    tables = [np.bincount(cell, minlength=votes.classes**2)]
    tables += [
        np.bincount(cell[rng.integers(0, size, size)], minlength=votes.classes**2)
        for _ in range(draws)
    ]
    share = np.stack(tables).astype(np.float64) / size
    values = _cohen(share.reshape(-1, votes.classes, votes.classes))
    if not np.isfinite(values[0]):
        return Agreement(None, None, None, size)
    again = values[1:][np.isfinite(values[1:])]
    if size < 2 or len(again) == 0:
        return Agreement(float(values[0]), -1.0, 1.0, size)
    low, high = np.quantile(again, [0.05, 0.95])
    return Agreement(float(values[0]), float(low), float(high), size)


def distances(total: Float64, distance: Distance) -> Float64:
    """Squared distance of every two labels, shape (classes, classes).

    Shapes: total (classes,), votes for each label; ordinal distances depend on them.
    Source: Krippendorff, Content Analysis (2004), section 11.3.
    """
    label = np.arange(len(total), dtype=np.float64)
    if distance is Distance.NOMINAL:
        return 1.0 - np.eye(len(total))
    if distance is Distance.INTERVAL:
        return np.asarray((label[:, None] - label[None, :]) ** 2, np.float64)
    middle = np.cumsum(total) - total / 2
    return np.asarray((middle[:, None] - middle[None, :]) ** 2, np.float64)


def _alpha(counts: Float64, far: Float64, weight: Float64) -> Float64:
    """Alpha for each row of item weights, shape (draws,)."""
    number = counts.sum(axis=1)
    within = np.einsum("ik,kl,il->i", counts, far, counts) / np.maximum(number - 1, 1)
    total, votes = weight @ counts, weight @ number
    # The same label by two votes is at no distance, so that no pair of a vote with itself counts.
    chance = np.einsum("dk,kl,dl->d", total, far, total) / np.maximum(votes - 1, 1)
    return _ratio((weight @ within), chance)


def _observed(counts: Float64, weight: Float64) -> Float64:
    number = counts.sum(axis=1)
    pairs = np.maximum(number * (number - 1), 1e-9)
    agree = ((counts**2).sum(axis=1) - number) / pairs
    agree = np.clip(agree, 0.0, 1.0)
    return _mean(agree, weight)


def _fleiss(counts: Float64, weight: Float64) -> Float64:
    share = _shares(counts, weight)
    return _ratio(1 - _observed(counts, weight), 1 - (share**2).sum(axis=1))


def _ac1(counts: Float64, weight: Float64) -> Float64:
    share = _shares(counts, weight)
    classes = counts.shape[1]
    by_chance = (share * (1 - share)).sum(axis=1) / max(classes - 1, 1)
    return _ratio(1 - _observed(counts, weight), 1 - by_chance)


def _cohen(table: Float64) -> Float64:
    agree = np.trace(table, axis1=1, axis2=2)
    chance = np.einsum("dk,dk->d", table.sum(axis=2), table.sum(axis=1))
    return _ratio(1 - agree, 1 - chance)


def _shares(counts: Float64, weight: Float64) -> Float64:
    """Share of each label, each item alike, shape (draws, classes)."""
    of_item = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9)
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-9)
    return np.asarray((weight @ of_item) / total, np.float64)


def _mean(values: Float64, weight: Float64) -> Float64:
    total = weight.sum(axis=1)
    sums = weight @ values
    result = np.full(len(sums), np.nan)
    np.divide(sums, total, out=result, where=total > 0)
    return result


def _ratio(observed: Float64, chance: Float64) -> Float64:
    """One less the ratio of two disagreements, undefined where chance has none."""
    part = np.full(len(chance), np.nan)
    np.divide(observed, chance, out=part, where=chance > 1e-12)
    return np.asarray(1.0 - part, np.float64)
