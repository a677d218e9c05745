"""Outcome models for replay: what an edge would bring, learned from other decisions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol, Self

import numpy as np
from scipy.sparse import csr_array, diags_array, hstack
from scipy.sparse.linalg import spsolve

from matching.arrays import ArrayInvalid, groups_of, number_within, real_array
from matching.assignment import totals
from matching.problem import Bool, Float64, Int64
from matching.replay import Log


class OutcomeModel(Protocol):
    """Anything that learns outcomes from rows and predicts them; a scikit-learn model is one."""

    def fit(self, x: Float64, y: Float64) -> object:
        """Learn from rows of features and their outcomes."""
        ...

    def predict(self, x: Float64) -> Float64:
        """The outcome to expect of each row."""
        ...


class FactorModel:
    """Effects of factors (expert, domain) and of each pair of them, shrunk; and covariates.

    The first columns of `x` are factors, whole numbers; the rest are covariates. Effects are
    shrunk to nought by `strength` outcomes' worth, those of pairs of factors to their sum by
    `pair_strength`; a level without outcomes has no effect.

    What `fit` learns: `centre_`, `effect_` (factors in a row, pairs, covariates) float64.
    Source: ridge with fixed variance ratios, which is the best linear unbiased prediction of
        random effects (Robinson, Statistical Science 6 (1991)).
    """

    def __init__(self, factors: int, *, strength: float = 2.0, pair_strength: float = 4.0) -> None:
        self.factors = int(number_within("factors", factors, 0, 1000))
        self.strength = number_within("strength", strength, 1e-6, 1e9)
        self.pair_strength = number_within("pair_strength", pair_strength, 1e-6, 1e9)
        self.centre_ = 0.0
        self.effect_: Float64 = np.zeros(0)
        self._levels: list[Float64] = []
        self._middle: Float64 = np.zeros(0)
        self._spread: Float64 = np.ones(0)

    def fit(self, x: Float64, y: Float64) -> Self:
        """Learn from rows; no rows leave a model that predicts nought."""
        self.centre_ = float(y.mean()) if len(y) else 0.0
        rest = x[:, self.factors :]
        self._middle = rest.mean(axis=0) if len(y) else np.zeros(rest.shape[1])
        spread = rest.std(axis=0) if len(y) else np.ones(rest.shape[1])
        self._spread = np.where(spread > 1e-12, spread, np.inf)
        self._levels = [np.unique(each) for each in self._keys(x)]
        design = self._design(x)
        penalty = [
            np.full(len(levels), self.strength if n < self.factors else self.pair_strength)
            for n, levels in enumerate(self._levels)
        ]
        penalty.append(np.full(rest.shape[1], 1.0))
        square = (design.T @ design + diags_array(np.concatenate(penalty))).tocsc()
        target = design.T @ (y - self.centre_)
        self.effect_ = np.atleast_1d(spsolve(square, target)) if len(target) else np.zeros(0)
        return self

    def predict(self, x: Float64) -> Float64:
        """The outcome to expect of each row, not cut to any range."""
        return np.asarray(self.centre_ + self._design(x) @ self.effect_, np.float64)

    def _keys(self, x: Float64) -> list[Float64]:
        """Factors, then pairs of neighbouring factors, each as one number a row."""
        single = [x[:, n] for n in range(self.factors)]
        wide = [one * 2.0**26 + other for one, other in pairwise(single)]
        return [*single, *wide]

    def _design(self, x: Float64) -> csr_array:
        blocks = []
        for key, levels in zip(self._keys(x), self._levels, strict=True):
            place = np.clip(np.searchsorted(levels, key), 0, max(len(levels) - 1, 0))
            here = np.flatnonzero(levels[place] == key) if len(levels) else np.zeros(0, np.int64)
            found = csr_array(
                (np.ones(len(here)), (here, place[here])), shape=(len(x), len(levels))
            )
            blocks.append(found)
        rest = (x[:, self.factors :] - self._middle) / self._spread
        blocks.append(csr_array(rest))
        return csr_array(hstack(blocks, format="csr"))


def cross_fit(
    log: Log,
    *,
    factors: Sequence[object] = (),
    covariates: object = None,
    model: OutcomeModel | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Float64:
    """The outcome of every edge, by a model that has not seen that edge's decision.

    Shapes: factors each (edges,) labels of any kind; covariates (edges,) or (edges, covariates).
        The model sees factors first, as whole numbers, then covariates.
    Raises: ArrayInvalid.
    """
    columns: list[Float64] = [
        groups_of(f"factors[{n}]", each, log.edges)[0].astype(np.float64)
        for n, each in enumerate(factors)
    ]
    if covariates is not None:
        table = np.asarray(covariates)
        table = table[:, None] if table.ndim == 1 else table
        if table.ndim != 2:
            raise ArrayInvalid("covariates", None, f"has shape {table.shape}")
        columns += [
            real_array(f"covariates[:, {n}]", table[:, n], log.edges, low=-1e12, high=1e12)
            for n in range(table.shape[1])
        ]
    x = np.column_stack(columns) if columns else np.zeros((log.edges, 0))
    fitted = FactorModel(len(factors)) if model is None else model
    parts = int(number_within("folds", folds, 2, 1000))
    fold = (np.random.default_rng(seed).permutation(log.decisions) % parts)[log.decision]
    told = np.zeros(log.edges)
    for part in range(parts):
        inside: Bool = fold == part
        rows: Int64 = np.flatnonzero(~inside & log.used)
        if inside.any() and len(rows):
            fitted.fit(x[rows], log.outcome[rows])
            told[inside] = fitted.predict(x[inside])
        elif inside.any():
            told[inside] = float(totals(fold * 0, log.outcome, 1)[0]) / max(int(log.used.sum()), 1)
    if log.used.any():
        # A line may leave the range of what has been seen; an outcome does not.
        seen = log.outcome[log.used]
        told = np.clip(told, seen.min(), seen.max())
    return np.asarray(told, np.float64)
