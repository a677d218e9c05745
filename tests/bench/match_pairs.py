"""Solve a matching problem from files: `python -m tests.bench match-pairs DIR [--out PLAN.csv]`.

The files, the defaults and the answer are described in docs/matching.md.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from matching.assign import Assignment, Effort, Progress, assign, under_policy
from matching.policy import Policy
from matching.problem import MICRO, Problem
from matching.verify import verify
from tests.bench.matching.files import Loaded, load


def worst_task_value(problem: Problem, answer: Assignment) -> float:
    """What the worst-off task with a seat to fill gets from its experts together."""
    got = np.bincount(
        problem.task[answer.chosen], problem.value[answer.chosen], minlength=problem.tasks
    )
    open_to = got[problem.demand > 0]
    return float(open_to.min()) if len(open_to) else 0.0


def write_plan(path: Path, loaded: Loaded, answer: Assignment) -> None:
    """The chosen pairs under their own ids."""
    problem = loaded.problem
    table = pa.table(
        {
            "expert": [loaded.experts[n] for n in problem.expert[answer.chosen].tolist()],
            "task": [loaded.tasks[n] for n in problem.task[answer.chosen].tolist()],
            "value": problem.value[answer.chosen],
            "probability": answer.probability,
        }
    )
    pyarrow.csv.write_csv(table, path)


def main(argv: list[str]) -> int:
    """Read, solve, judge, print; nought when the plan keeps every rule."""
    parser = argparse.ArgumentParser(prog="match-pairs")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=Effort().rounds)
    parser.add_argument("--groups", type=int, default=100, help="parts of a plan seated anew")
    parser.add_argument("--gap", type=float, default=1e-4, help="stop at this share of the bound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policy", type=Path, help="a policy as JSON")
    parser.add_argument("--out", type=Path, help="write the chosen pairs here, as CSV")
    asked = parser.parse_args(argv)
    begun = time.perf_counter()
    policy = None
    try:
        loaded = load(asked.folder)
        if asked.policy is not None:
            policy = Policy.from_dict(json.loads(asked.policy.read_text()))
    except (ValueError, OSError) as refusal:
        print(json.dumps({"refused": str(refusal)}))
        return 2
    problem = loaded.problem
    for sentence in loaded.ignored:
        print(f"not used: {sentence}", file=sys.stderr)

    def tell(one: Progress) -> None:
        print(
            f"round {one.round}: objective {one.objective:.6g}, bound {one.bound:.6g}",
            file=sys.stderr,
        )

    solving = time.perf_counter()
    effort = Effort(rounds=asked.rounds, neighbourhoods=asked.groups, target_gap=asked.gap)
    try:
        answer = assign(problem, policy, seed=asked.seed, effort=effort, progress=tell)
    except ValueError as refusal:
        print(json.dumps({"refused": str(refusal)}))
        return 2
    seconds = time.perf_counter() - solving
    wrong = verify(under_policy(problem, policy), answer)
    for sentence in wrong[:20]:
        print(sentence, file=sys.stderr)
    if asked.out is not None:
        write_plan(asked.out, loaded, answer)
    value = float(np.rint(problem.value[answer.chosen] * MICRO).sum()) / MICRO
    load_short = 0
    if problem.min_load is not None:
        held = np.bincount(problem.expert[answer.chosen], minlength=problem.experts)
        load_short = int(np.maximum(problem.min_load - held, 0).sum())
    print(
        json.dumps(
            {
                "objective": answer.objective,
                "bound": answer.bound,
                "gap": answer.gap,
                "worst_task_value": worst_task_value(problem, answer),
                "open_seats": int(answer.open_seats.seats.sum()),
                "seconds": round(seconds, 4),
                "verified": not wrong,
                "value": value,
                "seats_filled": len(answer.chosen),
                "missed_min_load": load_short,
                "proof": answer.proof,
                "rounds": answer.rounds,
                "read_s": round(solving - begun, 4),
                "ignored": loaded.ignored,
            }
        )
    )
    return 1 if wrong else 0
