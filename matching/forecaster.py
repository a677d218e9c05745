"""The probability that an answer ends well, with its uncertainty, learned one answer at a time.

Views of the data are fitted by maximum a posteriori, moved by a filter, stacked, calibrated and put
into a mixture with cheap predictors; how strongly each drifts is chosen by what it would have said
of rows that it had not seen.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import log, tanh
from operator import mul

import numpy as np

from matching.calibration import Platt
from matching.engine import CHEAP, Engine, Look, Tuning
from matching.filter import SQUASH, chance
from matching.lookups import Prepared
from matching.mixture import FixedShare
from matching.problem import Float64, Int64
from matching.responses import Responses
from matching.stacking import FEWEST_TO_SPARE, stacked_at, worth_their_time

HELD_OUT, MOST_HELD_OUT, FEWEST_HELD_OUT = 0.2, 25_000, 40
TRUST = 0.8
"""Opening weight of the stack and the best view in the mixture; the rest is the safety net, and
half of it Glicko's, which is hard to beat where answers are few."""

TRUST_UNTRIED = 0.35
"""Opening weight of the stack, and of Glicko, where too few rows were held out to say which member
is any good: then ratings with fixed variances are the better bet."""

NORMAL_90 = 1.6448536269514722


@dataclass(frozen=True)
class Prediction:
    """Probabilities with their uncertainty.

    Shapes: all (rows,) float64. Units: mean, low and high are probabilities, the latter two the
        ends of a 90 % interval; logit and logit_sd are logits.
    """

    mean: Float64
    logit: Float64
    logit_sd: Float64
    low: Float64
    high: Float64

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def middle(self) -> Float64:
        """The logit that the truth is as likely above as below, (rows,).

        The logit of the mean is nearer to nought the less is known: who asks how many are beyond
        a line, given `logit_sd`, has to ask of this one.
        """
        return np.asarray(self.logit * np.sqrt(1 + SQUASH * self.logit_sd**2), np.float64)


