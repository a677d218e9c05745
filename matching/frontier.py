"""Where a target model stands: stump rates by level, and levels that run dry.

tracker = FrontierTracker()
cell = tracker.open()                          # one domain, level and target model
alarm = tracker.observe(cell, stumped=1.0, at=2.5)
tracker.rate(cell, at=3.0)                     # with its interval

What comes next, when a level has run dry, is for `complexity.propose_level` to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from scipy.special import expit, ndtri

from matching.arrays import ArrayInvalid, number_within

FALLS = (0.6, 0.4, 0.2)
"""What a level's rate may have fallen to, as shares of its opening rate."""

LEAST_CURVATURE = 0.01
PROBIT = math.pi / 8


@dataclass(frozen=True, slots=True)
class Rate:
    """A level's stump rate at one time, with the interval of its log-odds.

    Units: mean, low, high a share of attempts; logit and sd in logits; attempts counted with
        their weights; opening the rate of the level's first attempts, None before there are enough.
    """

    mean: float
    low: float
    high: float
    logit: float
    sd: float
    attempts: float
    opening: float | None


@dataclass(frozen=True, slots=True)
class Alarm:
    """A level's rate has fallen to the share of its opening rate that was asked about, or less.

    Units: evidence an e-value against "as at the opening"; where the detector raised the alarm,
        on the scale on which its limit is the threshold; attempts all of the cell so far.
    """

    cell: int
    evidence: float
    rate: float
    opening: float
    attempts: float
    reason: str


@dataclass(slots=True)
class _Cell:
    """What is kept of one domain, level and target model; `steps` follow from the opening: the odds
    of a stump, and of none, for each fall.
    """

    mean: float
    variance: float
    at: float
    prior_variance: float
    first: float = 0.0
    stumps: float = 0.0
    attempts: float = 0.0
    process: list[float] = field(default_factory=lambda: [0.0] * len(FALLS))
    detector: list[float] = field(default_factory=lambda: [-math.inf] * len(FALLS))
    is_alarmed: bool = False
    steps: tuple[float, tuple[tuple[float, float], ...]] | None = None


