"""The columns of a model with crossed effects: a dense part, and factors of many levels each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from matching.problem import Float64, Int64

ENTRIES = 65_536
"""Entries of a dense matrix that are multiplied at a time: they fit into a processor's cache, sums
of single precision do not grow long enough to lose digits, and no BLAS puts threads to so few,
which cost more than they bring where other work has the cores."""

CUBE = 200_000
"""Multiplications of one product of two matrices, at most, for the same reason."""


@dataclass(frozen=True)
class Factor:
    """A categorical column: the place of each row's level among the levels.

    Shapes: at (rows,) int64, -1 for no level; levels counts them; value (rows,) float64, what the
        level's coefficient is multiplied with, empty for one.
    """

    at: Int64
    levels: int
    variance: float
    value: Float64 = field(default_factory=lambda: np.zeros(0))


def product(dense: Float64, vector: Float64) -> Float64:
    """A tall matrix times a vector, in the matrix's precision; (rows,) float64."""
    found = np.empty(len(dense))
    narrow = vector.astype(dense.dtype)
    block = max(ENTRIES // max(dense.shape[1], 1), 1)
    for begin in range(0, len(dense), block):
        found[begin : begin + block] = dense[begin : begin + block] @ narrow
    return found


class Design:
    """A matrix of many columns that is never written down, times a vector from either side.

    A vector of coefficients holds the dense columns, then the levels of each factor and one level
    more, which rows without a level point at, and which is held at nought.

    Shapes: dense (rows, columns); width counts all coefficients.
    """

    def __init__(self, dense: Float64, factors: Sequence[Factor]) -> None:
        self.dense = dense
        self.rows, self.columns = dense.shape
        self.factors = tuple(factors)
        sizes = [factor.levels + 1 for factor in factors]
        self._edges = [self.columns, *(self.columns + np.cumsum(sizes)).tolist()]
        self.width = self._edges[-1]
        self.nowhere = np.array(self._edges[1:], np.int64) - 1
        self._places = [
            np.where(f.at < 0, f.levels, f.at) if f.at.min(initial=0) < 0 else f.at for f in factors
        ]

    def parted(self, vector: Float64) -> tuple[Float64, list[Float64]]:
        """A vector of coefficients as the dense columns' and each factor's own levels'."""
        pairs = zip(self._edges[:-1], self._edges[1:], strict=True)
        return vector[: self.columns].copy(), [vector[a : b - 1].copy() for a, b in pairs]

    def logits(self, vector: Float64) -> Float64:
        """The matrix times a vector of coefficients, shape (rows,)."""
        found = product(self.dense, vector[: self.columns])
        for factor, at, start in zip(self.factors, self._places, self._edges, strict=False):
            taken = vector[start:].take(at)
            found += taken * factor.value if len(factor.value) else taken
        return found

    def sums(self, felt: Float64) -> Float64:
        """The matrix turned round times a number for each row, shape (width,)."""
        found = np.empty(self.width)
        part: Float64 = np.zeros(self.columns)
        narrow = felt.astype(self.dense.dtype, copy=False)
        block = max(ENTRIES // max(self.columns, 1), 1)
        for begin in range(0, self.rows, block):
            part += narrow[begin : begin + block] @ self.dense[begin : begin + block]
        found[: self.columns] = part
        self._add_levels(found, felt, power=1)
        return found

    def square_sums(self, felt: Float64) -> Float64:
        """The same of the squared entries, the diagonal of a curvature; nought for the dense part.

        Shapes: the result (width,).
        """
        found = np.zeros(self.width)
        self._add_levels(found, felt, power=2)
        return found

    def gram(self, felt: Float64) -> Float64:
        """The joint curvature of the dense columns, shape (columns, columns)."""
        found: Float64 = np.zeros((self.columns, self.columns))
        narrow = felt.astype(self.dense.dtype, copy=False)
        height = max(CUBE // max(self.columns, 1) ** 2, 16)
        many = 64 * height
        for begin in range(0, self.rows, many):
            part = self.dense[begin : begin + many]
            bent = part * narrow[begin : begin + many, None]
            whole = len(part) // height * height
            stack = (-1, height, self.columns)
            pairs = bent[:whole].reshape(stack).transpose(0, 2, 1) @ part[:whole].reshape(stack)
            found += pairs.sum(axis=0)
            found += bent[whole:].T @ part[whole:]
        return found

    def _add_levels(self, found: Float64, felt: Float64, *, power: int) -> None:
        for n, (factor, at) in enumerate(zip(self.factors, self._places, strict=True)):
            mine = felt * factor.value**power if len(factor.value) else felt
            found[self._edges[n] : self._edges[n + 1]] = np.bincount(at, mine, factor.levels + 1)
        found[self.nowhere] = 0.0
