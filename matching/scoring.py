"""What a reviewer's judgement was worth, by rules under which honesty is the best answer."""

from __future__ import annotations

import numpy as np

from matching.graded import QueueKind
from matching.problem import Float64, Int64
from matching.votes import VotesInvalid

LEAST = 1e-4
"""Forecasts are kept this far from certainty: one surprise must not outweigh a year of work."""


def quadratic_score(forecast: Float64, outcome: Int64) -> Float64:
    """1 - squared distance from what came to be, shape (forecasts,), between -1 and 1.

    Strictly proper: whoever says what they believe expects the most.

    Shapes: forecast (forecasts, classes), rows that sum to one; outcome (forecasts,) classes.
    Source: Gneiting, Raftery, JASA 102 (2007), section 3.1.
    Raises: VotesInvalid.
    """
    chance = _checked(forecast, outcome)
    told = chance[np.arange(len(outcome)), outcome]
    return np.asarray(2 * told - (chance**2).sum(axis=1), np.float64)


def log_score(forecast: Float64, outcome: Int64) -> Float64:
    """Log of the probability that was given to what came to be, nats, shape (forecasts,).

    Source: Good, JRSS B 14 (1952); Gneiting, Raftery, JASA 102 (2007), section 3.1.
    Raises: VotesInvalid.
    """
    chance = _checked(forecast, outcome)
    told = chance[np.arange(len(outcome)), outcome]
    return np.asarray(np.log(np.maximum(told, LEAST)), np.float64)


def vote_merit(kind: QueueKind, without_own: Float64, label: Int64, gold: Int64) -> Float64:
    """What each vote says for or against its reviewer, shape (votes,); nought says nothing.

    On a closed queue the vote is scored against the consensus of the others, and against the
    truth where the item is gold: the share of belief on its label, less what a vote at random
    would get. On an open queue nobody is measured by the others: merit is nought for every vote
    on an item that is not gold, however far from the majority it is; and on gold of an open
    queue, which is work whose failing is beyond taste, only what the truth says counts.

    Shapes: without_own (votes, classes), the posterior of each item without this vote; label,
        gold (votes,), gold the truth of the item, -1 where it is not gold.
    Raises: VotesInvalid.
    """
    chance = _checked(without_own, label)
    at = np.arange(len(label))
    truth = np.asarray(gold, np.int64)
    if truth.shape != (len(label),) or (truth >= chance.shape[1]).any() or (truth < -1).any():
        raise VotesInvalid("gold", None, "must be a class or -1 for each vote")
    belief = chance[at, label]
    told = truth >= 0
    if kind is QueueKind.OPEN:
        belief = np.full(len(label), 1.0 / chance.shape[1])
    belief = np.where(told, (truth == label).astype(np.float64), belief)
    return np.asarray(belief - 1.0 / chance.shape[1], np.float64)


def _checked(forecast: Float64, outcome: Int64) -> Float64:
    """The forecasts, when they are distributions over classes among which the outcomes are."""
    chance = np.asarray(forecast, np.float64)
    if chance.ndim != 2 or len(chance) != len(outcome):
        raise VotesInvalid("forecast", None, f"shape {chance.shape} is not (forecasts, classes)")
    if not np.isfinite(chance).all() or (chance < -1e-9).any():
        raise VotesInvalid("forecast", None, "must hold numbers from nought")
    wrong = np.flatnonzero(np.abs(chance.sum(axis=1) - 1) > 1e-6)
    if len(wrong):
        raise VotesInvalid("forecast", int(wrong[0]), "must sum to one")
    if len(outcome) and not (0 <= int(outcome.min()) <= int(outcome.max()) < chance.shape[1]):
        raise VotesInvalid("outcome", None, f"must be between 0 and {chance.shape[1] - 1}")
    return chance
