"""How reviewers confuse the classes: Dawid-Skene with empirical-Bayes priors, and simpler ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy.sparse import csr_array

from matching.assignment import totals
from matching.problem import Float64, Int64
from matching.votes import UNKNOWN, Votes, checked_gold, normal_rows

FLOOR = 1e-6
"""The least chance that a reviewer says anything: no vote may rule a class out for good."""

STRENGTH = 8.0
"""Votes that the prior of a reviewer counts for, in each row of its matrix."""


@dataclass(frozen=True, eq=False)
class Ballots:
    """Votes with the tables that several estimators read; each is built once, when first read."""

    votes: Votes

    @cached_property
    def weight(self) -> Float64:
        """What each vote counts for, shape (votes,)."""
        return self.votes.weight()

    @cached_property
    def counts(self) -> Float64:
        """Votes for each class, shape (items, classes)."""
        return self.votes.counts(self.weight)

    @cached_property
    def total(self) -> Float64:
        """Votes on each item, shape (items,)."""
        return np.asarray(self.counts.sum(axis=1), np.float64)

    @cached_property
    def seen(self) -> Float64:
        """Votes of each reviewer, shape (reviewers,)."""
        return totals(self.votes.reviewer, self.weight, self.votes.reviewers)

    @cached_property
    def table(self) -> csr_array:
        """Items by (reviewer, label), shape (items, reviewers x classes)."""
        return self.votes.table(self.weight)

    @cached_property
    def back(self) -> csr_array:
        """The table turned round, by rows."""
        return self.table.T.tocsr()


class Confusion(ABC):
    """EM for the truth of items and the habits of reviewers, with the truth of gold given.

    What `fit` learns: `prior_` (classes,), how common each class is; `evidence_` (items, classes),
    natural log likelihood of the votes of each item under each class; `accuracy_` (reviewers,),
    the chance that a vote is right; `rounds_`, how many rounds of EM were run.
    Source: Dawid, Skene, Applied Statistics 28 (1979), eq. 2.3-2.5, with the maximum a posteriori
        in the place of the maximum likelihood.
    """

    def __init__(
        self, *, strength: float = STRENGTH, most_rounds: int = 40, tolerance: float = 2e-3
    ) -> None:
        self.strength = strength
        self.most_rounds = most_rounds
        self.tolerance = tolerance
        self.prior_: Float64 = np.zeros(0)
        self.evidence_: Float64 = np.zeros((0, 0))
        self.accuracy_: Float64 = np.zeros(0)
        self.rounds_ = 0

    def fit(self, votes: Votes, gold: Int64 | None = None) -> Self:
        """Learn from all votes and the truth of gold items, UNKNOWN elsewhere."""
        ballots = Ballots(votes)
        return self.fit_from(ballots, vote_shares(ballots.counts), checked_gold(gold, votes))

    def fit_from(self, ballots: Ballots, start: Float64, gold: Int64) -> Self:
        """As `fit`, from a first guess of the truth, shape (items, classes)."""
        classes = start.shape[1]
        given = np.flatnonzero(gold != UNKNOWN)
        truth = start.copy()
        truth[given] = np.eye(classes)[gold[given]]
        # An item without votes is what the prior says and teaches it nothing.
        voted = (ballots.total > 0) | (gold != UNKNOWN)
        for step in range(1, self.most_rounds + 1):
            self.rounds_ = step
            self.prior_ = (truth[voted].sum(axis=0) + 1.0) / (voted.sum() + classes)
            self._learn(ballots, truth)
            self.evidence_ = self._evidence(ballots)
            moved = normal_rows(np.log(self.prior_) + self.evidence_)
            moved[given] = truth[given]
            change = float(np.abs(moved - truth).max(initial=0.0))
            truth = moved
            if change < self.tolerance:
                break
        return self

    def posterior(self) -> Float64:
        """The truth of each item by its votes alone, shape (items, classes); gold not given."""
        return normal_rows(np.log(self.prior_) + self.evidence_)

    @abstractmethod
    def chance(self, reviewer: Int64) -> Float64:
        """What these reviewers say of each truth, shape (reviewers asked, truth, label)."""

    @abstractmethod
    def log_chance(self, reviewer: Int64, label: Int64) -> Float64:
        """Log chance of each vote under each truth, shape (votes, classes)."""

    def held_out(self, ballots: Ballots, gold: Int64) -> Float64:
        """Evidence of the gold items as it were had each not been known, (gold items, classes).

        The item's own part is taken out of the counts of the reviewers who voted on it, so that
        a choice that is made on gold does not flatter who learned from that gold. What its truth
        did to other items is left in: it is of second order.
        """
        given = np.flatnonzero(gold != UNKNOWN)
        place = np.full(len(gold), -1)
        place[given] = np.arange(len(given))
        votes = ballots.votes
        on = np.flatnonzero(place[votes.item] >= 0)
        log_chance = self._log_chance_without(ballots, on, gold[votes.item[on]])
        weighted = log_chance * ballots.weight[on, None]
        return np.stack(
            [totals(place[votes.item[on]], column, len(given)) for column in weighted.T], axis=1
        )

    @abstractmethod
    def _learn(self, ballots: Ballots, truth: Float64) -> None:
        """The M step: habits from expected truths."""

    @abstractmethod
    def _evidence(self, ballots: Ballots) -> Float64:
        """The E step, but for the prior."""

    @abstractmethod
    def _log_chance_without(self, ballots: Ballots, on: Int64, truth: Int64) -> Float64:
        """Log chance of the votes at these places had the truth of their items not been told."""


class Pooled(Confusion):
    """One matrix for all reviewers: for queues where nobody has many votes.

    What `fit` learns beside: `matrix_` (truth, label), probabilities.
    """

    matrix_: Float64
    count_: Float64

    def chance(self, reviewer: Int64) -> Float64:
        """The same matrix for each."""
        return np.broadcast_to(self.matrix_, (len(reviewer), *self.matrix_.shape))

    def log_chance(self, reviewer: Int64, label: Int64) -> Float64:
        """Columns of the one matrix, whoever said it."""
        del reviewer
        return np.log(self.matrix_.T[label])

    def _learn(self, ballots: Ballots, truth: Float64) -> None:
        self.count_ = truth.T @ ballots.counts + 1.0 + np.eye(truth.shape[1])
        self.matrix_ = _chances(self.count_)
        hit = float(np.diagonal(self.matrix_) @ self.prior_)
        self.accuracy_ = np.full(ballots.votes.reviewers, hit)

    def _evidence(self, ballots: Ballots) -> Float64:
        return ballots.counts @ np.log(self.matrix_).T

    def _log_chance_without(self, ballots: Ballots, on: Int64, truth: Int64) -> Float64:
        item, label = ballots.votes.item[on], ballots.votes.label[on]
        result = self.log_chance(ballots.votes.reviewer[on], label)
        row = np.maximum(self.count_[truth] - ballots.counts[item], FLOOR)
        at = np.arange(len(on))
        result[at, truth] = np.log(np.maximum(row[at, label] / row.sum(axis=1), FLOOR))
        return result


class Coin(Confusion):
    """One accuracy for each reviewer, its errors spread evenly; needs the fewest votes of each.

    The accuracy is drawn to the mean of all by `strength` votes.

    What `fit` learns beside: `hit_` (reviewers,), expected votes that were right; `mean_`, the
    accuracy of all votes.
    """

    hit_: Float64
    mean_: float

    def chance(self, reviewer: Int64) -> Float64:
        """The accuracy on the diagonal, the rest spread evenly."""
        return coins(self.accuracy_[reviewer], len(self.prior_))

    def log_chance(self, reviewer: Int64, label: Int64) -> Float64:
        """The right class has the accuracy, any other an even share of the rest."""
        return self._log_coin(self.accuracy_[reviewer], label)

    def _learn(self, ballots: Ballots, truth: Float64) -> None:
        votes = ballots.votes
        right = truth[votes.item, votes.label] * ballots.weight
        self.hit_ = totals(votes.reviewer, right, votes.reviewers)
        self.mean_ = _mean_accuracy(self.hit_, ballots.seen, votes.classes)
        self.accuracy_ = _shrunk(self.hit_, ballots.seen, self.mean_, self.strength, votes.classes)

    def _evidence(self, ballots: Ballots) -> Float64:
        votes = ballots.votes
        wrong = _even_share(self.accuracy_, votes.classes)
        gain = (np.log(self.accuracy_) - np.log(wrong))[votes.reviewer] * ballots.weight
        cell = votes.item * votes.classes + votes.label
        flat = totals(cell, gain, votes.items * votes.classes)
        base = np.log(wrong)[votes.reviewer] * ballots.weight
        common = totals(votes.item, base, votes.items)
        return flat.reshape(votes.items, votes.classes) + common[:, None]

    def _log_chance_without(self, ballots: Ballots, on: Int64, truth: Int64) -> Float64:
        reviewer, label = ballots.votes.reviewer[on], ballots.votes.label[on]
        weight = ballots.weight[on]
        hit = np.maximum(self.hit_[reviewer] - weight * (label == truth), 0.0)
        seen = np.maximum(ballots.seen[reviewer] - weight, hit)
        classes = ballots.votes.classes
        accuracy = _shrunk(hit, seen, self.mean_, self.strength, classes)
        return self._log_coin(accuracy, label)

    def _log_coin(self, accuracy: Float64, label: Int64) -> Float64:
        classes = len(self.prior_)
        wrong = np.log(_even_share(accuracy, classes))
        result = np.repeat(wrong[:, None], classes, axis=1)
        result[np.arange(len(label)), label] = np.log(accuracy)
        return result


class Full(Confusion):
    """A matrix for each reviewer, each row drawn by `strength` votes to what is known of others.

    The prior of a row is half the pooled matrix and half the reviewer's own one-coin matrix, both
    estimated again in each round, so that a reviewer with few votes is like the others of its
    accuracy and one with many is itself.

    What `fit` learns beside: `chance_` (reviewers, truth, label), probabilities; `count_` of the
    same shape, expected votes.
    """

    chance_: Float64
    count_: Float64
    pooled_: Float64
    mean_: float

    def chance(self, reviewer: Int64) -> Float64:
        """Each reviewer's own matrix."""
        return self.chance_[reviewer]

    def log_chance(self, reviewer: Int64, label: Int64) -> Float64:
        """The column of what was said, of the matrix of who said it."""
        return np.log(self.chance_[reviewer, :, label])

    def _learn(self, ballots: Ballots, truth: Float64) -> None:
        classes = truth.shape[1]
        flat: Float64 = ballots.back @ truth
        self.count_ = flat.reshape(-1, classes, classes).transpose(0, 2, 1)
        pooled = truth.T @ ballots.counts + 1.0 + np.eye(classes)
        self.pooled_ = _chances(pooled)
        hit = np.trace(self.count_, axis1=1, axis2=2)
        self.mean_ = _mean_accuracy(hit, ballots.seen, classes)
        own = _shrunk(hit, ballots.seen, self.mean_, self.strength, classes)
        self.chance_ = self._rows(self.count_, own)
        self.accuracy_ = np.einsum("k,rkk->r", self.prior_, self.chance_)

    def _evidence(self, ballots: Ballots) -> Float64:
        classes = len(self.prior_)
        columns = np.log(self.chance_).transpose(0, 2, 1).reshape(-1, classes)
        result: Float64 = ballots.table @ columns
        return result

    def _log_chance_without(self, ballots: Ballots, on: Int64, truth: Int64) -> Float64:
        reviewer, label = ballots.votes.reviewer[on], ballots.votes.label[on]
        weight, at = ballots.weight[on], np.arange(len(on))
        count = self.count_[reviewer]
        hit = np.trace(count, axis1=1, axis2=2) - weight * (label == truth)
        hit = np.maximum(hit, 0.0)
        seen = np.maximum(ballots.seen[reviewer] - weight, hit)
        count[at, truth, label] = np.maximum(count[at, truth, label] - weight, 0.0)
        own = _shrunk(hit, seen, self.mean_, self.strength, ballots.votes.classes)
        return np.log(self._rows(count, own)[at, :, label])

    def _rows(self, count: Float64, accuracy: Float64) -> Float64:
        prior = 0.5 * self.pooled_ + 0.5 * coins(accuracy, count.shape[1])
        return _chances(count + self.strength * prior)


