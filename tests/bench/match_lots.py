"""Probabilities against the published ones: `python -m tests.bench match-lots [SET ...]`.

For each bid set and share of the best total: largest probability, support and entropy beside the
best published, and how many colluders reach their target with and without a ceiling; with
`--colluders` the latter alone.
"""

import argparse
import json
import time

import numpy as np

from matching.assign import assign
from matching.model import make_model
from matching.policy import Policy
from matching.spread import UNIT, best_under_ceiling, entropy, spread
from tests.matching.bids import BID_SETS, bid_problem, malicious_problem, read_rows, shared_folder

CEILINGS = (1.0, 0.9, 0.75, 0.5, 0.4, 0.25)
"""Most that the chance of any pair may be; one is no lot at all."""


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


def colluders() -> list[dict[str, object]]:
    """How many colluders reach their target under no ceiling and under several, on average, and
    what share of the best total by honest bids the lot keeps.
    """
    problem, target = malicious_problem()
    honest, _ = malicious_problem("honest")
    fair = assign(honest)
    names = zip(problem.task.tolist(), problem.expert.tolist(), strict=True)
    wanted = np.array([name in target for name in names])
    print(json.dumps({"bids": "honest", "colluders_at_target": int(wanted[fair.chosen].sum())}))
    told: list[dict[str, object]] = []
    for ceiling in CEILINGS:
        policy = Policy(randomness=ceiling, perturbation=0.02) if ceiling < 1 else None
        answer = assign(problem, policy)
        kept = float((honest.value[answer.marginal_pair] * answer.marginal).sum())
        mine = wanted[answer.marginal_pair]
        told.append(
            {
                "ceiling": ceiling,
                "colluders_at_target": round(float(answer.marginal[mine].sum()), 2),
                "of": len(target),
                "surest_colluder": round(float(answer.marginal[mine].max(initial=0.0)), 3),
                "share_of_honest_best": round(kept / fair.objective, 4),
            }
        )
        print(json.dumps(told[-1]), flush=True)
    return told


def main(argv: list[str]) -> int:
    """Run and print; nought when every row is as good as the best published."""
    parser = argparse.ArgumentParser(prog="match-lots")
    parser.add_argument("sets", nargs="*", default=list(BID_SETS))
    parser.add_argument("--colluders", action="store_true", help="the malicious bids alone")
    asked = parser.parse_args(argv)
    rows = [] if asked.colluders else [row for name in asked.sets for row in compared(name)]
    reached = colluders()
    good = sum(1 for row in rows if row["as_good"])
    print(json.dumps({"rows": len(rows), "as_good": good, "colluders": reached}))
    return 0 if good == len(rows) else 1