class Forecaster:
    """Learns from answers and predicts the next ones.

    `daily` is the variance that a day adds to the states of an effect, squared logits; a half life
    of nought forgets nothing. `newcomers` says that predictions will be asked of subjects that no
    refit has seen, so that the tuning holds out whole subjects and not the latest rows.

    What `fit` learns: `engine_`, `stack_` (members + 1,) logits, `platt_`, `mixture_`, `tuning_`,
    and from how many rows, `tuned_rows_`.
    """

    def __init__(
        self,
        *,
        newcomers: bool = False,
        half_life_days: float = 0.0,
        seed: int = 0,
        daily: Mapping[str, float] | None = None,
    ) -> None:
        self.daily = dict(daily or {})
        self.newcomers = newcomers
        self.half_life_days = half_life_days
        self.seed = seed
        self.tuning_ = Tuning()
        self.tuned_rows_ = 0
        self.stack_: Float64 = np.zeros(0)
        self._weights: list[float] = []
        self._shift = 0.0
        self.platt_ = Platt()
        self.mixture_ = FixedShare([1.0])
        self.engine_ = Engine()

    def fit(self, rows: Responses) -> Forecaster:
        """Learn everything, how to learn included; rows without an outcome are left out."""
        rows = rows.known().in_time()
        first, held = self._held_out(rows)
        self.tuned_rows_ = len(rows)
        views: tuple[str, ...] = ()
        while True:
            self.tuning_ = Tuning(views=views)
            self.stack_ = np.zeros(0)
            if len(held) >= FEWEST_HELD_OUT:
                engine = self._engine().fit(rows.take(first))
                part = rows.take(held)
                self._tune(engine, part)
                self._stack(engine, part)
            self.engine_ = self._engine().fit(rows)
            views = tuple(view.name for view in self.engine_.views)
            # All rows together may be of another shape than a part, and want for a view.
            if not len(self.stack_) or views == self.tuning_.views:
                break
        if not len(self.stack_):
            self._open_untried()
        return self

    def refit(self, rows: Responses) -> Forecaster:
        """Estimate all coefficients anew and keep what the tuning chose; quicker than `fit`.

        Where there are twice the rows that it was tuned on, it is tuned anew too.
        """
        rows = rows.known().in_time()
        if not len(self.stack_) or len(rows) >= 2 * self.tuned_rows_:
            return self.fit(rows)
        members = len(self.stack_)
        engine = self._engine().fit(rows, keep=True)
        if len(engine.views) + 2 != members:
            # The rows have taken another shape; what was tuned speaks of other views.
            return self.fit(rows)
        self.engine_ = engine
        return self

    def _engine(self) -> Engine:
        return Engine(self.tuning_, half_life_days=self.half_life_days, daily=self.daily)

    def _held_out(self, rows: Responses) -> tuple[Int64, Int64]:
        count = len(rows)
        size = min(int(HELD_OUT * count), MOST_HELD_OUT)
        if self.newcomers:
            code, at = np.unique(rows.subject, return_inverse=True)
            if len(code) >= 5:
                order = np.random.default_rng(self.seed).permutation(len(code))
                many = np.cumsum(np.bincount(at)[order])
                chosen = order[: max(1, int(np.searchsorted(many, size, "right")))]
                out = np.isin(at, chosen)
                return np.flatnonzero(~out), np.flatnonzero(out)[: 2 * MOST_HELD_OUT]
        return np.arange(count - size), np.arange(count - size, count)

    def _tune(self, engine: Engine, part: Responses) -> None:
        """Choose variances and drifts of each view by its log loss on the held-out part."""
        prepared = engine.prepare(part)
        history = self._history_offsets(engine, part)
        for n, view in enumerate(engine.views):
            _, offset, keys, values = prepared.views[n]
            if view.name == "history":
                offset = [a + b for a, b in zip(offset, history, strict=True)]
            rows = list(zip(keys, values, strict=True))
            free = [t.name for t in view.terms if not t.is_refitted]
            moving = [t.name for t in view.terms if t.name in ("subject", "domain", "pair")]
            moving += [t.name for t in view.terms if t.name.startswith("slope")]
            best = _loss(engine, n, offset, rows, part)
            steps: list[tuple[list[str], tuple[float, ...], bool]] = [
                (free, (0.25, 4.0, 16.0), False),
                (moving, (0.001, 0.005, 0.02, 0.08), True),
                *(([name], (0.2, 5.0), False) for name in free if len(free) > 1),
                (["item"], (0.0005, 0.005), True),
            ]
            for names, choices, is_drift in steps:
                if not names:
                    continue
                held = {name: (view.variance[name], view.drift[name]) for name in names}
                kept = held
                for choice in choices:
                    for name, (variance, drift) in held.items():
                        view.variance[name] = variance if is_drift else variance * choice
                        view.drift[name] = choice if is_drift else drift
                    loss = _loss(engine, n, offset, rows, part)
                    if loss < best - 1e-5:
                        best = loss
                        kept = {name: (view.variance[name], view.drift[name]) for name in names}
                for name, (variance, drift) in kept.items():
                    view.variance[name], view.drift[name] = variance, drift
            for name, variance in view.variance.items():
                self.tuning_.variance[view.name, name] = variance
            for term in view.terms:
                self.tuning_.drift[view.name, term.name] = view.drift[term.name]
            if view.fit_ is not None:
                self.tuning_.ridge[view.name] = view.fit_.ridge
            view.reset()

    def _history_offsets(self, engine: Engine, part: Responses) -> list[float]:
        copy = engine.history.copied()
        own, engine.history = engine.history, copy
        found = []
        columns = (part.subject, part.item, part.group, part.time, part.outcome)
        for u, i, g, t, y in zip(*(c.tolist() for c in columns), strict=True):
            found.append(engine.history_logit(u, i, g, t))
            copy.learn(u, i, g, t, y)
        engine.history = own
        return found

    def _open_untried(self) -> None:
        names = [view.name for view in self.engine_.views]
        stack = np.zeros(len(names) + 2)
        stack[names.index("crossed")] = 1.0
        self.set_stack(stack)
        others = len(names) + CHEAP
        opening = [TRUST_UNTRIED] + [(1 - 2 * TRUST_UNTRIED) / (others - 1)] * others
        opening[len(names) + 2] = TRUST_UNTRIED
        self.mixture_, self.platt_ = FixedShare(opening), Platt()

    def set_stack(self, weights: Float64) -> None:
        """Weigh the members of the stack, the shift last."""
        self.stack_, self._weights = weights, weights.tolist()[:-1]
        self._shift = float(weights[-1])

    def _stack(self, engine: Engine, part: Responses) -> None:
        """Weigh the members by what they said of the held-out part before they learned it."""
        prepared = engine.prepare(part)
        said = np.zeros((len(part), len(engine.views) + 1))
        columns = (part.subject, part.item, part.group, part.time, part.outcome, part.weight)
        looks: list[Look] = []
        for row, (u, i, g, t, y, w) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            look = engine.look(prepared, row, u, i, g, t)
            engine.learn(prepared, row, look, u, i, g, t, y, w)
            looks.append(look)
            said[row] = look.logits[: said.shape[1]]
        views = len(engine.views)
        loss = np.logaddexp(0, said) - part.outcome[:, None] * said
        best = int(np.argmin((loss * part.weight[:, None]).mean(axis=0)[:views]))
        kept = list(range(views))
        if len(part) >= FEWEST_TO_SPARE:
            kept = worth_their_time(said, part, best)
            gone = [n for n in range(views) if n not in kept]
            said = np.delete(said, gone, axis=1)
            looks = [
                Look([z for n, z in enumerate(look.logits) if n not in gone], []) for look in looks
            ]
            best = kept.index(best)
        self.tuning_.views = tuple(engine.views[n].name for n in kept)
        # The best view by itself is nearly as good, and was not fitted to the held-out part.
        others = len(kept) + CHEAP
        opening = [TRUST / 2] + [(1 - TRUST) / 2 / others] * others
        opening[1 + best] += TRUST / 2
        opening[len(kept) + 2] += (1 - TRUST) / 2
        self.mixture_, self.platt_ = FixedShare(opening), Platt()
        self.set_stack(stacked_at(said, part, best))
        for look, y, w in zip(looks, part.outcome.tolist(), part.weight.tolist(), strict=True):
            self._learn_members(look, y, w)

    # --- Predicting and learning, one row after the other -------------------------------------

    def _members(self, look: Look) -> tuple[float, list[float]]:
        """The stack's raw logit, and the probability of every member, the stack's first."""
        # The last members, ratings and running mean, are not stacked.
        raw = self._shift + sum(map(mul, self._weights, look.logits))
        platt = self.platt_
        # The logistic function by tanh, which cannot overflow and needs no call of ours.
        logits = (platt.shift + platt.slope * raw, *look.logits)
        return raw, [0.5 + 0.5 * tanh(0.5 * z) for z in logits]

    def _learn_members(self, look: Look, outcome: float, weight: float) -> None:
        raw, chances = self._members(look)
        self.mixture_.learn(chances, outcome, weight)
        self.platt_.learn(raw, outcome, weight)

    def predict(self, rows: Responses) -> Prediction:
        """What the present state says of each row; nothing is learned."""
        return self._go(rows, learn=False)

    def run(self, rows: Responses) -> Prediction:
        """Predict each row, then learn its outcome, in the order of the rows.

        A row without an outcome is predicted and not learned.
        """
        return self._go(rows, learn=True)

    def observe(self, rows: Responses) -> Forecaster:
        """Learn outcomes that have become known."""
        self.run(rows)
        return self

    def _go(self, rows: Responses, *, learn: bool) -> Prediction:
        engine = self.engine_
        prepared: Prepared = engine.prepare(rows)
        views = len(engine.views)
        # Flat arrays of numbers: a list for every row would keep the collector of cycles busy.
        mean, inner = array("d"), array("d")
        logits, weights = array("d"), array("d")
        known = np.isfinite(rows.outcome).tolist()
        mixture, platt = self.mixture_, self.platt_
        columns = (rows.subject, rows.item, rows.group, rows.time, rows.outcome, rows.weight)
        for row, (u, i, g, t, y, w) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            look = engine.look(prepared, row, u, i, g, t)
            raw, chances = self._members(look)
            mean.append(mixture.look(chances))
            unsure = 0.0
            for seen in look.looked:
                unsure += seen[1]
            # `engine.usual_variance`, without the call.
            inner.append(unsure / views + 1 / ((engine.seen + 2) * engine.one_tells))
            logits.fromlist(look.logits)
            weights.fromlist(mixture.weight)
            if learn and known[row]:
                engine.learn(prepared, row, look, u, i, g, t, y, w)
                mixture.learn(chances, y, w)
                platt.learn(raw, y, w)
        said = np.frombuffer(logits).reshape(len(rows), views + CHEAP)
        shares = np.frombuffer(weights).reshape(len(rows), views + CHEAP + 1)[:, 1:]
        return prediction_of(np.frombuffer(mean), np.frombuffer(inner), said, shares)


