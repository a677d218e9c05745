"""What reviewers said of items: checked arrays, and the tables that every estimator reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from matching.assignment import totals
from matching.problem import Float64, Int64

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SHORT_ROW = 32
"""Rows of at most this length are reduced column by column."""

UNKNOWN = -1
"""The truth of an item that is not gold."""


class VotesInvalid(ValueError):
    """An array of votes breaks its contract; says which array, where, and how."""

    def __init__(self, array: str, index: int | None, reason: str) -> None:
        self.array = array
        self.index = index
        self.reason = reason
        where = array if index is None else f"{array}[{index}]"
        super().__init__(f"{where}: {reason}")


@dataclass(frozen=True, eq=False)
class Votes:
    """One class out of a closed list, said by one reviewer of one item, as often as it was said.

    A reviewer that judged one item several times counts once: each of its votes weighs one part.
    An item or a reviewer without a vote may be among those counted.

    Shapes: item, reviewer, label (votes,) integers from nought.
    Units: items, reviewers, classes are counts; every index is below its own.
    Raises: VotesInvalid.
    """

    item: Int64
    reviewer: Int64
    label: Int64
    items: int
    reviewers: int
    classes: int

    def __post_init__(self) -> None:
        for name, limit in (
            ("item", self.items),
            ("reviewer", self.reviewers),
            ("label", self.classes),
        ):
            object.__setattr__(self, name, checked_index(name, getattr(self, name), limit))
        if not len(self.item) == len(self.reviewer) == len(self.label):
            lengths = f"{len(self.item)}, {len(self.reviewer)}, {len(self.label)}"
            raise VotesInvalid("label", None, f"item, reviewer, label differ in length: {lengths}")
        if self.classes < 1:
            raise VotesInvalid("classes", None, "must be at least 1")

    def weight(self) -> Float64:
        """What each vote counts for, shape (votes,): one over the reviewer's votes on the item."""
        if len(self.item) == 0:
            return np.zeros(0)
        pair = self.item * max(self.reviewers, 1) + self.reviewer
        order = np.argsort(pair, kind="stable")
        fresh = np.ones(len(pair), bool)
        fresh[1:] = pair[order][1:] != pair[order][:-1]
        if fresh.all():
            return np.ones(len(pair))
        group = np.cumsum(fresh) - 1
        weight = np.empty(len(pair))
        weight[order] = 1.0 / np.bincount(group)[group]
        return weight

    def table(self, weight: Float64) -> csr_array:
        """A row for each item, a column for each reviewer and label: column reviewer x classes
        + label, shape (items, reviewers x classes).
        """
        # SciPy is loaded here, since most processes only read votes.
        from scipy.sparse import csr_array

        column = self.reviewer * self.classes + self.label
        size = (self.items, self.reviewers * self.classes)
        return csr_array((weight, (self.item, column)), shape=size)

    def counts(self, weight: Float64) -> Float64:
        """Votes for each class, shape (items, classes)."""
        cell = self.item * self.classes + self.label
        flat = totals(cell, weight, self.items * self.classes)
        return flat.reshape(self.items, self.classes)

    def without(self, drop: Int64) -> Votes:
        """The same votes but for those at these places."""
        keep = np.ones(len(self.item), bool)
        keep[drop] = False
        return Votes(
            self.item[keep],
            self.reviewer[keep],
            self.label[keep],
            self.items,
            self.reviewers,
            self.classes,
        )


def checked_index(name: str, values: Int64, limit: int) -> Int64:
    """A read-only copy of an array of indices below a limit.

    Raises: VotesInvalid.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise VotesInvalid(name, None, f"must have one dimension, has {array.ndim}")
    if array.dtype.kind not in "iu":
        if len(array):
            raise VotesInvalid(name, None, f"must hold integers, holds {array.dtype}")
        array = array.astype(np.int64)
    wrong = np.flatnonzero((array < 0) | (array >= limit))
    if len(wrong):
        at = int(wrong[0])
        raise VotesInvalid(name, at, f"{array[at]} is not between 0 and {limit - 1}")
    array = array.astype(np.int64)
    array.flags.writeable = False
    return array


def checked_gold(gold: Int64 | None, votes: Votes) -> Int64:
    """The truth of each item, shape (items,), UNKNOWN where it is not gold.

    Raises: VotesInvalid.
    """
    if gold is None:
        return np.full(votes.items, UNKNOWN)
    array = np.asarray(gold)
    if array.shape != (votes.items,) or (len(array) and array.dtype.kind not in "iu"):
        raise VotesInvalid("gold", None, f"must be ({votes.items},) integers, is {array.shape}")
    wrong = np.flatnonzero((array < UNKNOWN) | (array >= votes.classes))
    if len(wrong):
        at = int(wrong[0])
        raise VotesInvalid("gold", at, f"{array[at]} is not between -1 and {votes.classes - 1}")
    return array.astype(np.int64)


def checked_posterior(posterior: Float64, classes: int) -> Float64:
    """A distribution over the classes as one, shape (classes,).

    Raises: VotesInvalid.
    """
    array = np.asarray(posterior, np.float64)
    if array.shape != (classes,) or not np.isfinite(array).all() or (array < 0).any():
        raise VotesInvalid("posterior", None, f"must be {classes} numbers from nought")
    total = float(array.sum())
    if total <= 0:
        raise VotesInvalid("posterior", None, "must not be nought everywhere")
    return array / total


def row_max(values: Float64) -> Float64:
    """The greatest of each row, as a column, shape (rows, 1).

    Column by column where rows are short: numpy reduces a short last axis slowly.
    """
    if 0 < values.shape[1] <= SHORT_ROW:
        return np.asarray(reduce(np.maximum, values.T)[:, None], np.float64)
    return np.asarray(values.max(axis=1, keepdims=True), np.float64)


def row_sum(values: Float64) -> Float64:
    """The sum of each row, as a column, shape (rows, 1)."""
    if 0 < values.shape[1] <= SHORT_ROW:
        return np.asarray(reduce(np.add, values.T)[:, None], np.float64)
    return np.asarray(values.sum(axis=1, keepdims=True), np.float64)


def normal_rows(log_weight: Float64) -> Float64:
    """Exponentials of each row, divided by their sum; no overflow, shape (rows, classes)."""
    weight: Float64 = np.exp(log_weight - row_max(log_weight))
    return weight / row_sum(weight)