class FrontierTracker:
    """Stump log-odds by cell with drift, and an alarm that may be asked after every attempt.

    A cell is one domain, level and target model. Its rate is a Gaussian random walk in log-odds,
    updated in O(1). Its first `opening` attempts say what the level began with. Afterwards two
    statistics compare "as at the opening, or a standard error lower" with "fallen to 60, 40 or
    20 per cent of it": an e-process, which passes `threshold` with probability 1 / threshold at
    most, ever, while nothing falls; and a detector that forgets how long all was well, which
    passes `quiet` not more often than once in that many attempts.

    Units: drift in squared logits a week; prior_sd in logits; threshold an e-value; quiet in
        attempts of a cell (a quarter's worth, for one false alarm a quarter and cell).
    Source: section 1 of Särkkä, Bayesian Filtering (2013), for the update; Shin, Ramdas, Rinaldo,
        New England J. Statistics in Data Science (2023), for e-detectors of Shiryaev-Roberts kind.
    """

    def __init__(
        self,
        *,
        drift: float = 0.02,
        prior_sd: float = 1.5,
        opening: int = 30,
        threshold: float = 20.0,
        quiet: float = 60.0,
    ) -> None:
        self.drift = number_within("drift", drift, 0.0, 100.0)
        self.prior_sd = number_within("prior_sd", prior_sd, 0.01, 10.0)
        self.opening = int(number_within("opening", opening, 1, 1e6))
        self.threshold = number_within("threshold", threshold, 1.0, 1e12)
        self.quiet = number_within("quiet", quiet, 1.0, 1e12)
        self._cells: list[_Cell] = []

    def open(
        self,
        *,
        at: float = 0.0,
        logit: float = 0.0,
        sd: float | None = None,
        opening_rate: float | None = None,
    ) -> int:
        """A new cell, and its number. An opening rate that is known already spares the wait.

        Units: at in weeks; logit and sd of the prior (from the ability model, or a neighbouring
            level) in logits; opening_rate a share, taken as if from `opening` attempts.
        """
        spread = self.prior_sd if sd is None else number_within("sd", sd, 0.01, 10.0)
        number_within("logit", logit, -20.0, 20.0)
        number_within("at", at, -1e9, 1e9)
        cell = _Cell(logit, spread**2, at, spread**2)
        if opening_rate is not None:
            cell.first = self.opening
            cell.stumps = self.opening * number_within("opening_rate", opening_rate, 0.0, 1.0)
        self._cells.append(cell)
        return len(self._cells) - 1

    def observe(self, cell: int, stumped: float, *, at: float, weight: float = 1.0) -> Alarm | None:
        """Take one attempt's outcome; the alarm, when this attempt raised it.

        `stumped` may be a probability of being valid; `weight` under one counts an uncertain
        label for less. An attempt that comes late is taken as if it came now: the walk never
        goes back. An alarm is raised once, until `restart`.

        Raises: ArrayInvalid.
        """
        y = number_within("stumped", stumped, 0.0, 1.0)
        size = number_within("weight", weight, 0.0, 1.0)
        one = self._at(cell, at)
        p = 1 / (1 + math.exp(-one.mean / math.sqrt(1 + PROBIT * one.variance)))
        h = max(p * (1 - p), LEAST_CURVATURE) * max(size, 1e-9)
        gain = one.variance / (one.variance + 1 / h)
        one.mean = min(max(one.mean + gain * size * (y - p) / h, -12.0), 12.0)
        one.variance = max(one.variance * (1 - gain), 1e-9)
        one.attempts += size
        if one.first < self.opening:
            one.first += size
            one.stumps += size * y
            return None
        return self._watch(cell, one, y, size)

    def rate(self, cell: int, *, at: float, share: float = 0.9) -> Rate:
        """The cell's rate at a time, with the bounds that hold this share of belief."""
        one = self._cells[self._known(cell)]
        weeks = max(number_within("at", at, -1e9, 1e9) - one.at, 0.0)
        variance = min(one.variance + self.drift * weeks, max(one.prior_variance, one.variance))
        sd = math.sqrt(variance)
        reach = float(ndtri((1 + number_within("share", share, 0.01, 0.9999)) / 2)) * sd
        opened = one.first >= self.opening
        return Rate(
            mean=float(expit(one.mean / math.sqrt(1 + PROBIT * variance))),
            low=float(expit(one.mean - reach)),
            high=float(expit(one.mean + reach)),
            logit=one.mean,
            sd=sd,
            attempts=one.attempts,
            opening=self._opening_rate(one) if opened else None,
        )

    def kept(self, cell: int) -> list[float]:
        """All that a cell goes on from, to be put away."""
        one = self._cells[self._known(cell)]
        first = [one.mean, one.variance, one.at, one.prior_variance]
        counts = [one.first, one.stumps, one.attempts, float(one.is_alarmed)]
        # Whole numbers too are put away as floats, which is all that a column of them takes.
        return [float(number) for number in (*first, *counts, *one.process, *one.detector)]

    def take_up(self, kept: Sequence[float]) -> int:
        """A cell that goes on from what was put away, and its number.

        Raises: ArrayInvalid.
        """
        falls = len(FALLS)
        if len(kept) != 8 + 2 * falls:
            raise ArrayInvalid("kept", None, "this is not what a cell looks like")
        mean, variance, at, prior, first, stumps, attempts, alarmed = kept[:8]
        process, detector = list(kept[8 : 8 + falls]), list(kept[8 + falls :])
        self._cells.append(
            _Cell(
                mean, variance, at, prior, first, stumps, attempts, process, detector, alarmed > 0
            )
        )
        return len(self._cells) - 1

    def release(self, cell: int, *, at: float, sd: float = 1.0) -> None:
        """The model behind this cell was changed: what was known of it is less sure by this sd."""
        one = self._at(cell, at)
        one.variance += number_within("sd", sd, 0.0, 10.0) ** 2
        one.prior_variance = max(one.prior_variance, one.variance)

    def restart(self, cell: int) -> None:
        """After an alarm was dealt with: the next attempts are a new opening."""
        one = self._cells[self._known(cell)]
        one.first = one.stumps = 0.0
        one.process, one.detector = [0.0] * len(FALLS), [-math.inf] * len(FALLS)
        one.is_alarmed = False

    def _known(self, cell: int) -> int:
        if not 0 <= cell < len(self._cells):
            raise ArrayInvalid("cell", None, f"{cell} has not been opened")
        return cell

    def _at(self, cell: int, at: float) -> _Cell:
        one = self._cells[self._known(cell)]
        weeks = number_within("at", at, -1e9, 1e9) - one.at
        if weeks > 0:
            grown = one.variance + self.drift * weeks
            one.variance = min(grown, max(one.prior_variance, one.variance))
            one.at = at
        return one

    def _opening_rate(self, one: _Cell) -> float:
        return (one.stumps + 0.5) / (one.first + 1)

    def _watch(self, cell: int, one: _Cell, y: float, size: float) -> Alarm | None:
        opening = self._opening_rate(one)
        # A level has its opening for good, so that only the first of its attempts works this out.
        if one.steps is None or one.steps[0] != opening:
            # What the opening may really have been: by luck it looks better than it was.
            doubt = math.sqrt(opening * (1 - opening) / (one.first + 2))
            before = max(opening - doubt, 0.75 * opening)
            odds = [
                (fall * opening / before, (1 - fall * opening) / (1 - before)) for fall in FALLS
            ]
            one.steps = opening, tuple(odds)
        logs, sums = one.process, one.detector
        for n, (yes, no) in enumerate(one.steps[1]):
            step = math.log(1 + size * (y * yes + (1 - y) * no - 1))
            logs[n] += step
            # Shiryaev-Roberts: (R + 1) times the ratio, kept as a logarithm.
            sums[n] = step + math.log1p(math.exp(min(sums[n], 700.0)))
        process, detector = _log_mean(logs), _log_mean(sums)
        if one.is_alarmed:
            return None
        quiet = math.log(self.quiet)
        limit = math.log(self.threshold)
        if process < limit and detector < quiet:
            return None
        one.is_alarmed = True
        found = float(expit(one.mean))
        return Alarm(
            cell=cell,
            evidence=math.exp(min(max(process, detector - quiet + limit), 700.0)),
            rate=found,
            opening=opening,
            attempts=one.attempts,
            reason=f"the stump rate is about {found:.0%}; it opened at {opening:.0%}",
        )


def _log_mean(logs: list[float]) -> float:
    top = max(logs)
    return top + math.log(sum([math.exp(one - top) for one in logs]) / len(logs))
