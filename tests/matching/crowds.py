"""Seeded crowds with a known truth, for the tests of consensus."""

from __future__ import annotations

import numpy as np

from matching.problem import Float64, Int64
from matching.votes import Votes


def crowd(
    chance: Float64, *, items: int, each: int, seed: int, prior: Float64 | None = None
) -> tuple[Votes, Int64]:
    """Votes of reviewers with these matrices (reviewers, truth, label), and the truth."""
    rng = np.random.default_rng(seed)
    reviewers, classes, _ = chance.shape
    truth = rng.choice(classes, items, p=prior)
    item = np.repeat(np.arange(items), each)
    reviewer = np.concatenate([rng.choice(reviewers, each, replace=False) for _ in range(items)])
    heap = np.cumsum(chance[reviewer, truth[item]], axis=1)
    label = (rng.random((len(item), 1)) > heap).sum(axis=1)
    label = np.minimum(label, classes - 1)
    return Votes(item, reviewer, label, items, reviewers, classes), truth.astype(np.int64)


def accuracy(posterior: Float64, truth: Int64) -> float:
    """Share of items whose likeliest class is the truth."""
    return float((posterior.argmax(axis=1) == truth).mean())


def log_loss(posterior: Float64, truth: Int64) -> float:
    """Mean surprise at the truth, nats."""
    return float(-np.log(np.maximum(posterior[np.arange(len(truth)), truth], 1e-12)).mean())