def coins(accuracy: Float64, classes: int) -> Float64:
    """Matrices of reviewers that are right this often and else say anything, equally often.

    Shapes: accuracy (reviewers,); the answer (reviewers, truth, label).
    """
    wrong = _even_share(accuracy, classes)
    chance = np.repeat(wrong, classes * classes).reshape(-1, classes, classes)
    diagonal = np.arange(classes)
    chance[:, diagonal, diagonal] = accuracy[:, None]
    return chance


def vote_shares(counts: Float64, smoothing: float = 0.5) -> Float64:
    """Shares of votes with a little for every class: the smoothed majority, (items, classes)."""
    shares: Float64 = counts + smoothing
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float64)


def _chances(weight: Float64) -> Float64:
    """Rows that sum to one, none of whose entries is nought."""
    chance = np.maximum(weight / weight.sum(axis=-1, keepdims=True), FLOOR)
    return np.asarray(chance / chance.sum(axis=-1, keepdims=True), np.float64)


def _mean_accuracy(hit: Float64, seen: Float64, classes: int) -> float:
    return float((hit.sum() + 1.0) / (seen.sum() + classes))


def _shrunk(hit: Float64, seen: Float64, mean: float, strength: float, classes: int) -> Float64:
    """Accuracies drawn to the mean of all, inside the open interval that logarithms need."""
    if classes == 1:
        return np.ones(len(hit))
    shrunk = (hit + strength * mean) / (seen + strength)
    return np.asarray(np.clip(shrunk, FLOOR, 1.0 - FLOOR), np.float64)


def _even_share(accuracy: Float64, classes: int) -> Float64:
    """The chance of each wrong class; of one class alone nothing can be wrong, and it is not."""
    if classes == 1:
        return np.ones(len(accuracy))
    return np.asarray((1.0 - accuracy) / (classes - 1), np.float64)
