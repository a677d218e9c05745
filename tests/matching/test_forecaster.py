from dataclasses import replace

import numpy as np
import pytest

from matching.archive import NotAVersion
from matching.batch import predict_many
from matching.forecaster import Forecaster, Prediction
from matching.keeping import from_bytes, to_bytes
from matching.responses import BadResponses, Responses, joined
from tests.matching.answers import make_responses, true_chance


def log_loss(outcome: np.ndarray, chance: np.ndarray) -> float:
    return float(-(outcome * np.log(chance) + (1 - outcome) * np.log1p(-chance)).mean())


def is_sound(said: Prediction) -> bool:
    columns = (said.mean, said.logit, said.logit_sd, said.low, said.high)
    finite = all(bool(np.isfinite(column).all()) for column in columns)
    ordered = bool((said.low <= said.mean).all() and (said.mean <= said.high).all())
    return finite and ordered and bool((said.logit_sd > 0).all())


def test_predictions_before_the_reveal_are_near_those_of_whoever_knows_the_truth() -> None:
    rows, truth = make_responses(5000), true_chance(5000)
    model = Forecaster().fit(rows.take(slice(0, 3500)))
    test = rows.take(slice(3500, None))
    said = model.run(test)
    base = np.full(1500, rows.outcome[:3500].mean())
    known, blind = log_loss(test.outcome, truth[3500:]), log_loss(test.outcome, base)
    assert log_loss(test.outcome, said.mean) < known + 0.15 * (blind - known)
    assert is_sound(said)


def test_a_version_predicts_the_same_to_the_last_bit_and_learns_on_the_same() -> None:
    rows = make_responses(1500)
    model = Forecaster().fit(rows.take(slice(0, 1000)))
    model.observe(rows.take(slice(1000, 1200)))
    data = to_bytes(model)
    again = from_bytes(data)
    assert to_bytes(again) == data
    rest = rows.take(slice(1200, None))
    assert model.predict(rest).mean.tobytes() == again.predict(rest).mean.tobytes()
    assert model.run(rest).logit_sd.tobytes() == again.run(rest).logit_sd.tobytes()
    assert to_bytes(model) == to_bytes(again)


def test_a_version_keeps_codes_that_no_float_can_hold() -> None:
    rows = make_responses(400)
    wide = Responses(
        subject=rows.subject + 2**62 + 1,
        item=rows.item + 2**62 + 1,
        outcome=rows.outcome,
        time=rows.time,
    )
    model = Forecaster().fit(wide)
    again = from_bytes(to_bytes(model))
    assert model.predict(wide).mean.tobytes() == again.predict(wide).mean.tobytes()


