"""Always-valid A/B tests: intervals that hold at every look, under clustering, and stop rules."""

import math

import numpy as np
import pytest
from scipy.special import ndtr

from matching.arm_sums import Past, cluster_sums
from matching.arrays import ArrayInvalid
from matching.experiment import (
    Effect,
    Guardrail,
    boundary,
    decide,
    effect_of,
    log_evidence,
    plan_test,
)


def sums(
    seed: int, *, effect: float = 0.0, clusters: int = 60, per: int = 20, aside: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Assignments of two arms of experts whose rates differ: cluster, arm, outcome, prediction."""
    rng = np.random.default_rng(seed)
    rate = np.clip(rng.normal(0.3, 0.1, 2 * clusters), 0.02, 0.9)
    cluster = np.repeat(np.arange(2 * clusters), per)
    treated = cluster % 2
    chance = np.clip(rate[cluster] + effect * treated, 0, 1)
    outcome = (rng.random(len(cluster)) < chance).astype(float) + aside
    return cluster, treated, outcome, rate[cluster]


def test_evidence_against_no_difference_is_one_on_average_when_there_is_none() -> None:
    ratio = np.linspace(-12, 12, 4801)
    weight = np.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi) * (ratio[1] - ratio[0])
    for progress in (0.05, 0.3, 1.0):
        evidence = np.exp([log_evidence(one, progress) for one in ratio])
        assert weight @ evidence == pytest.approx(1.0, abs=1e-3)


def test_the_boundary_is_where_the_evidence_is_one_over_alpha_and_tightest_near_the_end() -> None:
    for alpha in (0.01, 0.05, 0.2):
        bound = [boundary(progress, alpha) for progress in (0.02, 0.1, 1.0, 30.0)]
        assert log_evidence(bound[2], 1.0, alpha) == pytest.approx(-math.log(alpha))
        assert min(bound) == bound[2]
        # Wider than the bound of a single look, which is not valid at many.
        assert 2 * ndtr(-bound[2]) < alpha


def test_an_expert_with_many_assignments_counts_once_and_not_many_times() -> None:
    cluster, treated, outcome, _ = sums(3)
    by_expert = effect_of(cluster_sums(cluster, treated, outcome), planned_se=0.03)
    alone = np.arange(len(cluster))
    ignoring = effect_of(cluster_sums(alone, treated, outcome), planned_se=0.03)
    assert by_expert.estimate == pytest.approx(ignoring.estimate)
    assert by_expert.se > 1.1 * ignoring.se


def test_a_prediction_made_before_the_draw_takes_variance_away_and_moves_nothing_else() -> None:
    found, plain = [], []
    for seed in range(60):
        cluster, treated, outcome, predicted = sums(seed, effect=0.05)
        arms = cluster_sums(cluster, treated, outcome, covariate=predicted)
        found.append(effect_of(arms, planned_se=0.02))
        plain.append(effect_of(cluster_sums(cluster, treated, outcome), planned_se=0.02))
    told = np.array([each.estimate for each in found])
    assert told.mean() == pytest.approx(0.05, abs=4 * told.std() / math.sqrt(60))
    assert told.std() < 0.85 * np.std([each.estimate for each in plain])
    assert np.mean([each.se for each in found]) == pytest.approx(told.std(), rel=0.3)
    assert np.mean([each.reduction for each in found]) > 0.3


def test_what_was_known_before_takes_variance_away_where_the_treatment_chooses_who_works() -> None:
    found, plain = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        skill = rng.normal(0.3, 0.1, 200)
        arm = rng.permutation(200) % 2
        # The treated arm gives most of its work to the better half, whose work is as good as ever.
        share = np.where((arm == 1) & (skill < 0.3), 0.25, 1.0)
        per = rng.poisson(30 * share)
        per[:5] = 0
        cluster = np.repeat(np.arange(200), per)
        outcome = (rng.random(len(cluster)) < np.clip(skill, 0, 1)[cluster]).astype(float)
        past = Past(np.arange(200), arm, skill[:, None] + rng.normal(0, 0.02, (200, 1)))
        seen = cluster_sums(cluster, arm[cluster], outcome, past=past)
        found.append(effect_of(seen, planned_se=0.02))
        plain.append(
            effect_of(cluster_sums(cluster, arm[cluster], outcome), planned_se=0.02).estimate
        )
        assert sum(found[-1].clusters) < 200
    told = np.array([each.estimate for each in found])
    # The halves lie .8 of a deviation of .1 off; of the treated, the lower weighs a quarter.
    gain = 0.1 * math.sqrt(2 / math.pi) * (1 - 0.25) / (1 + 0.25)
    assert told.mean() == pytest.approx(gain, abs=4 * told.std() / math.sqrt(60))
    assert told.std() < 0.9 * np.std(plain)
    assert np.mean([each.se for each in found]) == pytest.approx(told.std(), rel=0.3)


def test_the_past_of_few_or_of_nobody_changes_nothing() -> None:
    cluster, treated, outcome, predicted = sums(2)
    bare = effect_of(cluster_sums(cluster, treated, outcome), planned_se=0.03)
    few = Past(np.arange(12), np.arange(12) % 2, predicted[::20][:12, None])
    seen = effect_of(cluster_sums(cluster, treated, outcome, past=few), planned_se=0.03)
    assert (seen.estimate, seen.se) == pytest.approx((bare.estimate, bare.se))
    with pytest.raises(ArrayInvalid, match="names a cluster twice"):
        cluster_sums(cluster, treated, outcome, past=Past([0, 0], [0, 0], np.zeros((2, 1))))
    with pytest.raises(ArrayInvalid, match="both arms"):
        cluster_sums(cluster, treated, outcome, past=Past([0], [1], np.zeros((1, 1))))


def test_experts_who_only_have_a_past_make_nothing_surer() -> None:
    cluster, treated, outcome, _ = sums(3, clusters=24)
    bare = effect_of(cluster_sums(cluster, treated, outcome), planned_se=0.03)
    # Of a thousand others is known what says nothing of anybody.
    noise = np.random.default_rng(0).normal(0, 1, (1000, 1))
    past = Past(np.arange(1000) + 24, np.arange(1000) % 2, noise)
    seen = effect_of(cluster_sums(cluster, treated, outcome, past=past), planned_se=0.03)
    assert seen.clusters == bare.clusters
    assert seen.se >= bare.se
    assert seen.high - seen.low >= bare.high - bare.low


def test_looking_twenty_times_at_two_equal_arms_declares_little() -> None:
    declared = naive = 0
    for seed in range(200):
        cluster, treated, outcome, _ = sums(seed, clusters=25, per=20)
        order = np.random.default_rng(seed).permutation(len(cluster))
        seen = wrong = False
        for upto in np.linspace(100, len(cluster), 20).astype(int):
            part = order[:upto]
            arms = cluster_sums(cluster[part], treated[part], outcome[part])
            effect = effect_of(arms, planned_se=0.035)
            seen |= effect.low > 0 or effect.high < 0
            wrong |= abs(effect.estimate) > 1.96 * effect.se
        declared += seen
        naive += wrong
    assert declared <= 0.05 * 200
    assert naive > 2 * 0.05 * 200


def test_too_few_clusters_or_an_empty_arm_leave_the_interval_open() -> None:
    cluster, treated, outcome, _ = sums(1, clusters=5)
    few = effect_of(cluster_sums(cluster, treated, outcome), planned_se=0.03)
    assert not few.is_known
    assert few.p_value == 1
    assert decide(few).decision == "continue"
    alone = effect_of(cluster_sums([1, 2], [0, 0], [0.0, 1.0]), planned_se=0.03)
    assert (alone.low, alone.high) == (-math.inf, math.inf)
    assert not math.isnan(alone.estimate)


@pytest.mark.parametrize("value", [0.0, 1.0, 7.5])
def test_outcomes_that_never_vary_say_nothing_and_are_not_nan(value: float) -> None:
    cluster, treated, outcome, _ = sums(1)
    arms = cluster_sums(
        cluster, treated, np.full(len(outcome), value), covariate=np.ones(len(outcome))
    )
    effect = effect_of(arms, planned_se=0.03)
    assert not effect.is_known
    assert effect.estimate == pytest.approx(0)


def test_a_constant_and_a_doubled_covariate_change_nothing() -> None:
    cluster, treated, outcome, predicted = sums(2)
    once = effect_of(cluster_sums(cluster, treated, outcome, covariate=predicted), planned_se=0.03)
    table = np.column_stack([predicted, predicted, np.ones(len(outcome))])
    more = effect_of(cluster_sums(cluster, treated, outcome, covariate=table), planned_se=0.03)
    assert more.estimate == pytest.approx(once.estimate)
    assert more.se == pytest.approx(once.se)


def test_what_is_refused_names_the_array_and_the_place() -> None:
    with pytest.raises(ArrayInvalid, match=r"outcome\[1\]"):
        cluster_sums([1, 2], [0, 1], [0.0, math.nan])
    with pytest.raises(ArrayInvalid, match=r"treated\[0\].*both arms"):
        cluster_sums([1, 1], [0, 1], [0.0, 1.0])
    with pytest.raises(ArrayInvalid, match=r"treated\[1\]"):
        cluster_sums([1, 2], [0, 2], [0.0, 1.0])
    with pytest.raises(ArrayInvalid, match="cluster"):
        cluster_sums([1], [0, 1], [0.0, 1.0])
    with pytest.raises(ArrayInvalid, match="planned_se"):
        effect_of(cluster_sums([1, 2], [0, 1], [0.0, 1.0]), planned_se=0.0)


def effect(low: float, high: float, control: float = 0.3) -> Effect:
    """An effect with this interval."""
    middle = (low + high) / 2
    return Effect(middle, low, high, 0.01, 1.0, control, control, (50, 50), (500, 500), 0.0)


def test_a_guardrail_that_is_worse_for_sure_stops_whatever_the_metric_says() -> None:
    worse = Guardrail("validity", effect(-0.09, -0.01))
    assert decide(effect(0.01, 0.05), guardrails=(worse,)).decision == "stop_harm"
    # A longer wait is worse though the number is higher.
    slow = Guardrail("wait", effect(1.0, 3.0, control=10.0), higher_is_better=False)
    stopped = decide(effect(0.01, 0.05), guardrails=(slow,))
    assert stopped.decision == "stop_harm"
    assert "wait" in stopped.reason


def test_promotion_waits_until_no_guardrail_could_be_worse_than_its_tolerance() -> None:
    unsure = Guardrail("validity", effect(-0.02, 0.02))
    sure = Guardrail("validity", effect(-0.004, 0.02))
    assert decide(effect(0.01, 0.05), guardrails=(unsure,)).decision == "continue"
    assert decide(effect(0.01, 0.05), guardrails=(sure,)).decision == "promote"
    assert decide(effect(-0.05, -0.01)).decision == "stop_harm"
    assert decide(effect(-0.01, 0.02), smallest_effect=0.03).decision == "stop_futile"
    assert decide(effect(-0.01, 0.04), smallest_effect=0.03).decision == "continue"


def test_the_plan_grows_with_clustering_and_shrinks_with_a_prediction() -> None:
    plain = plan_test(baseline=0.25, effect=0.05)
    heavy = plan_test(baseline=0.25, effect=0.05, per_cluster=20, icc=0.05)
    helped = plan_test(baseline=0.25, effect=0.05, per_cluster=20, icc=0.05, explained=0.4)
    assert heavy.design_effect == pytest.approx(1.95)
    assert plain.units < helped.units < heavy.units
    assert heavy.clusters == math.ceil(heavy.units / 20) or heavy.clusters * 20 >= heavy.units
    assert 1.5 < plain.price < 2.0
    with pytest.raises(ArrayInvalid, match="baseline"):
        plan_test(baseline=1.2, effect=0.05)
