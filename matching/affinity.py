"""How near a profile is to a task by their texts, before there is any history; and blends of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from scipy.optimize import nnls
from scipy.sparse import csr_array

from matching.assignment import totals
from matching.problem import Float64, Int32, Int64

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
"""A word: letters and digits of any script, with inner hyphens and apostrophes."""

COMMON = frozenset(
    re.findall(
        r"\w+",
        """
        a an and are as at be been but by can for from had has have how if in into is it its
        may more not of on or our such that the their them then there these they this to use
        used using was we were what when where which while who will with you your
        """,
    )
)
"""Words of English that say nothing of a field; in other languages rarity alone decides."""

NEAREST = 3
"""Pieces of a profile whose likeness to a task is averaged, the nearest ones."""


class Encoder(Protocol):
    """A way to turn texts into vectors; an embedding model from outside is one of these.

    Vectors have length one or nought, and their inner product is the likeness of two texts.
    """

    def fit(self, texts: Sequence[str]) -> Encoder:
        """Learn from the texts at hand; a model that is trained already has nothing to do."""
        ...

    def encode(self, texts: Sequence[str]) -> csr_array:
        """A row for each text, shape (texts, dimensions)."""
        ...


class TfIdf:
    """Words and pairs of neighbouring words, weighed by how rare they are; needs no model.

    What `fit` learns: `vocabulary_`, a column for each term; `rarity_` (terms,) float64, its
    inverse document frequency, unitless.
    Source: Salton, Buckley, Information Processing and Management 24 (1988); tf is 1 + ln count,
        idf is 1 + ln((1 + texts) / (1 + texts with the term)).
    """

    def __init__(self, *, pairs: bool = True, least_texts: int = 1) -> None:
        self.pairs = pairs
        self.least_texts = least_texts
        self.vocabulary_: dict[str, int] = {}
        self.rarity_: Float64 = np.zeros(0)

    def fit(self, texts: Sequence[str]) -> TfIdf:
        """Learn the terms of these texts and how rare each is."""
        seen: Counter[str] = Counter()
        for text in texts:
            seen.update(set(self._terms(text)))
        known = sorted(term for term, count in seen.items() if count >= self.least_texts)
        self.vocabulary_ = {term: column for column, term in enumerate(known)}
        within = np.array([seen[term] for term in known], np.float64)
        self.rarity_ = 1 + np.log((1 + len(texts)) / (1 + within))
        return self

    def encode(self, texts: Sequence[str]) -> csr_array:
        """Rows of length one; a text without a known term is a row of noughts."""
        start, column, weight = [0], [], []
        for text in texts:
            count = Counter(term for term in self._terms(text) if term in self.vocabulary_)
            columns = [self.vocabulary_[term] for term in count]
            row = (1 + np.log(np.array(list(count.values()), np.float64))) * self.rarity_[columns]
            length = float(np.sqrt((row**2).sum()))
            column += columns
            weight.append(row / length if length else row)
            start.append(len(column))
        data = np.concatenate(weight) if weight else np.zeros(0)
        size = (len(texts), len(self.vocabulary_))
        return csr_array((data, np.array(column, np.int64), np.array(start, np.int64)), shape=size)

    def _terms(self, text: str) -> list[str]:
        words = [word for word in WORD.findall(text.lower()) if word not in COMMON]
        if not self.pairs:
            return words
        return words + [f"{one} {two}" for one, two in pairwise(words)]


class Affinity:
    """Likeness of profiles and tasks: the mean over the nearest pieces of each profile.

    A profile is several pieces of text (headline, degrees, papers, past work); somebody who wrote
    three papers on the subject of a task is near it, whatever else they did.
    """

    def __init__(self, encoder: Encoder | None = None, *, nearest: int = NEAREST) -> None:
        self.encoder: Encoder = TfIdf() if encoder is None else encoder
        self.nearest = nearest

    def fit(self, profiles: Sequence[Sequence[str]], tasks: Sequence[str]) -> Affinity:
        """Let the encoder learn from all texts."""
        self.encoder.fit([*(piece for profile in profiles for piece in profile), *tasks])
        return self

    def of_pairs(
        self,
        profiles: Sequence[Sequence[str]],
        tasks: Sequence[str],
        expert: Int32,
        task: Int32,
    ) -> Float64:
        """The likeness of each listed pair, from 0 to 1; nought where a text says nothing.

        Shapes: expert, task and the result (pairs,); indices of profiles and tasks.
        """
        first = np.concatenate([[0], np.cumsum([len(profile) for profile in profiles])])
        pieces = self.encoder.encode([piece for profile in profiles for piece in profile])
        wanted = self.encoder.encode(tasks)
        count = (first[1:] - first[:-1])[expert]
        pair = np.repeat(np.arange(len(expert)), count)
        step = np.arange(len(pair)) - np.repeat(np.cumsum(count) - count, count)
        piece = first[expert][pair] + step
        near = np.asarray((pieces[piece] * wanted[task[pair]]).sum(axis=1)).ravel()
        order = np.lexsort((-near, pair))
        rank = np.arange(len(pair)) - np.searchsorted(pair, pair)
        kept = order[rank < self.nearest]
        total = totals(pair[kept], near[kept], len(expert))
        mean = total / np.maximum(np.minimum(count, self.nearest), 1)
        return np.asarray(np.clip(mean, 0.0, 1.0), np.float64)


class Blend:
    """Several signals of one thing as one, by weights that are not negative.

    What `fit` learns: `centre_`, `spread_`, `weight_` (signals,) float64 and `offset_`, in the
    unit of the target.
    Source: ridge regression under non-negativity (Lawson, Hanson 1974, for the solver).
    """

    def __init__(self, *, ridge: float = 10.0) -> None:
        self.ridge = ridge
        self.centre_: Float64 = np.zeros(0)
        self.spread_: Float64 = np.zeros(0)
        self.weight_: Float64 = np.zeros(0)
        self.offset_ = 0.0

    def fit(self, signals: Float64, target: Float64, group: Int64 | None = None) -> Blend:
        """Learn the weights; with groups (experts), from differences within each of them.

        Who rates high rates everything high; within an expert that cancels.

        Shapes: signals (pairs, signals), target (pairs,), group (pairs,).
        """
        self.centre_, self.spread_ = signals.mean(axis=0), np.maximum(signals.std(axis=0), 1e-12)
        x, y = (signals - self.centre_) / self.spread_, target - target.mean()
        if group is not None:
            _, at = np.unique(group, return_inverse=True)
            size = np.bincount(at)
            y = y - (totals(at, y, len(size)) / size)[at]
            for n in range(x.shape[1]):
                x[:, n] -= (totals(at, x[:, n], len(size)) / size)[at]
        wide = np.vstack([x, np.sqrt(self.ridge) * np.eye(x.shape[1])])
        self.weight_ = np.asarray(nnls(wide, np.concatenate([y, np.zeros(x.shape[1])]))[0])
        self.offset_ = float(target.mean())
        return self

    def predict(self, signals: Float64) -> Float64:
        """The blend of each pair, in the unit of the target, shape (pairs,)."""
        blended: Float64 = self.offset_ + ((signals - self.centre_) / self.spread_) @ self.weight_
        return blended


class Calibration:
    """From a likeness to what it has meant: the mean outcome, never falling as likeness rises.

    What `fit` learns: `edge_` and `level_` (steps,) float64, in the units of signal and outcome.
    Source: pool adjacent violators; Ayer et al., Annals of Mathematical Statistics 26 (1955).
    """

    def __init__(self) -> None:
        self.edge_: Float64 = np.zeros(0)
        self.level_: Float64 = np.zeros(0)

    def fit(self, signal: Float64, outcome: Float64) -> Calibration:
        """Learn the steps from pairs whose outcome is known."""
        if not len(signal):
            raise ValueError("nothing to calibrate on")
        edge, at = np.unique(signal, return_inverse=True)
        weight = np.bincount(at).astype(np.float64)
        mean = totals(at, outcome, len(edge)) / weight
        # Each pool: its mean, its weight, and how many edges are in it.
        pools: list[tuple[float, float, int]] = []
        for one, size in zip(mean.tolist(), weight.tolist(), strict=True):
            level, mass, width = one, size, 1
            while pools and pools[-1][0] >= level:
                before, heavy, many = pools.pop()
                level = (before * heavy + level * mass) / (heavy + mass)
                mass, width = mass + heavy, width + many
            pools.append((level, mass, width))
        self.edge_ = edge
        self.level_ = np.repeat([pool[0] for pool in pools], [pool[2] for pool in pools])
        return self

    def predict(self, signal: Float64) -> Float64:
        """The outcome to expect of each likeness; straight lines between the steps."""
        return np.asarray(np.interp(signal, self.edge_, self.level_), np.float64)