def test_a_version_that_was_changed_is_refused() -> None:
    data = bytearray(to_bytes(Forecaster().fit(make_responses(300))))
    data[len(data) // 2] ^= 1
    with pytest.raises(NotAVersion):
        from_bytes(bytes(data))
    with pytest.raises(NotAVersion):
        from_bytes(b"something else")


def test_a_newcomer_is_less_certain_than_somebody_known() -> None:
    model = Forecaster().fit(make_responses(4000))
    ask = Responses(
        subject=np.array([0, 9999]), item=np.array([3, 3]), outcome=np.full(2, np.nan),
        time=np.full(2, 101.0), covariates=np.zeros((2, 2)),
    )  # fmt: skip
    said = model.predict(ask)
    assert said.logit_sd[1] > said.logit_sd[0]


def test_the_middle_of_what_is_doubtful_is_farther_out_than_its_mean() -> None:
    sd = np.array([0.0, 1.0, 2.0])
    truth = -2.0 + sd * np.random.default_rng(0).normal(size=(200_000, 1))
    mean = (1 / (1 + np.exp(-truth))).mean(axis=0)
    said = Prediction(mean, np.log(mean / (1 - mean)), sd, mean, mean)
    assert np.allclose(said.middle, -2.0, atol=0.15)
    assert (said.logit[1:] > -1.85).all()


def test_ability_follows_somebody_who_gets_better() -> None:
    model = Forecaster().fit(make_responses(2000))
    before = make_responses(1)
    ask = Responses(
        subject=np.full(40, 777), item=np.arange(40), outcome=np.ones(40),
        time=np.full(40, 101.0), covariates=np.zeros((40, 2)),
    )  # fmt: skip
    first = model.predict(ask).mean.mean()
    model.observe(ask)
    assert model.predict(ask).mean.mean() > first + 0.1
    assert len(before) == 1


def test_a_soft_outcome_moves_half_as_far_as_a_sure_one() -> None:
    def after(outcome: float, weight: float) -> float:
        model = Forecaster().fit(make_responses(2000))
        one = Responses(
            subject=np.array([888]), item=np.array([5]), outcome=np.array([outcome]),
            time=np.array([101.0]), weight=np.array([weight]), covariates=np.zeros((1, 2)),
        )  # fmt: skip
        before = float(model.predict(one).logit[0])
        return float(model.observe(one).predict(one).logit[0]) - before

    assert 0 < after(0.9, 0.64) < after(1.0, 1.0)
    assert after(1.0, 0.0) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("shape", ["plain", "groups", "repeated", "models"])
def test_many_pairs_at_once_get_what_each_would_get_by_itself(shape: str) -> None:
    rng = np.random.default_rng(5)
    n = 6000
    subjects, items = {"models": (12, 500), "repeated": (30, 20)}.get(shape, (60, 90))
    subject, item = (
        rng.integers(0, subjects, n),
        rng.integers(-(2**62), 2**62, items)[rng.integers(0, items, n)],
    )
    group = item % 4 - 1 if shape == "groups" else np.zeros(0, int)
    craft = rng.normal(0, 1, subjects)
    y = (rng.random(n) < 1 / (1 + np.exp(-craft[subject] - (item % 7) / 3))).astype(float)
    rows = Responses(
        subject=subject, item=item, outcome=y, group=group, time=np.sort(rng.uniform(0, 90, n)),
        context=rng.integers(-1, 3, (n, 1)), covariates=rng.normal(size=(n, 1)),
    )  # fmt: skip
    daily = {"subject": 0.01, "domain": 0.01}
    model = Forecaster(daily=daily).fit(rows.take(slice(0, 4000)))
    model.observe(rows.take(slice(4000, 5000)))
    ask = rows.take(slice(4990, 5200))
    who = ask.subject.copy()
    who[:5], who[5:9] = 1000, -1
    ask = replace(ask, subject=who, outcome=np.full(210, np.nan), time=ask.time + 5)
    together, alone = predict_many(model, ask), model.predict(ask)
    assert np.allclose(together.mean, alone.mean, atol=1e-9)
    assert np.allclose(together.logit_sd, alone.logit_sd, atol=1e-9)


def test_what_predicts_does_not_learn() -> None:
    rows = make_responses(800)
    model = Forecaster().fit(rows)
    data = to_bytes(model)
    model.predict(rows)
    assert to_bytes(model) == data


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_a_single_class_is_believed_with_doubt(outcome: float) -> None:
    rows = make_responses(300)
    same = Responses(subject=rows.subject, item=rows.item, outcome=np.full(300, outcome))
    said = Forecaster().fit(same).predict(same)
    assert is_sound(said)
    assert abs(float(said.mean.mean()) - outcome) < 0.1
    assert float(np.abs(said.mean - outcome).min()) > 0


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 60])
def test_any_number_of_rows_gives_an_answer_with_wide_uncertainty(rows: int) -> None:
    few = make_responses(rows)
    model = Forecaster().fit(few)
    said = model.run(make_responses(30, seed=1))
    assert is_sound(said)
    assert float(said.logit_sd.mean()) > 0.3


def test_one_subject_or_one_item_is_no_trouble() -> None:
    rows = make_responses(500)
    alone = Responses(subject=np.zeros(500, int), item=rows.item, outcome=rows.outcome)
    assert is_sound(Forecaster().fit(alone).run(alone))
    single = Responses(subject=rows.subject, item=np.zeros(500, int), outcome=rows.outcome)
    assert is_sound(Forecaster(newcomers=True).fit(single).run(single))


def test_constant_and_missing_covariates_say_nothing() -> None:
    rows = make_responses(400)
    table = np.column_stack([np.full(400, 3.0), np.full(400, np.nan), rows.covariates[:, 0]])
    table[::7, 2] = np.nan
    odd = Responses(subject=rows.subject, item=rows.item, outcome=rows.outcome, covariates=table)
    assert is_sound(Forecaster().fit(odd).run(odd))


def test_rows_out_of_time_and_repeated_rows_are_learned_in_time() -> None:
    rows = make_responses(400)
    order = np.random.default_rng(1).permutation(400)
    mixed = joined([rows.take(order), rows.take(order)])
    assert is_sound(Forecaster().fit(mixed).predict(rows))
    ordered = Forecaster().fit(rows).predict(rows).mean
    assert np.allclose(Forecaster().fit(rows.take(order)).predict(rows).mean, ordered)


def test_rows_without_an_outcome_are_predicted_and_not_learned() -> None:
    rows = make_responses(300)
    model = Forecaster().fit(rows)
    data = to_bytes(model)
    blank = Responses(
        subject=rows.subject, item=rows.item, outcome=np.full(300, np.nan), time=rows.time,
        covariates=rows.covariates,
    )  # fmt: skip
    assert is_sound(model.run(blank))
    assert to_bytes(model) == data


