"""When a domain has work for one more expert, and what whoever is taken on is promised; pure.

Room is what forecast work leaves beside the hours of those who are there already. The work of a
week is what waits, spread over the horizon, and what comes in: the low end of what the record
promises, because a forecast that is too high leaves people without work, and one that is too low
makes them wait a little longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import numpy as np

from market.errors import MarketError
from market.states import Machine, Move

ADMISSION = Machine(
    "admission",
    ("waiting",),
    (
        Move("admit", ("waiting",), "admitted"),
        Move("leave", ("waiting",), "left"),
        # The test is passed: from now on work is to be offered.
        Move("onboard", ("admitted",), "onboarded"),
        # The test was not passed or not taken, or the expert may not be offered work any more.
        Move("lapse", ("admitted", "onboarded"), "lapsed"),
        Move("serve", ("admitted", "onboarded"), "served"),
        Move("compensate", ("onboarded",), "compensated"),
    ),
)

OPEN = ("waiting", "admitted", "onboarded")
"""The states of which a person has at most one in a domain."""

RECORD_D = 28
"""How many days of incoming work a forecast rests on."""

LOW_QUANTILE = 1.2815515655446004
"""The quantile of the normal distribution that leaves a tenth above it."""

MIN_REASON = 40
"""Characters that an admission out of its turn, and new terms, need."""

MAX_MINOR = 10**7


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Under what people are taken on.

    Units: `load` a share of the forecast work that hours may be promised for; `horizon_d` days
        over which waiting work is spread; `within_d` days in which first work is offered, from the
        day the test is passed; `guarantee_s` seconds at the published rate of tests, or `fee_minor`
        minor units instead; `budget_minor` the most that may be promised at once, in each
        currency; `pass_score` per cent of the test.
    """

    load: float = 0.9
    horizon_d: int = 28
    within_d: int = 14
    guarantee_s: int = 7200
    fee_minor: int = 0
    budget_minor: int = 1_000_000
    pass_score: int = 70


def check_terms(terms: Terms) -> None:
    """Refuse terms that cannot be what somebody means.

    Raises:
        AdmissionUnfit.
    """
    demands = (
        ("load", 0.1 <= terms.load <= 1.0, "0.1 to 1"),
        ("horizon_d", 7 <= terms.horizon_d <= 182, "7 to 182"),
        ("within_d", 1 <= terms.within_d <= 90, "1 to 90"),
        ("guarantee_s", 0 <= terms.guarantee_s <= 40 * 3600, "0 to 144000"),
        ("fee_minor", 0 <= terms.fee_minor <= MAX_MINOR, f"0 to {MAX_MINOR}"),
        (
            "fee_minor",
            (terms.fee_minor > 0) != (terms.guarantee_s > 0),
            "given where no guarantee_s is, and only there: hours or a fee",
        ),
        ("budget_minor", 0 < terms.budget_minor <= 10**10, "1 to 10000000000"),
        ("pass_score", 1 <= terms.pass_score <= 100, "1 to 100"),
    )
    for field, is_met, wanted in demands:
        if not is_met:
            raise AdmissionUnfit(field, wanted)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Work and hands in a domain.

    Units: seconds; `daily_s` work that came in on each day of the record, the oldest first;
        `capacity_s` a week. `counted` are the admissions under way that it holds.
    """

    backlog_s: int
    daily_s: tuple[int, ...]
    experts: int
    capacity_s: int
    counted: frozenset[UUID] = frozenset()

    def work_s(self, horizon_d: int) -> float:
        """The work of a week: what waits, spread over the horizon, and what surely comes in.

        Units: seconds.
        """
        return 7 * (self.backlog_s + low_sum(self.daily_s, horizon_d)) / horizon_d

    def room_s(self, terms: Terms) -> float:
        """The weekly seconds for which there is work and nobody yet; below nought, too many."""
        return terms.load * self.work_s(terms.horizon_d) - self.capacity_s


def low_sum(daily: Sequence[int], days: int) -> float:
    """What the next days bring together with nine chances in ten, if they are as those recorded.

    Source: Hahn and Meeker, Statistical Intervals (1991), section 4.8: the variance of a sum to
    come and that of the mean which predicts it.
    """
    counts = np.array(daily, np.float64)
    if len(counts) < 2:
        return 0.0
    spread = counts.std(ddof=1) * np.sqrt(days * (1 + days / len(counts)))
    return max(0.0, float(days * counts.mean() - LOW_QUANTILE * spread))


def due_within(terms: Terms) -> timedelta:
    """How long after its test was passed an expert waits for its first offer at most."""
    return timedelta(days=terms.within_d)


class AdmissionNotFound(MarketError):
    """No admission that the caller may see has this id."""

    def __init__(self, admission_id: UUID) -> None:
        super().__init__("there is no such admission")
        self.admission_id = admission_id


class AlreadyApplied(MarketError):
    """A second application for a domain in which one is open, or that one is qualified in."""

    def __init__(self, state: str) -> None:
        super().__init__(f"your admission to this domain is {state} already")
        self.state = state


class AdmissionUnfit(MarketError):
    """An application, terms or a reason with a field that does not fit."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field
