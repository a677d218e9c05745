"""Weights of members by what they said of rows before seeing them, and which are worth having."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from matching.problem import Float64
from matching.responses import Responses

SPARED, FEWEST_TO_SPARE = 0.0001, 1000
"""A view is left out where the stack without it loses no more log loss than this, on at least so
many rows: each costs time at every answer and in every refit."""


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


def stacked_at(said: Float64, part: Responses, best: int) -> Float64:
    """The stack of the members around the best of them, from what they said of the rows."""
    centre = np.zeros(said.shape[1])
    centre[best] = 1.0
    return stacked(said, part.outcome, part.weight, centre.tolist())


def worth_their_time(said: Float64, part: Responses, best: int) -> list[int]:
    """The views without which the stack would say less of the held-out part, the best always.

    Shapes: said (rows, views + 1) logits, the last column the running rate, which stays.
    """

    def loss(views: list[int]) -> float:
        some = said[:, [*views, said.shape[1] - 1]]
        weight = stacked_at(some, part, views.index(best))
        z = some @ weight[:-1] + weight[-1]
        return float((part.weight * (np.logaddexp(0, z) - part.outcome * z)).mean())

    kept = list(range(said.shape[1] - 1))
    limit = loss(kept) + SPARED
    while len(kept) > 1:
        fewer = [[n for n in kept if n != gone] for gone in kept if gone != best]
        losses = [loss(views) for views in fewer]
        if min(losses) > limit:
            break
        kept = fewer[losses.index(min(losses))]
    return kept
