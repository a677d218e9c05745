"""Seeded answers for the tests of the estimators: people with craft, items with difficulty."""

import numpy as np
from scipy.special import expit

from matching.ability import Attempts
from matching.responses import Responses


def make_responses(rows: int, *, subjects: int = 40, items: int = 60, seed: int = 0) -> Responses:
    """Answers of a Rasch model with one covariate that matters and one that does not."""
    rng = np.random.default_rng(seed)
    subject, item = rng.integers(0, subjects, rows), rng.integers(0, items, rows)
    covariates = rng.normal(size=(rows, 2))
    able, hard = rng.normal(0, 0.9, subjects), rng.normal(0, 1.1, items)
    logit = 0.4 + able[subject] - hard[item] + 0.8 * covariates[:, 0]
    return Responses(
        subject=subject,
        item=item,
        outcome=(rng.random(rows) < expit(logit)).astype(float),
        time=np.sort(rng.uniform(0, 100, rows)),
        covariates=covariates,
    )


def true_chance(rows: int, *, subjects: int = 40, items: int = 60, seed: int = 0) -> np.ndarray:
    """The chances from which `make_responses` drew with the same words."""
    rng = np.random.default_rng(seed)
    subject, item = rng.integers(0, subjects, rows), rng.integers(0, items, rows)
    covariates = rng.normal(size=(rows, 2))
    able, hard = rng.normal(0, 0.9, subjects), rng.normal(0, 1.1, items)
    return np.asarray(expit(0.4 + able[subject] - hard[item] + 0.8 * covariates[:, 0]))


def make_attempts(rows: int, *, seed: int = 0) -> Attempts:
    """Attempts of 50 experts at 120 tasks on three levels, three models one after the other."""
    rng = np.random.default_rng(seed)
    expert, task = rng.integers(0, 50, rows), rng.integers(0, 120, rows)
    domain, level = task % 4, task % 3
    model = np.sort(rng.integers(0, 3, rows))
    craft, taste = rng.normal(0, 0.9, 50), rng.normal(0, 0.7, 50)
    start = (rng.random(rows) < 0.6).astype(float)
    fooled = rng.random(rows) < expit(craft[expert] + 0.7 * level - 0.9 * model)
    valid = rng.random(rows) < expit(0.6 + taste[expert])
    began, was = start == 1, (start == 1) & fooled
    return Attempts(
        expert=expert,
        task=task,
        domain=domain,
        model=model,
        level=level,
        day=np.sort(rng.uniform(0, 180, rows)),
        start=start,
        fooled=np.where(began, fooled, np.nan),
        valid=np.where(was, valid, np.nan),
        covariates=rng.normal(size=(rows, 2)),
    )
