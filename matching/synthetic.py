"""Seeded problems that look like expert work: domains, skill, pay, and wide or narrow fame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.problem import Float64, Int32, Problem


@dataclass(frozen=True, slots=True)
class Size:
    """How large a seeded problem is; pairs come out at about `near` a task."""

    tasks: int
    experts: int
    near: int = 50
    projects: int = 100


SIZES = {
    "XS": Size(200, 2_000, projects=10),
    "S": Size(1_000, 10_000),
    "M": Size(10_000, 100_000),
    "L": Size(100_000, 1_000_000),
}
"""The sizes that benchmarks name; L is a hundred thousand tasks and a million experts."""


def make_problem(
    size: Size,
    *,
    seed: int,
    budgets: bool = False,
    hours: bool = False,
    floors: bool = False,
    share_cap: float | None = None,
) -> Problem:
    """A problem of this size, the same for the same seed on every machine.

    Each task draws most of its eligible experts from its own domain, skilled ones more often, and
    a fifth from anywhere, so that some experts are wanted by many tasks and most by a few. Pay
    rises with skill. Budgets cover three quarters of what the seats would cost at a typical pay;
    hours leave an expert two to nine typical tasks; floors ask one seat for one expert in twenty.

    Units: value in units, about 0.1 to 5; cost and budget in cents; hours in hours.
    """
    rng = np.random.default_rng(seed)
    tasks, experts = size.tasks, size.experts
    domains = max(10, tasks // 50)
    fame = np.arange(1, domains + 1) ** -0.6
    task_domain = rng.choice(domains, tasks, p=fame / fame.sum())
    spread = 0.5 * fame[::-1] / fame.sum() + 0.5 / domains
    expert_domain = rng.choice(domains, experts, p=spread / spread.sum())
    skill = rng.normal(0.0, 1.0, experts)
    task, expert = _eligible(rng, size, task_domain, expert_domain, skill)
    pairs = len(task)

    home = np.where(expert_domain[expert] == task_domain[task], 0.8, -0.7)
    difficulty = rng.normal(0.5, 0.8, tasks)
    logit = 0.9 * skill[expert] + home - difficulty[task] + rng.normal(0.0, 0.6, pairs)
    worth = np.exp(rng.normal(0.0, 0.5, tasks))
    value = np.maximum(worth[task] / (1.0 + np.exp(-logit)), 1e-6)

    demand = rng.choice(np.array([1, 2, 3, 5], np.int32), tasks, p=[0.15, 0.25, 0.35, 0.25])
    capacity = rng.integers(1, 4, experts).astype(np.int32)
    share = rng.dirichlet(np.full(size.projects, 2.0))
    project = rng.choice(size.projects, tasks, p=share).astype(np.int32)
    task_hours = np.exp(rng.normal(0.7, 0.4, tasks))
    pair_hours = task_hours[task] * np.exp(-0.1 * skill[expert])
    rate = np.exp(3.6 + 0.35 * skill + rng.normal(0.0, 0.25, experts))
    cost = np.maximum(np.rint(rate[expert] * pair_hours * 100), 1).astype(np.int64)
    listed = np.maximum(np.bincount(task, minlength=tasks), 1)
    typical = np.bincount(task, cost, tasks) / listed
    budget = (0.75 * np.bincount(project, typical * demand, size.projects)).astype(np.int64)
    free = np.exp(rng.normal(2.2, 0.5, experts))
    asked = (rng.random(experts) < 0.05) & (np.bincount(expert, minlength=experts) > 0)
    return Problem(
        expert=expert,
        task=task,
        value=value,
        demand=demand,
        capacity=capacity,
        hours=pair_hours if hours else None,
        hours_available=free if hours else None,
        cost=cost if budgets else None,
        budget=budget if budgets else None,
        project=project if budgets or share_cap is not None else None,
        min_load=asked.astype(np.int32) if floors else None,
        min_load_price=0.2 if floors else None,
        share_cap=share_cap,
    )


def _eligible(
    rng: np.random.Generator,
    size: Size,
    task_domain: np.ndarray[tuple[int], np.dtype[np.int64]],
    expert_domain: np.ndarray[tuple[int], np.dtype[np.int64]],
    skill: Float64,
) -> tuple[Int32, Int32]:
    by_domain = np.argsort(expert_domain, kind="stable")
    edges = np.searchsorted(expert_domain[by_domain], np.arange(task_domain.max() + 2))
    drawn = np.concatenate([[0.0], np.cumsum(np.exp(0.9 * skill[by_domain]))])
    low, high = drawn[edges[task_domain]], drawn[edges[task_domain + 1]]
    near = size.near * 4 // 5
    at = low[:, None] + (high - low)[:, None] * rng.random((size.tasks, near))
    place = np.searchsorted(drawn, at.ravel(), side="right") - 1
    inside = by_domain[np.clip(place, 0, size.experts - 1)]
    anywhere = rng.integers(0, size.experts, size.tasks * (size.near - near))
    rows = np.arange(size.tasks)
    task = np.concatenate([np.repeat(rows, near), np.repeat(rows, size.near - near)])
    # An expert drawn twice for a task is eligible once.
    key = np.unique(task * np.int64(size.experts) + np.concatenate([inside, anywhere]))
    return (key // size.experts).astype(np.int32), (key % size.experts).astype(np.int32)
