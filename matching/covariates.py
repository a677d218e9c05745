"""Covariates of any unit as columns that a logistic model can use: scaled, bent, and never NaN."""

from __future__ import annotations

import numpy as np

from matching.problem import Float64

FEW_VALUES = 8
"""A column with no more distinct values than this gets a level for each."""

MOST_BENT = 40
"""With more covariates than this, lines have to do."""

FAR = 4.0
"""Standard deviations at which a value is cut off: what was never seen is not extrapolated."""


class Covariates:
    """Standardised columns, a mark where a value is unknown, and bends or levels.

    What `fit` learns: `centre_`, `spread_` (covariates,) float64, in the unit of each; `knots_`,
    for each covariate the places of its bends or its levels, standardised; `columns_`.
    """

    def __init__(self) -> None:
        self.centre_: Float64 = np.zeros(0)
        self.spread_: Float64 = np.zeros(0)
        self.gaps_: list[bool] = []
        self.knots_: list[Float64] = []
        self.is_level_: list[bool] = []

    def fit(self, covariates: Float64) -> Covariates:
        """Learn scale and shape from these rows."""
        columns = covariates.shape[1]
        self.centre_, self.spread_ = np.zeros(columns), np.ones(columns)
        self.gaps_, self.knots_, self.is_level_ = [], [], []
        for n in range(columns):
            known = covariates[np.isfinite(covariates[:, n]), n]
            self.gaps_.append(0 < len(known) < len(covariates))
            spread = float(known.std()) if len(known) else 0.0
            if spread <= 1e-9 * (1 + float(np.abs(known).max(initial=0))):
                # A constant says nothing; nought times anything is what it adds.
                self.spread_[n] = 0.0
                self.knots_.append(np.zeros(0))
                self.is_level_.append(False)
                continue
            self.centre_[n], self.spread_[n] = float(known.mean()), spread
            z = np.clip((known - self.centre_[n]) / spread, -FAR, FAR)
            some = z if len(z) <= 200_000 else z[:: len(z) // 100_000]
            values = np.unique(some)
            levels = 2 < len(values) <= FEW_VALUES
            bent = len(values) > FEW_VALUES and columns <= MOST_BENT
            knots = values if levels else np.unique(np.quantile(some, [0.2, 0.4, 0.6, 0.8]))
            self.knots_.append(knots if levels or bent else np.zeros(0))
            self.is_level_.append(levels)
        return self

    @property
    def columns_(self) -> int:
        """How many columns `transform` makes."""
        shaped = zip(self.gaps_, self.spread_.tolist(), self.knots_, strict=True)
        return sum(gap + (1 + len(knots) if spread else 0) for gap, spread, knots in shaped)

    def transform(self, covariates: Float64, into: Float64 | None = None) -> Float64:
        """Columns without NaN, (rows, columns_); written into a table of any precision if given."""
        table = np.empty((len(covariates), self.columns_)) if into is None else into
        at = 0
        for n in range(covariates.shape[1]):
            raw = covariates[:, n]
            known = np.isfinite(raw)
            if self.gaps_[n]:
                table[:, at] = ~known
                at += 1
            if self.spread_[n] == 0.0:
                continue
            z = np.where(known, (raw - self.centre_[n]) / self.spread_[n], 0.0)
            z = np.clip(z, -FAR, FAR)
            table[:, at] = z
            for knot in self.knots_[n].tolist():
                at += 1
                if self.is_level_[n]:
                    table[:, at] = known & (np.abs(z - knot) < 1e-6)
                else:
                    table[:, at] = np.where(known, np.maximum(z - knot, 0.0), 0.0)
            at += 1
        return table
