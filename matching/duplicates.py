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
