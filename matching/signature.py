"""What an item asks for beside being hard: a few numbers, from how the few who met it fared.

Worth having where few subjects answer many items, as models answer benchmarks: then which of them
fail an item says who else will.
"""

from __future__ import annotations

import numpy as np

from matching.problem import Float64, Int64
from matching.responses import Responses

FEWEST_SUBJECTS, MOST_SUBJECTS = 4, 150
FEWEST_ITEMS = 50
DIMENSIONS = 4


class Signature:
    """Factor scores of items, each row's own answer left out of what it is predicted from.

    What `fit` learns: `subject_` (subjects,) int64, codes; `loading_` (subjects, dimensions)
    float64; `item_` (items,) int64, codes, sorted; `score_` (items, dimensions) float64, standard
    normal units. There are no dimensions where the rows do not suit.
    Source: principal factors of the correlations between subjects' residuals; scores are the
        posterior mean under a standard normal prior (Thomson's regression scores, 1951).
    """

    def __init__(self) -> None:
        self.dimensions_ = 0
        self.subject_: Int64 = np.zeros(0, np.int64)
        self.item_: Int64 = np.zeros(0, np.int64)
        self.loading_: Float64 = np.zeros((0, 0))
        self.score_: Float64 = np.zeros((0, 0))

    def fit(self, rows: Responses) -> Float64:
        """Learn the loadings and give each row the score of its item without its own answer.

        Shapes: the result (rows, dimensions_).
        """
        self.subject_, u = np.unique(rows.subject, return_inverse=True)
        self.item_, i = np.unique(rows.item, return_inverse=True)
        subjects, items = len(self.subject_), len(self.item_)
        self.dimensions_ = 0
        fits = FEWEST_SUBJECTS <= subjects <= MOST_SUBJECTS and items >= FEWEST_ITEMS
        if not fits or subjects * items > 40_000_000 or len(rows) < 3 * items:
            self.score_ = np.zeros((items, 0))
            return np.zeros((len(rows), 0))
        residual, met = self._residuals(rows, u, i, subjects, items)
        if met.sum() < 3 * items:
            self.score_ = np.zeros((items, 0))
            return np.zeros((len(rows), 0))
        both = met.T @ met
        shared = residual.T @ residual / np.maximum(both, 1)
        # A correlation over a few items is mostly luck.
        correlation = shared * both / (both + 10)
        self.loading_ = _principal(correlation, min(DIMENSIONS, subjects // 3))
        self.dimensions_ = self.loading_.shape[1]
        unique = np.maximum(1 - (self.loading_**2).sum(axis=1), 0.1)
        forward = self.loading_ / unique[:, None]
        outer = np.einsum("sd,se->sde", forward, self.loading_)
        precision = (met @ outer.reshape(subjects, -1)).reshape(items, *outer.shape[1:])
        precision += np.eye(self.dimensions_)
        pull = residual @ forward
        self.score_ = np.linalg.solve(precision, pull[:, :, None])[:, :, 0]
        alone = np.zeros((len(rows), self.dimensions_))
        for begin in range(0, len(rows), 200_000):
            part = slice(begin, begin + 200_000)
            pi, pu = i[part], u[part]
            left = precision[pi] - outer[pu]
            toward = pull[pi] - residual[pi, pu][:, None] * forward[pu]
            alone[part] = np.linalg.solve(left, toward[:, :, None])[:, :, 0]
        return alone

    def _residuals(
        self, rows: Responses, u: Int64, i: Int64, subjects: int, items: int
    ) -> tuple[Float64, Float64]:
        _, g = np.unique(rows.group, return_inverse=True)
        groups = int(g.max()) + 1
        own = np.bincount(u, rows.outcome, subjects) + 2 * rows.outcome.mean()
        own /= np.bincount(u, minlength=subjects) + 2
        cell = u * groups + g
        hits = np.bincount(cell, rows.outcome, subjects * groups)
        seen = np.bincount(cell, minlength=subjects * groups)
        rate = (hits + 2 * np.repeat(own, groups)) / (seen + 2)
        p = np.clip(rate[cell], 0.01, 0.99)
        z = (rows.outcome - p) / np.sqrt(p * (1 - p))
        at = i * subjects + u
        times = np.bincount(at, minlength=items * subjects)
        total = np.bincount(at, z, items * subjects)
        mean = np.divide(total, times, out=np.zeros(items * subjects), where=times > 0)
        return mean.reshape(items, subjects), (times > 0).astype(float).reshape(items, subjects)

    def of(self, item: Int64) -> Float64:
        """The scores of items, nought for those that nobody met; (rows, dimensions_)."""
        if not self.dimensions_:
            return np.zeros((len(item), 0))
        at = np.minimum(np.searchsorted(self.item_, item), len(self.item_) - 1)
        return np.asarray(self.score_[at] * (self.item_[at] == item)[:, None], np.float64)


def _principal(correlation: Float64, dimensions: int) -> Float64:
    """Loadings by iterated principal axes; the strongest first, each mostly positive."""
    matrix = correlation.copy()
    np.fill_diagonal(matrix, 0.5)
    for _ in range(30):
        value, vector = np.linalg.eigh(matrix)
        kept = np.maximum(value[::-1][:dimensions], 1e-6)
        loading: Float64 = vector[:, ::-1][:, :dimensions] * np.sqrt(kept)
        shared = np.minimum((loading**2).sum(axis=1), 0.95)
        np.fill_diagonal(matrix, shared)
    return loading * np.where(loading.sum(axis=0) < 0, -1.0, 1.0)
