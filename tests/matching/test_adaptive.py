"""Adaptive tests: banks, the next item, stopping, exposure, retakes, wrong keys and re-grading."""

import math
from copy import deepcopy

import numpy as np
import pytest

from matching.adaptive import Exposure, ItemWatch, Sitting, Tables, TestRules, regrade
from matching.arrays import ArrayInvalid
from matching.itembank import ItemBank

ITEMS, PERSONS = 120, 400


def answers(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Everybody answers two thirds of the items: person, item, right, true ease, true slope."""
    rng = np.random.default_rng(seed)
    ability = rng.normal(size=PERSONS)
    ease, slope = rng.normal(0.3, 1.0, ITEMS), rng.uniform(0.6, 1.6, ITEMS)
    person, item = np.divmod(np.arange(PERSONS * ITEMS), ITEMS)
    keep = rng.random(len(person)) < 2 / 3
    person, item = person[keep], item[keep]
    chance = 1 / (1 + np.exp(-(slope[item] * ability[person] + ease[item])))
    return person, item, rng.random(len(item)) < chance, ease, slope


@pytest.fixture(scope="module")
def bank() -> ItemBank:
    """A bank of two domains, well calibrated."""
    person, item, right, _, _ = answers()
    return ItemBank().fit(person, item, right, domain=np.arange(ITEMS) % 2)


@pytest.fixture(scope="module")
def tables(bank: ItemBank) -> Tables:
    """The same bank, worked out."""
    return Tables(bank)


def sit(tables: Tables, rules: TestRules, exposure: Exposure, ability: float, seed: int) -> Sitting:
    """A made-up person takes the test."""
    rng = np.random.default_rng(seed)
    sitting = Sitting(tables, rules, seed=seed)
    exposure.start()
    while (ask := sitting.next_item(exposure)) is not None:
        chance = tables.bank.chance(np.array([ability]), np.array([ask.item]))[0, 0]
        sitting.answer(ask.item, right=bool(rng.random() < chance))
    return sitting


def test_a_bank_recovers_how_easy_and_how_telling_its_items_are(bank: ItemBank) -> None:
    _, _, _, ease, slope = answers()
    assert np.corrcoef(bank.ease_, ease)[0, 1] > 0.97
    assert np.corrcoef(bank.slope_, slope)[0, 1] > 0.75
    assert np.abs(bank.ease_ - ease).mean() < 0.2


def test_an_item_without_answers_has_its_domain_s_ease_and_does_not_score() -> None:
    person, item, right, _, _ = answers()
    known = item < ITEMS - 5
    fitted = ItemBank().fit(person[known], item[known], right[known], domain=np.arange(ITEMS) % 2)
    assert np.isfinite(fitted.ease_).all()
    assert fitted.ease_[-1] == fitted.ease_[-3]
    sitting = Sitting(Tables(fitted), TestRules(), seed=1)
    before = sitting.posterior
    sitting.answer(ITEMS - 1, right=True)
    assert (sitting.posterior == before).all()
    assert sitting.scored == 0


@pytest.mark.parametrize("right", [[1, 1, 1, 1], [0, 0, 0, 0], [1]])
def test_one_person_or_one_outcome_gives_a_bank_of_finite_numbers(right: list[int]) -> None:
    fitted = ItemBank().fit(np.zeros(len(right)), [0] * len(right), right, domain=["a", "b"])
    assert np.isfinite(fitted.slope_).all()
    assert np.isfinite(fitted.ease_).all()
    told = fitted.statistics()
    assert np.isfinite(told.slope_sd).all()
    assert not len(fitted.suspects())


def test_a_wrong_key_is_found_and_right_ones_are_left_alone() -> None:
    person, item, right, _, _ = answers(3)
    wrong = [4, 40, 77]
    marked = np.where(np.isin(item, wrong), ~right, right)
    found = ItemBank().fit(person, item, marked, domain=np.zeros(ITEMS, int)).suspects()
    assert set(wrong) <= set(found.tolist())
    assert len(found) <= len(wrong) + 1


def test_withdrawing_an_item_grades_as_if_it_had_never_been_asked(tables: Tables) -> None:
    rules = TestRules(cut=0.0)
    right = np.arange(20) % 3 > 0
    without = np.delete(np.arange(20), [3, 5])
    graded = regrade(tables, np.arange(20), right, rules=rules, withdrawn=[3, 5])
    assert graded == regrade(tables, without, right[without], rules=rules)
    turned = right.copy()
    turned[3] = ~turned[3]
    assert regrade(tables, np.arange(20), turned, rules=rules).mean > graded.mean - 1
    assert graded.items == 18


def test_a_test_is_nearer_to_the_truth_than_as_many_random_items(tables: Tables) -> None:
    rng = np.random.default_rng(5)
    rules = TestRules(longest=15, least=15, pretest_share=0.0)
    exposure = Exposure(ITEMS)
    ability = rng.normal(size=150)
    told, drawn = [], []
    for n, one in enumerate(ability):
        told.append(sit(tables, rules, exposure, float(one), n).evidence().mean)
        items = rng.permutation(ITEMS)[:15]
        right = rng.random(15) < tables.bank.chance(np.array([one]), items)[:, 0]
        drawn.append(regrade(tables, items, right, rules=rules).mean)
    assert np.corrcoef(told, ability)[0, 1] > 0.82
    assert np.mean((told - ability) ** 2) < np.mean((np.array(drawn) - ability) ** 2)
    assert exposure.shown.max() <= 0.25 * 150 + 1


def test_a_test_stops_when_the_side_of_the_cut_is_plain_and_goes_on_near_it(
    tables: Tables,
) -> None:
    rules = TestRules(cut=0.0, precise=0.0)
    far = sit(tables, rules, Exposure(ITEMS), 2.5, 1)
    assert far.scored < 15
    assert "above the cut" in str(far.stopped)
    length = [sit(tables, rules, Exposure(ITEMS), 0.0, n).scored for n in range(6)]
    assert np.mean(length) > far.scored
    assert max(length) <= 25
    precise = sit(tables, TestRules(precise=0.6), Exposure(ITEMS), 0.3, 2)
    assert "is known to" in str(precise.stopped)


def test_the_result_is_evidence_with_more_doubt_than_the_test_alone_would_have(
    tables: Tables,
) -> None:
    sitting = sit(tables, TestRules(cut=0.2), Exposure(ITEMS), 1.5, 4)
    raw, told = sitting.evidence(inflation=1.0), sitting.evidence()
    assert told.mean == raw.mean
    assert told.sd == pytest.approx(raw.sd * math.sqrt(1.75))
    assert raw.chance_above is not None
    assert told.chance_above is not None
    assert abs(told.chance_above - 0.5) < abs(raw.chance_above - 0.5)


def test_content_is_balanced_over_domains_as_asked(tables: Tables) -> None:
    rules = TestRules(least=20, longest=20, precise=0.0, shares=(3.0, 1.0), pretest_share=0.0)
    sitting = sit(tables, rules, Exposure(ITEMS), 0.0, 3)
    assert sum(item % 2 for item in sitting.items) == 5


def test_a_retake_never_shows_an_item_again_and_ends_when_none_is_left(tables: Tables) -> None:
    rules = TestRules(longest=30, least=30, precise=0.0)
    first = sit(tables, rules, Exposure(ITEMS), 0.0, 1)
    exposure = Exposure(ITEMS)
    again = Sitting(tables, rules, seed=1, seen=first.items)
    while (ask := again.next_item(exposure)) is not None:
        again.answer(ask.item, right=True)
    assert not set(first.items) & set(again.items)
    with pytest.raises(ArrayInvalid, match="before"):
        again.answer(first.items[0], right=True)
    with pytest.raises(ArrayInvalid, match="no calibrated item"):
        Sitting(tables, rules, seed=1, seen=range(ITEMS))


def test_a_test_built_again_from_its_answers_goes_on_as_it_would_have(tables: Tables) -> None:
    rules, exposure = TestRules(least=20, longest=20), Exposure(ITEMS)
    sitting = Sitting(tables, rules, seed=9)
    for n in range(7):
        ask = sitting.next_item(exposure)
        assert ask is not None
        assert sitting.next_item(exposure) == ask
        sitting.answer(ask.item, right=n % 2 == 0)
    rebuilt = Sitting(tables, rules, seed=9)
    for item, right in zip(sitting.items, sitting.right, strict=True):
        rebuilt.answer(item, right=right)
    assert rebuilt.next_item(deepcopy(exposure)) == sitting.next_item(deepcopy(exposure))
    assert rebuilt.evidence() == sitting.evidence()


def test_items_to_be_calibrated_are_a_tenth_of_what_is_asked() -> None:
    person, item, right, _, _ = answers()
    few = (item >= 20) | (person < 5)
    young = ItemBank().fit(person[few], item[few], right[few], domain=np.zeros(ITEMS, int))
    rules = TestRules(least=25, longest=25, precise=0.0)
    exposure, waiting, asked = Exposure(ITEMS), 0, 0
    for seed in range(40):
        sitting = sit(Tables(young), rules, exposure, 0.0, seed)
        waiting += sum(item < 20 for item in sitting.items)
        asked += len(sitting.items)
        assert sitting.scored == 25
    assert 0.05 < waiting / asked < 0.16


def test_a_leaked_item_is_noticed_and_a_steady_one_is_not() -> None:
    rng = np.random.default_rng(6)
    watch = ItemWatch(2)
    assert all(watch.observe(0, 0.5, right=bool(rng.random() < 0.5)) is None for _ in range(400))
    said = [watch.observe(1, 0.5, right=bool(rng.random() < 0.9)) for _ in range(60)]
    first = next(n for n, words in enumerate(said) if words)
    assert first < 40
    assert "leaked" in str(said[first])


def test_what_is_refused_names_the_array() -> None:
    with pytest.raises(ArrayInvalid, match=r"right\[1\]"):
        ItemBank().fit([0, 0], [0, 1], [1, 2], domain=["a", "a"])
    with pytest.raises(ArrayInvalid, match=r"item\[1\]"):
        ItemBank().fit([0, 0], [0, 7], [1, 0], domain=["a", "a"])
    with pytest.raises(ArrayInvalid, match="holds no answers"):
        ItemBank().fit([], [], [], domain=["a"])
    with pytest.raises(ArrayInvalid, match="has not been fitted"):
        Tables(ItemBank())
    with pytest.raises(ArrayInvalid, match="cut"):
        TestRules(cut=math.nan)
