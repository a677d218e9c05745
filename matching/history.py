"""What a subject did before, as features of its next answer; constant time for each answer."""

from __future__ import annotations

from math import log1p

import numpy as np

from matching.problem import Float64
from matching.responses import Responses

FEATURES = 16
"""Columns that `History.look` returns."""

BLOCK = 65_536
"""Rows whose features are made before they are written down."""

KEEP, KEEP_PAIR = 0.9, 0.7
"""Share of the running residual that one more answer leaves, of a subject and of a pair."""


class History:
    """Counts, recency and the last two answers of each subject, alone and with an item or group.

    What is wanted of an item is its expected outcome, `expected`, so that a success on an easy
    item counts for less. Where hardly anybody meets an item twice, `has_pair` is false, and pairs
    are not kept: they would be as many as the rows.

    Source: best-LR with recency; Gervet, Koedinger, Schneider, Mitchell, Journal of Educational
        Data Mining 12 (2020).
    """

    def __init__(
        self, expected: dict[int, float], usual: float, pause: float, *, has_pair: bool = True
    ) -> None:
        self.has_pair = has_pair
        self.expected = expected
        self.usual = usual
        self.pause = pause
        # Of each subject: successes, failures, running residual, last, one before, item, time.
        self.subject: dict[int, list[float]] = {}
        self.pair: dict[tuple[int, int], list[float]] = {}
        self.domain: dict[tuple[int, int], list[float]] = {}

    def look(self, subject: int, item: int, group: int, time: float) -> tuple[float, ...]:
        """The features of an answer that is about to be given; unitless."""
        mine = self.subject.get(subject)
        if mine is None:
            return (0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
        pair = self.pair.get((subject, item)) if self.has_pair else None
        domain = self.domain.get((subject, group)) if group != -1 else None
        good, bad, form, last, before, last_item, then = mine
        same = 1.0 if last_item == item else 0.0
        gap = time - then
        own_good, own_bad, own_form, is_first = 0.0, 0.0, 0.0, 1.0
        if pair is not None:
            own_good, own_bad, own_form = pair
            own_good, own_bad, is_first = log1p(own_good), log1p(own_bad), 0.0
        there_good, there_bad, there_form = 0.0, 0.0, 0.0
        if domain is not None:
            there_good, there_bad, there_form = domain
            there_good, there_bad = log1p(there_good), log1p(there_bad)
        return (
            log1p(good),
            log1p(bad),
            own_good,
            own_bad,
            is_first,
            form,
            own_form,
            last,
            last * same,
            before,
            same,
            log1p(gap / self.pause) if gap > 0.0 else 0.0,
            there_good,
            there_bad,
            there_form,
            0.0,
        )

    def learn(self, subject: int, item: int, group: int, time: float, outcome: float) -> None:
        """Take in how an answer ended."""
        miss = outcome - self.expected.get(item, self.usual)
        mine = self.subject.get(subject)
        if mine is None:
            self.subject[subject] = [outcome, 1 - outcome, 0.3 * miss, miss, 0.0, item, time]
        else:
            mine[0] += outcome
            mine[1] += 1 - outcome
            mine[2] = KEEP * mine[2] + 0.3 * miss
            mine[4] = mine[3]
            mine[3] = miss
            mine[5] = item
            mine[6] = time
        if self.has_pair:
            pair = self.pair.get((subject, item))
            if pair is None:
                self.pair[subject, item] = [outcome, 1 - outcome, 0.5 * miss]
            else:
                pair[0] += outcome
                pair[1] += 1 - outcome
                pair[2] = KEEP_PAIR * pair[2] + 0.5 * miss
        if group != -1:
            domain = self.domain.get((subject, group))
            if domain is None:
                self.domain[subject, group] = [outcome, 1 - outcome, 0.3 * miss]
            else:
                domain[0] += outcome
                domain[1] += 1 - outcome
                domain[2] = KEEP * domain[2] + 0.3 * miss

    def tally(self, subject: int, outcome: float) -> None:
        """Take in how an answer ended, for its subject's successes and failures alone."""
        mine = self.subject.get(subject)
        if mine is None:
            self.subject[subject] = [outcome, 1 - outcome, 0.0, 0.0, 0.0, -1, 0.0]
        else:
            mine[0] += outcome
            mine[1] += 1 - outcome

    def count(self, rows: Responses) -> None:
        """`tally` of all rows at once, on a history that knows nobody."""
        code, at = np.unique(rows.subject, return_inverse=True)
        good = np.bincount(at, rows.outcome, len(code))
        bad = np.bincount(at, minlength=len(code)) - good
        for key, hits, misses in zip(code.tolist(), good.tolist(), bad.tolist(), strict=True):
            self.subject[key] = [hits, misses, 0.0, 0.0, 0.0, -1, 0.0]

    def copied(self) -> History:
        """A history with the same past, which may go on differently."""
        other = History(self.expected, self.usual, self.pause, has_pair=self.has_pair)
        other.subject = {key: list(held) for key, held in self.subject.items()}
        other.pair = {key: list(held) for key, held in self.pair.items()}
        other.domain = {key: list(held) for key, held in self.domain.items()}
        return other

    def walk(self, rows: Responses, table: Float64) -> None:
        """Write the features of every row, each looked at before it is learned.

        Shapes: table (rows, FEATURES), of any precision.
        """
        columns = (rows.subject, rows.item, rows.group, rows.time, rows.outcome)
        for begin in range(0, len(rows), BLOCK):
            part = slice(begin, begin + BLOCK)
            seen: list[tuple[float, ...]] = []
            # A part at a time, since numbers of Python's are four times as large.
            for u, i, g, t, y in zip(*(column[part].tolist() for column in columns), strict=True):
                seen.append(self.look(u, i, g, t))
                self.learn(u, i, g, t, y)
            table[part] = seen


def usual_pause(rows: Responses) -> float:
    """The middle of the times between two answers of one subject, days; one where there is none."""
    order = np.lexsort((rows.time, rows.subject))
    step = np.diff(rows.time[order])[np.diff(rows.subject[order]) == 0]
    step = step[step > 0]
    return float(np.median(step)) if len(step) else 1.0
