"""How unsure a fit is of what all its rows share: the intercept, the levels, the target models.

A diagonal variance takes everybody's own effect as known. Here those are averaged over, so that a
model of whose experts little is known is itself little known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, diags_array, hstack
from scipy.special import expit

from matching.design import Factor, product
from matching.problem import Bool, Float64, Int64

LATEST = 200_000
"""Rows, the latest ones, that are looked at; with more, what is shared is known well enough."""

MOST_LEVELS = 200
"""A factor of more levels than this is nobody's common property."""

CLOSE, MOST_PRODUCTS = 1e-6, 200
"""Share of the squared slope at which the search may end, and its products at most."""


@dataclass(frozen=True)
class Shared:
    """The joint variance of the dense columns and of factors with few levels.

    Shapes: codes, one sorted (levels,) int64 for each name; prior one squared logit for each;
        covariance (coefficients, coefficients) squared logits, the dense columns first.
    """

    columns: int
    names: tuple[str, ...]
    codes: tuple[Int64, ...]
    prior: tuple[float, ...]
    covariance: Float64

    def variance_of(self, dense: Float64, codes: Mapping[str, Int64]) -> Float64:
        """Variance of what rows have in common with all others, (rows,) squared logits.

        A level that was never met is as unsure as before any. Shapes: dense (rows, some of the
        first columns); codes (rows,) for each name.
        """
        rows = np.arange(len(dense))
        weight = np.zeros((len(dense), len(self.covariance)))
        weight[:, : dense.shape[1]] = dense
        begin, unmet = self.columns, np.zeros(len(dense))
        for name, known, prior in zip(self.names, self.codes, self.prior, strict=True):
            wanted = codes[name]
            at = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
            met: Bool = np.zeros(len(dense), bool)
            if len(known):
                met = np.asarray(known[at] == wanted, bool)
            weight[rows[met], begin + at[met]] = 1.0
            unmet += np.where(met | (wanted == -1), 0.0, prior)
            begin += len(known)
        return np.asarray(
            np.einsum("ij,jk,ik->i", weight, self.covariance, weight) + unmet, np.float64
        )


def shared_covariance(
    dense: Float64,
    factors: Sequence[Factor],
    shares: Sequence[bool],
    coefficients: tuple[Float64, Sequence[Float64]],
    variance: Sequence[float],
    weight: Float64,
    penalty: Float64,
) -> Float64:
    """The joint variance of the dense columns and the factors that are shared, others averaged out.

    Shapes: coefficients, of the dense columns and of each factor's levels; variance, one prior for
        each factor; weight (rows,); penalty (columns,) the precision of each dense column's prior.
    Source: the marginal of a Gaussian, the inverse of the Schur complement of its precision; the
        other effects by conjugate gradients for all columns at once.
    """
    begin = max(0, len(dense) - LATEST)
    dense, weight = dense[begin:], weight[begin:]
    eta = product(dense, coefficients[0])
    common: list[csr_array] = [csr_array(np.asarray(dense, np.float64))]
    own: list[csr_array] = []
    held, loose = [penalty], list[Float64]()
    for factor, is_shared, level, spread in zip(
        factors, shares, coefficients[1], variance, strict=True
    ):
        at = factor.at[begin:]
        eta += np.concatenate([level, [0.0]])[at]
        there = np.flatnonzero(at >= 0)
        marks = csr_array((np.ones(len(there)), (there, at[there])), shape=(len(at), factor.levels))
        (common if is_shared else own).append(marks)
        (held if is_shared else loose).append(np.full(factor.levels, 1 / spread))
    p = expit(eta)
    bend = diags_array(weight * p * (1 - p))
    first = hstack(common, format="csr")
    precision = (first.T @ (bend @ first)).toarray() + np.diag(np.concatenate(held))
    if own:
        second = hstack(own, format="csr")
        felt = bend @ second
        across = np.asarray((felt.T @ first).toarray(), np.float64)
        inner = (second.T @ felt).tocsr() + diags_array(np.concatenate(loose))
        precision -= across.T @ _solved(inner, across)
    return np.asarray(np.linalg.inv((precision + precision.T) / 2), np.float64)


def _solved(matrix: csr_array, right: Float64) -> Float64:
    """What the matrix makes `right` of, column by column but all at once."""
    inverse = 1 / matrix.diagonal()[:, None]
    found, left = np.zeros_like(right), right.copy()
    toward = better = inverse * left
    size = (left * better).sum(axis=0)
    limit = CLOSE * size
    for _ in range(MOST_PRODUCTS):
        if (size <= limit).all():
            break
        bent = np.asarray(matrix @ toward, np.float64)
        along = (toward * bent).sum(axis=0)
        reach = np.divide(size, along, out=np.zeros_like(size), where=along > 0)
        found += reach * toward
        left -= reach * bent
        better = inverse * left
        was, size = size, (left * better).sum(axis=0)
        toward = better + np.divide(size, was, out=np.zeros_like(size), where=was > 0) * toward
    return found
