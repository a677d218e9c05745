"""Eight per cent more, planted: two hundred tests each of equal arms and of arms that differ.

"Eight per cent" is read in both ways, as points and as a share of the rate; each test is as large
as `plan_test` says, its experts differ in ability, and it is looked at twenty times.
"""

import numpy as np
from scipy.special import expit

from matching.experiment import plan_test
from tests.bench.simulations.arms import BASE, Arms, many_tests

ROUNDS = 200
PER, SPREAD = 10, 0.4
"""Assignments of each expert, and how much experts differ, logits."""

MOST_DECLARED, LEAST_FOUND = 0.05, 0.8
"""Of two equal arms, and of arms that differ; the latter is the power that was planned for."""


def population() -> tuple[float, float]:
    """The usual rate, and how alike two assignments of one expert are."""
    drawn = expit(BASE + np.random.default_rng(0).normal(0.0, SPREAD, 20_000))
    rate = float(drawn.mean())
    return rate, float(drawn.var()) / (rate * (1 - rate))


def planned(effect: float) -> Arms:
    """Arms that are as large as the plan of a test of this effect says."""
    rate, icc = population()
    plan = plan_test(baseline=rate, effect=effect, per_cluster=PER, icc=icc, power=LEAST_FOUND)
    return Arms(f"{plan.clusters} experts x {PER} an arm", plan.clusters, PER, SPREAD)


def run(seed: int, rounds: int) -> dict[str, object]:
    """What was declared of equal arms, and how often what was planted was found."""
    rate, icc = population()
    answer: dict[str, object] = {
        "rate": round(rate, 4),
        "icc": round(icc, 4),
        "targets": {"declared": MOST_DECLARED, "found": LEAST_FOUND},
    }
    met = True
    for name, effect in (("eight points", 0.08), ("eight per cent of the rate", 0.08 * rate)):
        arms = planned(effect)
        equal = many_tests(arms, seed=seed, rounds=rounds, effect=0.0)
        apart = many_tests(arms, seed=seed + 1, rounds=rounds, effect=effect)
        met &= float(str(equal["declared"])) <= MOST_DECLARED
        met &= float(str(apart["declared_gain"])) >= LEAST_FOUND
        answer[name] = {
            "arms": arms.name,
            "effect": round(effect, 4),
            "equal arms": equal,
            "planted": apart,
        }
    return answer | {"met": met}
