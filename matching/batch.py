"""Many predictions at once: what a row after the other would say, by columns.

A matching run asks of hundreds of thousands of pairs, of few experts and fewer kinds of work; so a
state is looked up once for each of its holders, and everything else is arrays.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import cast

import numpy as np
from scipy.special import expit

from matching.engine import CHEAP, Engine
from matching.filter import SQUASH
from matching.forecaster import Forecaster, Prediction, prediction_of
from matching.history import FEATURES
from matching.mixture import GLICKO_SQUASH
from matching.problem import Float64, Int64
from matching.responses import Responses
from matching.view import Keys, View, levels_of

States = Mapping[Hashable, Sequence[float]]


def predict_many(forecaster: Forecaster, rows: Responses) -> Prediction:
    """What `Forecaster.predict` says of each row, but for rounding, in a fraction of the time."""
    logits, inner = _looks(forecaster.engine_, rows)
    stack = forecaster.stack_
    # As in the forecaster: the last weight is the shift, and the last members are not stacked.
    raw = stack[-1] + logits[:, : len(stack) - 1] @ stack[:-1]
    platt = forecaster.platt_
    chances = expit(np.column_stack([platt.shift + platt.slope * raw, logits]))
    weight = np.asarray(forecaster.mixture_.weight)
    shares = np.broadcast_to(weight[1:], logits.shape)
    return prediction_of(chances @ weight, inner, logits, shares)


def _looks(engine: Engine, rows: Responses) -> tuple[Float64, Float64]:
    """Logits of all members, (rows, members), and what the views and the usual vary by, (rows,)."""
    offsets, scores = engine.offsets(rows)
    keys = _keys(engine, rows)
    values = {f"slope{d}": scores[:, d] for d in range(scores.shape[1])}
    if scores.shape[1]:
        values["bend"] = scores[:, 0]
    logits = np.empty((len(rows), len(engine.views) + CHEAP))
    inner = np.full(len(rows), engine.usual_variance)
    for n, (view, offset) in enumerate(zip(engine.views, offsets, strict=True)):
        mean, variance = _states(view, keys, values, rows.time)
        mean += offset
        if view.name == "history":
            slopes = cast("States", engine.form.slopes)
            own = _looked_up(keys["item"], slopes, (0.0, 0.0, 0.0))[keys["item"].at]
            mean += engine.form.logits(own, _past(engine, rows, keys))
        logits[:, n] = mean / np.sqrt(1 + SQUASH * variance)
        inner += variance / len(engine.views)
    logits[:, len(engine.views) :] = _cheap(engine, keys)
    return logits, inner


def _keys(engine: Engine, rows: Responses) -> dict[str, Keys]:
    found = {
        "subject": levels_of(rows.subject),
        "item": levels_of(rows.item),
        "group": levels_of(rows.group),
    }
    terms = {term.name for view in engine.views for term in view.terms}
    if engine.has_history or "domain" in terms:
        found["domain"] = levels_of(rows.subject, rows.group)
    if engine.has_pair or engine.history.has_pair:
        found["pair"] = levels_of(rows.subject, rows.item)
    if engine.has_local:
        found["local"] = levels_of(rows.group, rows.item)
    for n in range(engine.contexts):
        found[f"context{n}"] = levels_of(rows.context[:, n])
    return found


def _looked_up(keys: Keys, states: States, unknown: Sequence[float]) -> Float64:
    """The state of each level, one row more for none: (levels + 1, numbers)."""
    get = states.get
    found = [get(key, unknown) for key in keys.hashable()]
    return np.array([*found, unknown], np.float64)


def _states(
    view: View, keys: Mapping[str, Keys], values: Mapping[str, Float64], day: Float64
) -> tuple[Float64, Float64]:
    """What the states of a view add to the logit of each row, and the variance of that."""
    mean, variance = np.zeros(len(day)), np.zeros(len(day))
    for term, states in zip(view.terms, view.filter_.states, strict=True):
        name = "group" if term.name == "bend" else term.name
        key = keys["subject" if name.startswith("slope") else name]
        prior, daily = view.variance[term.name], view.drift_day[term.name]
        table = _looked_up(key, states, (0.0, prior, np.inf))
        spread = table[key.at, 1]
        if daily:
            grown = spread + daily * np.maximum(day - table[key.at, 2], 0.0)
            spread = np.minimum(grown, np.maximum(prior, spread))
        value = values.get(term.name)
        # A row without a level has no part in the effect; an unknown level has its prior.
        present = key.at >= 0
        moved = table[key.at, 0] if value is None else table[key.at, 0] * value
        mean += np.where(present, moved, 0.0)
        variance += np.where(present, spread if value is None else spread * value**2, 0.0)
    return mean, variance


def _past(engine: Engine, rows: Responses, keys: Mapping[str, Keys]) -> Float64:
    """The features of `History.look` for every row; (rows, FEATURES)."""
    history, subject = engine.history, keys["subject"]
    mine = _looked_up(subject, cast("States", history.subject), (0.0,) * 7)[subject.at]
    codes = subject.code[:, 0].tolist()
    # A code may be too large for the table of floats.
    last = np.array([history.subject[c][5] if c in history.subject else -1 for c in codes] + [-1])
    known = np.array([c in history.subject for c in codes] + [False])[subject.at]
    table = np.zeros((len(rows), FEATURES))
    table[:, 0], table[:, 1] = np.log1p(mine[:, 0]), np.log1p(mine[:, 1])
    table[:, 4] = 1.0
    if engine.history.has_pair:
        key = keys["pair"]
        pair = _looked_up(key, cast("States", history.pair), (0.0, 0.0, 0.0))[key.at]
        table[:, 2], table[:, 3] = np.log1p(pair[:, 0]), np.log1p(pair[:, 1])
        table[:, 4] = pair[:, 0] + pair[:, 1] == 0
        table[:, 6] = pair[:, 2]
    same = (last[subject.at] == rows.item) & known
    table[:, 5], table[:, 7], table[:, 8] = mine[:, 2], mine[:, 3], mine[:, 3] * same
    table[:, 9], table[:, 10] = mine[:, 4], same
    table[:, 11] = np.log1p(np.maximum(rows.time - mine[:, 6], 0.0) / history.pause)
    key = keys["domain"]
    domain = _looked_up(key, cast("States", history.domain), (0.0, 0.0, 0.0))[key.at]
    table[:, 12], table[:, 13] = np.log1p(domain[:, 0]), np.log1p(domain[:, 1])
    table[:, 14] = domain[:, 2]
    nobody = np.zeros(FEATURES)
    nobody[[4, 15]] = 1.0
    return np.where(known[:, None], table, nobody)


def _cheap(engine: Engine, keys: Mapping[str, Keys]) -> Float64:
    """The logits of `rate`, `glicko`, `elo` and `usual`; (rows, CHEAP)."""
    subject, item, group = keys["subject"], keys["item"], keys["group"]
    who, what = _place(subject), _place(item)
    usual, usual_logit = engine.usual, engine.usual_logit
    easy = _looked_up(item, {k: (z,) for k, z in engine.expected_logit.items()}, (usual_logit,))
    mine = _looked_up(subject, cast("States", engine.history.subject), (0.0,) * 7)[who]
    good, bad = mine[:, 0] + 5 * usual, mine[:, 1] + 5 * (1 - usual)
    own = np.where(mine[:, 0] + mine[:, 1] > 0, np.log(good / bad) - usual_logit, 0.0)
    glicko, elo = engine.glicko, engine.elo
    fresh = (0.0, glicko.variance)
    up = _looked_up(subject, cast("States", glicko.subject), fresh)[who]
    down = _looked_up(item, cast("States", glicko.item), fresh)[what]
    rated = glicko.base + up[:, 0] - down[:, 0]
    rated = rated / np.sqrt(1 + GLICKO_SQUASH * (up[:, 1] + down[:, 1]))
    better = _looked_up(subject, cast("States", elo.subject), (0.0, 0.0))[who, 0]
    harder = _looked_up(item, cast("States", elo.item), (0.0, 0.0))[what, 0]
    common = np.exp([usual_logit, 0.0])
    ratio = _looked_up(group, cast("States", engine.running), common.tolist())[_place(group)]
    return np.column_stack(
        [easy[what, 0] + own, rated, elo.base + better - harder, np.log(ratio[:, 0] / ratio[:, 1])]
    )


def _place(keys: Keys) -> Int64:
    """The level of each row, where -1 is a code like any other, as it is to the cheap members."""
    nobody = int(np.searchsorted(keys.code[:, 0], -1))
    return np.asarray(np.where(keys.at < 0, nobody, keys.at), np.int64)
