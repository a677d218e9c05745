"""The value of a pair is the sum of its named parts under a policy."""

import numpy as np
import pytest

from matching.policy import ALL_INTEREST, Policy, Weights
from matching.problem import ProblemInvalid
from matching.value import PART_KINDS, PairParts, pair_value
from tests.bench.simulations import busy_top

rng = np.random.default_rng(4)
PARTS = PairParts(
    stump=rng.random(50),
    stump_sd=rng.random(50) * 0.3,
    worth=rng.random(50) * 4,
    novelty=rng.random(50),
    urgency=rng.random(50),
    quality=rng.random(50),
    interest=rng.random(50),
    affinity=rng.random(50),
    learning=rng.random(50),
    cost=np.floor(rng.random(50) * 9000),
    concentration=rng.random(50),
)


def test_parts_sum_to_the_total() -> None:
    value = pair_value(PARTS, Policy(weights=Weights(cost=0.02), exploration=1.0))
    names = [part.name for part in value.parts]
    assert names == [
        "stump",
        "exploration",
        "urgency",
        "quality",
        "interest",
        "affinity",
        "learning",
        "cost",
        "concentration",
    ]
    assert np.allclose(sum(part.weighed for part in value.parts), value.total)
    by_name = {part.name: part for part in value.parts}
    assert (by_name["cost"].weighed <= 0).all()
    assert (by_name["concentration"].weighed <= 0).all()


def test_a_policy_of_interest_alone_is_the_interest_to_the_last_bit() -> None:
    value = pair_value(PARTS, Policy(weights=ALL_INTEREST, exploration=2.0))
    assert PARTS.interest is not None
    assert (value.total == PARTS.interest).all()
    assert [part.name for part in value.parts] == ["interest"]


def test_a_strong_record_outranks_a_degree_without_one() -> None:
    # A degree only sets the prior: it reaches the value as a middling chance that is uncertain.
    parts = PairParts(
        stump=np.array([0.25, 0.6]), stump_sd=np.array([0.2, 0.05]), quality=np.array([0.3, 0.9])
    )
    total = pair_value(parts, Policy(exploration=1.0)).total
    assert total[1] > total[0]


def test_exploration_never_hopes_for_more_than_certainty() -> None:
    parts = PairParts(stump=np.array([0.9]), stump_sd=np.array([0.5]))
    value = pair_value(parts, Policy(exploration=3.0))
    assert value.total[0] == pytest.approx(1.0)


def test_more_uncertainty_is_worth_more_to_a_policy_that_explores() -> None:
    parts = PairParts(stump=np.array([0.3, 0.3]), stump_sd=np.array([0.1, 0.2]))
    explored = pair_value(parts, Policy(exploration=1.0)).total
    assert explored[1] > explored[0]
    settled = pair_value(parts, Policy()).total
    assert settled[1] == settled[0]


@pytest.mark.parametrize("name", sorted(PART_KINDS))
def test_a_part_out_of_its_bounds_is_refused_by_name_and_pair(name: str) -> None:
    part = np.zeros(3)
    part[2] = PART_KINDS[name].high * 2 + 1
    with pytest.raises(ProblemInvalid) as refusal:
        PairParts(**{name: part})
    assert (refusal.value.array, refusal.value.index) == (name, 2)


def test_parts_of_different_lengths_are_refused() -> None:
    with pytest.raises(ProblemInvalid) as refusal:
        PairParts(stump=np.zeros(3), interest=np.zeros(4))
    assert refusal.value.array == "interest"


def test_matching_keeps_the_planted_top_as_busy_as_they_said() -> None:
    found = busy_top.run(seed=7, rounds=3)
    assert found["met"], found
