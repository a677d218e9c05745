"""What recorded pace says about time to come, with an interval; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LOOKED_BACK_D = 28
"""How many days of the record a forecast rests on."""

LIKELIHOOD = 0.8
"""How likely the time that comes lies in a forecast's interval, if the pace stays."""

LONGEST_D = 3650
"""A forecast does not look further; what lies beyond has no upper end."""

PRIOR = 0.5
"""What Jeffreys' prior for the rate of a Poisson process adds to its count."""


@dataclass(frozen=True, slots=True)
class Interval:
    """How long something takes: as long as not, and the ends of the interval; an open end is None.

    Units: days.
    """

    median_d: float
    low_d: float
    high_d: float | None


def time_for(
    wanted: int, daily: Sequence[int], *, share: float = 1.0, least_d: float = 0.0
) -> Interval | None:
    """How long it takes until so many more events have come, at the pace of the days recorded; none
    where nothing was. With a share, only one event in so many counts, whichever it is.

    The number of events of a day is taken as Poisson's, its rate as unknown; days that differ more
    than that widen the interval as far as they do. `least_d` is what it takes in any case.

    Source: the predictive distribution of a gamma process whose rate is gamma distributed is a beta
        prime distribution (Bernardo and Smith, Bayesian Theory, 1994, section 3.2); the division of
        counts by their dispersion is quasi-likelihood (Wedderburn, Biometrika 61, 1974).
    """
    seen = sum(daily) * share
    if wanted < 1 or seen == 0:
        return None
    # What is picked from a process at random is nearer to Poisson's by as much as is left out.
    spread = 1 + share * (dispersion(daily) - 1)
    low, median, high = (
        _quantile(wanted / spread, (seen + PRIOR) / spread, q) * len(daily)
        for q in ((1 - LIKELIHOOD) / 2, 0.5, (1 + LIKELIHOOD) / 2)
    )
    return Interval(
        median_d=max(median, least_d),
        low_d=max(low, least_d),
        high_d=None if high > LONGEST_D else max(high, least_d),
    )


def dispersion(daily: Sequence[int]) -> float:
    """How much more counts of days differ than Poisson's would: their variance by their mean, and 1
    at least.
    """
    if len(daily) < 2 or not sum(daily):
        return 1.0
    counts = np.array(daily, np.float64)
    return max(1.0, float(counts.var(ddof=1) / counts.mean()))


def _quantile(wanted: float, seen: float, q: float) -> float:
    # Few ask for a forecast, and every process would load it.
    from scipy.special import betaincinv

    share = float(betaincinv(wanted, seen, q))
    return share / (1 - share) if share < 1 else float("inf")


def least_days(work_s: int, weekly_hours: int) -> float | None:
    """How long work takes if all hours of a week go to it; none where there are no hours.

    Units: seconds; hours; days.
    """
    return None if weekly_hours <= 0 else 7 * work_s / 3600 / weekly_hours


def seats_paid(free_minor: int, cost_minor: int, seats: int) -> int:
    """How many of so many seats a sum pays for, if all together cost this much."""
    if cost_minor <= 0:
        return seats
    return min(seats, free_minor * seats // cost_minor)
