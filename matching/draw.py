"""One plan drawn from probabilities: each pair has its chance, and each draw keeps the seats."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from matching.flow import Seats
from matching.problem import Bool, Int64
from matching.spread import LEVELS, UNIT


def draw(seats: Seats, units: Int64, open_units: Int64, seed: int) -> Bool:
    """A choice in which each pair is taken with exactly its probability.

    Probabilities are whole units of a power of a half. In each round the pairs with an odd number
    of units are taken along closed trails, and every other one is rounded up and the rest down,
    or the reverse, by the toss of a coin; then all are even and are halved. A task keeps its sum
    in each round, and so does an expert, once idle and open seats count as pairs too. So no draw
    fills a task or an expert beyond their seats.

    Shapes: units (pairs,), open_units (tasks,) int64; the result (pairs,) bool.
    Source: dependent rounding; Gandhi, Khuller, Parthasarathy, Srinivasan, JACM 53 (2006).
        Rounding by bits along Euler trails is the scaling form of it.
    """
    rng = np.random.default_rng(seed)
    on = np.flatnonzero(units)
    idle = seats.capacity * UNIT
    np.subtract.at(idle, seats.expert[on], units[on])
    # One task stands for all idle seats, and one expert for all open ones.
    nobody, nothing = seats.experts, seats.tasks
    free, open_to = np.flatnonzero(idle), np.flatnonzero(open_units)
    rest = int(-open_units.sum()) % UNIT
    left = np.concatenate([seats.task[on], np.full(len(free), nothing), open_to, [nothing]])
    right = np.concatenate([seats.expert[on], free, np.full(len(open_to), nobody), [nobody]])
    amount = np.concatenate([units[on], idle[free], open_units[open_to], [rest]])
    for _ in range(LEVELS):
        odd = np.flatnonzero(amount & 1)
        if len(odd):
            amount[odd] += _halves(left[odd], right[odd], rng)
        amount >>= 1
    taken = np.zeros(len(units), np.bool_)
    taken[on] = amount[: len(on)] > 0
    return taken


def _halves(left: Int64, right: Int64, rng: np.random.Generator) -> Int64:
    """Plus or minus one for each edge, so that they cancel at every node.

    Every node has an even number of these edges. A closed trail in a bipartite graph has an even
    number of edges, so that signs may alternate all the way round; a coin says where it begins.
    """
    edges_of: dict[int, list[int]] = defaultdict(list)
    one, two = left.tolist(), right.tolist()
    for edge in range(len(one)):
        edges_of[one[edge]].append(edge)
        edges_of[~two[edge]].append(edge)
    sign = [0] * len(one)
    for first in range(len(one)):
        if sign[first]:
            continue
        coin = 1 if rng.random() < 0.5 else -1
        node = one[first]
        while True:
            waiting = edges_of[node]
            while waiting and sign[waiting[-1]]:
                waiting.pop()
            if not waiting:
                break
            edge = waiting.pop()
            sign[edge] = coin
            coin = -coin
            node = ~two[edge] if node >= 0 else one[edge]
    return np.array(sign, np.int64)
