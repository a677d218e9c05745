"""Impact: what an item was worth, an expert's rate of it, and who is probably at the top."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from matching.problem import Float64, Int64
from matching.votes import VotesInvalid, checked_index

DRAWS = 2000
"""Draws from the posterior of rates that places are counted in."""

TOP_SHARE = 0.1
"""The share of experts that is called the top."""

HALF_LIVES = (5.0, 10.0, 30.0, 100.0, np.inf)
"""Own attempts after which an expert's past counts half, tried beside each other."""

POOL_HALF_LIVES = (50.0, 200.0, np.inf)
"""Attempts of anybody after which the common past counts half."""

STRENGTHS = (1.0, 3.0, 8.0, 20.0, 60.0)
"""Attempts that the common rate counts for in an expert's own."""

MEMORY = 500.0
"""Attempts after which a filter's past surprise counts half in its weight."""

MEMORIES = 2 * len(HALF_LIVES)
"""Numbers that are kept of each expert."""

STATE = len(POOL_HALF_LIVES) * (2 + len(HALF_LIVES) * len(STRENGTHS))
"""Numbers that are kept of all of them together."""


class CreditInvalid(VotesInvalid):
    """An array of credits breaks its contract; says which array, where, and how."""


def item_credit(
    validity: Float64, novelty: Float64, level_weight: Float64, lift: Float64 | None = None
) -> Float64:
    """What each item was worth: validity x novelty x weight of its level x (1 + lift).

    Validity, not the model's fooling, is the base: who fools a model with what does not hold
    earns nothing by it. Lift is what the lab reported of training on the item, nought unknown;
    below -1 it would turn credit into debt, and is cut there.

    Shapes: all (items,). Units: validity, novelty probabilities or shares; level_weight and lift
        relative to one.
    Raises: CreditInvalid.
    """
    share = {"validity": validity, "novelty": novelty}
    for name, values in share.items():
        checked_numbers(name, values, low=0.0, high=1.0)
    checked_numbers("level_weight", level_weight, low=0.0)
    gain: Float64 = np.zeros(len(validity)) if lift is None else np.asarray(lift, np.float64)
    checked_numbers("lift", gain)
    lengths = {len(validity), len(novelty), len(level_weight), len(gain)}
    if len(lengths) > 1:
        raise CreditInvalid("lift", None, f"arrays differ in length: {sorted(lengths)}")
    worth = np.asarray(validity) * novelty * level_weight * np.maximum(1 + gain, 0.0)
    return np.asarray(worth, np.float64)


def novelty(
    items: int, earlier: Int64, later: Int64, likeness: Float64, *, alike: float = 0.0
) -> Float64:
    """1 less the greatest likeness to an earlier item, shape (items,).

    The first of a row of near-duplicates keeps its credit and the others lose theirs, whoever
    made them. Likeness up to `alike` is what any two items of a task have, and costs nothing.

    Shapes: earlier, later (pairs,) items, earlier handed in before later; likeness (pairs,).
    Units: likeness and alike shares, in [0, 1].
    Raises: CreditInvalid, VotesInvalid.
    """
    first = checked_index("earlier", earlier, items)
    second = checked_index("later", later, items)
    near = checked_numbers("likeness", likeness, low=0.0, high=1.0)
    if not 0 <= alike < 1:
        raise CreditInvalid("alike", None, f"{alike} is not in [0, 1)")
    if not len(first) == len(second) == len(near):
        raise CreditInvalid("likeness", None, "earlier, later, likeness differ in length")
    nearest = np.zeros(items)
    np.maximum.at(nearest, second, np.maximum((near - alike) / (1 - alike), 0.0))
    return 1.0 - nearest


@dataclass(frozen=True, eq=False)
class Rates:
    """Each expert's rate of credit per attempt, as it is now.

    Shapes: mean, sd, attempts (experts,).
    Units: mean and sd in credit an attempt; attempts in what they still count for.
    """

    mean: Float64
    sd: Float64
    attempts: Float64


