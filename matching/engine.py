"""Several views of the same rows side by side: fitted together, then moved by each answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import log, sqrt
from typing import NamedTuple, cast

import numpy as np

from matching.covariates import Covariates
from matching.design import product
from matching.filter import SQUASH, Effect, Filter
from matching.form import FEW_ANSWERS, MOST_ROWS, OWN, Form, own_weights
from matching.history import FEATURES, History, usual_pause
from matching.lookups import Prepared, row_keys, row_values
from matching.mixture import GLICKO_SQUASH, Elo, Glicko, log_odds
from matching.problem import Float64
from matching.responses import Responses
from matching.signature import Signature
from matching.view import Keys, Term, View, levels_of

CHEAP = 4
"""Members that are no views: rate, Glicko, Elo and running mean."""

REPLAYED = 2_000_000
"""Rows, the latest ones, from which states are rebuilt that no refit estimates."""


@dataclass
class Tuning:
    """What a held-out part chose: of each view, the variance and the drift of its effects.

    `views` names the views that are worth their time; all of them where it is empty.
    """

    variance: dict[tuple[str, str], float] = field(default_factory=dict)
    drift: dict[tuple[str, str], float] = field(default_factory=dict)
    ridge: dict[str, float] = field(default_factory=dict)
    views: tuple[str, ...] = ()


class Look(NamedTuple):
    """What every member says of one row: logits, and what the views' filters and ratings saw."""

    logits: list[float]
    looked: list[tuple[float, float, list[list[float] | None]]]
    rated: tuple[list[float] | None, ...] = ()


_made = tuple.__new__


