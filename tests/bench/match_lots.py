"""Probabilities against the published ones: `python -m tests.bench match-lots [SET ...]`.

For each bid set and share of the best total: largest probability, support and entropy beside the
best published, and how many colluders reach their target with and without a ceiling.
"""

import argparse
import json
import time

import numpy as np

from matching.assign import assign
from matching.model import make_model
from matching.policy import Policy
from matching.problem import Problem
from matching.spread import UNIT, best_under_ceiling, entropy, spread
from tests.matching.bids import BID_SETS, bid_problem, malicious_problem, read_rows, shared_folder


def compared(name: str) -> list[dict[str, object]]:
    """A row for each published share of the best total."""
    model = make_model(bid_problem(name))
    published = read_rows(shared_folder(name) / "published_results.csv")
    best = best_under_ceiling(model.seats, model.profit, 1.0).total
    told: list[dict[str, object]] = []
    for share in sorted({row["quality_target"] for row in published}):
        rows = [row for row in published if row["quality_target"] == share]
        ceiling = min(float(row["max_probability"]) for row in rows)
        support = max(int(row["support_size"]) for row in rows)
        spread_out = max(float(row["entropy"]) for row in rows)
        begun = time.perf_counter()
        # The published runs stop a ten-thousandth short of the share as well.
        even = spread(model.seats, model.profit, ceiling, (float(share) - 1e-4) * best)
        seconds = time.perf_counter() - begun
        mine, chaos = int((even.units > 0).sum()), entropy(even.units)
        largest = int(even.units.max()) / UNIT
        fine = largest <= ceiling + 1e-6 and mine >= support and chaos >= spread_out
        told.append(
            {
                "set": name,
                "share": float(share),
                "reached": round(even.total / best, 6),
                "largest": round(largest, 6),
                "largest_published": ceiling,
                "support": mine,
                "support_published": support,
                "entropy": round(chaos, 3),
                "entropy_published": spread_out,
                "as_good": fine,
                "seconds": round(seconds, 2),
            }
        )
        print(json.dumps(told[-1]), flush=True)
    return told


def colluders(problem: Problem, target: set[tuple[int, int]], policy: Policy | None) -> float:
    """How many colluders are expected to reach their target."""
    answer = assign(problem, policy)
    pairs = answer.marginal_pair
    names = zip(problem.task[pairs].tolist(), problem.expert[pairs].tolist(), strict=True)
    hit = np.array([name in target for name in names])
    return float(answer.marginal[hit].sum())


def main(argv: list[str]) -> int:
    """Run and print; nought when every row is as good as the best published."""
    parser = argparse.ArgumentParser(prog="match-lots")
    parser.add_argument("sets", nargs="*", default=list(BID_SETS))
    asked = parser.parse_args(argv)
    rows = [row for name in asked.sets for row in compared(name)]
    problem, target = malicious_problem()
    reached = {
        f"ceiling {ceiling:g}": round(
            colluders(problem, target, Policy(randomness=ceiling, perturbation=0.02)), 2
        )
        for ceiling in (0.75, 0.5, 0.25)
    }
    reached["none"] = round(colluders(problem, target, None), 2)
    good = sum(1 for row in rows if row["as_good"])
    told = {"rows": len(rows), "as_good": good, "colluders_at_target": reached, "of": len(target)}
    print(json.dumps(told))
    return 0 if good == len(rows) else 1
