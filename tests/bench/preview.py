"""Previews of other policies: how fast, and how often their intervals hold the truth.

`python -m tests.bench preview [--size XS|S|M] [--budgets] [--coverage SEEDS] [--story SEEDS]`
"""

import argparse
import json
import time

import numpy as np

from matching.assign import Effort, assign
from matching.past import Came, Past
from matching.policy import Policy, Weights
from matching.preview import QUICK, Candidate, preview
from matching.problem import Problem
from matching.synthetic import SIZES, make_problem
from matching.value import PairParts, pair_value
from tests.bench.match import peak_mb
from tests.bench.simulations.previews import coverage
from tests.bench.simulations.trials import story

SEED = 11
LIMIT_S = 20.0
"""What "in seconds" may come to at ten thousand tasks and a hundred thousand experts, in seconds of
the processor: others on the machine take none of them.
"""


def recorded(size: str, *, budgets: bool) -> Past:
    """A run of this size as it would be kept, under a policy that spreads a tenth."""
    from dataclasses import replace

    rng = np.random.default_rng(SEED)
    problem = make_problem(SIZES[size], seed=SEED, budgets=budgets)
    pairs = problem.pairs
    stump = np.clip(problem.value / problem.value.max(), 0.0, 1.0)
    cost = rng.integers(1_000, 9_000, pairs).astype(np.float64)
    parts = PairParts(
        stump=stump,
        interest=rng.random(pairs),
        quality=rng.random(problem.experts)[problem.expert],
        affinity=rng.random(pairs),
        cost=cost,
    )
    policy = Policy(weights=Weights(), randomness=1.0)
    problem = replace(problem, value=pair_value(parts, policy).total)
    answer = assign(problem, policy, effort=Effort(rounds=6, target_gap=2e-3))
    chance = np.zeros(pairs)
    chance[answer.marginal_pair] = answer.marginal
    taken = np.zeros(pairs, np.bool_)
    taken[answer.chosen] = True
    yes = (rng.random(pairs) < 0.7).astype(np.float64)
    came = Came(
        taken=taken,
        known=np.ones(pairs, np.bool_),
        accepted=yes,
        stump=yes * (rng.random(pairs) < stump),
        cost=yes * cost,
        wait=rng.exponential(5.0, pairs),
        age=np.full(pairs, 100.0),
        delay=np.full(pairs, 10.0),
    )
    return Past(
        problem=problem,
        parts=parts,
        chance=chance,
        said=np.ones(pairs, np.bool_),
        newcomer=rng.random(problem.experts) < 0.1,
        expert_label=np.arange(problem.experts),
        task_group=np.arange(problem.tasks) % 12,
        came=came,
    )


def flow_alone(problem: Problem) -> float:
    """The plan alone, without side rules, as the yardstick of the same machine.

    Units: seconds of the processor.
    """
    plain = Problem(
        expert=problem.expert,
        task=problem.task,
        value=problem.value,
        demand=problem.demand,
        capacity=problem.capacity,
    )
    begun = time.process_time()
    assign(plain)
    return time.process_time() - begun


def speed(size: str, *, budgets: bool) -> dict[str, object]:
    """One preview of one run of this size, beside the plan alone."""
    past = recorded(size, budgets=budgets)
    alone = flow_alone(past.problem)
    candidate = Candidate(Policy(weights=Weights(stump=2.0, cost=0.01)))
    begun, used = time.perf_counter(), time.process_time()
    told = preview([past], candidate, seed=1)
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - used
    return {
        "size": size,
        "tasks": past.problem.tasks,
        "experts": past.problem.experts,
        "pairs": past.problem.pairs,
        "budgets": budgets,
        "rounds": QUICK.rounds,
        "seconds": round(seconds, 2),
        "cpu_s": round(cpu_s, 2),
        "flow_cpu_s": round(alone, 2),
        "ratio": round(cpu_s / alone, 2),
        "fill": round(told.planned["fill"].candidate.value, 4),
        "refusal": told.refusal,
        "peak_mb": round(peak_mb()),
        "met": cpu_s <= LIMIT_S,
    }


def main(argv: list[str]) -> int:
    """Run, print JSON, and say by the exit code whether the bound was met."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench preview", description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="M")
    parser.add_argument("--budgets", action="store_true", help="with a hundred budgets")
    parser.add_argument("--coverage", type=int, metavar="SEEDS", help="coverage instead of speed")
    parser.add_argument("--story", type=int, metavar="SEEDS", help="search, try, keep or stop")
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(argv)
    if given.story:
        found = story(given.seed, given.story)
    elif given.coverage:
        found = coverage(given.seed, given.coverage, tasks=given.tasks)
    else:
        found = speed(given.size, budgets=given.budgets)
    print(json.dumps(found))
    return 0 if found["met"] else 1


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