class Engine:
    """The views, the history and the cheap predictors, fitted on the same rows.

    Members, in the order of `Look.logits`: the views, then `rate`, `glicko`, `elo` and `usual`.
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
        self.keep = False
        self.take([])

    def take(self, views: list[View]) -> None:
        """Look at rows in these ways from here on."""
        self.views = views
        self.has_history = any(view.name == "history" for view in views)

    # --- Learning from all rows ---------------------------------------------------------------

    def fit(self, rows: Responses, *, keep: bool = False) -> Engine:
        """Learn everything from rows that are in time, prior variances too unless they are kept."""
        self.keep = keep
        rounds = 1 if keep else 3
        self._learn_shape(rows)
        weight = rows.weight
        if self.half_life_days > 0 and len(rows):
            weight = weight * 0.5 ** ((rows.time[-1] - rows.time) / self.half_life_days)
        dense = self._dense(rows)
        scores = np.zeros((len(rows), 0))
        if self._wants("signature"):
            scores = self.signature.fit(rows)
        self._make_views()
        keys = self._keys(rows, scores)
        width = self._base_width(rows)
        rising = np.arange(width - rows.rising.shape[1], width)
        for view in self.views:
            own = dense[:, :width]
            if view.name == "history":
                own = dense
            elif view.name == "signature":
                own = np.concatenate([own, self._traits(scores)], axis=1)
            penalised = np.concatenate([[0.05], np.ones(own.shape[1] - 1)])
            has_own = view.name == "history" and self.has_slopes
            view.fit(
                own, keys, rows.outcome, weight, rows.time,
                penalised=penalised, rising=rising, rounds=rounds,
                ridge=self.tuning.ridge.get(view.name, 1.0) if keep else 1.0,
                learn_shared=bool(self.daily) and view is self.views[self._broadest()],
                slopes=own_weights(keys["item"], dense[:, width:]) if has_own else {},
            )  # fmt: skip
            if view.name == "history":
                self.form.read(view.weights_[width:], self.centre_, self.spread_)
                self.form.read_items(keys["item"], view.slopes_, self.centre_, self.spread_)
            self._replay(view, own, keys, rows)
        self._open_cheap(rows)
        return self

    def _broadest(self) -> int:
        """The place of the view that knows least but effects: the crossed one, where it is kept."""
        names = [view.name for view in self.views]
        return names.index("crossed") if "crossed" in names else 0

    def shared_variance(self, rows: Responses) -> Float64:
        """Variance of what rows have in common with everybody's, (rows,) squared logits."""
        view = self.views[self._broadest()] if self.views else None
        if view is None or view.shared_ is None:
            return np.zeros(len(rows))
        codes = {f"context{n}": rows.context[:, n] for n in range(self.contexts)}
        return view.shared_.variance_of(self._base(rows), {"group": rows.group, **codes})

    @property
    def usual_variance(self) -> float:
        """Variance of the logit of the usual outcome: wide until some answers are known."""
        return 1 / ((self.seen + 2) * self.one_tells)

    def _wants(self, view: str) -> bool:
        return not self.tuning.views or view in self.tuning.views

    def _base_width(self, rows: Responses) -> int:
        return 1 + self.covariates.columns_ + int(rows.rising.shape[1])

    def _dense(self, rows: Responses) -> Float64:
        """What every view sees of a row, and then its past, where a view looks at it.

        One table in single precision for all views, which is what ten million rows have room for.
        """
        width, wants = self._base_width(rows), self._wants("history")
        made = np.empty((len(rows), width + (FEATURES if wants else 0)), np.float32)
        dense = cast("Float64", made)
        self._base(rows, dense[:, :width])
        if not wants:
            self.history.count(rows)
            self.centre_, self.spread_ = np.zeros(FEATURES), np.full(FEATURES, np.inf)
            return dense
        past = dense[:, width:]
        self.history.walk(rows, past)
        self.centre_ = past.mean(axis=0, dtype=np.float64) if len(rows) else np.zeros(FEATURES)
        spread = past.std(axis=0, dtype=np.float64) if len(rows) else np.zeros(FEATURES)
        self.spread_ = np.where(spread > 1e-4, spread, np.inf)
        past -= self.centre_.astype(past.dtype)
        past /= self.spread_.astype(past.dtype)
        return dense

    def _learn_shape(self, rows: Responses) -> None:
        heavy = float(rows.weight.sum())
        self.usual = (float(rows.weight @ rows.outcome) + 1) / (heavy + 2)
        self.seen = heavy
        self.covariates = Covariates().fit(rows.covariates)
        self.signature = Signature()
        code, at = np.unique(rows.item, return_inverse=True)
        hits = np.bincount(at, rows.outcome, len(code))
        seen = np.bincount(at, minlength=len(code))
        rate = (hits + 5 * self.usual) / (seen + 5)
        expected = dict(zip(code.tolist(), rate.tolist(), strict=True))
        pairs = levels_of(rows.subject, rows.item)
        self.has_pair = len(rows) > 0 and len(pairs.code) < 0.9 * len(rows)
        # A few repetitions are not worth the time and memory that all pairs take.
        seldom = len(rows) > REPLAYED or len(pairs.code) > 0.995 * len(rows)
        repeats = self.has_pair or not seldom
        self.has_slopes = FEW_ANSWERS * len(code) <= len(rows) <= MOST_ROWS
        self.form = Form()
        self.history = History(expected, self.usual, usual_pause(rows), has_pair=repeats)
        self.open_expected()
        self.contexts = rows.context.shape[1]
        subject, _ = np.unique(rows.subject, return_inverse=True)
        grouped = bool(len(rows)) and bool((rows.group != rows.group[0]).any())
        self.has_group = grouped
        own = levels_of(rows.subject, rows.group)
        kinds = len(np.unique(own.at[own.at >= 0]))
        # A group that is the subject's own says nothing more of the subject, but may of its items.
        self.has_domain = grouped and kinds > len(subject) * 1.05
        self.has_local = grouped and not self.has_domain and kinds <= len(subject) * 1.05

    def open_expected(self) -> None:
        """The expected outcomes once more, as logits, and how much one answer tells of them."""
        self.one_tells = self.usual * (1 - self.usual)
        self.usual_good, self.usual_bad = 5 * self.usual, 5 * (1 - self.usual)
        self.usual_logit = log_odds(self.usual)
        self.expected_logit = {k: log_odds(p) for k, p in self.history.expected.items()}

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
        views = [view for view in views if self._wants(view.name)]
        for view in views:
            for term in view.terms:
                mark = (view.name, term.name)
                if self.keep or not term.is_refitted:
                    view.variance[term.name] = self.tuning.variance.get(mark, term.variance)
                view.drift[term.name] = self.tuning.drift.get(mark, 0.0)
                view.drift_day[term.name] = self.daily.get(term.name, 0.0)
            if self.keep:
                for (name, effect), variance in self.tuning.variance.items():
                    if name == view.name:
                        view.variance.setdefault(effect, variance)
        self.take(views)

    def _base(self, rows: Responses, into: Float64 | None = None) -> Float64:
        """The columns that every view has: one, the covariates and what is known to rise."""
        width = self._base_width(rows)
        table = np.empty((len(rows), width)) if into is None else into
        steps = rows.rising.shape[1]
        table[:, 0] = 1.0
        self.covariates.transform(rows.covariates, table[:, 1 : width - steps])
        table[:, width - steps :] = rows.rising
        return table

    def _traits(self, scores: Float64) -> Float64:
        return np.concatenate([scores, scores[:, :1] ** 2], axis=1)

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
        eta = product(dense[begin:], view.weights_)
        refitted = [term for term in view.terms if term.is_refitted]
        for n, term in enumerate(refitted):
            key = keys[term.name]
            level = np.concatenate([view.fit_.level[n], [0.0]])
            part = level[key.at[begin:]]
            eta = eta + (part * key.value[begin:] if len(key.value) else part)
        terms = [view.terms[n].name for n in free]
        small = Filter([Effect(t, view.variance[t], view.drift[t]) for t in terms])
        if view.slopes_:
            at, past = keys["item"].at[begin:], dense[begin:, self._base_width(rows) :]
            for n, slope in zip(OWN, view.slopes_, strict=True):
                eta = eta + np.concatenate([slope, [0.0]])[at] * past[:, n]
        every = row_keys(rows.take(slice(begin, None)), terms)
        columns = (eta, every, rows.time[begin:], rows.outcome[begin:], rows.weight[begin:])
        for o, mine, t, y, w in zip(
            *(c if isinstance(c, list) else c.tolist() for c in columns), strict=True
        ):
            small.learn(small.look(o, mine, None, t), mine, None, t, y, w)
        for n, state in zip(free, small.states, strict=True):
            view.filter_.states[n].update(state)

    def _open_cheap(self, rows: Responses) -> None:
        base = log_odds(self.usual)
        self.glicko, self.elo = Glicko(base), Elo(base)
        self.running: dict[int, list[float]] = {}
        begin = max(0, len(rows) - REPLAYED)
        columns = (rows.subject, rows.item, rows.group, rows.outcome)
        for u, i, g, y in zip(*(c[begin:].tolist() for c in columns), strict=True):
            self.glicko.learn(u, i, y)
            self.elo.learn(u, i, y)
            self._count(g, y)

    def _count(self, group: int, outcome: float) -> None:
        held = self.running.get(group)
        if held is None:
            held = self.running[group] = [self.usual_good, self.usual_bad]
        held[0] += outcome
        held[1] += 1 - outcome

    # --- One row after the other --------------------------------------------------------------

    def offsets(self, rows: Responses) -> tuple[list[Float64], Float64]:
        """What the dense columns of each view add to its logit, and the scores of the items."""
        base, scores = self._base(rows), self.signature.of(rows.item)
        offset = []
        for view in self.views:
            weights = view.weights_
            found = base @ weights[: base.shape[1]]
            if view.name == "history":
                found = found + self.form.shift
            elif view.name == "signature":
                found = found + self._traits(scores) @ weights[base.shape[1] :]
            offset.append(found)
        return offset, scores

    def prepare(self, rows: Responses) -> Prepared:
        """All that the rows' outcomes do not change, for all of them at once."""
        offset, scores = self.offsets(rows)
        views = [
            (
                view.filter_,
                found.tolist(),
                row_keys(rows, [term.name for term in view.terms]),
                row_values([term.name for term in view.terms], scores),
            )
            for view, found in zip(self.views, offset, strict=True)
        ]
        return Prepared(rows, views)

    def history_logit(self, subject: int, item: int, group: int, time: float) -> float:
        """What the subject's past adds to the logit of the history view."""
        return self.form.logit(item, self.history.look(subject, item, group, time))

    def look(
        self, prepared: Prepared, row: int, subject: int, item: int, group: int, time: float
    ) -> Look:
        """What every member says of a row."""
        logits, looked = [], []
        past = 0.0
        if self.has_history:
            past = self.form.logit(item, self.history.look(subject, item, group, time))
        for moved, offset, keys, values in prepared.views:
            seen = moved.look(offset[row] + past, keys[row], values[row], time)
            # Only the history has a past, and where it is a view it is the first.
            past = 0.0
            looked.append(seen)
            logits.append(seen[0] / sqrt(1 + SQUASH * seen[1]))
        # The subject's own rate, shrunk to the usual one, on an item as it is expected.
        expected = self.expected_logit.get(item, self.usual_logit)
        told = self.history.subject.get(subject)
        if told is not None:
            shrunk = (told[0] + self.usual_good) / (told[1] + self.usual_bad)
            expected = expected + log(shrunk) - self.usual_logit
        logits.append(expected)
        glicko, elo = self.glicko, self.elo
        mine, its = glicko.subject.get(subject), glicko.item.get(item)
        gap, spread = glicko.base, 0.0
        if mine is None:
            spread += glicko.variance
        else:
            gap += mine[0]
            spread += mine[1]
        if its is None:
            spread += glicko.variance
        else:
            gap -= its[0]
            spread += its[1]
        logits.append(gap / sqrt(1 + GLICKO_SQUASH * spread))
        own, against = elo.subject.get(subject), elo.item.get(item)
        logits.append(elo.base + (own[0] if own else 0.0) - (against[0] if against else 0.0))
        running = self.running.get(group)
        logits.append(self.usual_logit if running is None else log(running[0] / running[1]))
        # A named tuple's own way to be made takes a microsecond, which is a twentieth of all.
        return _made(Look, (logits, looked, (mine, its, own, against)))

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
        self.seen += weight
        # A look has one part for each view; to count them again is dear here.
        for seen, (moved, _, keys, values) in zip(look.looked, prepared.views):  # noqa: B905
            moved.learn(seen, keys[row], values[row], time, outcome, weight)
        if self.has_history:
            self.history.learn(subject, item, group, time, outcome)
        else:
            self.history.tally(subject, outcome)
        mine, its, own, against = look.rated
        if mine is None or its is None:
            self.glicko.learn(subject, item, outcome)
        else:
            self.glicko.meet(mine, its, outcome)
        if own is None or against is None:
            self.elo.learn(subject, item, outcome)
        else:
            self.elo.meet(own, against, outcome)
        self._count(group, outcome)
