"""Recorded runs under another policy: what would have been planned, and what would have come."""

from dataclasses import replace

import numpy as np
import pytest

from matching.assign import assign
from matching.policy import Policy
from matching.preview import Candidate, NothingRecorded, Worthless, preview, replayed
from matching.problem import Problem
from matching.ranking import rank_change
from matching.signals import signals
from matching.tuning import Goal, KnobUnknown, search
from matching.value import pair_value
from tests.bench.simulations.previews import coverage
from tests.bench.simulations.seeded_market import BAD, BLIND, GOOD, NOTHING, TODAY, market, weighed
from tests.bench.simulations.trials import found_policy, trial


def test_a_run_replayed_under_its_own_policy_gives_its_own_probabilities() -> None:
    known = market(3, tasks=60, experts=30)
    _, chance = replayed(known.past, Candidate(TODAY), seed=3)
    assert (chance == known.past.chance).all()
    told = preview([known.past], Candidate(TODAY), seed=3)
    for sides in (*told.planned.values(), *told.realised.values()):
        assert sides.change.value == pytest.approx(0.0, abs=1e-9)


def test_intervals_hold_the_truth_and_tell_a_good_policy_from_a_bad_one() -> None:
    # The bench does two hundred seeds; here it would show if half of them were wrong.
    found = coverage(1, 6, tasks=300)
    assert float(str(found["coverage_of_all"])) >= 0.75
    assert found["better_told_from_worse"] == 1.0


def test_what_a_record_cannot_tell_is_said() -> None:
    # Nothing was drawn: of what another policy would do, little was ever tried.
    known = market(5, tasks=80, experts=40, policy=replace(TODAY, randomness=1.0))
    told = preview([known.past], Candidate(BAD), seed=1)
    assert told.refusal is not None
    assert "never tried" in told.refusal
    assert told.bounds[0] < told.realised["stumps"].candidate.value < told.bounds[1]
    assert told.planned["fill"].candidate.value == 1.0


def test_nothing_to_replay_and_a_worthless_policy_are_refused() -> None:
    with pytest.raises(NothingRecorded):
        preview([], Candidate(TODAY))
    with pytest.raises(Worthless, match="none of 360 pairs"):
        preview([market(1, tasks=60, experts=30).past], Candidate(Policy(weights=NOTHING)))


def test_who_gains_and_who_loses_adds_up_to_the_plan() -> None:
    known = market(7, tasks=60, experts=30)
    told = preview([known.past], Candidate(GOOD), seed=1)
    seats = told.planned["fill"]
    assert told.experts.seats_after.sum() == pytest.approx(seats.candidate.value * told.seats)
    assert told.experts.pay_before.sum() == pytest.approx(told.planned["cost"].today.value)
    assert told.groups.seats_before.sum() == pytest.approx(seats.today.value * told.seats)
    assert told.group_seats.sum() == told.seats


def test_a_search_finds_more_stumps_and_answers_a_frontier_the_same_twice() -> None:
    past = market(2, tasks=60, experts=30).past
    told = search([past], Candidate(TODAY), goal=Goal(0.95, 1), evaluations=25, seed=4)
    again = search([past], Candidate(TODAY), goal=Goal(0.95, 1), evaluations=25, seed=4)
    assert told.choices == again.choices
    assert told.evaluations <= 25
    assert told.reached
    assert told.choices[0].stumps > 1.1 * told.today.stumps
    pairs = [(one.stumps, one.fill) for one in told.choices]
    assert pairs == sorted(pairs, key=lambda one: (-one[0], one[1]))
    with pytest.raises(KnobUnknown):
        search([past], Candidate(TODAY), goal=Goal(0.9), knobs=("weights.charm",))


def test_costly_seats_are_filled_at_a_price_that_the_search_finds() -> None:
    past = market(4, tasks=60, experts=30).past
    dear = Candidate(replace(TODAY, weights=weighed(stump=0.3, interest=0.2, cost=0.02)))
    goal = Goal(0.95)
    told = search([past], dear, goal=goal, evaluations=40, seed=1, knobs=("open_seat_price",))
    assert told.today.fill < 0.95
    assert told.reached


def test_a_good_policy_is_promoted_a_bad_one_stopped_and_the_same_one_is_neither() -> None:
    policy, gain = found_policy(1, evaluations=25)
    assert gain > 1
    assert policy != BLIND
    assert trial(1, GOOD, control=BLIND)[0] == "promote"
    assert trial(1, BAD)[0] == "stop_harm"
    assert trial(1, replace(TODAY, randomness=1.0), rounds=4)[0] == "continue"


def small(capacity: list[int]) -> Problem:
    """Two groups of tasks: of the first, three tasks want experts and one can work."""
    return Problem(
        expert=np.array([0, 0, 0, 1, 2], np.int32),
        task=np.array([0, 1, 2, 3, 3], np.int32),
        value=np.array([1.0, 2.0, 3.0, 1.0, 0.5]),
        demand=np.ones(4, np.int32),
        capacity=np.array(capacity, np.int32),
    )


def test_what_one_more_expert_would_be_worth_is_what_a_new_plan_gains() -> None:
    problem = small([1, 1, 1])
    answer = assign(problem)
    told = signals(problem, answer, np.array([0, 0, 0, 1]))
    assert (told.skills[0].group, told.skills[0].open_seats) == (0, 2)
    with_one = Problem(
        expert=np.append(problem.expert, [3, 3, 3]).astype(np.int32),
        task=np.append(problem.task, [0, 1, 2]).astype(np.int32),
        value=np.append(problem.value, [1.0, 2.0, 3.0]),
        demand=problem.demand,
        capacity=np.array([1, 1, 1, 1], np.int32),
    )
    gain = assign(with_one).objective - answer.objective
    assert gain == pytest.approx(2.0)
    assert told.skills[0].one_more >= gain - 1e-9
    assert told.skills[1].one_more <= 0.5


def test_a_budget_that_binds_has_a_price_and_one_that_does_not_has_none() -> None:
    plain = small([3, 1, 1])
    cost, project = np.full(5, 100, np.int64), np.array([0, 0, 0, 1], np.int32)
    tight = replace(plain, cost=cost, project=project, budget=np.array([200, 10_000]))
    told = signals(tight, assign(tight), np.zeros(4, np.int64))
    assert [one.binds for one in told.budgets] == [True, False]
    assert (told.budgets[0].project, told.budgets[0].open_seats) == (0, 1)
    assert told.budgets[0].spent == 200


def test_a_change_of_rank_names_the_part_that_moved_it_and_why() -> None:
    past = market(6, tasks=20, experts=10).past
    before = pair_value(past.parts, TODAY)
    after = pair_value(past.parts, GOOD)
    other = replace(past.problem, value=after.total)
    for pair in range(0, past.problem.pairs, 7):
        told = rank_change((past.problem, before, pair), (other, after, pair))
        moved = sum(part.moved for part in told.parts)
        assert moved == pytest.approx(told.value_after - told.value_before)
        for part in told.parts:
            assert part.by_measure == pytest.approx(0.0, abs=1e-9)
            assert part.by_weight == pytest.approx(part.moved)
        assert "because it counts otherwise" in told.sentence
    with pytest.raises(IndexError):
        rank_change((past.problem, before, 10**6), (other, after, 0))
