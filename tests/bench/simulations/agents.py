"""Dated language-model agents on tasks of known length: a real line-up of rising models."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit

from matching.arrays import groups_of
from matching.problem import Float64, Int64
from tests.bench.simulations.public import columns

LEVELS = (1.0, 4.0, 15.0, 60.0, 240.0)
"""Bounds of the levels in expert minutes; a level is four times the one below."""


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Every run: which task of which family, by which model, when that came out, and if it failed.

    Shapes: all (runs,). Units: year since the first model; minutes of an expert; stump 0 or 1.
    """

    task: Int64
    family: Int64
    model: Int64
    level: Int64
    year: Float64
    minutes: Float64
    stump: Float64


def agent_runs() -> Runs:
    """The public runs of dated agents, models numbered in the order of their release."""
    names = ("task_id", "task_family", "alias", "release_date", "is_human")
    task, family, alias, date, human = columns("metr_runs/runs", *names)
    solved, minutes = columns("metr_runs/runs", "score_binarized", "human_minutes")
    keep = [n for n in range(len(alias)) if not human[n] and date[n] is not None]
    day = np.array([np.datetime64(str(date[n])[:10], "D") for n in keep])
    year = (day - day.min()).astype(np.float64) / 365.25
    order = sorted({(float(y), str(alias[n])) for y, n in zip(year, keep, strict=True)})
    number = {name: place for place, (_, name) in enumerate(order)}
    spent = np.array([float(str(minutes[n])) for n in keep])
    return Runs(
        task=groups_of("task", [str(task[n]) for n in keep], len(keep))[0],
        family=groups_of("family", [str(family[n]) for n in keep], len(keep))[0],
        model=np.array([number[str(alias[n])] for n in keep], np.int64),
        level=np.digitize(spent, LEVELS).astype(np.int64),
        year=year,
        minutes=spent,
        stump=1 - np.array([float(str(solved[n])) for n in keep]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What runs of earlier models say: abilities by model, and each run's task against ability 0.

    Shapes: ability (models,); base, base_sd (all runs,).
    """

    ability: Float64
    base: Float64
    base_sd: Float64


def fit_runs(runs: Runs, models: list[int]) -> Fit:
    """A logistic fit with normal priors to the runs of these models alone, with its variances."""
    rows = np.flatnonzero(np.isin(runs.model, models))
    place = np.searchsorted(np.array(models), runs.model)
    tasks, families, count = int(runs.task.max()) + 1, int(runs.family.max()) + 1, len(models)
    minutes = np.log2(np.maximum(runs.minutes, 0.02)) - 3
    size = len(runs.task)

    def one_hot(index: Int64, width: int) -> sparse.csr_array:
        cells = (np.ones(size), (np.arange(size), index))
        return sparse.csr_array(cells, shape=(size, width))

    model = one_hot(np.clip(place, 0, count - 1), count) * -1.0
    line = sparse.csr_array(np.column_stack([minutes, np.ones(size)]))
    item = sparse.hstack([one_hot(runs.task, tasks), one_hot(runs.family, families), line])
    design = sparse.csr_array(sparse.hstack([model, item]))[rows]
    keep = np.concatenate([
        np.full(count, 0.25), np.full(tasks, 0.8), np.full(families, 1.0), np.full(2, 0.01)
    ])  # fmt: skip
    y = runs.stump[rows]

    def loss(b: Float64) -> tuple[float, Float64]:
        z = design @ b
        value = float((np.logaddexp(0, z) - y * z).sum() + 0.5 * (keep * b * b).sum())
        return value, np.asarray(design.T @ (expit(z) - y) + keep * b, np.float64)

    found = minimize(
        loss, np.zeros(len(keep)), jac=True, method="L-BFGS-B", options={"maxiter": 300}
    )
    p = expit(design @ found.x)
    variance = 1 / (design.multiply(design).T @ (p * (1 - p)) + keep)
    table = sparse.csr_array(item)
    spread = table.multiply(table) @ variance[count:]
    return Fit(
        np.asarray(found.x[:count], np.float64),
        np.asarray(table @ found.x[count:], np.float64),
        np.sqrt(np.asarray(spread, np.float64)),
    )