class ExpertRate:
    """Rates of experts who change, each drawn to a common rate that changes too.

    A bank of filters with different memories and strengths runs over the attempts in order; each
    filter is weighed by how well it told the next attempt from those before it, so that neither a
    raw rate, nor the common one, nor an old one is believed beyond what it earned. One is fitted
    for each domain.

    What `fit` and `observe` learn: `weight_` (filters,); `rates()` reads the present. `state` and
    `memory` are all that it rests on, so that it can be put away and go on for one expert.
    Source: Beta-Binomial shrinkage with exponential forgetting, West, Harrison, Bayesian
        Forecasting and Dynamic Models (1997), section 14.4; weights by prequential score, Dawid,
        JRSS A 147 (1984).
    """

    def __init__(self, experts: int, *, most: float = 1.0) -> None:
        if not (experts >= 0 and np.isfinite(most) and most > 0):
            raise CreditInvalid("most", None, "experts from nought and most above it are needed")
        self.experts = experts
        self.most = most
        # Filters are (own memory, common memory, strength), in this order, everywhere.
        self._forget = 0.5 ** (1.0 / np.array(HALF_LIVES))
        self._pool_forget = 0.5 ** (1.0 / np.array(POOL_HALF_LIVES))
        self._strength = np.array(STRENGTHS)
        self._sum = np.zeros((experts, len(HALF_LIVES)))
        self._count = np.zeros((experts, len(HALF_LIVES)))
        pools = len(POOL_HALF_LIVES)
        self._pool_sum, self._pool_count = np.full(pools, 0.5), np.ones(pools)
        self._score = np.zeros((len(HALF_LIVES), pools, len(STRENGTHS)))

    @classmethod
    def resumed(cls, state: Float64, memory: Float64, *, most: float = 1.0) -> ExpertRate:
        """One that goes on from what was put away, for the experts whose memory is given.

        Shapes: state (STATE,), as `state()` gave it; memory (experts, MEMORIES), from `memory()`.
        Raises: CreditInvalid.
        """
        kept = np.asarray(memory, np.float64)
        if np.shape(state) != (STATE,) or kept.ndim != 2 or kept.shape[1] != MEMORIES:
            raise CreditInvalid("state", None, "this is not what a rate's state looks like")
        made = cls(len(kept), most=most)
        pools = len(POOL_HALF_LIVES)
        made._pool_sum, made._pool_count, score = np.split(np.array(state), [pools, 2 * pools])
        made._score = score.reshape(made._score.shape)
        made._sum, made._count = np.split(kept, 2, axis=1)
        return made

    def state(self) -> Float64:
        """What is common to all experts, shape (STATE,)."""
        return np.concatenate([self._pool_sum, self._pool_count, self._score.ravel()])

    def memory(self) -> Float64:
        """What is kept of each expert, shape (experts, MEMORIES)."""
        return np.hstack([self._sum, self._count])

    def fit(self, expert: Int64, credit: Float64) -> ExpertRate:
        """Observe attempts, in the order of their time.

        Shapes: expert, credit (attempts,). Units: credit in [0, most].
        Raises: CreditInvalid, VotesInvalid.
        """
        known = checked_index("expert", expert, self.experts)
        worth = checked_numbers("credit", credit, low=0.0, high=self.most)
        if len(known) != len(worth):
            raise CreditInvalid("credit", None, "expert and credit differ in length")
        for who, what in zip(known.tolist(), worth.tolist(), strict=True):
            self.observe(who, what)
        return self

    def observe(self, expert: int, credit: float) -> float:
        """Take in one attempt; what was expected of it, before. Costs the same at any size.

        Raises: CreditInvalid.
        """
        share = credit / self.most
        if not 0 <= share <= 1 or not 0 <= expert < self.experts:
            raise CreditInvalid("credit", None, f"{credit} of {expert} is out of bounds")
        mean, _ = self._posteriors(expert)
        told = np.clip(mean, 1e-3, 1 - 1e-3)
        expected = float((self._weight() * told).sum())
        surprise = share * np.log(told) + (1 - share) * np.log1p(-told)
        self._score = self._score * 0.5 ** (1 / MEMORY) + surprise
        self._sum[expert] = self._sum[expert] * self._forget + share
        self._count[expert] = self._count[expert] * self._forget + 1
        self._pool_sum = self._pool_sum * self._pool_forget + share
        self._pool_count = self._pool_count * self._pool_forget + 1
        return expected * self.most

    @property
    def weight_(self) -> Float64:
        """How much each filter is believed, shape (filters,)."""
        return self._weight().ravel()

    def rates(self) -> Rates:
        """The present of every expert; one without attempts has the common rate, and is wide."""
        mean, count = self._every()
        weight = self.weight_
        centre = mean @ weight
        within = (mean * (1 - mean) / (count + 1)) @ weight
        between = ((mean - centre[:, None]) ** 2) @ weight
        attempts = self._count @ self._weight().sum(axis=(1, 2))
        return Rates(self.most * centre, self.most * np.sqrt(within + between), attempts)

    def draw(self, *, seed: int, draws: int = DRAWS) -> Float64:
        """Rates drawn from the posterior, shape (draws, experts), credit an attempt."""
        rng = np.random.default_rng(seed)
        chosen = rng.choice(self._score.size, draws, p=self.weight_)
        mean, count = self._every()
        a, b = mean * count, (1 - mean) * count
        picked = rng.beta(np.maximum(a[:, chosen], 1e-6), np.maximum(b[:, chosen], 1e-6))
        return np.asarray(self.most * picked.T, np.float64)

    def _weight(self) -> Float64:
        weight = np.exp(self._score - self._score.max())
        return np.asarray(weight / weight.sum(), np.float64)

    def _every(self) -> tuple[Float64, Float64]:
        """Mean and weight of each filter's Beta for each expert, shape (experts, filters)."""
        mean, count = self._posteriors(slice(None))
        shape = (self.experts, self._score.size)
        return mean.reshape(shape), count.reshape(shape)

    def _posteriors(self, which: int | slice) -> tuple[Float64, Float64]:
        """Mean and weight of each filter's Beta, shape (..., own, common, strength)."""
        common = (self._pool_sum / self._pool_count)[:, None]
        count = self._count[which][..., :, None, None] + self._strength
        total = self._sum[which][..., :, None, None] + self._strength * common
        count = np.broadcast_to(count, total.shape)
        return total / count, count


