"""Many predictions at once: what a row after the other would say, by columns.

A matching run asks of hundreds of thousands of pairs, of few experts and fewer kinds of work; so a
state is looked up once for each of its holders, and everything else is arrays.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from scipy.special import expit

from matching.engine import Engine
from matching.filter import SQUASH, Effect
from matching.forecaster import Forecaster, Prediction, prediction_of
from matching.problem import Float64, Int64
from matching.responses import Responses


def predict_many(forecaster: Forecaster, rows: Responses) -> Prediction:
    """What `Forecaster.predict` says of each row, but for rounding, in a fraction of the time."""
    engine = forecaster.engine_
    logits, inner = _looks(engine, rows)
    stack = forecaster.stack_
    # As in the forecaster: the last weight is the shift, and Elo and running mean are not stacked.
    raw = stack[-1] + logits[:, : len(stack) - 1] @ stack[:-1]
    platt = forecaster.platt_
    chances = expit(np.column_stack([platt.shift + platt.slope * raw, logits]))
    weight = np.asarray(forecaster.mixture_.weight)
    shares = np.broadcast_to(weight[1:], logits.shape)
    return prediction_of(chances @ weight, inner, logits, shares)


def _looks(engine: Engine, rows: Responses) -> tuple[Float64, Float64]:
    """Logits of all members, (rows, members), and the mean variance of the views', (rows,)."""
    offsets, scores = engine.offsets(rows)
    inner = np.zeros(len(rows))
    columns: list[Float64] = []
    for view, offset in zip(engine.views, offsets, strict=True):
        mean, variance = offset.copy(), np.zeros(len(rows))
        if view.name == "history":
            mean += _past(engine, rows)
        for effect, states in zip(view.filter_.effects, view.filter_.states, strict=True):
            value = _value(effect.name, scores, len(rows))
            found, spread = _states(effect, states, _keys(effect.name, rows), rows.time)
            mean += value * found
            variance += value * value * spread
        columns.append(mean / np.sqrt(1 + SQUASH * variance))
        inner += variance / len(engine.views)
    columns += _cheap(engine, rows)
    return np.column_stack(columns), inner


def _keys(name: str, rows: Responses) -> tuple[Int64, ...]:
    if name.startswith("context"):
        return (rows.context[:, int(name.removeprefix("context"))],)
    pairs = {
        "domain": (rows.subject, rows.group),
        "pair": (rows.subject, rows.item),
        "local": (rows.group, rows.item),
        "item": (rows.item,),
        "group": (rows.group,),
        "bend": (rows.group,),
    }
    # All others, the slopes among them, are the subject's own.
    return pairs.get(name, (rows.subject,))


def _value(name: str, scores: Float64, rows: int) -> Float64:
    if name == "bend":
        return np.asarray(scores[:, 0])
    if name.startswith("slope"):
        return np.asarray(scores[:, int(name.removeprefix("slope"))])
    return np.ones(rows)


def _states(
    effect: Effect,
    states: dict[Hashable, list[float]],
    keys: tuple[Int64, ...],
    day: Float64,
) -> tuple[Float64, Float64]:
    """Mean and variance of each row's state; nought for a row that has no key."""
    code, at = _distinct(keys)
    held = np.zeros((len(code), 3))
    held[:] = (0.0, effect.variance, np.inf)
    for n, key in enumerate(code):
        state = states.get(key[0] if len(key) == 1 else key)
        if state is not None:
            held[n] = state
    spread = held[at, 1]
    if effect.drift_day:
        grown = spread + effect.drift_day * np.maximum(day - held[at, 2], 0.0)
        spread = np.where(grown > effect.variance, np.maximum(effect.variance, spread), grown)
    absent = np.logical_or.reduce([column == -1 for column in keys])
    return np.where(absent, 0.0, held[at, 0]), np.where(absent, 0.0, spread)


def _distinct(keys: tuple[Int64, ...]) -> tuple[list[tuple[int, ...]], Int64]:
    """The distinct keys, and which of them each row has."""
    found = [np.unique(column, return_inverse=True) for column in keys]
    one = np.zeros(len(keys[0]), np.int64)
    for values, at in found:
        one = one * len(values) + at
    both, first, where = np.unique(one, return_index=True, return_inverse=True)
    del both
    return list(zip(*(column[first].tolist() for column in keys), strict=True)), where


def _past(engine: Engine, rows: Responses) -> Float64:
    when, at = np.unique(rows.time, return_inverse=True)
    code, where = _distinct((rows.subject, rows.item, rows.group, at.astype(np.int64)))
    said = [engine.history_logit(u, i, g, float(when[t])) for u, i, g, t in code]
    return np.array(said)[where] if said else np.zeros(len(rows))


def _cheap(engine: Engine, rows: Responses) -> list[Float64]:
    """The members that need no filter: rate, Elo, running mean."""
    code, where = _distinct((rows.subject, rows.item))
    looks = [(engine.rate_logit(u, i), engine.elo.look(u, i)) for u, i in code]
    said = np.array(looks).reshape(-1, 2)[where]
    group, at = _distinct((rows.group,))
    usual = np.array([engine.running_logit(g) for (g,) in group])
    return [said[:, 0], said[:, 1], usual[at] if len(group) else np.zeros(0)]
