"""How often a preview's interval holds the truth, on seeded markets whose truth is known."""

import numpy as np

from matching.preview import LEAST_EFFECTIVE, Candidate, preview, replayed
from matching.replay import Limits
from tests.bench.simulations.seeded_market import BAD, GOOD, TODAY, market

TARGET = 0.86


def coverage(
    seed: int, seeds: int, *, tasks: int = 500, progress: bool = False
) -> dict[str, object]:
    """The share of seeds whose interval held the truth, of previews that gave a verdict and of all.

    Policies that replay themselves, a planted good one and a planted bad one, in turn.
    """
    held: list[bool] = []
    spoken: list[bool] = []
    found_order: list[bool] = []
    effective: list[float] = []
    widths: list[float] = []
    for turn in range(seeds):
        known = market(seed + turn, tasks=tasks, experts=tasks // 2)
        told = {}
        for name, policy in (("good", GOOD), ("bad", BAD)):
            tried = Candidate(policy)
            told[name] = preview(
                [known.past], tried, seed=turn, limits=Limits(effective=LEAST_EFFECTIVE)
            )
            truth = known.truth(replayed(known.past, tried, seed=turn)[1])
            figure = told[name].realised["stumps"].candidate
            held.append(figure.low <= truth <= figure.high)
            spoken.append(told[name].refusal is None)
            effective.append(told[name].effective)
            widths.append((figure.high - figure.low) / 2 / truth)
        found_order.append(
            told["good"].realised["stumps"].candidate.value
            > told["bad"].realised["stumps"].candidate.value
        )
        if progress and turn % 20 == 19:
            print(f"{turn + 1} of {seeds}: {np.mean(held):.3f}", flush=True)
    inside, said = np.array(held), np.array(spoken)
    share = float(inside[said].mean()) if said.any() else 0.0
    return {
        "seeds": seeds,
        "tasks": tasks,
        "randomness": round(1 - TODAY.randomness, 3),
        "target": TARGET,
        "coverage": round(share, 4),
        "coverage_of_all": round(float(inside.mean()), 4),
        "refused": round(float(1 - said.mean()), 4),
        "effective_median": round(float(np.median(effective)), 1),
        "half_width_median": round(float(np.median(widths)), 3),
        "better_told_from_worse": round(float(np.mean(found_order)), 4),
        "met": share >= TARGET and float(inside.mean()) >= TARGET,
    }
