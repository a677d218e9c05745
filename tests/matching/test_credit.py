"""Impact: credit of items, rates of experts who change, places, concentration, tails and lift."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from matching.concentration import concentration, gini, lorenz, top_share
from matching.credit import Call, CreditInvalid, ExpertRate, item_credit, novelty, places
from matching.duplicates import near_duplicates, shingles, signatures
from matching.lift import LiftNotIdentified, draw_batches, leave_one_out, split_lift
from matching.tail import Tail, Verdict, fit_tail
from tests.bench.simulations import power_law

ONES = np.ones(3)


def test_credit_is_the_product_and_fooling_alone_is_worth_nothing() -> None:
    worth = item_credit(
        np.array([1.0, 0.0, 0.5]), np.array([1.0, 1.0, 0.5]), np.array([2.0, 9.0, 1.0])
    )
    assert worth.tolist() == [2, 0, 0.25]
    lifted = item_credit(ONES, ONES, ONES, np.array([0.5, -0.5, -3.0]))
    assert lifted.tolist() == [1.5, 0.5, 0]


@pytest.mark.parametrize(
    ("validity", "lift"),
    [([1.0, np.nan, 0], None), ([2.0, 0, 0], None), ([1.0, 1, 1], [np.inf] * 3)],
)
def test_credit_of_what_is_no_number_is_refused(
    validity: list[float], lift: list[float] | None
) -> None:
    with pytest.raises(CreditInvalid):
        item_credit(np.array(validity), ONES, ONES, None if lift is None else np.array(lift))


def test_the_first_of_near_duplicates_keeps_its_credit() -> None:
    # 0 and 1 and 3 are much alike, 2 is alone; 3 is nearer to 1 than to 0.
    kept = novelty(4, np.array([0, 0, 1]), np.array([1, 3, 3]), np.array([0.9, 0.5, 0.8]))
    assert kept == pytest.approx([1, 0.1, 1, 0.2])
    forgiving = novelty(2, np.array([0]), np.array([1]), np.array([0.6]), alike=0.5)
    assert forgiving == pytest.approx([1, 0.8])
    with pytest.raises(CreditInvalid, match=r"likeness\[0\]"):
        novelty(2, np.array([0]), np.array([1]), np.array([1.2]))


def test_few_attempts_are_drawn_to_the_common_rate_and_many_are_not() -> None:
    rng = np.random.default_rng(1)
    real = np.concatenate([[0.9, 0.9], rng.beta(3, 7, 40)])
    expert = np.concatenate([np.repeat(np.arange(2, 42), 50), [0], np.zeros(80, int) + 1])
    expert = rng.permutation(expert)
    credit = (rng.random(len(expert)) < real[expert]).astype(float)
    credit[expert == 0] = 1.0
    model = ExpertRate(42).fit(expert, credit)
    rates = model.rates()
    common = credit.mean()
    assert abs(rates.mean[0] - common) < 0.35
    assert rates.mean[1] > 0.75
    assert rates.sd[0] > 2 * rates.sd[1]
    error = rates.mean[2:] - real[2:]
    raw = np.bincount(expert, credit)[2:] / 50 - real[2:]
    assert (error**2).mean() < 1.05 * (raw**2).mean()
    inside = np.abs(error) < 1.645 * rates.sd[2:]
    assert inside.mean() > 0.75


def test_a_rate_follows_an_expert_who_changes() -> None:
    rng = np.random.default_rng(2)
    rate = np.r_[np.full(150, 0.8), np.full(60, 0.2)]
    credit = (rng.random((210, 6)) < np.c_[rate, np.full((210, 5), 0.5)]).astype(float)
    model = ExpertRate(6).fit(np.tile(np.arange(6), 210), credit.ravel())
    assert model.rates().mean[0] < 0.35
    assert credit[:, 0].mean() > 0.55


def test_credit_above_one_is_on_its_own_scale_and_nobody_is_nowhere() -> None:
    model = ExpertRate(3, most=4.0)
    assert model.rates().mean == pytest.approx([2, 2, 2])
    for _ in range(40):
        model.observe(0, 4.0)
        model.observe(1, 0.0)
    rates = model.rates()
    assert rates.mean[0] > 3.5
    assert rates.mean[1] < 0.5
    assert 0.5 < rates.mean[2] < 3.5
    drawn = model.draw(seed=3, draws=500)
    assert drawn.shape == (500, 3)
    assert ((drawn >= 0) & (drawn <= 4)).all()
    assert drawn.mean(axis=0) == pytest.approx(rates.mean, abs=0.35)
    for wrong in (np.nan, -1.0, 5.0):
        with pytest.raises(CreditInvalid):
            model.observe(0, wrong)
    assert ExpertRate(0).rates().mean.shape == (0,)


def test_places_are_probabilities_with_words_and_fill_the_seats() -> None:
    rng = np.random.default_rng(4)
    draws = rng.normal(np.r_[5.0, 1.2, 1.0, np.zeros(17)], 1.0, (2000, 20))
    found = places(draws)
    assert found.calls[0] is Call.TOP
    assert Call.TOP not in found.calls[3:]
    assert found.top.sum() == pytest.approx(2)
    assert found.expected_rank.mean() == pytest.approx(10.5)
    # Nobody is known: nobody is called anything, and first in the list is no merit.
    even = places(np.ones((500, 10)))
    assert set(even.calls) == {Call.OPEN}
    assert abs(even.top[0] - 0.1) < 0.05
    with pytest.raises(CreditInvalid, match="finite"):
        places(np.array([[np.nan, 1.0]]))


def test_next_periods_rate_is_told_no_worse_than_by_the_better_of_raw_and_pooled(
    shared_data: Path,
) -> None:
    table = pq.read_table(shared_data / "quality/nibbler_r1_r3/submissions.parquet")
    order = np.argsort(table["time"].to_numpy(), kind="stable")
    rounds = table["round"].to_numpy()[order]
    _, expert = np.unique(table["submitter"].to_numpy()[order], return_inverse=True)
    first = np.zeros(len(order), bool)
    for value in np.unique(rounds):
        mine = np.flatnonzero(rounds == value)
        first[mine[: (len(mine) + 1) // 2]] = True
    experts = int(expert.max()) + 1
    for column in ("validated", "stump"):
        hit = table[column].to_numpy()[order].astype(np.float64)
        seen = np.bincount(expert[first], minlength=experts)
        coming = np.bincount(expert[~first], minlength=experts)
        both = (seen > 0) & (coming > 0)
        raw = np.bincount(expert[first], hit[first], experts)[both] / seen[both]
        after = np.bincount(expert[~first], hit[~first], experts)[both] / coming[both]
        ours = ExpertRate(experts).fit(expert[first], hit[first]).rates().mean[both]
        error = [
            np.average((guess - after) ** 2, weights=coming[both])
            for guess in (ours, raw, np.full(len(raw), hit[first].mean()))
        ]
        assert error[0] <= 1.02 * min(error[1:]), (column, error)


def test_shares_of_known_amounts() -> None:
    amounts = np.array([0.0, 0, 0, 0, 0, 0, 0, 0, 0, 10])
    assert gini(amounts[None])[0] == pytest.approx(0.9)
    assert top_share(amounts[None], 0.1)[0] == 1
    even = np.full(10, 3.0)
    assert gini(even[None])[0] == pytest.approx(0)
    assert top_share(even[None], 0.25)[0] == pytest.approx(0.25)
    people, held = lorenz(np.array([1.0, 3.0]))
    assert people.tolist() == [0, 0.5, 1]
    assert held.tolist() == [0, 0.25, 1]


def test_volume_and_rate_are_told_apart() -> None:
    rng = np.random.default_rng(5)
    volume = rng.lognormal(2, 1.5, 80)
    rate = rng.uniform(0.4, 0.6, 80)
    by_volume, by_rate = concentration(volume * rate), concentration(rate)
    assert by_volume.top_10.value is not None
    assert by_rate.top_10.value is not None
    assert by_volume.top_10.value > 0.4 > 0.2 > by_rate.top_10.value
    assert by_volume.sentence().startswith("The top 10 % made ")


def test_concentration_of_nothing_or_of_one_says_so() -> None:
    assert concentration(np.zeros(5)).gini.value is None
    assert concentration(np.zeros(0)).sentence() == "Nobody has made validated stumps yet."
    one = concentration(np.array([4.0])).top_10
    assert (one.low, one.high) == (0, 1)
    with pytest.raises(CreditInvalid, match=r"amount\[1\]"):
        concentration(np.array([1.0, -2.0]))


def test_planted_power_laws_are_recovered() -> None:
    found = power_law.run(seed=11, rounds=6)
    assert found["stars_within_two"] == 1
    assert float(str(found["exponent_error"])) < 0.15
    assert found["log_normal_called_power_law"] == 0


def test_a_short_or_flat_tail_says_too_few_or_undecided() -> None:
    few = fit_tail(np.arange(40, dtype=float))
    assert few.verdict is Verdict.TOO_FEW
    assert few.exponent is None
    flat = fit_tail(np.full(200, 7.0))
    assert flat.verdict is Verdict.UNDECIDED
    assert flat.sentence().endswith("nothing tells whether they follow a power law.")
    assert fit_tail(np.zeros(0)).verdict is Verdict.TOO_FEW
    with pytest.raises(CreditInvalid, match="whole"):
        fit_tail(np.full(60, 1.5))


def test_a_log_normal_is_not_called_a_power_law() -> None:
    rng = np.random.default_rng(6)
    calls = [fit_tail(np.ceil(rng.lognormal(3, 0.5, 1500)), fewest=800).verdict for _ in range(3)]
    assert Verdict.POWER_LAW not in calls


def test_what_a_tail_looks_like_is_said_in_a_sentence() -> None:
    rng = np.random.default_rng(3)
    steep = Tail(Verdict.POWER_LAW, 300, 4, 2.2, 0.05)
    assert steep.sentence("items") == (
        "Of the 300 people with 4 items or more, a power law with exponent 2.2 ± 0.1"
        " tells more than a log-normal."
    )
    light = fit_tail(np.ceil(rng.lognormal(2.0, 0.8, 4000)), fewest=2000)
    assert light.verdict is Verdict.LOG_NORMAL
    assert light.sentence("items").endswith("the tail is lighter than one.")
    apart = fit_tail(np.floor((1 - rng.random(120)) ** -0.8))
    assert apart.verdict is Verdict.UNDECIDED
    assert apart.sentence().endswith("cannot be told apart.")


def test_lift_is_split_by_randomised_batches_with_honest_errors() -> None:
    real = np.array([0.5, 0.1, 0.0, -0.1])
    held = []
    for seed in range(60):
        batch = draw_batches(np.full(4, 60), 24, seed=seed).astype(float)
        noise = np.random.default_rng(1000 + seed).normal(0, 1.0, 24)
        found = split_lift(batch, 2.0 + batch @ real + noise)
        low, high = found.interval()
        held.append((low <= real) & (real <= high))
        assert found.is_identified.all()
        assert found.noise > 0
    assert 0.8 <= np.mean(held) <= 0.99
    assert batch.sum(axis=0).tolist() == [60] * 4


def test_groups_that_always_go_together_cannot_be_told_and_say_so() -> None:
    rng = np.random.default_rng(7)
    one = rng.integers(0, 5, 12).astype(float)
    batch = np.column_stack([one, 2 * one, rng.integers(0, 5, 12), np.zeros(12)])
    found = split_lift(batch, rng.normal(size=12))
    assert found.is_identified.tolist() == [False, False, True, False]
    assert np.isinf(found.sd[[0, 1, 3]]).all()
    assert np.isfinite(found.lift).all()
    with pytest.raises(LiftNotIdentified):
        split_lift(batch[:4], np.zeros(4))
    with pytest.raises(CreditInvalid, match="finite"):
        split_lift(batch, np.full(12, np.nan))
    with pytest.raises(CreditInvalid, match="batches"):
        draw_batches(np.array([3]), 1, seed=0)


def test_leaving_a_group_out_agrees_in_sign() -> None:
    batch = draw_batches(np.array([80, 80]), 40, seed=8).astype(float)
    change = batch @ np.array([1.0, -1.0])
    first, second = leave_one_out(batch, change)
    assert first > 0 > second
    assert leave_one_out(np.ones((3, 1)), np.ones(3)).tolist() == [0]


TEXT = "Prove that every compact subset of a Hausdorff space is closed, and say where it fails."


def test_near_duplicates_are_found_and_different_texts_are_not() -> None:
    texts = [
        TEXT,
        "What is the boiling point of a mixture of ethanol and water at two bars of pressure?",
        "PROVE  that every compact subset of a Hausdorff space is closed -- and say where it fails",
        "Which court hears an appeal in tort when the defendant lives abroad?",
        "",
        "",
        "?!",
    ]
    found = near_duplicates(texts)
    assert list(zip(found.earlier, found.later, strict=True)) == [(0, 2)]
    assert found.likeness[0] > 0.9
    assert shingles("?!") == frozenset()
    assert len(shingles("ab")) == 1


def test_the_likeness_of_signatures_is_that_of_the_sets() -> None:
    words = [f"word{i} " for i in range(300)]
    first, second = shingles("".join(words[:200])), shingles("".join(words[60:260]))
    table = signatures([first, second], hashes=512)
    near = len(first & second) / len(first | second)
    assert (table[0] == table[1]).mean() == pytest.approx(near, abs=0.08)


def test_a_thousand_copies_of_one_text_do_not_make_a_million_pairs() -> None:
    found = near_duplicates([TEXT] * 1000)
    assert len(set(found.later.tolist())) == 999
    kept = novelty(1000, found.earlier, found.later, found.likeness)
    assert kept.sum() == pytest.approx(1)
