"""How often each reviewer is right, with what is not known about it in the interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from matching.assignment import totals
from matching.confusion import Ballots
from matching.problem import Float64

TAIL = 0.05
"""Probability outside of an interval on each side."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often each reviewer is right, and how sure that is.

    Shapes: accuracy, low, high, votes (reviewers,).
    Units: accuracy, low and high probabilities, of a vote on an item of this queue; low and high
        bound nine tenths of the posterior, and hold both beliefs about the truth; votes, how many
        the figure rests on.
    """

    accuracy: Float64
    low: Float64
    high: Float64
    votes: Float64


def reliability(ballots: Ballots, *beliefs: Float64, reviewers: int) -> Reliability:
    """Beta posteriors from expected right votes, drawn to the mean of all reviewers.

    The truth is not known, and how sure of it to be is not known either: each belief gives
    figures of its own, whose mean is the accuracy and whose outer ends are the interval.

    Shapes: beliefs (items, classes), posteriors of the truth.
    """
    votes = ballots.votes
    seen = ballots.seen[:reviewers]
    points, lows, highs = [], [], []
    for belief in beliefs:
        right = belief[votes.item, votes.label] * ballots.weight
        hit = totals(votes.reviewer, right, votes.reviewers)[:reviewers]
        hit = np.minimum(hit, seen)
        mean = (hit.sum() + 1.0) / (seen.sum() + 1.0 + 1.0 / max(votes.classes - 1, 1))
        strength = mean_strength(hit, seen, float(mean))
        a, b = hit + strength * mean, seen - hit + strength * (1.0 - mean)
        points.append(a / (a + b))
        lows.append(beta.ppf(TAIL, a, b))
        highs.append(beta.ppf(1 - TAIL, a, b))
    return Reliability(np.mean(points, axis=0), np.min(lows, axis=0), np.max(highs, axis=0), seen)


def mean_strength(hit: Float64, seen: Float64, mean: float) -> float:
    """Votes that the mean of all counts for, by the spread of reviewers beyond chance.

    Source: method of moments for the beta-binomial, Kleinman, JASA 68 (1973).
    """
    judged = seen > 0
    total = float(seen.sum())
    if judged.sum() < 3 or not 0 < mean < 1:
        return 8.0
    spread = float((seen[judged] * (hit[judged] / seen[judged] - mean) ** 2).sum())
    expected = mean * (1 - mean)
    room = total - float((seen**2).sum()) / total
    between = (spread - (judged.sum() - 1) * expected) / max(room, 1e-9)
    if between <= 0:
        return 200.0
    return float(np.clip(expected / between - 1.0, 2.0, 200.0))
