"""Near-duplicates among texts, offline: shingles, MinHash, then the exact likeness of each pair."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from matching.problem import Float64, Int64, UInt64

SHINGLE = 4
"""Letters in a shingle."""

HASHES = 128
BANDS = 32
"""Hashes of a text, and bands that they are cut into: texts that share a band are compared."""

ALIKE = 0.7
"""Likeness from which two texts are near-duplicates."""

MOST_IN_A_BUCKET = 200
"""Texts of one bucket beyond which each is compared with the first ones only."""

PRIME = (1 << 31) - 1
GAPS = re.compile(r"[\W_]+")


@dataclass(frozen=True, eq=False)
class NearPairs:
    """Pairs of texts that are near-duplicates, the earlier of each first.

    Shapes: earlier, later (pairs,) places of texts; likeness (pairs,) shares of shingles.
    """

    earlier: Int64
    later: Int64
    likeness: Float64


def shingles(text: str, size: int = SHINGLE) -> frozenset[int]:
    """Hashes of all runs of letters of this length; case, marks and spaces do not count.

    A text that is shorter than a shingle is one shingle; an empty one has none.
    """
    plain = GAPS.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()
    if not plain:
        return frozenset()
    pieces = {plain[i : i + size] for i in range(max(len(plain) - size + 1, 1))}
    return frozenset(zlib.crc32(piece.encode()) for piece in pieces)


def near_duplicates(
    texts: Sequence[str], *, alike: float = ALIKE, contained: bool = True
) -> NearPairs:
    """Pairs whose shingles overlap this much; texts stand in the order they were handed in.

    `contained` also counts a text all of which is in a longer one: its likeness is the share of
    the shorter text that is found in the other, when that is at least nine tenths. Such pairs are
    only found where the shorter is not below about half of the longer: MinHash finds likeness.

    Source: Broder, Compression and Complexity of Sequences (1997); banding as in Leskovec,
        Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.
    """
    sets = [shingles(text) for text in texts]
    earlier, later, likeness = [], [], []
    for first, second in sorted(_candidates(sets)):
        near = _likeness(sets[first], sets[second], contained=contained)
        if near >= alike:
            earlier.append(first)
            later.append(second)
            likeness.append(near)
    return NearPairs(
        np.array(earlier, np.int64), np.array(later, np.int64), np.array(likeness, np.float64)
    )


def signatures(sets: Sequence[frozenset[int]], *, hashes: int = HASHES) -> UInt64:
    """The least hash of each text under each of several hash functions, shape (texts, hashes)."""
    rng = np.random.default_rng(20_240_229)
    factor = rng.integers(1, PRIME, hashes, dtype=np.uint64)
    shift = rng.integers(0, PRIME, hashes, dtype=np.uint64)
    prime = np.uint64(PRIME)
    result = np.full((len(sets), hashes), PRIME, np.uint64)
    for place, pieces in enumerate(sets):
        if pieces:
            piece = np.fromiter(pieces, np.uint64, len(pieces)) % prime
            # Both factors are below 2^31, so that no product leaves 64 bits.
            result[place] = ((piece[:, None] * factor + shift) % prime).min(axis=0)
    return result


def with_words(table: UInt64) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which signatures are of texts that have a word: an empty text has no hash at all."""
    return np.asarray((table < PRIME).all(axis=1), bool)


def spread_of_signatures(table: UInt64) -> float:
    """How unlike texts are by their signatures: 1 all different, 0 all the same.

    It is `spread_of_set` of the likeness of every pair, which is the share of equal hashes; counted
    hash by hash, so that it costs a sort and no table of pairs.

    Shapes: table (texts, hashes), as `signatures` gives it, each of a text with words.
    """
    texts, hashes = table.shape
    if texts < 2:
        return 1.0
    ordered = np.sort(table, axis=0)
    equal = 0
    for column in ordered.T:
        starts = np.flatnonzero(np.r_[True, column[1:] != column[:-1]])
        runs = np.diff(np.r_[starts, texts])
        equal += int((runs * (runs - 1)).sum())
    return 1.0 - float(equal / (hashes * texts * (texts - 1)))


def near_copies(table: UInt64, *, alike: float = ALIKE) -> Int64:
    """For each text the place of the first text of its group of near-copies; its own, if none.

    Each text of a bucket is compared with the first of that bucket, and who is like the same text
    is in one group: two texts whose only likeness stands behind unlike first ones may be missed.

    Shapes: table (texts, hashes), in the order in which the texts came; the answer (texts,).
    """
    texts, hashes = table.shape
    first = np.arange(texts, dtype=np.int64)
    rows = hashes // BANDS
    for band in range(BANDS):
        keys = np.ascontiguousarray(table[:, band * rows : (band + 1) * rows])
        _, heads, bucket = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        head = heads[bucket.reshape(-1)]
        asked = np.flatnonzero(head != np.arange(texts))
        near = (table[asked] == table[head[asked]]).mean(axis=1) >= alike
        for one, other in zip(asked[near].tolist(), head[asked[near]].tolist(), strict=True):
            low, high = sorted((_root(first, one), _root(first, other)))
            first[high] = low
    return np.array([_root(first, place) for place in range(texts)], np.int64)


def _root(first: Int64, place: int) -> int:
    while first[place] != place:
        first[place] = first[first[place]]
        place = int(first[place])
    return place


def _candidates(sets: Sequence[frozenset[int]]) -> set[tuple[int, int]]:
    """Pairs that share a band of their signatures; empty texts are like nothing."""
    table = signatures(sets)
    rows = table.shape[1] // BANDS
    found: set[tuple[int, int]] = set()
    for band in range(BANDS):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for place, key in enumerate(table[:, band * rows : (band + 1) * rows]):
            if sets[place]:
                buckets[key.tobytes()].append(place)
        for places in buckets.values():
            head, rest = places[:MOST_IN_A_BUCKET], places[MOST_IN_A_BUCKET:]
            found.update(combinations(head, 2))
            found.update((head[0], place) for place in rest)
    return found


def _likeness(one: frozenset[int], other: frozenset[int], *, contained: bool) -> float:
    shared = len(one & other)
    jaccard = shared / len(one | other)
    if contained and min(len(one), len(other)) >= 2 * SHINGLE:
        inside = shared / min(len(one), len(other))
        if inside >= 0.9:
            return max(jaccard, inside)
    return jaccard
