"""The refit of a night over seeded responses, with its memory: `python -m tests.bench refit`.

`--rows 10000000 --within-mb 4096` caps the address space, so that a refit that needs more dies. It
is tuned on the first fifth, 200,000 rows at most, as a night refits what was tuned before. The last
line printed is JSON; all seconds are processor time of this process.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable

import numpy as np

from matching.forecaster import Forecaster
from matching.responses import Responses

TUNED = 200_000
UPDATED = 5_000


def rows_of(count: int, *, seed: int) -> Responses:
    """Subjects, items and covariates that matter: a subject for 25 rows, an item for 100."""
    rng = np.random.default_rng(seed)
    subjects, items = max(count // 25, 2), max(count // 100, 2)
    subject, item = rng.integers(subjects, size=count), rng.integers(items, size=count)
    covariates = rng.normal(size=(count, 3))
    logit = rng.normal(size=subjects)[subject] + rng.normal(size=items)[item]
    logit += covariates @ np.array([0.4, -0.2, 0.1])
    outcome = (rng.random(count) < 1 / (1 + np.exp(-logit))).astype(float)
    return Responses(
        subject=subject,
        item=item,
        outcome=outcome,
        time=np.sort(rng.random(count) * 365),
        covariates=covariates,
    )


def main(argv: list[str]) -> int:
    """Fit, refit, update; print what each took."""
    parser = argparse.ArgumentParser(prog="refit")
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--within-mb", type=int, default=0)
    asked = parser.parse_args(argv)
    if asked.within_mb:
        bound = asked.within_mb * 1024**2
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    rows = rows_of(asked.rows, seed=asked.seed)
    first = rows.take(slice(0, min(max(asked.rows // 5, 1), TUNED)))
    model = Forecaster()
    fit_s = _timed(lambda: model.fit(first))
    # Ten times what it was tuned on would be tuned anew, which no night does.
    model.tuned_rows_ = len(rows)
    tuning = model.tuning_
    refit_s = _timed(lambda: model.refit(rows))
    part = rows.take(slice(0, min(UPDATED, len(rows))))
    update_s = _timed(lambda: model.run(part))
    answer = {
        "rows": len(rows),
        "tuned_on": len(first),
        "fit_s": round(fit_s, 1),
        "refit_s": round(refit_s, 1),
        "was_tuned_anew": model.tuning_ is not tuning,
        "update_us": round(1e6 * update_s / len(part), 1),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(answer))
    return 0


def _timed(act: Callable[[], object]) -> float:
    begun = time.process_time()
    act()
    return time.process_time() - begun
