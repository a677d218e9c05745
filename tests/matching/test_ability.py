from dataclasses import replace

import numpy as np
import pytest

from matching.ability import Attempts, StumpModel, mixed
from matching.archive import NotAVersion, packed
from matching.release import ModelBelief, calibration_set
from tests.matching.answers import make_attempts


@pytest.fixture(scope="module")
def model() -> StumpModel:
    return StumpModel().fit(make_attempts(4000))


def asked(rows: int, **columns: int) -> Attempts:
    """Pairs to predict: one expert, one task and the newest model, unless told otherwise."""
    names = {"expert": 0, "task": 1, "domain": 1, "model": 2, "level": 1} | columns
    blank = np.full(rows, np.nan)
    return Attempts(
        **{name: np.full(rows, value) for name, value in names.items()},
        day=np.full(rows, 181.0), start=blank, fooled=blank, valid=blank,
        covariates=np.zeros((rows, 2)),
    )  # fmt: skip


def test_the_chain_multiplies_to_the_share_of_stumps(model: StumpModel) -> None:
    attempts = make_attempts(4000)
    said = model.predict(attempts)
    product = said.start.mean * said.fooled.mean * said.valid.mean
    assert np.allclose(said.stump.mean, product)
    happened = float(np.nansum(attempts.valid)) / len(attempts)
    assert float(said.stump.mean.mean()) == pytest.approx(happened, abs=0.03)
    assert (said.stump.low < said.stump.mean).all()
    assert (said.stump.mean < said.stump.high).all()


def test_a_higher_level_never_makes_a_stump_less_likely(model: StumpModel) -> None:
    # A task that nobody knows yet, so that only its level speaks.
    said = [model.predict(asked(1, task=999, level=n)).fooled.mean[0] for n in range(3)]
    assert said == sorted(said)
    assert said[2] > said[0]


def test_a_stronger_model_is_stumped_less_often(model: StumpModel) -> None:
    effects = [model.model_effect(code)[0] for code in range(3)]
    assert effects == sorted(effects, reverse=True)


def test_a_verdict_moves_ability_at_once(model: StumpModel) -> None:
    own = StumpModel.from_bytes(model.to_bytes())
    pair = asked(1, expert=500, task=7)
    before = own.predict(pair).fooled.logit[0]
    yes = np.ones(1)
    own.observe(replace(pair, start=yes, fooled=yes))
    assert own.predict(pair).fooled.logit[0] > before
    assert own.predict(pair).valid.logit[0] == pytest.approx(model.predict(pair).valid.logit[0])


def test_a_prediction_is_recomputed_from_its_version_to_the_last_bit(model: StumpModel) -> None:
    again = StumpModel.from_bytes(model.to_bytes())
    attempts = make_attempts(300, seed=5)
    first, second = model.predict(attempts).stump, again.predict(attempts).stump
    assert first.mean.tobytes() == second.mean.tobytes()
    assert first.logit_sd.tobytes() == second.logit_sd.tobytes()
    assert again.version == model.version
    assert again.observe(attempts).version != model.version


def test_bytes_of_something_else_are_refused() -> None:
    with pytest.raises(NotAVersion):
        StumpModel.from_bytes(packed({"other": 1}))


def test_a_new_model_lies_between_its_vendors_best_and_the_trend(model: StumpModel) -> None:
    own = StumpModel.from_bytes(model.to_bytes())
    belief = own.new_model_release(9, day=181.0, vendor=np.array([1, 2]))
    best = -min(own.model_effect(code)[0] for code in (1, 2))
    known = sorted(own.releases_.keys() - {9})
    ability = [-own.model_effect(code)[0] for code in known]
    trend = ModelBelief.of(
        ability, [own.releases_[code] / 365.25 for code in known], release_date=181.0 / 365.25
    )
    assert abs(belief.mean - best) < 1.0
    assert abs(belief.mean - trend.mean) < 1.0
    mean, variance = own.model_effect(9)
    assert (mean, variance) == pytest.approx((-belief.mean, belief.sd**2))
    assert variance > own.model_effect(2)[1]
    # A nightly refit has nothing to say of a model that nobody asked.
    own.refit(make_attempts(4000))
    assert own.model_effect(9) == pytest.approx((mean, variance))


def test_calibration_runs_bring_a_new_model_to_its_place(model: StumpModel) -> None:
    own = StumpModel.from_bytes(model.to_bytes())
    belief = own.new_model_release(9, day=181.0, vendor=np.array([2]))
    pool = replace(make_attempts(200, seed=8), model=np.full(200, 9))
    logit, variance = own.without_model(pool)
    doubt = np.sqrt(variance)
    chosen = calibration_set(belief, logit, pool.level, size=30, seed=1, base_sd=doubt)
    assert len(set(chosen.tolist())) == 30
    truth = 3.0
    odds = 1 / (1 + np.exp(-(logit[chosen] - truth)))
    before = abs(belief.mean - truth)
    drawn = (np.random.default_rng(0).random(30) < odds).astype(float)
    after = belief.seen(logit[chosen], drawn, pool.level[chosen], base_sd=doubt[chosen])
    assert abs(after.mean - truth) < 0.6 * before
    own.calibrated(9, after, day=182.0)
    assert own.predict(pool).fooled.mean.mean() < model.predict(pool).fooled.mean.mean()


def test_a_release_without_any_earlier_model_is_wide() -> None:
    none = np.zeros(0)
    belief = ModelBelief.of(none, none, release_date=10.0)
    assert belief.sd > 0.7
    assert belief.mean == pytest.approx(0.0, abs=1e-9)
    few = calibration_set(belief, np.zeros(4), np.zeros(4), size=30, seed=1)
    assert sorted(few.tolist()) == [0, 1, 2, 3]


def test_a_model_that_learned_nothing_still_answers() -> None:
    blank = replace(make_attempts(0))
    said = StumpModel().fit(blank).predict(asked(3, level=0))
    assert np.isfinite(said.stump.mean).all()
    assert float(said.stump.logit_sd.min()) > 0.5


def test_combined_codes_differ_and_keep_what_is_unknown() -> None:
    one, other = np.meshgrid(np.arange(300), np.arange(300))
    code = mixed(one.ravel(), other.ravel())
    assert len(np.unique(code)) == 90_000
    assert (code >= 0).all()
    assert mixed(np.array([-1, 3]), np.array([4, -1])).tolist() == [-1, -1]
