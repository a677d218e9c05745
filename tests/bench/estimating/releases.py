"""Judges `ModelBelief` on dated models: predicted from the earlier ones, then after 30 runs.

The scored rows are a random half of the tasks, twenty draws for each model, the same for every
number of runs; the runs that are revealed come from the other half.
"""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit

from matching.ability import YEAR_DAYS
from matching.design import Factor
from matching.problem import Float64, Int64
from matching.refit import Fit, fit_map
from matching.release import ModelBelief, calibration_set
from tests.bench.estimating.responses import codes, intervals, reals, scored

HALVES = 20
FIRST_MODEL = 3
RUNS = (0, 10, 30)
SEED = 7
LEVELS = (-1.0, 1.0, 3.0, 5.0)
"""Where levels of length part, in doublings of eight minutes: 4, 16, 64 and 256 minutes."""


def _fitted(x: Float64, task: Int64, family: Int64, model: Int64, y: Float64) -> Fit:
    return fit_map(
        np.column_stack([np.ones(len(y)), x]),
        [
            Factor(task, int(task.max()) + 1, 1.25),
            Factor(family, int(family.max()) + 1, 1.0),
            Factor(model, int(model.max()) + 1, 4.0),
        ],
        y,
        np.ones(len(y)),
        penalised=np.array([0.01, 0.01]),
        rising=np.zeros(0, np.int64),
    )


def run(root: Path) -> dict[str, object]:
    """Pooled scores of all later models, zero-shot and after calibration runs."""
    table = pq.read_table(root / "metr_runs" / "runs.parquet")
    human = np.asarray(table["is_human"].to_numpy(zero_copy_only=False), bool)
    date = reals(_dates(table["release_date"]))
    kept = ~human & np.isfinite(date)
    model, task = codes(table["alias"])[kept], codes(table["task_id"])[kept]
    family, day = codes(table["task_family"])[kept], date[kept]
    minutes, y = reals(table["human_minutes"])[kept], reals(table["score_binarized"])[kept]
    x = np.log2(np.maximum(minutes, 0.02)) - 3
    names, first = np.unique(model, return_index=True)
    born = day[first]
    order = sorted(range(len(names)), key=lambda n: (born[n], names[n]))
    rng = np.random.default_rng(0)
    truth: list[Float64] = []
    cluster: list[Int64] = []
    said: dict[str, list[Float64]] = {}
    refit_s, updates, update_s = 0.0, 0, 0.0
    for n in order[FIRST_MODEL:]:
        earlier = [k for k in order if born[k] < born[n]]
        is_train, is_new = np.isin(model, names[earlier]), model == names[n]
        if len(np.unique(y[is_new])) < 2:
            continue
        begun = time.process_time()
        place = np.searchsorted(np.sort(names[earlier]), model[is_train])
        fit = _fitted(x[is_train], task[is_train], family[is_train], place, y[is_train])
        refit_s = time.process_time() - begun
        effect = fit.level[2]
        when = born[np.searchsorted(names, np.sort(names[earlier]))]
        base, variance = _bases(fit, x[is_new], task[is_new], family[is_new])
        doubt, level = np.sqrt(variance), np.digitize(x[is_new], LEVELS)
        outcome, tasks = y[is_new], task[is_new]
        last = earlier[-1]
        own = _last_model(model, task, y, names[earlier], names[last], tasks, is_train)
        kinds = np.unique(tasks)
        for _ in range(HALVES):
            half = rng.permutation(kinds)[: len(kinds) // 2]
            scored_rows = np.flatnonzero(np.isin(tasks, half))
            # Runs of one task are not independent, so a task is revealed once.
            pool = np.flatnonzero(~np.isin(tasks, half))
            pool = pool[rng.permutation(len(pool))]
            pool = pool[np.unique(tasks[pool], return_index=True)[1]]
            truth.append(outcome[scored_rows])
            cluster.append(np.full(len(scored_rows), n))
            for runs in RUNS:
                belief = ModelBelief.of(
                    effect, when / YEAR_DAYS, release_date=float(born[n]) / YEAR_DAYS
                )
                if runs:
                    begun = time.process_time()
                    picked = calibration_set(
                        belief,
                        -base[pool],
                        level[pool],
                        size=runs,
                        seed=SEED,
                        base_sd=doubt[pool],
                    )
                    chosen = pool[picked]
                    failed = 1 - outcome[chosen]
                    belief = belief.seen(
                        -base[chosen], failed, level[chosen], base_sd=doubt[chosen]
                    )
                    update_s += time.process_time() - begun
                    updates += runs
                p = belief.stump_rate(
                    -base[scored_rows], level[scored_rows], base_sd=doubt[scored_rows]
                )
                said.setdefault(f"after {runs} runs", []).append(1 - p)
            said.setdefault("last_model", []).append(own[scored_rows])
            best = expit(base[scored_rows] + effect.max())
            said.setdefault("best_earlier", []).append(best)
    outcomes = np.concatenate(truth)
    chances = {name: np.concatenate(found) for name, found in said.items()}
    zero = chances["after 0 runs"]
    answer: dict[str, object] = dict(scored(outcomes, zero))
    answer["update_us"] = round(1e6 * update_s / max(updates, 1), 2)
    answer["refit_s"] = round(refit_s, 3)
    answer["rows"] = {"predicted": len(outcomes)}
    answer["intervals"] = intervals(outcomes, zero, np.concatenate(cluster))
    for runs in RUNS[1:]:
        answer[f"after_{runs}_runs"] = scored(outcomes, chances[f"after {runs} runs"])
    beside = ("last_model", "best_earlier")
    answer["baselines"] = {name: scored(outcomes, chances[name]) for name in beside}
    return answer


def _dates(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_temporal(column.type):
        return column
    return column.cast(pa.string()).cast(pa.date32())


def _bases(fit: Fit, x: Float64, task: Int64, family: Int64) -> tuple[Float64, Float64]:
    """Mean and variance of the logit without the model, tasks never seen at their prior."""

    def at(level: Float64, place: Int64, absent: float) -> Float64:
        wide = np.concatenate([level, [absent]])
        return np.asarray(wide[np.minimum(place, len(level))], np.float64)

    mean = fit.dense[0] + fit.dense[1] * x
    mean = mean + at(fit.level[0], task, 0.0) + at(fit.level[1], family, 0.0)
    variance = fit.dense_variance[0] + fit.dense_variance[1] * x**2
    variance = variance + at(fit.level_variance[0], task, fit.variance[0])
    return mean, variance + at(fit.level_variance[1], family, fit.variance[1])


def _last_model(
    model: Int64,
    task: Int64,
    y: Float64,
    earlier: Int64,
    last: int,
    asked: Int64,
    is_train: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]",
) -> Float64:
    """The strongest simple baseline: how the latest earlier model did, shrunk to all earlier."""
    size = int(task.max()) + 1
    usual = float(y[is_train].mean())

    def rates(rows: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]", prior: Float64) -> Float64:
        hits, seen = np.bincount(task[rows], y[rows], size), np.bincount(task[rows], minlength=size)
        return np.asarray((hits + 2 * prior) / (seen + 2), np.float64)

    every = rates(is_train, np.full(size, usual))
    return rates(model == last, every)[asked]
