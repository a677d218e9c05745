"""Consensus: a posterior for each item, a reliability for each reviewer, and no odd input fatal."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from matching.agreement import Consensus, TooManyClasses, marginal_worth
from matching.confusion import Ballots, Coin, Confusion, Full, Pooled, coins, vote_shares
from matching.ordinal import Ordinal
from matching.problem import Float64
from matching.tempering import exponent, first_weights, recipes, stack
from matching.votes import UNKNOWN, Votes, VotesInvalid
from tests.matching.crowds import accuracy, crowd, log_loss

NOTHING = np.zeros(0, np.int64)


def mixed_crowd(seed: int = 1) -> Float64:
    """Twelve good reviewers, six careless ones, one who always says yes, one who always lies."""
    rng = np.random.default_rng(seed)
    good = coins(rng.uniform(0.8, 0.95, 12), 2)
    careless = coins(rng.uniform(0.5, 0.6, 6), 2)
    yes = np.array([[[0.01, 0.99], [0.01, 0.99]]])
    liar = np.array([[[0.1, 0.9], [0.9, 0.1]]])
    return np.concatenate([good, careless, yes, liar])


def test_the_truth_is_found_better_than_by_the_majority_and_surprise_is_less() -> None:
    votes, truth = crowd(mixed_crowd(), items=600, each=5, seed=2)
    model = Consensus().fit(votes)
    majority = vote_shares(votes.counts(votes.weight()))
    assert accuracy(model.posterior_, truth) > accuracy(majority, truth) + 0.02
    assert log_loss(model.posterior_, truth) < log_loss(majority, truth)


def test_gold_moves_the_mixture_to_what_tells_this_queue_best() -> None:
    # Votes that are independent given the truth deserve more belief than the default gives.
    votes, truth = crowd(coins(np.full(20, 0.8), 2), items=800, each=7, seed=3)
    rng = np.random.default_rng(4)
    gold = np.full(800, UNKNOWN)
    given_items = rng.choice(800, 160, replace=False)
    gold[given_items] = truth[given_items]
    without, with_gold = Consensus().fit(votes), Consensus().fit(votes, gold)
    rest = np.setdiff1d(np.arange(800), given_items)
    loss = [log_loss(m.posterior_[rest], truth[rest]) for m in (without, with_gold)]
    assert loss[1] < loss[0] - 0.02
    assert with_gold.kinship_ < without.kinship_
    # The truth of gold is not asked about again.
    assert (with_gold.posterior_[given_items, truth[given_items]] == 1).all()


def test_who_always_says_yes_and_who_lies_are_seen_through() -> None:
    votes, truth = crowd(mixed_crowd(), items=1500, each=5, seed=5)
    model = Consensus().fit(votes)
    known = model.reliability_
    assert known.accuracy[:12].min() > known.accuracy[12:].max()
    assert known.accuracy[19] < 0.25
    # A vote of the yes-sayer tells next to nothing; one of the liar tells the opposite.
    yes = model.posterior_of(np.array([18]), np.array([1]))
    liar = model.posterior_of(np.array([19]), np.array([1]))
    assert abs(yes[1] - model.prior_[1]) < 0.1
    assert liar[1] < 0.4
    assert accuracy(model.posterior_, truth) > 0.9


def test_reliability_intervals_hold_what_they_promise() -> None:
    rng = np.random.default_rng(6)
    held = []
    for seed in range(8):
        real = np.clip(rng.normal(0.8, 0.07, 25), 0.55, 0.97)
        votes, _ = crowd(coins(real, 3), items=500, each=5, seed=seed)
        known = Consensus().fit(votes).reliability_
        held.append(((known.low <= real) & (real <= known.high)).mean())
    assert 0.80 <= np.mean(held) <= 0.99


def test_one_item_is_estimated_again_from_its_votes_alone_and_alike() -> None:
    votes, _ = crowd(mixed_crowd(), items=300, each=5, seed=7)
    model = Consensus().fit(votes)
    for item in range(40):
        mine = votes.item == item
        again = model.posterior_of(votes.reviewer[mine], votes.label[mine])
        assert again == pytest.approx(model.posterior_[item], abs=1e-9)


def test_an_item_without_votes_is_what_the_prior_says_and_a_stranger_counts_as_typical() -> None:
    votes, _ = crowd(mixed_crowd(), items=400, each=5, seed=8, prior=np.array([0.8, 0.2]))
    model = Consensus().fit(votes)
    nobody = model.posterior_of(NOTHING, NOTHING)
    assert nobody[0] > 0.5
    stranger = model.posterior_of(np.array([UNKNOWN]), np.array([1]))
    known_good = model.posterior_of(np.array([0]), np.array([1]))
    assert nobody[1] < stranger[1] < known_good[1]
    with pytest.raises(VotesInvalid, match="reviewer"):
        model.posterior_of(np.array([99]), np.array([1]))


def test_a_reviewer_that_votes_twice_on_an_item_counts_once() -> None:
    votes, _ = crowd(mixed_crowd(), items=200, each=5, seed=9)
    again = Votes(
        np.repeat(votes.item, 3),
        np.repeat(votes.reviewer, 3),
        np.repeat(votes.label, 3),
        200,
        20,
        2,
    )
    assert Consensus().fit(again).posterior_ == pytest.approx(Consensus().fit(votes).posterior_)


@pytest.mark.parametrize("member", [Pooled(), Coin(), Full(strength=1.0)])
def test_a_gold_item_is_judged_as_if_its_truth_had_not_been_told(member: Confusion) -> None:
    # Each item is voted on by reviewers of its own, whose votes would be a perfect record.
    items = np.repeat(np.arange(30), 3)
    votes = Votes(items, np.arange(90), np.resize([0, 1, 1, 0, 0, 1], 90), 30, 90, 2)
    truth = np.resize(np.array([0, 1]), 30).astype(np.int64)
    ballots = Ballots(votes)
    member.fit_from(ballots, vote_shares(ballots.counts), truth)
    held = member.held_out(ballots, truth)
    told = np.arange(30), truth
    assert (held[told] <= member.evidence_[told] + 1e-9).all()
    if not isinstance(member, Pooled):
        assert held[told].mean() < member.evidence_[told].mean() - 0.05


def test_an_ordered_queue_learns_the_cuts_of_each_reviewer() -> None:
    rng = np.random.default_rng(10)
    place = 1.8 * (np.arange(5) - 2)
    cut = (place[1:] + place[:-1]) / 2 + rng.normal(0, 0.9, (40, 1))
    below = 1 / (1 + np.exp(-(cut[:, None, :] - place[None, :, None])))
    edges = np.concatenate([np.zeros((40, 5, 1)), below, np.ones((40, 5, 1))], axis=2)
    chance = np.diff(edges, axis=2)
    votes, truth = crowd(chance, items=200, each=4, seed=11)
    ordered = Ordinal().fit(votes)
    full = Full(strength=8.0).fit(votes)
    assert log_loss(ordered.posterior(), truth) < log_loss(full.posterior(), truth)
    assert accuracy(ordered.posterior(), truth) >= accuracy(full.posterior(), truth) - 0.02
    assert (np.diff(ordered.cut_, axis=1) >= 0).all()
    # A mild reviewer's cuts lie low, a strict one's high.
    assert np.corrcoef(ordered.cut_[:40].mean(axis=1), cut.mean(axis=1))[0, 1] > 0.7
    gold = np.where(np.arange(200) < 40, truth, UNKNOWN)
    both = [Consensus(ordered=way).fit(votes, gold).posterior_[40:] for way in (False, True)]
    assert log_loss(both[1], truth[40:]) < log_loss(both[0], truth[40:])


def test_the_mixture_is_the_default_without_gold_and_the_best_recipe_with_much() -> None:
    first = first_weights((0.5, 0.5), 0.1)
    assert len(first) == len(recipes(2)) + 1
    assert stack(np.zeros((0, len(first))), first) == pytest.approx(first)
    chance = np.full((3000, len(first)), 0.3)
    chance[:, 7] = 0.9
    assert stack(chance, first)[7] > 0.99
    # A recipe that ruled the truth out is not the end of the sum.
    chance[:, 7] = 0.0
    assert np.isfinite(stack(chance, first)).all()


def test_votes_that_err_together_count_for_fewer() -> None:
    assert exponent(np.array([0.0, 1.0, 5.0]), 1.0) == pytest.approx([1, 1, 0.2])
    assert exponent(np.array([5.0]), 0.0) == pytest.approx([1])
    worth = [marginal_worth(seen, 0.4) for seen in range(6)]
    assert worth[0] == 1
    assert all(later < sooner for sooner, later in pairwise(worth))


@pytest.mark.parametrize(
    ("votes", "gold"),
    [
        (Votes(NOTHING, NOTHING, NOTHING, 0, 0, 1), None),
        (Votes(NOTHING, NOTHING, NOTHING, 4, 3, 2), None),
        (Votes(NOTHING, NOTHING, NOTHING, 4, 3, 2), np.array([0, 1, -1, -1])),
        (Votes(np.array([0]), np.array([0]), np.array([0]), 1, 1, 1), None),
        (Votes(np.arange(5), np.zeros(5, np.int64), np.ones(5, np.int64), 5, 1, 2), None),
        (
            Votes(np.arange(5), np.zeros(5, np.int64), np.ones(5, np.int64), 5, 1, 2),
            np.ones(5, int),
        ),
        (Votes(np.zeros(9, int), np.arange(9), np.arange(9), 1, 9, 9), np.array([3])),
        (Votes(np.arange(6) % 2, np.arange(6) // 2, np.zeros(6, int), 2, 3, 4), np.array([3, -1])),
    ],
)
@pytest.mark.parametrize("ordered", [False, True])
def test_odd_queues_get_an_answer_with_wide_uncertainty(
    votes: Votes, gold: None, ordered: bool
) -> None:
    model = Consensus(ordered=ordered).fit(votes, gold)
    assert model.posterior_.shape == (votes.items, votes.classes)
    assert np.isfinite(model.posterior_).all()
    assert model.posterior_.sum(axis=1) == pytest.approx(np.ones(votes.items))
    known = model.reliability_
    assert (known.low <= known.accuracy).all()
    assert (known.accuracy <= known.high).all()
    assert np.isfinite(np.concatenate([known.low, known.high])).all()
    assert np.isfinite(model.next_vote(np.array([UNKNOWN]), 2)).all()


def test_a_worker_with_one_label_is_hardly_known() -> None:
    votes, _ = crowd(mixed_crowd(), items=300, each=5, seed=12)
    one = Votes(
        np.append(votes.item, 0),
        np.append(votes.reviewer, 20),
        np.append(votes.label, 1),
        300,
        21,
        2,
    )
    known = Consensus().fit(one).reliability_
    assert known.votes[20] == 1
    assert known.high[20] - known.low[20] > 2 * (known.high[0] - known.low[0])


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_votes_whatever_give_anything_but_probabilities(data: st.DataObject) -> None:
    items, reviewers, classes = (data.draw(st.integers(1, most)) for most in (6, 4, 4))
    size = data.draw(st.integers(0, 25))

    def some(limit: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        drawn = data.draw(st.lists(st.integers(0, limit - 1), min_size=size, max_size=size))
        return np.array(drawn, np.int64)

    votes = Votes(some(items), some(reviewers), some(classes), items, reviewers, classes)
    known = data.draw(st.lists(st.integers(-1, classes - 1), min_size=items, max_size=items))
    gold = np.array(known, np.int64)
    model = Consensus(ordered=data.draw(st.booleans())).fit(votes, gold)
    assert np.isfinite(model.posterior_).all()
    assert (model.posterior_ >= 0).all()
    assert model.posterior_.sum(axis=1) == pytest.approx(np.ones(items))


def test_what_breaks_the_contract_is_refused_with_its_place() -> None:
    three = np.arange(3)
    with pytest.raises(VotesInvalid, match=r"item\[2\]: 2 is not between 0 and 1"):
        Votes(three, three, three, 2, 3, 3)
    with pytest.raises(VotesInvalid, match="differ in length"):
        Votes(three, three[:2], three, 3, 3, 3)
    with pytest.raises(VotesInvalid, match="integers"):
        Votes(three * 0.5, three, three, 3, 3, 3)  # type: ignore[arg-type]
    votes = Votes(three, three, three, 3, 3, 3)
    with pytest.raises(VotesInvalid, match=r"gold\[1\]"):
        Consensus().fit(votes, np.array([0, 7, -1]))
    with pytest.raises(VotesInvalid, match="gold"):
        Consensus().fit(votes, np.array([0, 1]))
    many = Votes(NOTHING, NOTHING, NOTHING, 100_000, 1, 100_000)
    with pytest.raises(TooManyClasses):
        Consensus().fit(many)


def test_many_reviewers_and_classes_do_without_a_matrix_for_each() -> None:
    rng = np.random.default_rng(13)
    item = np.repeat(np.arange(2000), 3)
    truth = rng.integers(0, 300, 2000)
    right = rng.random(6000) < 0.7
    label = np.where(right, truth[item], rng.integers(0, 300, 6000))
    votes = Votes(item, rng.integers(0, 2000, 6000), label, 2000, 2000, 300)
    model = Consensus().fit(votes)
    assert [type(member) for member in model.members_] == [Pooled, Coin]
    assert accuracy(model.posterior_, truth) > 0.75
