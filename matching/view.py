"""One way of looking at the rows: which columns, which effects, and what was learned of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from matching.design import Factor
from matching.filter import Effect, Filter
from matching.problem import Float64, Int64
from matching.refit import Fit, fit_map
from matching.shared import MOST_LEVELS, Shared, shared_covariance

SLOPE = 0.02
"""Opening variance of effects that only a refit moves, squared logits."""


@dataclass(frozen=True)
class Term:
    """An effect of a view: its key, its opening variance, and whether the refit estimates it.

    Effects that are not refitted live in the filter alone, and so start anew for a newcomer.
    """

    name: str
    variance: float
    is_refitted: bool = True


@dataclass
class Keys:
    """For one effect, the level of each row and the codes of the levels.

    Shapes: at (rows,) int64, -1 for none; code (levels, 1 or 2) int64; value (rows,) float64, what
        the effect is multiplied with, empty for one.
    """

    at: Int64
    code: Int64
    value: Float64 = field(default_factory=lambda: np.zeros(0))

    def hashable(self) -> list[Hashable]:
        """The codes as keys of a dictionary: a number, or a pair of them."""
        if self.code.shape[1] == 1:
            return list(self.code[:, 0].tolist())
        return [tuple(pair) for pair in self.code.tolist()]


def levels_of(*columns: Int64) -> Keys:
    """The levels that one or two columns make; a row with -1 in any has none."""
    absent = np.zeros(len(columns[0]), bool)
    for column in columns:
        absent |= column == -1
    if len(columns) == 1:
        code, at = np.unique(columns[0], return_inverse=True)
        return Keys(np.where(absent, -1, at), code[:, None])
    first, a = np.unique(columns[0], return_inverse=True)
    second, b = np.unique(columns[1], return_inverse=True)
    both, at = np.unique(a * len(second) + b, return_inverse=True)
    code = np.column_stack([first[both // max(len(second), 1)], second[both % max(len(second), 1)]])
    return Keys(np.where(absent, -1, at), code)


class View:
    """Weights of dense columns, and a filter of the effects on top of them.

    What `fit` learns: `fit_`, coefficients and variances; `filter_`, the states; `slopes_`; with
    `learn_shared`, `shared_`, how unsure it is of what all rows have in common.
    """

    def __init__(self, name: str, terms: Sequence[Term]) -> None:
        self.name = name
        self.terms = tuple(terms)
        self.variance = {term.name: term.variance for term in terms}
        self.drift = dict.fromkeys(self.variance, 0.0)
        self.drift_day = dict.fromkeys(self.variance, 0.0)
        self.weights_: Float64 = np.zeros(0)
        self.weights_variance_: Float64 = np.zeros(0)
        self.fit_: Fit | None = None
        self.shared_: Shared | None = None
        self.slopes_: list[Float64] = []
        self._origin: dict[str, dict[Hashable, list[float]]] = {}
        self.filter_ = self._empty()

    def _empty(self) -> Filter:
        return Filter(
            [
                Effect(t.name, self.variance[t.name], self.drift[t.name], self.drift_day[t.name])
                for t in self.terms
            ]
        )

    def fill(self, states: Sequence[dict[Hashable, list[float]]]) -> None:
        """Take states that were kept, under the present variances and drifts."""
        self.filter_ = self._empty()
        for held, state in zip(self.filter_.states, states, strict=True):
            held.update(state)

    def reset(self) -> None:
        """A filter that knows what the refit knows and nothing else."""
        fresh = self._empty()
        for n, term in enumerate(self.terms):
            if term.is_refitted:
                fresh.states[n].update({key: list(s) for key, s in self._origin[term.name].items()})
        self.filter_ = fresh

    def fit(
        self,
        dense: Float64,
        keys: dict[str, Keys],
        outcome: Float64,
        weight: Float64,
        day: Float64,
        *,
        penalised: Float64,
        rising: Int64,
        rounds: int = 3,
        ridge: float = 1.0,
        learn_shared: bool = False,
        slopes: Mapping[str, Keys] | None = None,
    ) -> View:
        """Estimate the refitted effects and the weights; the filter starts from them.

        `slopes` are effects that only a refit moves, and that the filter has no part in.
        """
        used = [term for term in self.terms if term.is_refitted]
        factors = [
            Factor(
                keys[t.name].at,
                len(keys[t.name].code),
                self.variance[t.name],
                value=keys[t.name].value,
            )
            for t in used
        ]
        inclined = {} if slopes is None else slopes
        factors += [
            Factor(key.at, len(key.code), self.variance.get(name, SLOPE), value=key.value)
            for name, key in inclined.items()
        ]
        found = fit_map(
            dense,
            factors,
            outcome,
            weight,
            penalised=penalised,
            rising=rising,
            rounds=rounds,
            ridge=ridge,
        )
        self.fit_ = found
        self.weights_, self.weights_variance_ = found.dense, found.dense_variance
        self.slopes_ = found.level[len(used) :]
        self.variance.update(zip(inclined, found.variance[len(used) :], strict=True))
        self._origin = {}
        for n, term in enumerate(used):
            self.variance[term.name] = found.variance[n]
            key = keys[term.name]
            last = np.full(len(key.code), -np.inf)
            there = key.at >= 0
            np.maximum.at(last, key.at[there], day[there])
            values = zip(
                found.level[n].tolist(),
                found.level_variance[n].tolist(),
                last.tolist(),
                strict=True,
            )
            self._origin[term.name] = {
                k: [m, v, t] for k, (m, v, t) in zip(key.hashable(), values, strict=True)
            }
        self.reset()
        if learn_shared:
            self._learn_shared(found, factors, keys, dense, weight, penalised)
        return self

    def _learn_shared(
        self,
        found: Fit,
        factors: Sequence[Factor],
        keys: dict[str, Keys],
        dense: Float64,
        weight: Float64,
        penalised: Float64,
    ) -> None:
        used = [term.name for term in self.terms if term.is_refitted]
        used += [""] * (len(factors) - len(used))
        shares = [
            (name == "group" or name.startswith("context")) and factor.levels <= MOST_LEVELS
            for name, factor in zip(used, factors, strict=True)
        ]
        common = [n for n, is_shared in enumerate(shares) if is_shared]
        self.shared_ = Shared(
            columns=dense.shape[1],
            names=tuple(used[n] for n in common),
            codes=tuple(keys[used[n]].code[:, 0] for n in common),
            prior=tuple(found.variance[n] for n in common),
            covariance=shared_covariance(
                dense,
                factors,
                shares,
                (found.dense, found.level),
                found.variance,
                weight,
                penalised / found.ridge + 1e-6,
            ),
        )