def prediction_of(mean: Float64, inner: Float64, logits: Float64, weights: Float64) -> Prediction:
    """A mixture's probabilities with what is not known of them.

    Shapes: mean, inner (rows,), inner the variance of the views' logits and of what is usual;
        logits and weights (rows, members) without the stack.
    """
    sure = np.clip(mean, 1e-6, 1 - 1e-6)
    logit = np.log(sure) - np.log1p(-sure)
    sd = _spread_of(inner, logits, weights, logit)
    low = 1 / (1 + np.exp(-(logit - NORMAL_90 * sd)))
    high = 1 / (1 + np.exp(-(logit + NORMAL_90 * sd)))
    return Prediction(mean, logit, sd, low, high)


def _spread_of(inner: Float64, logits: Float64, weights: Float64, logit: Float64) -> Float64:
    """Standard deviation of logits: what the views do not know, and where members differ."""
    outer = (weights * (logits - logit[:, None]) ** 2).sum(axis=1)
    return np.asarray(np.sqrt(inner + outer), np.float64)


def _loss(
    engine: Engine,
    n: int,
    offset: list[float],
    rows: list[tuple[tuple[Hashable, ...], Sequence[float] | None]],
    part: Responses,
) -> float:
    """Log loss of one view on the held-out part, each row predicted before it is learned."""
    view = engine.views[n]
    view.reset()
    look, learn = view.filter_.look, view.filter_.learn
    total = 0.0
    columns = (part.time.tolist(), part.outcome.tolist(), part.weight.tolist())
    for o, (keys, values), t, y, w in zip(offset, rows, *columns, strict=True):
        seen = look(o, keys, values, t)
        p = min(max(chance(seen[0], seen[1]), 1e-6), 1 - 1e-6)
        total -= w * (y * log(p) + (1 - y) * log(1 - p))
        learn(seen, keys, values, t, y, w)
    return total / max(len(part), 1)
