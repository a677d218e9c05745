"""Off-policy evaluation: against known truths, with thin support, delays and clusters."""

import math

import numpy as np
import pytest

from matching.arrays import ArrayInvalid
from matching.outcomes import FactorModel, cross_fit
from matching.replay import Limits, Log, compare, evaluate, known_by_now, value_by

EXPERTS, FREE = 8, 4
RATE = np.linspace(0.1, 0.8, EXPERTS)


def drawn(
    seed: int, *, decisions: int = 1500, randomness: float = 0.3
) -> tuple[Log, np.ndarray, np.ndarray, float]:
    """A log that favours the first free expert; a candidate that picks the best; its truth."""
    rng = np.random.default_rng(seed)
    rows = np.arange(decisions)
    free = np.argsort(rng.random((decisions, EXPERTS)), axis=1)[:, :FREE]
    probability = np.full((decisions, FREE), randomness / FREE)
    probability[:, 0] += 1 - randomness
    chosen = (probability.cumsum(axis=1) > rng.random((decisions, 1))).argmax(axis=1)
    outcome = (rng.random((decisions, FREE)) < RATE[free]).astype(float)
    taken = np.zeros((decisions, FREE), bool)
    taken[rows, chosen] = True
    target = np.zeros((decisions, FREE))
    target[rows, free.argmax(axis=1)] = 1
    log = Log(
        decision=np.repeat(rows, FREE),
        probability=probability.ravel(),
        taken=taken.ravel(),
        outcome=np.where(taken, outcome, np.nan).ravel(),
    )
    truth = float(RATE[free.max(axis=1)].mean())
    return log, target.ravel(), free.ravel(), truth


def made(
    decision: object, probability: object, taken: object, outcome: object, **more: object
) -> Log:
    """A log of whatever numbers."""
    columns = [np.asarray(each) for each in (decision, probability, taken, outcome)]
    extra = {name: np.asarray(each) for name, each in more.items()}
    return Log(*columns, **extra)


def test_every_estimator_finds_the_truth_and_the_robust_one_is_the_nearest() -> None:
    off: dict[str, list[float]] = {"ips": [], "snips": [], "direct": [], "robust": [], "switch": []}
    inside = 0
    for seed in range(40):
        log, target, expert, truth = drawn(seed)
        told = evaluate(log, target, cross_fit(log, factors=(expert,), seed=seed))
        for name, errors in off.items():
            errors.append(getattr(told, name).value - truth)
        inside += told.robust.low <= truth <= told.robust.high
    spread = {name: math.sqrt(np.mean(np.square(errors))) for name, errors in off.items()}
    assert max(spread.values()) < 0.08
    assert spread["robust"] < 0.7 * spread["ips"]
    assert inside >= 33


def test_the_logging_policy_s_own_value_is_what_was_seen() -> None:
    log, _, expert, _ = drawn(1)
    told = evaluate(log, log.probability, cross_fit(log, factors=(expert,)))
    seen = float(log.outcome[log.taken].mean())
    assert told.ips.value == pytest.approx(seen)
    assert told.snips.value == pytest.approx(seen)
    assert told.robust.value == pytest.approx(seen, abs=0.01)
    assert told.effective == pytest.approx(log.taken.sum())
    assert told.refusal is None


def test_a_log_without_randomness_gives_no_verdict_and_says_what_would() -> None:
    log, target, expert, _ = drawn(2, randomness=0.0)
    told = evaluate(log, target, cross_fit(log, factors=(expert,)))
    assert told.unsupported > 0.5
    assert told.refusal is not None
    assert "randomness" in told.refusal
    low, high = told.bounds
    assert high - low == pytest.approx(told.unsupported)
    assert low <= told.robust.value <= high


def test_too_few_effective_outcomes_give_no_verdict() -> None:
    log, target, expert, _ = drawn(3, decisions=150)
    told = evaluate(log, target, cross_fit(log, factors=(expert,)))
    assert told.effective < 100
    assert "too few" in str(told.refusal)
    loose = evaluate(log, target, cross_fit(log, factors=(expert,)), limits=Limits(effective=1))
    assert loose.refusal is None


def test_weights_beyond_twenty_thousand_neither_crash_nor_run_away() -> None:
    size = 400
    probability = np.full(size, 0.5)
    probability[0] = 1e-5
    log = made(np.arange(size), probability, np.ones(size), np.ones(size))
    told = evaluate(log, np.ones(size), np.full(size, 0.5))
    assert told.largest_weight > 20_000
    assert told.ips.value > 100
    assert 0.9 < told.robust.value < 1.6
    assert told.switch.value <= told.robust.value
    assert "too few" in str(told.refusal)
    assert all(math.isfinite(x) for x in (told.robust.low, told.snips.high, told.bias_check))


def test_what_clipping_may_have_left_out_widens_the_interval() -> None:
    log, target, expert, _ = drawn(4, randomness=0.1)
    direct = cross_fit(log, factors=(expert,)) - 0.2
    cut = evaluate(log, target, direct, limits=Limits(clip=5))
    whole = evaluate(log, target, direct, limits=Limits(clip=1e6))
    assert cut.clipped > 0.5
    assert whole.clipped == pytest.approx(0, abs=1e-9)
    assert whole.bias_check == pytest.approx(0, abs=1e-9)
    # The model is too low by a fifth wherever it looks, and clipping hides the larger part.
    assert cut.bias_check > 0.05
    assert cut.robust.value < whole.robust.value


