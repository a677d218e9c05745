"""Whether reviewers agree more on some items, and less on others, than luck alone would have it.

Where votes err independently given the truth, agreement differs from item to item by the luck of
the draw alone. Hard items, and items that mislead many at once, show as more.
"""

from __future__ import annotations

import numpy as np

from matching.confusion import Ballots, Confusion
from matching.problem import Float64, Int64
from matching.votes import Votes

DRAWS = 5
"""Times that votes are made up; the mean of their spread is known to a few in a hundred then."""

MOST_ITEMS = 4000
"""Items that are looked at, evenly taken from all."""

FEWEST_ITEMS = 50
"""With fewer items of two votes and more, nothing is said."""

EVEN, UNEVEN = 1.1, 1.3
"""Spread of agreement over that of independent votes: up to the first nothing speaks against
independence, from the second on it is not believed. Five public queues of four votes an item and
more lie between 1.23 and 2.4, made-up independent ones of 500 items and more below 1.12."""


def independence(ballots: Ballots, member: Confusion) -> float:
    """How far votes may be taken as independent given the truth, from 0 to 1.

    Votes of the same reviewers on the same items are made up by the habits that were learned, and
    the variance of the agreement of pairs on an item is compared. Three votes between two classes
    can show nothing but their mean, and then nothing speaks against it. The draws are seeded: the
    same votes give the same answer.
    """
    votes = some_items(ballots.votes)
    seen = alike_shares(votes, votes.label)
    if len(seen) < FEWEST_ITEMS:
        return 0.0
    rng = np.random.default_rng(0)
    matrix = np.cumsum(member.chance(np.arange(votes.reviewers)), axis=2)
    common = np.cumsum(member.prior_)
    spread = 0.0
    for _ in range(DRAWS):
        truth = np.minimum(np.searchsorted(common, rng.random(votes.items)), votes.classes - 1)
        row = matrix[votes.reviewer, truth[votes.item]]
        label = (rng.random((len(row), 1)) > row[:, :-1]).sum(axis=1)
        spread += float(alike_shares(votes, label).var()) / DRAWS
    if spread <= 0:
        return 0.0
    ratio = float(seen.var()) / spread
    return float(np.clip((UNEVEN - ratio) / (UNEVEN - EVEN), 0.0, 1.0))


def some_items(votes: Votes) -> Votes:
    """The first vote of each reviewer on an item, on a few thousand items numbered anew."""
    items = min(votes.items, MOST_ITEMS)
    chosen = np.linspace(0, max(votes.items - 1, 0), items).astype(np.int64)
    place = np.full(votes.items, -1)
    place[chosen] = np.arange(items)
    pair = votes.item * max(votes.reviewers, 1) + votes.reviewer
    on = np.sort(np.unique(pair, return_index=True)[1])
    on = on[place[votes.item[on]] >= 0]
    item, who, label = place[votes.item[on]], votes.reviewer[on], votes.label[on]
    return Votes(item, who, label, items, votes.reviewers, votes.classes)


def alike_shares(votes: Votes, label: Int64) -> Float64:
    """The share of pairs of votes on an item that are alike, of each item with two votes or more.

    Shapes: label (votes,), in place of the votes' own; the result (items with pairs,).
    """
    cell = votes.item * votes.classes + label
    count = np.bincount(cell, minlength=votes.items * votes.classes)
    table = count.reshape(votes.items, votes.classes).astype(np.float64)
    many = table.sum(axis=1)
    pairs = many > 1
    table, many = table[pairs], many[pairs]
    return np.asarray((table * (table - 1)).sum(axis=1) / (many * (many - 1)), np.float64)
