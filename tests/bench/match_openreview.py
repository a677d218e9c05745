"""Against OpenReview's matcher, by its own rules: `python -m tests.bench match-openreview`.

Every paper gets its reviewers, every reviewer a least number of papers and no more than they take,
and the total of scores is as great as can be. Its MinMaxSolver gives the least loads first, by a
flow of its own, and the rest by a second flow; scores are cut to hundredths on the way, and both
flows are built cell by cell from dense arrays. Here the same steps are walked in our words, which
does less than the original: an arc at a time, but no search of a list for every arc. With
`--matcher FOLDER`, a checkout of openreview-matcher, its own solver runs on the same arrays too.
Times are of the processor, so that neighbours on the machine do not count.

Source: openreview-matcher, commit 5c6d950: matcher/solvers/minmax_solver.py, simple_solver.py;
    matcher/encoder.py, `_score_to_cost`, at commit bc5206c.
"""

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from ortools.graph.python import min_cost_flow

from matching.assign import assign
from matching.problem import Float64, Problem
from matching.verify import verify

PAPERS, REVIEWERS = 2_000, 4_000
SCORED = 50
DEMAND, LEAST, MOST = 3, 1, 3
TARGET = 100.0
DEAR = 1_000.0
"""What an open seat and a load not met cost: more than all scores that could make up for them."""

Counts = NDArray[np.int64]


def scores(papers: int, reviewers: int, scored: int, seed: int) -> Float64:
    """Scores from a hundredth to one for some reviewers of each paper; nought is no score.

    Shapes: (papers, reviewers).
    """
    rng = np.random.default_rng(seed)
    found = np.zeros((papers, reviewers))
    for paper in range(papers):
        known = rng.choice(reviewers, scored, replace=False)
        found[paper, known] = np.round(rng.uniform(0.01, 1, scored), 6)
    return found


def ours(dense: Float64) -> tuple[Counts, float, bool]:
    """Who reviews what, by one exact flow; the seconds that it took, and whether it is proved."""
    paper, reviewer = np.nonzero(dense)
    begun = time.process_time()
    problem = Problem(
        expert=reviewer.astype(np.int32),
        task=paper.astype(np.int32),
        value=dense[paper, reviewer],
        demand=np.full(dense.shape[0], DEMAND, np.int32),
        capacity=np.full(dense.shape[1], MOST, np.int32),
        min_load=np.full(dense.shape[1], LEAST, np.int32),
        min_load_price=DEAR,
        open_seat_price=DEAR,
    )
    answer = assign(problem)
    seconds = time.process_time() - begun
    given = np.zeros(dense.shape, np.int64)
    given[paper[answer.chosen], reviewer[answer.chosen]] = 1
    return given, seconds, answer.gap == 0 and not verify(problem, answer)


def by_its_rules(dense: Float64) -> tuple[Counts, float]:
    """Who reviews what by the same steps in our words, and the seconds that they took."""
    begun = time.process_time()
    cost = dense * -100
    demand = np.full(dense.shape[0], DEMAND)
    first = _one_flow(cost, np.ones(dense.shape, np.int64), demand, np.full(dense.shape[1], LEAST))
    second = _one_flow(cost, 1 - first, demand - first.sum(axis=1), MOST - first.sum(axis=0))
    return first + second, time.process_time() - begun


def _one_flow(cost: Float64, limit: Counts, demand: Counts, load: Counts) -> Counts:
    papers, reviewers = cost.shape
    source, sink = papers + reviewers, papers + reviewers + 1
    flow = min_cost_flow.SimpleMinCostFlow()
    cells: dict[int, tuple[int, int]] = {}
    for reviewer in range(reviewers):
        flow.add_arc_with_capacity_and_unit_cost(source, reviewer, int(load[reviewer]), 0)
    for reviewer in range(reviewers):
        for paper in range(papers):
            cut = int(cost[paper, reviewer])
            if cut != 0:
                arc = flow.add_arc_with_capacity_and_unit_cost(
                    reviewer, reviewers + paper, int(limit[paper, reviewer]), cut
                )
                cells[arc] = (paper, reviewer)
    for paper in range(papers):
        flow.add_arc_with_capacity_and_unit_cost(reviewers + paper, sink, int(demand[paper]), 0)
    supply = int(min(load.sum(), demand.sum()))
    flow.set_node_supply(source, supply)
    flow.set_node_supply(sink, -supply)
    given = np.zeros(cost.shape, np.int64)
    if flow.solve() == flow.OPTIMAL:
        for arc, cell in cells.items():
            given[cell] = flow.flow(arc)
    return given


