"""One event at a time against a fresh solve: `python -m tests.bench match-events --size S|M|L`.

Tasks and experts arrive and leave, offers are accepted and declined; times are of single events.
"""

import argparse
import json
import time

import numpy as np

from matching.assign import assign
from matching.incremental import Plan
from matching.problem import Problem
from matching.synthetic import SIZES, make_problem
from matching.verify import verify
from tests.bench.match import SEED, bare_flow, peak_mb

KINDS = (
    "task arrives",
    "task is cancelled",
    "expert arrives",
    "expert leaves",
    "accepted",
    "declined",
    "capacity changes",
)


def clocks() -> tuple[float, float]:
    """The time of day and the processor time of this process, seconds.

    On a machine that others use, the slowest events by the clock are those that had to wait.
    """
    return time.perf_counter(), time.process_time()


def happen(
    plan: Plan, kind: str, rng: np.random.Generator, problem: Problem
) -> tuple[float, float]:
    """One event of this kind at a random place; seconds by the clock and of the processor."""
    network = plan.network
    used = int(rng.choice(np.flatnonzero(network.used[: network.pairs])))
    task, expert = int(network.task[used]), int(network.expert[used])
    begun = clocks()
    if kind == "task arrives":
        # Of the kind that is there already: the same experts at values of its own.
        like = network.pairs_of_task(int(rng.integers(problem.tasks)))
        others = network.expert[like]
        value = problem.value[like[like < problem.pairs]]
        value = np.resize(value, len(others)) * rng.uniform(0.8, 1.2, len(others))
        begun = clocks()
        plan.add_task(others, value, demand=int(rng.integers(1, 6)))
    elif kind == "task is cancelled":
        plan.remove_task(task)
    elif kind == "expert arrives":
        tasks = np.unique(rng.integers(0, problem.tasks, 8)).astype(np.int32)
        begun = clocks()
        plan.add_expert(tasks, rng.uniform(0.5, 3.0, len(tasks)), capacity=2)
    elif kind == "expert leaves":
        plan.remove_expert(expert)
    elif kind == "accepted":
        plan.accept(used)
    elif kind == "declined":
        plan.decline(used)
    else:
        held = int(network.load[expert]) + int(rng.integers(-1, 2))
        locked = sum(1 for pair in plan.accepted if network.expert[pair] == expert)
        plan.set_capacity(expert, max(held, 0) + locked)
    ended = clocks()
    return ended[0] - begun[0], ended[1] - begun[1]


def main(argv: list[str]) -> int:
    """Run and print; nought when the plan equals a fresh solve and p99 is within 10 ms."""
    parser = argparse.ArgumentParser(prog="match-events")
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--events", type=int, default=200, help="of each kind")
    parser.add_argument("--seed", type=int, default=5)
    asked = parser.parse_args(argv)
    problem = make_problem(SIZES[asked.size], seed=SEED)
    answer = assign(problem)
    begun = time.perf_counter()
    plan = Plan(problem, answer)
    taken_s = time.perf_counter() - begun
    rng = np.random.default_rng(asked.seed)
    todo = np.repeat(np.arange(len(KINDS)), asked.events)
    rng.shuffle(todo)
    took: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for n in todo.tolist():
        took[KINDS[n]].append(happen(plan, KINDS[n], rng, problem))
    every = np.concatenate([np.array(times) for times in took.values()])
    now = plan.snapshot()
    wrong = verify(now.problem, now.assignment)

    fresh = assign(now.problem)
    equal = abs(fresh.objective - now.assignment.objective) < 1e-6
    _, bare_s = bare_flow(problem)

    def figures(times: np.ndarray) -> dict[str, float]:
        at = 1e3 * np.percentile(times, [50, 95, 99, 100], axis=0)
        names = ("p50_ms", "p95_ms", "p99_ms", "max_ms")
        told = {name: round(float(one), 3) for name, one in zip(names, at[:, 0], strict=True)}
        return told | {"cpu_p99_ms": round(float(at[2, 1]), 3)}

    for kind, times in took.items():
        print(json.dumps({"event": kind, "number": len(times), **figures(np.array(times))}))
    told = {
        "size": asked.size,
        "pairs": problem.pairs,
        "events": len(every),
        **figures(every),
        "equals_fresh": equal,
        "gap": now.assignment.gap,
        "verified": not wrong,
        "take_over_s": round(taken_s, 3),
        "bare_flow_s": round(bare_s, 3),
        "peak_mb": round(peak_mb()),
    }
    print(json.dumps(told))
    return 0 if equal and not wrong and float(told["p99_ms"]) <= 10 else 1
