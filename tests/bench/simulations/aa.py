"""A/A: two equal arms, twenty looks; no more than five tests of a hundred may declare anything."""

from tests.bench.simulations.arms import Arms, many_tests

ROUNDS = 5000
TARGET = 0.05

WORLDS = (
    Arms("40 experts x 50, all at work", 40, 50, 0.8),
    Arms("40 experts x 50, one after another", 40, 50, 0.8, waves=True),
    Arms("40 experts, uneven, with predictions", 40, 25, 0.8, blur=0.6, uneven=0.8),
    Arms("2000 experts x 1", 2000, 1, 0.0),
)


def run(seed: int, rounds: int) -> dict[str, object]:
    """The share of tests that declare a difference where there is none, in four worlds."""
    found = {
        arms.name: many_tests(arms, seed=seed + n, rounds=rounds, effect=0.0)
        for n, arms in enumerate(WORLDS)
    }
    worst = max(float(str(each["declared"])) for each in found.values())
    return {"target": TARGET, "worst": worst, "met": worst <= TARGET, "worlds": found}
