"""Many predictions at once."""

import numpy as np

from matching.ability import Attempts, StumpModel


def rows(count: int, seed: int) -> Attempts:
    """Attempts of a small market."""
    rng = np.random.default_rng(seed)
    fooled = (rng.random(count) < 0.4).astype(float)
    return Attempts(
        expert=rng.integers(0, 30, count),
        task=rng.integers(-1, 90, count),
        domain=rng.integers(0, 5, count),
        model=rng.integers(-1, 3, count),
        level=rng.integers(0, 5, count),
        day=np.sort(rng.random(count) * 100),
        start=np.ones(count),
        fooled=fooled,
        valid=np.where(fooled > 0, (rng.random(count) < 0.7).astype(float), np.nan),
        valid_weight=np.ones(count),
        covariates=rng.normal(size=(count, 3)),
    )


def test_many_predictions_at_once_are_what_one_after_the_other_says() -> None:
    model = StumpModel().fit(rows(60, seed=1)).observe(rows(60, seed=2))
    wanted = rows(120, seed=3)
    one, many = model.predict(wanted), model.predict_many(wanted)
    for stage in ("start", "fooled", "valid", "stump"):
        slow, quick = getattr(one, stage), getattr(many, stage)
        np.testing.assert_allclose(quick.mean, slow.mean, rtol=1e-9)
        np.testing.assert_allclose(quick.logit_sd, slow.logit_sd, rtol=1e-9)


def test_nothing_asked_of_many_is_nothing_said() -> None:
    assert len(StumpModel().fit(rows(20, seed=1)).predict_many(rows(0, seed=1)).stump) == 0
