"""Made-up conferences of the size of MIDL 2019, and what the worst-off paper gets."""

import numpy as np

from matching.problem import MICRO, Int64, Problem


def worst(problem: Problem, plan: Int64) -> int:
    """What the worst-off task that asks for seats gets, micro-units."""
    got = np.zeros(problem.tasks, np.int64)
    np.add.at(got, problem.task[plan], np.rint(problem.value[plan] * MICRO).astype(np.int64))
    asking = problem.demand > 0
    return int(got[asking].min()) if asking.any() else 0


def conference(seed: int) -> Problem:
    """118 papers and 177 reviewers with topics, three a paper, four a reviewer at most."""
    rng = np.random.default_rng(seed)
    papers, reviewers = 118, 177
    of_reviewer = rng.dirichlet(np.full(20, 0.15), reviewers)
    of_paper = rng.dirichlet(np.full(20, 0.15), papers)
    near = np.sqrt(of_paper @ of_reviewer.T) * rng.uniform(0.5, 1.1, (papers, reviewers))
    value = np.clip(0.2 + 0.7 * near + rng.normal(0, 0.05, near.shape), 0, 1)
    task, expert = (side.astype(np.int32) for side in np.nonzero(value > 0.05))
    return Problem(
        expert=expert,
        task=task,
        value=np.round(value[task, expert], 4),
        demand=np.full(papers, 3, np.int32),
        capacity=np.full(reviewers, 4, np.int32),
    )
