import numpy as np
import pytest

from matching.agreement import Consensus
from matching.confusion import Ballots, Full, coins, vote_shares
from matching.unevenness import independence
from matching.votes import UNKNOWN, Votes
from tests.matching.crowds import crowd, log_loss


def found(votes: Votes) -> float:
    ballots = Ballots(votes)
    none = np.full(votes.items, UNKNOWN)
    habits = Full().fit_from(ballots, vote_shares(ballots.counts), none)
    return independence(ballots, habits)


@pytest.mark.parametrize("classes", [2, 4])
def test_votes_that_err_each_by_itself_are_taken_as_independent(classes: int) -> None:
    skill = np.random.default_rng(1).uniform(0.55, 0.9, 30)
    votes, truth = crowd(coins(skill, classes), items=500, each=5, seed=classes)
    assert found(votes) > 0.8
    model = Consensus().fit(votes)
    assert model.independence_ == found(votes)
    known = -np.log(np.take_along_axis(best_belief(votes, skill), truth[:, None], 1)).mean()
    # The mixture for votes of which nothing is known loses .13 and .22 more than that.
    assert log_loss(model.posterior_, truth) < known + 0.12


def best_belief(votes: Votes, skill: np.ndarray) -> np.ndarray:
    """The posterior of whoever knows every skill and that votes err each by itself."""
    log_chance = np.log(coins(skill, votes.classes))[votes.reviewer, :, votes.label]
    evidence = np.zeros((votes.items, votes.classes))
    np.add.at(evidence, votes.item, log_chance)
    weight = np.exp(evidence - evidence.max(axis=1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=1, keepdims=True))


def test_hard_items_show_that_votes_are_not_independent() -> None:
    rng = np.random.default_rng(2)
    truth, hard = rng.integers(0, 2, 500), rng.random(500) < 0.4
    item = np.repeat(np.arange(500), 7)
    right = rng.random(len(item)) < np.where(hard[item], 0.5, 0.97)
    label = np.where(right, truth[item], 1 - truth[item])
    reviewer = np.tile(np.arange(35), 100)
    votes = Votes(item, reviewer, label, 500, 35, 2)
    assert found(votes) < 0.1
    assert log_loss(Consensus().fit(votes).posterior_, truth) < 0.5


def test_of_few_items_or_single_votes_nothing_is_said() -> None:
    skill = np.full(10, 0.8)
    few, _ = crowd(coins(skill, 2), items=40, each=5, seed=3)
    assert found(few) == 0.0
    single, _ = crowd(coins(skill, 2), items=400, each=1, seed=3)
    assert found(single) == 0.0
    same = Votes(
        np.repeat(np.arange(90), 3), np.tile(np.arange(3), 90), np.zeros(270, int), 90, 3, 2
    )
    assert np.isfinite(Consensus().fit(same).posterior_).all()
