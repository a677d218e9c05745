"""Drawn plans: exact chances, every rule in every draw, as even as the published ones."""

import numpy as np
import pytest

from matching.assign import Effort, assign
from matching.draw import draw
from matching.lottery import CeilingTooLow
from matching.model import make_model
from matching.policy import Policy, PolicyInvalid
from matching.problem import Problem
from matching.spread import UNIT, best_under_ceiling, entropy, spread
from matching.synthetic import Size, make_problem
from matching.verify import verify
from tests.matching.bids import bid_problem, malicious_problem, read_rows, shared_folder

SMALL = Size(tasks=60, experts=200, near=12)


def test_each_pair_is_drawn_as_often_as_its_probability_says() -> None:
    model = make_model(make_problem(SMALL, seed=2))
    best = best_under_ceiling(model.seats, model.profit, 0.6)
    even = spread(model.seats, model.profit, 0.6, 0.95 * best.total)
    assert even.total >= 0.95 * best.total
    chance = even.units / UNIT
    assert chance.max() <= 0.6 + 1e-9
    rounds = 500
    times = np.zeros(len(chance))
    for seed in range(rounds):
        on = draw(model.seats, even.units, even.open_units, seed)
        seats = np.bincount(model.seats.task[on], minlength=model.seats.tasks)
        load = np.bincount(model.seats.expert[on], minlength=model.seats.experts)
        assert (seats <= model.seats.demand).all()
        assert (load <= model.seats.capacity).all()
        times += on
    assert (times[chance == 0] == 0).all()
    some = chance > 0
    off = (times - rounds * chance)[some] / np.sqrt(rounds * (chance * (1 - chance))[some])
    # Standard normal if the chances are exact; five deviations among a few hundred pairs.
    assert np.abs(off).max() < 5
    assert 0.8 < off.std() < 1.2


def test_a_drawn_plan_carries_its_probabilities_and_passes_the_judge() -> None:
    problem = make_problem(SMALL, seed=3)
    policy = Policy(randomness=0.5, perturbation=0.05)
    first, again = (assign(problem, policy, seed=4) for _ in range(2))
    assert (first.chosen == again.chosen).all()
    assert verify(problem, first) == []
    assert first.marginal.max() <= 0.5 + 1e-6
    assert first.expected <= first.bound
    other = assign(problem, policy, seed=5)
    assert other.chosen.tolist() != first.chosen.tolist()
    assert (other.marginal_pair == first.marginal_pair).all()


def test_giving_up_more_of_the_total_spreads_chances_further() -> None:
    model = make_model(make_problem(SMALL, seed=3))
    best = best_under_ceiling(model.seats, model.profit, 0.7)
    even = [
        entropy(spread(model.seats, model.profit, 0.7, share * best.total).units)
        for share in (1.0, 0.99, 0.95, 0.9)
    ]
    assert even == sorted(even)
    assert even[-1] > 1.1 * even[0]


def test_under_side_rules_each_draw_is_a_whole_plan_within_them() -> None:
    problem = make_problem(SMALL, seed=6, budgets=True, hours=True, floors=True, share_cap=0.3)
    policy = Policy(randomness=0.75, perturbation=0.02)
    effort = Effort(rounds=8, core_pairs=0)
    best = assign(problem, effort=effort)
    for seed in range(4):
        drawn = assign(problem, policy, seed=seed, effort=effort)
        assert verify(problem, drawn) == []
        assert drawn.marginal.max() <= 0.75
        assert drawn.objective >= 0.85 * best.objective
    with pytest.raises(CeilingTooLow):
        assign(problem, Policy(randomness=0.001), effort=effort)


def test_locked_pairs_are_in_every_draw_and_count_as_certain() -> None:
    plain = make_problem(SMALL, seed=3)
    locked = assign(plain).chosen[:5]
    problem = Problem(
        plain.expert, plain.task, plain.value, plain.demand, plain.capacity, locked=locked
    )
    drawn = assign(problem, Policy(randomness=0.5), seed=1)
    assert np.isin(locked, drawn.chosen).all()
    assert (drawn.probability[np.isin(drawn.chosen, locked)] == 1).all()
    assert verify(problem, drawn) == []


def test_a_floor_and_a_lot_exclude_each_other() -> None:
    with pytest.raises(PolicyInvalid):
        Policy(floor=True, randomness=0.5)


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["preflib1", "preflib2"])
def test_probabilities_are_at_least_as_even_as_the_published_ones(name: str) -> None:
    model = make_model(bid_problem(name))
    published = read_rows(shared_folder(name) / "published_results.csv")
    best = best_under_ceiling(model.seats, model.profit, 1.0).total
    for share in ("0.8", "0.95", "1.0"):
        rows = [row for row in published if float(row["quality_target"]) == float(share)]
        ceiling = min(float(row["max_probability"]) for row in rows)
        # The published runs, too, stop a ten-thousandth short of the share.
        even = spread(model.seats, model.profit, ceiling, (float(share) - 1e-4) * best)
        assert even.units.max() / UNIT <= ceiling + 1e-6
        assert (even.units > 0).sum() >= max(int(row["support_size"]) for row in rows)
        assert entropy(even.units) >= max(float(row["entropy"]) for row in rows)


@pytest.mark.shared_data
def test_colluders_reach_their_target_less_often_under_a_ceiling() -> None:
    problem, target = malicious_problem()

    def expected(pairs: np.ndarray, chance: np.ndarray) -> float:
        pairs_of = zip(problem.task[pairs].tolist(), problem.expert[pairs].tolist(), strict=True)
        hit = np.array([pair in target for pair in pairs_of])
        return float(chance[hit].sum())

    plain = assign(problem)
    lot = assign(problem, Policy(randomness=0.5, perturbation=0.02))
    assert verify(problem, lot) == []
    before = expected(plain.marginal_pair, plain.marginal)
    after = expected(lot.marginal_pair, lot.marginal)
    assert 0 < after < 0.75 * before
    # Honest interest pays for it: a sixth of the total here.
    assert lot.expected >= 0.8 * plain.objective