def theirs(folder: Path, dense: Float64) -> tuple[Counts, float]:
    """Who reviews what by the solver of a checkout itself, and the seconds that it took."""
    solver = _load(folder)
    told = SimpleNamespace(cost_matrix=dense * -100, constraint_matrix=np.zeros(dense.shape, int))
    begun = time.process_time()
    made = solver([LEAST] * dense.shape[1], [MOST] * dense.shape[1], [DEMAND] * len(dense), told)
    given = np.asarray(made.solve(), np.int64)
    return given, time.process_time() - begun


class Solver(Protocol):
    """What is asked of a solver of theirs."""

    def solve(self) -> NDArray[np.float64]:
        """Who reviews what, papers by reviewers."""
        ...


def _load(folder: Path) -> Callable[..., Solver]:
    """Its MinMaxSolver, without the rest of its service and the solvers that it may choose."""
    solvers = folder / "matcher" / "solvers"
    if not (solvers / "minmax_solver.py").is_file():
        raise FileNotFoundError(f"{solvers} has no minmax_solver.py")
    package = ModuleType("openreview_solvers")
    package.__path__ = [str(solvers)]
    sys.modules[package.__name__] = package
    if importlib.util.find_spec("ortools.graph.pywrapgraph") is None:
        sys.modules["ortools.graph.pywrapgraph"] = _under_old_names()
    found = importlib.import_module("openreview_solvers.minmax_solver")
    return cast("Callable[..., Solver]", found.MinMaxSolver)


def _under_old_names() -> ModuleType:
    """The flow solver of today's OR-Tools under the names that it had when the matcher was made."""
    today = min_cost_flow.SimpleMinCostFlow
    names = {
        "AddArcWithCapacityAndUnitCost": "add_arc_with_capacity_and_unit_cost",
        "SetNodeSupply": "set_node_supply",
        "Solve": "solve",
        "NumArcs": "num_arcs",
        "Flow": "flow",
        "UnitCost": "unit_cost",
        "Tail": "tail",
        "Head": "head",
        "OptimalCost": "optimal_cost",
    }
    module = ModuleType("ortools.graph.pywrapgraph")
    old = {name: getattr(today, now) for name, now in names.items()}
    module.__dict__["SimpleMinCostFlow"] = type("SimpleMinCostFlow", (today,), old)
    return module


def judged(name: str, dense: Float64, given: Counts, seconds: float) -> dict[str, object]:
    """What came of it by the uncut scores, and which rules it kept."""
    return {
        "by": name,
        "seconds": round(seconds, 4),
        "total": round(float((dense * given).sum()), 6),
        "open_seats": int(np.maximum(DEMAND - given.sum(axis=1), 0).sum()),
        "short_of_least": int(np.maximum(LEAST - given.sum(axis=0), 0).sum()),
    }


def main(argv: list[str]) -> int:
    """Run and print; nought when ours is as good, and a hundred times as quick as theirs."""
    parser = argparse.ArgumentParser(prog="match-openreview")
    parser.add_argument("--papers", type=int, default=PAPERS)
    parser.add_argument("--reviewers", type=int, default=REVIEWERS)
    parser.add_argument("--scored", type=int, default=SCORED, help="reviewers of each paper")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--matcher", type=Path, help="a checkout of openreview-matcher")
    asked = parser.parse_args(argv)
    dense = scores(asked.papers, asked.reviewers, asked.scored, asked.seed)
    # What takes a tenth of a second is timed three times, since anything may come between.
    tries = [ours(dense) for _ in range(3)]
    given, _, proved = tries[0]
    seconds = min(one for _, one, _ in tries)
    told = [judged("matching", dense, given, seconds)]
    told.append(judged("its rules in our words", dense, *by_its_rules(dense)))
    if asked.matcher is not None:
        told.append(judged("openreview-matcher", dense, *theirs(asked.matcher, dense)))
    for one in told:
        print(json.dumps(one), flush=True)
    last = told[-1]
    ratio = float(str(last["seconds"])) / seconds
    as_good = proved and all(
        float(str(told[0]["total"])) >= float(str(one["total"])) - 1e-6
        or one["open_seats"] != 0
        or one["short_of_least"] != 0
        for one in told[1:]
    )
    print(
        json.dumps(
            {
                "papers": asked.papers,
                "reviewers": asked.reviewers,
                "pairs": int((dense > 0).sum()),
                "against": last["by"],
                "matcher": "run" if asked.matcher else "not run: no checkout was given",
                "ratio": round(ratio, 1),
                "as_good": as_good,
                "proved": proved,
            }
        )
    )
    quick = asked.matcher is None or ratio >= TARGET
    return 0 if quick and as_good else 1
