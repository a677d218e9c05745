"""Several views of the same rows side by side: fitted together, then moved by each answer."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log, sqrt
from operator import mul

import numpy as np
from scipy.special import expit

from matching.covariates import Covariates
from matching.filter import SQUASH, Effect, Filter
from matching.history import FEATURES, History, usual_pause
from matching.mixture import Elo, log_odds
from matching.problem import Float64
from matching.responses import Responses
from matching.signature import Signature
from matching.view import Keys, Term, View, levels_of

REPLAYED = 2_000_000
"""Rows, the latest ones, from which states are rebuilt that no refit estimates."""


@dataclass
class Tuning:
    """What a held-out part chose: of each view, the variance and the drift of its effects."""

    variance: dict[tuple[str, str], float] = field(default_factory=dict)
    drift: dict[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """Rows with all that can be computed of them before any of their outcomes is known.

    Shapes: offset (views, rows); keys and values, for each view and row one for each effect.
    """

    rows: Responses
    offset: list[list[float]]
    keys: list[list[list[Hashable]]]
    values: list[list[Sequence[float]]]


@dataclass(slots=True)
class Look:
    """What every member says of one row: logits, and for views their mean and variance."""

    logits: list[float]
    means: list[float]
    variances: list[float]


class Engine:
    """The views, the history and the cheap predictors, fitted on the same rows.

    Members, in the order of `Look.logits`: the views, then `rate`, `elo` and `usual`.
    """

    def __init__(
        self,
        tuning: Tuning | None = None,
        *,
        half_life_days: float = 0.0,
        daily: Mapping[str, float] | None = None,
    ) -> None:
        self.tuning = Tuning() if tuning is None else tuning
        self.daily = dict(daily or {})
        self.half_life_days = half_life_days
        self.views: list[View] = []

    # --- Learning from all rows ---------------------------------------------------------------

    def fit(self, rows: Responses, *, rounds: int = 3) -> Engine:
        """Learn everything from rows that are in time."""
        self._learn_shape(rows)
        weight = rows.weight
        if self.half_life_days > 0 and len(rows):
            weight = weight * 0.5 ** ((rows.time[-1] - rows.time) / self.half_life_days)
        table = self.history.walk(rows)
        self.centre_ = table.mean(axis=0, dtype=np.float64) if len(rows) else np.zeros(FEATURES)
        spread = table.std(axis=0, dtype=np.float64) if len(rows) else np.zeros(FEATURES)
        self.spread_ = np.where(spread > 1e-4, spread, np.inf)
        scores = self.signature.fit(rows)
        self._make_views()
        base = self._base(rows)
        keys = self._keys(rows, scores)
        rising = np.arange(base.shape[1] - rows.rising.shape[1], base.shape[1])
        for view in self.views:
            extra = self._extra(view, table, scores)
            dense = np.concatenate([base.astype(extra.dtype), extra], axis=1)
            penalised = np.concatenate([[0.05], np.ones(dense.shape[1] - 1)])
            view.fit(
                dense, keys, rows.outcome, weight, rows.time,
                penalised=penalised, rising=rising, rounds=rounds,
            )  # fmt: skip
            if view.name == "history":
                self.history_weights = (view.weights_[base.shape[1] :] / self.spread_).tolist()
                self.history_shift = -float(
                    (view.weights_[base.shape[1] :] / self.spread_) @ self.centre_
                )
            self._replay(view, dense, keys, rows)
        self._open_cheap(rows)
        return self

    def _learn_shape(self, rows: Responses) -> None:
        heavy = float(rows.weight.sum())
        self.usual = (float(rows.weight @ rows.outcome) + 1) / (heavy + 2)
        self.covariates = Covariates().fit(rows.covariates)
        self.signature = Signature()
        code, at = np.unique(rows.item, return_inverse=True)
        hits = np.bincount(at, rows.outcome, len(code))
        seen = np.bincount(at, minlength=len(code))
        rate = (hits + 5 * self.usual) / (seen + 5)
        expected = dict(zip(code.tolist(), rate.tolist(), strict=True))
        self.history = History(expected, self.usual, usual_pause(rows))
        self.contexts = rows.context.shape[1]
        subject, _ = np.unique(rows.subject, return_inverse=True)
        grouped = bool(len(rows)) and bool((rows.group != rows.group[0]).any())
        self.has_group = grouped
        own = levels_of(rows.subject, rows.group)
        kinds = len(np.unique(own.at[own.at >= 0]))
        # A group that is the subject's own says nothing more of the subject, but may of its items.
        self.has_domain = grouped and kinds > len(subject) * 1.05
        self.has_local = grouped and not self.has_domain and kinds <= len(subject) * 1.05
        pairs = levels_of(rows.subject, rows.item)
        self.has_pair = len(rows) > 0 and len(pairs.code) < 0.9 * len(rows)

    def _make_views(self) -> None:
        shared = [Term("group", 0.5)] if self.has_group else []
        shared += [Term(f"context{n}", 0.5) for n in range(self.contexts)]
        if self.has_local:
            shared.append(Term("local", 0.1))
        domain = self.has_domain
        small = [Term("subject", 0.02, False)]
        small += [Term("domain", 0.02, False)] if domain else []
        small += [Term("pair", 0.02, False)] if self.has_pair else []
        pair = [Term("pair", 0.1, False)] if self.has_pair else []
        craft = [Term("subject", 0.7), *([Term("domain", 0.3)] if domain else [])]
        views = [
            View("history", [Term("item", 1.0), *shared, *small]),
            View("crossed", [Term("item", 1.0), *craft, *shared, *pair]),
        ]
        if self.signature.dimensions_:
            slopes = [Term(f"slope{n}", 0.2) for n in range(self.signature.dimensions_)]
            bends = [Term("bend", 0.2)] if self.has_group else []
            item = [Term("item", 0.05, False)]
            views.append(View("signature", [*item, *craft, *shared, *slopes, *bends]))
        for view in views:
            for term in view.terms:
                mark = (view.name, term.name)
                if not term.is_refitted:
                    view.variance[term.name] = self.tuning.variance.get(mark, term.variance)
                view.drift[term.name] = self.tuning.drift.get(mark, 0.0)
                view.drift_day[term.name] = self.daily.get(term.name, 0.0)
        self.views = views
        self.place_terms()

    def place_terms(self) -> None:
        """Say where in a row's keys each effect of each view finds its own."""
        names = ["item", "subject", "domain", "pair", "group", "local"]
        names += [f"context{n}" for n in range(self.contexts)]
        names += [f"slope{n}" for n in range(self.signature.dimensions_)] + ["bend"]
        self._place = {name: n for n, name in enumerate(names)}
        self._slots = [[self._place[term.name] for term in view.terms] for view in self.views]

    def _base(self, rows: Responses) -> Float64:
        own = self.covariates.transform(rows.covariates)
        return np.concatenate([np.ones((len(rows), 1)), own, rows.rising], axis=1)

    def _extra(self, view: View, table: Float64, scores: Float64) -> Float64:
        if view.name == "history":
            scaled: Float64 = (table - self.centre_.astype(np.float32)) / self.spread_.astype(
                np.float32
            )
            return scaled
        if view.name == "signature":
            return np.concatenate([scores, scores[:, :1] ** 2], axis=1)
        return np.zeros((len(table), 0))

    def _keys(self, rows: Responses, scores: Float64) -> dict[str, Keys]:
        subject, group = levels_of(rows.subject), levels_of(rows.group)
        keys = {"item": levels_of(rows.item), "subject": subject, "group": group}
        if self.has_domain:
            keys["domain"] = levels_of(rows.subject, rows.group)
        if self.has_local:
            keys["local"] = levels_of(rows.group, rows.item)
        for n in range(self.contexts):
            keys[f"context{n}"] = levels_of(rows.context[:, n])
        for n in range(scores.shape[1]):
            keys[f"slope{n}"] = Keys(subject.at, subject.code, np.ascontiguousarray(scores[:, n]))
        if scores.shape[1]:
            keys["bend"] = Keys(group.at, group.code, np.ascontiguousarray(scores[:, 0]))
        return keys

    def _replay(self, view: View, dense: Float64, keys: dict[str, Keys], rows: Responses) -> None:
        """Rebuild the states that the refit does not estimate, under its new coefficients."""
        free = [n for n, term in enumerate(view.terms) if not term.is_refitted]
        if not free or not len(rows) or view.fit_ is None:
            return
        begin = max(0, len(rows) - REPLAYED)
        eta = dense[begin:] @ view.weights_.astype(dense.dtype)
        refitted = [term for term in view.terms if term.is_refitted]
        for n, term in enumerate(refitted):
            key = keys[term.name]
            level = np.concatenate([view.fit_.level[n], [0.0]])
            part = level[key.at[begin:]]
            eta = eta + (part * key.value[begin:] if len(key.value) else part)
        terms = [view.terms[n].name for n in free]
        small = Filter([Effect(t, view.variance[t], view.drift[t]) for t in terms])
        every = self._row_keys(rows.take(slice(begin, None)))
        slots = [self._place[t] for t in terms]
        ones = (1.0,) * len(slots)
        columns = (eta, every, rows.time[begin:], rows.outcome[begin:], rows.weight[begin:])
        for o, k, t, y, w in zip(
            *(c if isinstance(c, list) else c.tolist() for c in columns), strict=True
        ):
            mine = [k[s] for s in slots]
            m, v = small.look(o, mine, ones, t)
            small.learn(m, v, mine, ones, t, y, w)
        for n, state in zip(free, small.states, strict=True):
            view.filter_.states[n].update(state)

    def _open_cheap(self, rows: Responses) -> None:
        self.elo = Elo(log_odds(self.usual))
        self.running: dict[int, list[float]] = {}
        begin = max(0, len(rows) - REPLAYED)
        columns = (rows.subject, rows.item, rows.group, rows.outcome)
        for u, i, g, y in zip(*(c[begin:].tolist() for c in columns), strict=True):
            self.elo.learn(u, i, y)
            self._count(g, y)

    def _count(self, group: int, outcome: float) -> None:
        held = self.running.get(group)
        if held is None:
            held = self.running[group] = [5 * self.usual, 5.0]
        held[0] += outcome
        held[1] += 1

    # --- One row after the other --------------------------------------------------------------

    def _row_keys(self, rows: Responses) -> list[list[Hashable]]:
        """Every key of every row, None where there is nothing; in the order of `_place`."""
        found: list[list[Hashable]] = []
        contexts = rows.context.tolist()
        slopes = self.signature.dimensions_
        columns = (rows.subject.tolist(), rows.item.tolist(), rows.group.tolist())
        for u, i, g, c in zip(*columns, contexts, strict=True):
            subject, item, group = (
                u if u != -1 else None,
                i if i != -1 else None,
                g if g != -1 else None,
            )
            known = subject is not None
            found.append(
                [
                    item,
                    subject,
                    (u, g) if known and group is not None else None,
                    (u, i) if known and item is not None else None,
                    group,
                    (g, i) if group is not None and item is not None else None,
                    *(one if one != -1 else None for one in c),
                    *((subject,) * slopes),
                    group,
                ]
            )
        return found

    def prepare(self, rows: Responses) -> Prepared:
        """All that the rows' outcomes do not change, for all of them at once."""
        base, scores = self._base(rows), self.signature.of(rows.item)
        offset = []
        for view in self.views:
            weights = view.weights_
            found = base @ weights[: base.shape[1]]
            if view.name == "history":
                found = found + self.history_shift
            elif view.name == "signature":
                found = found + self._extra(view, base, scores) @ weights[base.shape[1] :]
            offset.append(found.tolist())
        every = self._row_keys(rows)
        keys, values = [], []
        for slots in self._slots:
            keys.append([[key[s] for s in slots] for key in every])
            values.append(self._row_values(slots, scores))
        return Prepared(rows, offset, keys, values)

    def _row_values(self, slots: list[int], scores: Float64) -> list[Sequence[float]]:
        """What each effect is multiplied with: one, or a score of the item."""
        bend, slopes = self._place["bend"], self.signature.dimensions_
        if not any(s >= bend - slopes for s in slots):
            return [(1.0,) * len(slots)] * len(scores)
        columns = np.ones((len(scores), len(slots)))
        for n, s in enumerate(slots):
            if s == bend:
                columns[:, n] = scores[:, 0]
            elif s >= bend - slopes:
                columns[:, n] = scores[:, s - (bend - slopes)]
        return list(columns.tolist())

    def history_logit(self, subject: int, item: int, group: int, time: float) -> float:
        """What the subject's past adds to the logit of the history view."""
        features = self.history.look(subject, item, group, time)
        return float(sum(map(mul, self.history_weights, features)))

    def look(
        self, prepared: Prepared, row: int, subject: int, item: int, group: int, time: float
    ) -> Look:
        """What every member says of a row."""
        logits, means, variances = [], [], []
        for n, view in enumerate(self.views):
            offset = prepared.offset[n][row]
            if n == 0:
                offset += self.history_logit(subject, item, group, time)
            m, v = view.filter_.look(offset, prepared.keys[n][row], prepared.values[n][row], time)
            means.append(m)
            variances.append(v)
            logits.append(m / sqrt(1 + SQUASH * v))
        mine = self.history.subject.get(subject)
        expected = log_odds(self.history.expected.get(item, self.usual))
        if mine is None:
            logits.append(expected)
        else:
            rate = (mine[0] + 5 * self.usual) / (mine[0] + mine[1] + 5)
            logits.append(expected + log(rate / (1 - rate)) - log_odds(self.usual))
        logits.append(self.elo.look(subject, item))
        running = self.running.get(group)
        logits.append(log_odds(self.usual if running is None else running[0] / running[1]))
        return Look(logits, means, variances)

    def learn(
        self,
        prepared: Prepared,
        row: int,
        look: Look,
        subject: int,
        item: int,
        group: int,
        time: float,
        outcome: float,
        weight: float,
    ) -> None:
        """Let every member take in how a row ended that was looked at just before."""
        for n, view in enumerate(self.views):
            view.filter_.learn(
                look.means[n], look.variances[n], prepared.keys[n][row],
                prepared.values[n][row], time, outcome, weight,
            )  # fmt: skip
        self.history.learn(subject, item, group, time, outcome)
        self.elo.learn(subject, item, outcome)
        self._count(group, outcome)


def stacked(logits: Float64, outcome: Float64, weight: Float64, centre: Sequence[float]) -> Float64:
    """Weights of members and a shift, by ridge logistic regression around given weights.

    Shapes: logits (rows, members); the result (members + 1,), the shift last.
    """
    x = np.concatenate([logits, np.ones((len(logits), 1))], axis=1)
    prior = np.concatenate([np.asarray(centre, np.float64), [0.0]])
    w, held = prior.copy(), np.diag(np.concatenate([np.full(len(centre), 100.0), [100.0]]))
    for _ in range(12):
        p = expit(x @ w)
        h = weight * np.maximum(p * (1 - p), 0.01)
        slope = x.T @ (weight * (outcome - p)) - held @ (w - prior)
        w = w + np.linalg.solve((x * h[:, None]).T @ x + held, slope)
    return w
