"""Planted power laws: what the impact report finds of who is at the top, and of how steep it is.

Three questions, each with a known answer: which experts are the top 15 %, how steep the tail of
contributions is and whether it is told from a log-normal, and how often the interval of the top
decile's share holds the truth.
"""

import numpy as np

from matching.concentration import concentration, top_share
from matching.credit import ExpertRate, item_credit, places
from matching.problem import Float64
from matching.tail import Verdict, fit_tail

ROUNDS = 60
EXPERTS = 100
STARS = 15
ATTEMPTS = 4000
EXPONENT = 2.3
TAIL_SIZE = 400


def run(seed: int, rounds: int) -> dict[str, object]:
    """Shares of rounds in which the planted truth was found."""
    rng = np.random.default_rng(seed)
    stars = [_stars(np.random.default_rng(s)) for s in rng.integers(0, 2**31, rounds)]
    steep = [_tail(np.random.default_rng(s)) for s in rng.integers(0, 2**31, rounds)]
    wrong = [_log_normal(np.random.default_rng(s)) for s in rng.integers(0, 2**31, rounds)]
    cover = _coverage(rng, 4 * rounds)
    figures = {
        "stars_within_two": float(np.mean([missed <= 2 for missed, _ in stars])),
        "stars_missed_mean": float(np.mean([missed for missed, _ in stars])),
        "called_top_and_are": float(np.mean([right for _, right in stars])),
        "exponent_mean": float(np.mean([e for e, _, _ in steep])),
        "exponent_error": float(np.mean([abs(e - EXPONENT) for e, _, _ in steep])),
        "exponent_within_two_sd": float(np.mean([held for _, held, _ in steep])),
        "power_law_called_log_normal": float(np.mean([v is Verdict.LOG_NORMAL for *_, v in steep])),
        "log_normal_called_power_law": float(np.mean([v is Verdict.POWER_LAW for v in wrong])),
    }
    met = (
        figures["stars_within_two"] >= 0.9
        and figures["exponent_error"] <= 0.15
        and all(0.84 <= held <= 0.96 for held in cover.values())
    )
    return {
        "experts": EXPERTS,
        "planted_exponent": EXPONENT,
        **figures,
        "top_share_coverage": cover,
        "met": met,
    }


def _stars(rng: np.random.Generator) -> tuple[int, float]:
    """Fifteen of a hundred make ten times as much; how many the report misses.

    Half of an expert's attempts near-duplicate an earlier one at random, and volumes differ by a
    factor that has nothing to do with the rate.
    """
    rate = np.full(EXPERTS, 0.05)
    star = rng.choice(EXPERTS, STARS, replace=False)
    rate[star] = 0.5
    rate = rate * rng.uniform(0.85, 1.15, EXPERTS)
    volume = rng.lognormal(0, 0.5, EXPERTS)
    expert = rng.choice(EXPERTS, ATTEMPTS, p=volume / volume.sum())
    valid = (rng.random(ATTEMPTS) < rate[expert]).astype(np.float64)
    novel = np.where(rng.random(ATTEMPTS) < 0.25, 0.2, 1.0)
    credit = item_credit(valid, novel, np.ones(ATTEMPTS))
    model = ExpertRate(EXPERTS).fit(expert.astype(np.int64), credit)
    found = places(model.draw(seed=0), share=STARS / EXPERTS)
    called = np.flatnonzero(found.top > 0.5)
    sure = [place for place, call in enumerate(found.calls) if call == "top"]
    right = float(np.isin(sure, star).mean()) if sure else 1.0
    return len(np.setxor1d(called, star)), right


def _tail(rng: np.random.Generator) -> tuple[float, bool, Verdict]:
    """A discrete power law from three items on; what exponent is found."""
    values = np.arange(1, 200_000)
    law = np.where(values >= 3, values.astype(np.float64) ** -EXPONENT, 0.0)
    few = rng.choice(2, TAIL_SIZE // 2) + 1
    many = rng.choice(values, TAIL_SIZE, p=law / law.sum())
    tail = fit_tail(np.concatenate([few, many]).astype(np.float64))
    exponent, deviation = tail.exponent or np.nan, tail.exponent_sd or np.nan
    return exponent, bool(abs(exponent - EXPONENT) <= 2 * deviation), tail.verdict


def _log_normal(rng: np.random.Generator) -> Verdict:
    return fit_tail(np.ceil(rng.lognormal(2.0, 0.8, 2 * TAIL_SIZE))).verdict


def _coverage(rng: np.random.Generator, rounds: int) -> dict[str, float]:
    """How often the interval of the top decile's share of volume holds that of all experts."""

    def log_normal(size: int) -> Float64:
        return np.asarray(rng.lognormal(0.0, 1.0, size), np.float64)

    def negative_binomial(size: int) -> Float64:
        return np.asarray(rng.poisson(rng.gamma(0.7, 30.0, size)), np.float64)

    answer = {}
    for name, world in (("log_normal", log_normal), ("negative_binomial", negative_binomial)):
        real = float(top_share(world(1_000_000)[None], 0.1)[0])
        held = []
        for turn in range(rounds):
            share = concentration(world(200), seed=turn, draws=300).top_10
            low, high = share.low, share.high
            held.append(low is not None and high is not None and low <= real <= high)
        answer[name] = float(np.mean(held))
    return answer
