"""Matching against the bare min-cost flow on the same arrays in the same process.

`python -m tests.bench match --size S|M|L [--rounds N] [--plain] [--growth]`
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from ortools.graph.python import min_cost_flow

from matching.assign import Assignment, Effort, assign
from matching.problem import MICRO, Problem
from matching.synthetic import SIZES, make_problem
from matching.verify import verify

SEED = 11
ARRAYS = ("expert", "task", "value", "demand", "capacity")


def bare_flow(problem: Problem) -> tuple[int, float]:
    """The textbook flow on all pairs, as few lines as it takes: objective and seconds."""
    begun = time.perf_counter()
    tasks, experts = problem.tasks, problem.experts
    sink = tasks + experts
    solver = min_cost_flow.SimpleMinCostFlow()
    add = solver.add_arcs_with_capacity_and_unit_cost
    cost = -np.rint(problem.value * MICRO).astype(np.int64)
    column = problem.expert + np.int32(tasks)
    add(problem.task, column, np.ones(problem.pairs, np.int64), cost)
    rows = np.arange(tasks, dtype=np.int32)
    demand = problem.demand.astype(np.int64)
    add(rows, np.full(tasks, sink, np.int32), demand, np.zeros(tasks, np.int64))
    ends = np.arange(tasks, sink, dtype=np.int32)
    capacity = problem.capacity.astype(np.int64)
    add(ends, np.full(experts, sink, np.int32), capacity, np.zeros(experts, np.int64))
    solver.set_nodes_supplies(rows, demand)
    solver.set_node_supply(sink, -int(demand.sum()))
    if solver.solve() != solver.OPTIMAL:
        raise RuntimeError("the bare flow did not end as optimal")
    return -solver.optimal_cost(), time.perf_counter() - begun


def timed_assign(problem: Problem, effort: Effort) -> tuple[Assignment, float, float]:
    """One run from checked arrays to an explained assignment, checks included; seconds by the
    clock and of the processor.
    """
    begun, worked = time.perf_counter(), time.process_time()
    answer = assign(replace(problem), effort=effort)
    return answer, time.perf_counter() - begun, time.process_time() - worked


def peak_mb() -> float:
    """The largest memory that this process has had, MB.

    Not from getrusage, whose peak a process inherits from the one that started it.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def plain_rows(size: str, repeats: int) -> dict[str, object]:
    """Seats alone: ours and the bare flow in turn, the best time of each."""
    problem = make_problem(SIZES[size], seed=SEED)
    ours = bare = ours_cpu = bare_cpu = math.inf
    for _ in range(repeats):
        worked = time.process_time()
        best, seconds = bare_flow(problem)
        bare, bare_cpu = min(bare, seconds), min(bare_cpu, time.process_time() - worked)
        answer, seconds, cpu = timed_assign(problem, Effort())
        ours, ours_cpu = min(ours, seconds), min(ours_cpu, cpu)
    begun = time.perf_counter()
    wrong = verify(problem, answer)
    return {
        "pairs": problem.pairs,
        "seconds": round(ours, 3),
        "bare_s": round(bare, 3),
        "ratio": round(ours / bare, 3),
        "cpu_s": round(ours_cpu, 3),
        "bare_cpu_s": round(bare_cpu, 3),
        "gap": answer.gap,
        "equals_bare": round(answer.objective * MICRO) == best,
        "verified": not wrong,
        "verify_s": round(time.perf_counter() - begun, 3),
        "bytes_a_pair": round(memory_of(problem)),
    }


def memory_of(problem: Problem) -> float:
    """Bytes a pair that a run needs beyond an idle process with the imports, in one of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        np.savez(path, **{name: getattr(problem, name) for name in ARRAYS})
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench", "match", "--measure", str(path)],
            check=True,
            capture_output=True,
            text=True,
            timeout=1800,
        )
    return float(json.loads(done.stdout.splitlines()[-1])["bytes_a_pair"])


def measure(path: str) -> int:
    """Load a problem, solve it, and tell how far memory rose."""
    before = peak_mb()
    with np.load(path) as stored:
        problem = Problem(**{name: stored[name] for name in ARRAYS})
    assign(problem)
    rise = (peak_mb() - before) * 1024 * 1024
    print(json.dumps({"bytes_a_pair": rise / problem.pairs}))
    return 0


def ruled_rows(
    size: str, bare_s: float, bare_cpu_s: float, rounds: int, *, hours: bool
) -> dict[str, object]:
    """A hundred budgets, with or without hours and floors: seconds, certified gap, ratio.

    On a machine that others use the ratio of processor times is the one to look at.
    """
    problem = make_problem(SIZES[size], seed=SEED, budgets=True, hours=hours, floors=hours)
    groups, target = (600, 1e-3) if size == "L" else (150, 5e-4)
    effort = Effort(rounds=rounds, neighbourhoods=groups, target_gap=target)
    answer, seconds, cpu = timed_assign(problem, effort)
    return {
        "seconds": round(seconds, 2),
        "ratio": round(seconds / bare_s, 2),
        "cpu_s": round(cpu, 2),
        "cpu_ratio": round(cpu / bare_cpu_s, 2),
        "gap_pct": round(100 * answer.gap, 4),
        "rounds": answer.rounds,
        "proof": answer.proof,
        "verified": not verify(problem, answer),
    }


def main(argv: list[str]) -> int:
    """Run and print; nought when plans are exact, verified and within 1.15 of the bare flow."""
    parser = argparse.ArgumentParser(prog="match")
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--rounds", type=int, default=Effort().rounds)
    parser.add_argument("--plain", action="store_true", help="seats alone")
    parser.add_argument("--growth", action="store_true", help="every size up to this one")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.measure:
        return measure(asked.measure)
    repeats = {"L": 1}.get(asked.size, 3)
    seats = plain_rows(asked.size, repeats)
    print(json.dumps({"size": asked.size, "seats": seats}), flush=True)
    told: dict[str, object] = {"size": asked.size, **seats}
    if asked.growth:
        names = ["S", "M", "L"]
        before = names[: names.index(asked.size)] if asked.size in names else []
        points = [(seats["pairs"], seats["seconds"])]
        for name in before:
            smaller = plain_rows(name, 3)
            print(json.dumps({"size": name, "seats": smaller}), flush=True)
            points.append((smaller["pairs"], smaller["seconds"]))
        logs = np.log(np.array(points, np.float64))
        if len(points) > 1:
            told["growth_exponent"] = round(float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0]), 3)
    if not asked.plain:
        bare, bare_cpu = float(str(seats["bare_s"])), float(str(seats["bare_cpu_s"]))
        for name, hours in (("budgets", False), ("budgets_hours_floors", True)):
            told[name] = ruled_rows(asked.size, bare, bare_cpu, asked.rounds, hours=hours)
            print(json.dumps({"size": asked.size, name: told[name]}), flush=True)
    print(json.dumps(told))
    fine = seats["equals_bare"] and seats["verified"] and seats["gap"] == 0
    return 0 if fine and float(str(seats["ratio"])) <= 1.15 else 1
