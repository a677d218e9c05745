"""How many people each task has on its list, and how much of its words a profile shares; pure."""

import numpy as np

from matching.problem import Float64, Int32

SMALL_DOMAIN = 256
"""Experts up to which all who fit a task's domain are its candidates."""

BEST = 64
"""Candidates that a task of a larger domain has for their measured skill."""

NEAREST = 32
"""Candidates that it has for what their profiles say."""

SPREAD = 32
"""Candidates that it has in turn, so that every expert is a candidate of as many tasks as another,
and no seat stays open because all tasks look at the same few."""

TELLING_WORDS = 8
"""Words of a task that a profile has to share to be as near as can be."""

PAIRS_AT_ONCE = 200_000
"""Pairs whose words are looked at together, so that memory stays small."""


def shared_words(
    task: Int32, expert: Int32, said: tuple[Int32, Int32], held: tuple[Int32, Int32]
) -> Float64:
    """How many words the task and the expert of each pair have in common.

    Shapes: task, expert, and what is returned (pairs,); said, held (rows,) each: tasks or experts,
        and their words.
    """
    if not len(held[0]):
        return np.zeros(len(task))
    words = int(max(said[1].max(), held[1].max())) + 1
    rows_of_task = np.argsort(said[0], kind="stable")
    start = np.searchsorted(said[0][rows_of_task], np.arange(task.max(initial=0) + 2))
    word = said[1][rows_of_task].astype(np.int64)
    known = np.sort(held[0].astype(np.int64) * words + held[1])
    shared = np.zeros(len(task))
    for first in range(0, len(task), PAIRS_AT_ONCE):
        part = slice(first, first + PAIRS_AT_ONCE)
        begins, counts = start[task[part]], start[task[part] + 1] - start[task[part]]
        pair = np.repeat(np.arange(len(counts)), counts)
        # The place of each row among its pair's rows, counted from the pair's first word.
        place = np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)
        key = expert[part][pair].astype(np.int64) * words + word[begins[pair] + place]
        at = np.minimum(np.searchsorted(known, key), len(known) - 1)
        shared[part] = np.bincount(pair, known[at] == key, len(counts))
    return shared