class Call(StrEnum):
    """What is said of an expert's place; never a hard list."""

    TOP = "top"
    LIKELY = "likely"
    OPEN = "open"


@dataclass(frozen=True, eq=False)
class Places:
    """Where each expert probably stands.

    Shapes: top, expected_rank (experts,); calls one for each expert.
    Units: top, the probability to be among the top share; expected_rank from 1, the best.
    """

    top: Float64
    expected_rank: Float64
    calls: tuple[Call, ...]


def places(
    draws: Float64,
    *,
    share: float = TOP_SHARE,
    surely: float = 0.8,
    likely: float = 0.5,
) -> Places:
    """Count, over draws of every expert's worth, how often each is among the top.

    Shapes: draws (draws, experts), of anything that more is better of: a rate, or what an expert
        brings in a week.
    Raises: CreditInvalid.
    """
    table = np.asarray(draws, np.float64)
    if table.ndim != 2 or len(table) == 0:
        raise CreditInvalid("draws", None, f"shape {table.shape} is not (draws, experts)")
    if not np.isfinite(table).all():
        raise CreditInvalid("draws", None, "must be finite")
    if not 0 < share <= 1:
        raise CreditInvalid("share", None, f"{share} is not in (0, 1]")
    experts = table.shape[1]
    seats = int(np.ceil(share * experts))
    # Ties are broken at random, not by who comes first.
    jitter = np.random.default_rng(0).random(table.shape)
    order = np.lexsort((jitter, -table), axis=1)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(experts)[None, :], axis=1)
    top = (rank < seats).mean(axis=0)
    calls = tuple(
        Call.TOP if chance > surely else Call.LIKELY if chance >= likely else Call.OPEN
        for chance in top
    )
    return Places(top, rank.mean(axis=0) + 1.0, calls)


def checked_numbers(
    name: str, values: Float64, *, low: float = -np.inf, high: float = np.inf
) -> Float64:
    """Finite numbers within bounds, one dimension.

    Raises: CreditInvalid.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise CreditInvalid(name, None, f"must have one dimension, has {array.ndim}")
    wrong = np.flatnonzero(~(np.isfinite(array) & (array >= low) & (array <= high)))
    if len(wrong):
        at = int(wrong[0])
        raise CreditInvalid(name, at, f"{array[at]} is not a number from {low:g} to {high:g}")
    return array