def test_models_that_answer_many_items_are_told_apart_by_what_they_fail() -> None:
    rng = np.random.default_rng(3)
    subject, item = np.repeat(np.arange(12), 500), np.tile(np.arange(500), 12)
    skill, needs = rng.normal(0, 1.6, (12, 2)), rng.normal(0, 1, (500, 2))
    logit = (skill[subject] * needs[item]).sum(axis=1) - rng.normal(0, 1, 500)[item]
    y = (rng.random(6000) < 1 / (1 + np.exp(-logit))).astype(float)
    rows = Responses(subject=subject, item=item, outcome=y).take(rng.permutation(6000))
    model = Forecaster().fit(rows.take(slice(0, 4800)))
    said = model.run(rows.take(slice(4800, None)))
    assert "signature" in [view.name for view in model.engine_.views]
    crossed = Forecaster()
    crossed.fit(rows.take(slice(0, 4800)))
    views = [view.name for view in crossed.engine_.views]
    looks = crossed.engine_.prepare(rows.take(slice(4800, None)))
    plain = []
    columns = (looks.rows.subject.tolist(), looks.rows.item.tolist())
    for row, (u, i) in enumerate(zip(*columns, strict=True)):
        look = crossed.engine_.look(looks, row, u, i, -1, 0.0)
        plain.append(1 / (1 + np.exp(-look.logits[views.index("crossed")])))
    outcome = rows.outcome[4800:]
    assert log_loss(outcome, said.mean) < log_loss(outcome, np.array(plain)) - 0.01


def test_items_that_ask_for_form_are_told_from_those_that_do_not() -> None:
    rng = np.random.default_rng(5)
    rows, subjects, items = 6000, 40, 20
    subject, item = rng.integers(0, subjects, rows), rng.integers(0, items, rows)
    form, logit = rng.normal(0, 1, subjects), np.empty(rows)
    for n, (who, what) in enumerate(zip(subject.tolist(), item.tolist(), strict=True)):
        form[who] = 0.97 * form[who] + 0.24 * rng.normal()
        # Every second item hangs on the form of the day, and the others not at all.
        logit[n] = 3.0 * form[who] * (what % 2)
    outcome = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(float)
    every = Responses(subject=subject, item=item, outcome=outcome, time=np.arange(rows) / 50)
    model = Forecaster().fit(every.take(slice(0, 4500)))
    slopes = model.engine_.form.slopes
    assert min(slopes[n][0] for n in range(1, items, 2)) > max(
        slopes[n][0] for n in range(0, items, 2)
    )
    alike = from_bytes(to_bytes(model))
    alike.engine_.form.slopes = {}
    rest = every.take(slice(4500, None))
    told, without = (log_loss(rest.outcome, one.run(rest).mean) for one in (model, alike))
    assert told < without - 0.005
    assert from_bytes(to_bytes(model)).engine_.form.slopes == slopes


def test_a_view_that_only_a_part_of_the_rows_allows_is_done_without() -> None:
    rng = np.random.default_rng(4)
    old, new = rng.integers(0, 120, 1500), rng.integers(120, 200, 400)
    subject = np.concatenate([old, new])
    rows = Responses(
        subject=subject, item=rng.integers(0, 60, 1900),
        outcome=(rng.random(1900) < 0.3 + 0.4 * (subject % 2)).astype(float),
        time=np.arange(1900.0),
    )  # fmt: skip
    model = Forecaster().fit(rows)
    assert is_sound(model.run(rows.take(slice(0, 50))))
    assert is_sound(model.refit(joined([rows, rows.take(slice(0, 50))])).run(rows))


@pytest.mark.parametrize(
    ("change", "array", "index"),
    [
        ({"outcome": np.array([0.0, 2.0, 1.0])}, "outcome", 1),
        ({"time": np.array([0.0, 1.0, np.inf])}, "time", 2),
        ({"weight": np.array([-1.0, 1.0, 1.0])}, "weight", 0),
        ({"covariates": np.array([[0.0], [0.0], [np.inf]])}, "covariates", 2),
        ({"rising": np.array([[np.nan], [0.0], [0.0]])}, "rising", 0),
        ({"item": np.array([1, 2])}, "item", -1),
        ({"item": np.array([1.5, 2.0, 3.0])}, "item", -1),
        ({"covariates": np.zeros((2, 1))}, "covariates", -1),
    ],
)
def test_rows_that_make_no_sense_are_refused_with_their_place(
    change: dict[str, np.ndarray], array: str, index: int
) -> None:
    plain = {"subject": np.arange(3), "item": np.arange(3), "outcome": np.ones(3)}
    with pytest.raises(BadResponses) as refused:
        Responses(**(plain | change))
    assert (refused.value.array, refused.value.index) == (array, index)
