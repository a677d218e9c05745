"""How unlike the texts of a set are by their signatures, and which are near-copies."""

import random

import numpy as np
import pytest

from matching.duplicates import (
    near_copies,
    shingles,
    signatures,
    spread_of_signatures,
    with_words,
)
from matching.graded import spread_of_set

LETTERS = "aaabcdeeeeffghiiijklmnnooopprrssttuuvwxy      "


def written(seed: int, letters: int = 240) -> str:
    """A text of its own, as like another as chance makes it."""
    return "".join(random.Random(seed).choices(LETTERS, k=letters))


def test_the_spread_by_signatures_is_that_of_all_pairs() -> None:
    texts = [written(seed % 7) + f" and line {seed}" for seed in range(30)]
    table = signatures([shingles(text) for text in texts])
    likeness = (table[:, None, :] == table[None]).mean(axis=2)
    assert spread_of_signatures(table) == pytest.approx(spread_of_set(likeness), abs=1e-12)
    assert spread_of_signatures(table[:1]) == 1.0
    assert spread_of_signatures(table[[0, 0, 0]]) == 0.0


def test_near_copies_stand_in_the_group_of_the_first_and_others_alone() -> None:
    first, second = written(1), written(2)
    texts = [first, second, f"{first} again", written(3), f"{second} more", f"a {first} again"]
    table = signatures([shingles(text) for text in texts])
    assert near_copies(table).tolist() == [0, 1, 0, 3, 1, 0]
    assert near_copies(table[:0]).tolist() == []


def test_a_text_without_words_is_like_nothing() -> None:
    table = signatures([shingles(text) for text in ("", " ?! ", "word")])
    assert with_words(table).tolist() == [False, False, True]
    assert np.array_equal(table[0], table[1])
