"""A/B: five points more in one arm, two thousand assignments an arm, twenty looks."""

from tests.bench.simulations.arms import Arms, many_tests

ROUNDS = 1000
TARGET = 0.75
EFFECT = 0.05

WORLDS = (
    Arms("2000 experts x 1", 2000, 1, 0.0),
    Arms("2000 experts x 1, with predictions", 2000, 1, 0.8, blur=0.5),
    Arms("200 experts x 10, with predictions", 200, 10, 0.8, blur=0.4),
    Arms("200 experts x 10, without predictions", 200, 10, 0.8),
)
MUST = 2
"""The worlds of independent units, which the target is about: clustering costs what it costs."""


def run(seed: int, rounds: int) -> dict[str, object]:
    """The share of tests that find the gain by two thousand assignments an arm, in four worlds."""
    found = {
        arms.name: many_tests(arms, seed=seed + n, rounds=rounds, effect=EFFECT)
        for n, arms in enumerate(WORLDS)
    }
    least = min(float(str(found[arms.name]["declared_gain"])) for arms in WORLDS[:MUST])
    return {
        "effect": EFFECT,
        "target": TARGET,
        "least": least,
        "met": least >= TARGET,
        "worlds": found,
    }
