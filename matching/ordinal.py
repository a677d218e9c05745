"""Grades: each reviewer cuts one scale of quality at places of its own."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from matching.confusion import FLOOR, STRENGTH, Ballots, Confusion
from matching.problem import Float64, Int64

STEPS = 6
"""Newton steps that the cuts take in each round of EM; they start where they stood."""

FARTHEST = 30.0
"""Cuts and places keep within this many logits of nought."""


class Ordinal(Confusion):
    """Classes are grades on one scale; a reviewer is strict or mild at each cut between them.

    The chance to say at most l of an item whose truth is k is logistic in cut(r, l) - place(k):
    a reviewer is described by one number for each cut, shrunk to the cut of all by `strength`
    votes, where a full matrix needs as many as classes squared.

    What `fit` learns beside: `place_` (classes,), where each grade lies, logits; `cut_`
    (reviewers, classes - 1), logits, rising; `chance_` (reviewers, truth, label).
    Source: McCullagh, JRSS B 42 (1980), eq. 2.3, with cuts for each rater.
    """

    place_: Float64
    cut_: Float64
    chance_: Float64

    def __init__(
        self, *, strength: float = STRENGTH, most_rounds: int = 40, tolerance: float = 2e-3
    ) -> None:
        super().__init__(strength=strength, most_rounds=most_rounds, tolerance=tolerance)
        self.place_ = np.zeros(0)

    def chance(self, reviewer: Int64) -> Float64:
        """Each reviewer's own matrix."""
        return self.chance_[reviewer]

    def log_chance(self, reviewer: Int64, label: Int64) -> Float64:
        """The column of what was said, of the matrix of who said it."""
        return np.log(self.chance_[reviewer, :, label])

    def _learn(self, ballots: Ballots, truth: Float64) -> None:
        classes = truth.shape[1]
        if len(self.place_) != classes:
            self.place_ = 3.0 * (np.arange(classes) - (classes - 1) / 2)
            self.cut_ = np.tile((self.place_[1:] + self.place_[:-1]) / 2, (len(ballots.seen), 1))
        flat: Float64 = ballots.back @ truth
        count = flat.reshape(-1, classes, classes).transpose(0, 2, 1)
        # A little of every label for every truth keeps the cuts from running away.
        pooled = count.sum(axis=0) + 0.5 / classes + 0.5 * np.eye(classes)
        shared = np.median(self.cut_, axis=0)
        for _ in range(STEPS):
            shared = _step(shared[None], self.place_, pooled[None], 0.0, shared)[0]
            self.place_ = _move_places(self.place_, shared, pooled)
        for _ in range(STEPS):
            # A vote tells most where its chance is a half, a quarter of a unit of information.
            self.cut_ = _step(self.cut_, self.place_, count, 0.25 * self.strength, shared)
        self.cut_ = np.maximum.accumulate(self.cut_, axis=1)
        self.chance_ = _matrices(self.cut_, self.place_)
        self.accuracy_ = np.einsum("k,rkk->r", self.prior_, self.chance_)

    def _evidence(self, ballots: Ballots) -> Float64:
        classes = len(self.prior_)
        columns = np.log(self.chance_).transpose(0, 2, 1).reshape(-1, classes)
        result: Float64 = ballots.table @ columns
        return result

    def _log_chance_without(self, ballots: Ballots, on: Int64, truth: Int64) -> Float64:
        """One Newton step back: the cuts as they were without this vote's pull."""
        votes = ballots.votes
        reviewer, label = votes.reviewer[on], votes.label[on]
        cut, place = self.cut_[reviewer], self.place_[truth][:, None]
        below = expit(cut - place)
        pull = (label[:, None] <= np.arange(cut.shape[1])) - below
        held = below * (1.0 - below)
        stiff = self._stiffness()[reviewer] * ballots.seen[reviewer, None]
        stiff = np.maximum(stiff - held, 0.0) + 0.25 * self.strength
        cut = np.maximum.accumulate(cut - ballots.weight[on, None] * pull / stiff, axis=1)
        return np.log(_matrices(cut, self.place_)[np.arange(len(on)), :, label])

    def _stiffness(self) -> Float64:
        """Mean information of a vote on each cut, shape (reviewers, cuts)."""
        below = expit(self.cut_[:, None, :] - self.place_[None, :, None])
        return np.asarray(np.einsum("k,rkl->rl", self.prior_, below * (1.0 - below)), np.float64)


def _matrices(cut: Float64, place: Float64) -> Float64:
    """Chances of each label under each truth, shape (reviewers, truth, label)."""
    below = expit(cut[:, None, :] - place[None, :, None])
    low = np.concatenate([np.zeros((*below.shape[:2], 1)), below], axis=2)
    high = np.concatenate([below, np.ones((*below.shape[:2], 1))], axis=2)
    chance = np.maximum(high - low, FLOOR)
    return np.asarray(chance / chance.sum(axis=2, keepdims=True), np.float64)


def _step(
    cut: Float64, place: Float64, count: Float64, stiffness: float, shared: Float64
) -> Float64:
    """One Newton step of every cut, each a logistic regression on its own, with a ridge."""
    seen = count.sum(axis=2)
    at_most = np.cumsum(count, axis=2)[:, :, :-1]
    below = expit(cut[:, None, :] - place[None, :, None])
    slope = (at_most - seen[:, :, None] * below).sum(axis=1) - stiffness * (cut - shared)
    curve = (seen[:, :, None] * below * (1.0 - below)).sum(axis=1) + stiffness
    step = np.clip(slope / np.maximum(curve, 1e-6), -1.0, 1.0)
    return np.asarray(np.clip(cut + step, -FARTHEST, FARTHEST), np.float64)


def _move_places(place: Float64, cut: Float64, count: Float64) -> Float64:
    """One Newton step of the places of the grades, kept rising, centred and within bounds."""
    seen = count.sum(axis=1)
    at_most = np.cumsum(count, axis=1)[:, :-1]
    below = expit(cut[None, :] - place[:, None])
    slope = (seen[:, None] * below - at_most).sum(axis=1)
    curve = (seen[:, None] * below * (1.0 - below)).sum(axis=1)
    moved = place + np.clip(slope / np.maximum(curve, 1e-6), -1.0, 1.0)
    moved = np.maximum.accumulate(np.clip(moved, -FARTHEST, FARTHEST))
    return np.asarray(moved - moved.mean(), np.float64)