def test_experts_who_differ_make_an_interval_by_cluster_wider() -> None:
    rng = np.random.default_rng(5)
    expert = np.repeat(np.arange(40), 25)
    rate = rng.uniform(0.1, 0.9, 40)
    outcome = (rng.random(1000) < rate[expert]).astype(float)
    half = np.full(1000, 0.5)
    taken = rng.random(1000) < 0.5
    plain = made(np.arange(1000), half, taken, outcome)
    grouped = made(np.arange(1000), half, taken, outcome, cluster=expert)
    direct = np.full(1000, 0.5)
    apart = evaluate(plain, half, direct).robust
    together = evaluate(grouped, half, direct).robust
    assert together.value == pytest.approx(apart.value)
    assert together.se > 1.5 * apart.se


def test_outcomes_that_come_late_are_weighed_by_the_chance_of_being_known() -> None:
    rng = np.random.default_rng(6)
    size = 6000
    age = rng.uniform(0, 10, size)
    delay = rng.exponential(2.0, size)
    known = delay <= age
    # Newer work is better, and less of it has been reviewed: what is known is older and worse.
    outcome = (rng.random(size) < np.where(age < 3, 0.8, 0.4)).astype(float)
    chance = known_by_now(age, delay, known)
    assert np.abs(chance - (1 - np.exp(-age / 2))).mean() < 0.03
    naive = outcome[known].mean()
    log = made(
        np.arange(size), np.ones(size), np.ones(size), outcome,
        known=known, known_probability=np.maximum(chance, 0.02),
    )  # fmt: skip
    told = evaluate(log, np.ones(size), np.full(size, 0.5))
    assert abs(told.robust.value - outcome.mean()) < 0.5 * abs(naive - outcome.mean())


def test_two_policies_compared_on_one_log_are_told_apart_better_than_side_by_side() -> None:
    log, target, expert, _ = drawn(7)
    direct = cross_fit(log, factors=(expert,))
    mixed = 0.8 * target + 0.2 * log.probability
    gain = compare(log, target, mixed, direct)
    one, two = evaluate(log, target, direct), evaluate(log, mixed, direct)
    assert gain.value == pytest.approx(one.robust.value - two.robust.value)
    assert gain.se < 0.5 * math.hypot(one.robust.se, two.robust.se)
    assert gain.low > 0


def test_who_gains_adds_up_to_what_the_policy_gains() -> None:
    log, target, expert, _ = drawn(8)
    told = evaluate(log, target, cross_fit(log, factors=(expert,)))
    labels, each = value_by(log, told.edge_value, expert)
    assert labels.tolist() == list(range(EXPERTS))
    assert sum(one.value for one in each) == pytest.approx(told.robust.value * log.decisions)
    # The candidate sends everything to the best who is free.
    assert each[-1].low > each[0].high


def test_an_outcome_model_with_nothing_to_learn_from_still_says_a_number() -> None:
    log = made([0, 0, 1], [0.5, 0.5, 1.0], [0, 0, 0], [0.0, 0.0, 0.0])
    direct = cross_fit(log, factors=(["a", "b", "a"],), covariates=np.ones(3))
    assert (direct == 0).all()
    told = evaluate(log, [1.0, 0.0, 1.0], direct)
    assert told.refusal is not None
    assert not math.isnan(told.robust.value)
    never = evaluate(log, [0.0, 0.0, 0.0], direct)
    assert "never takes" in str(never.refusal)


def test_factor_effects_are_shrunk_and_unknown_levels_have_none() -> None:
    x = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, 2.0]])
    model = FactorModel(2).fit(x, np.array([1.0, 1.0, 0.0, 0.0]))
    told = model.predict(np.array([[0.0, 1.0], [1.0, 2.0], [9.0, 9.0]]))
    assert 0.5 < told[0] < 1.0
    assert 0.0 < told[1] < 0.5
    assert told[2] == pytest.approx(0.5)


def test_what_is_refused_names_the_array_and_the_place() -> None:
    with pytest.raises(ArrayInvalid, match=r"probability\[1\].*was taken"):
        made([0, 1], [0.5, 0.0], [0, 1], [0.0, 1.0])
    with pytest.raises(ArrayInvalid, match=r"outcome\[0\]"):
        made([0, 1], [0.5, 0.5], [1, 0], [math.nan, math.nan])
    with pytest.raises(ArrayInvalid, match=r"probability\[0\]"):
        made([0], [1.5], [1], [1.0])
    log = made([0], [0.5], [1], [1.0])
    with pytest.raises(ArrayInvalid, match=r"target\[0\]"):
        evaluate(log, [math.nan], [0.5])
    with pytest.raises(ArrayInvalid, match="direct"):
        evaluate(log, [1.0], [0.5, 0.5])
    with pytest.raises(ArrayInvalid, match="holds no decision"):
        evaluate(made([], [], [], []), [], [])
