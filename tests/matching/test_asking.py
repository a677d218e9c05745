"""Asking one more reviewer: when it is worth it, whom, and when it is enough."""

import numpy as np
import pytest

from matching.asking import (
    Loss,
    Move,
    Panel,
    best_to_ask,
    channel,
    expected_loss,
    expected_savings,
    information,
)
from matching.confusion import coins
from matching.votes import VotesInvalid

GOOD, FAIR, NOISE = coins(np.array([0.95, 0.7, 0.5]), 2)


@pytest.mark.parametrize("loss", list(Loss))
def test_a_vote_saves_the_most_when_the_item_is_unsure_and_the_reviewer_good(loss: Loss) -> None:
    saved = expected_savings(np.array([0.5, 0.5]), np.stack([GOOD, FAIR, NOISE]), loss)
    assert saved[0] > saved[1] > saved[2] - 1e-12
    assert saved[2] == pytest.approx(0, abs=1e-12)
    sure = expected_savings(np.array([0.999, 0.001]), np.stack([GOOD]), loss)
    assert sure[0] < saved[0] / 5


def test_no_vote_is_expected_to_hurt_and_savings_are_what_enumeration_gives() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        classes = int(rng.integers(2, 5))
        posterior = rng.dirichlet(np.ones(classes))
        chance = rng.dirichlet(np.ones(classes), (3, classes))
        for loss in Loss:
            saved = expected_savings(posterior, chance, loss)
            assert (saved >= 0).all()
            later = 0.0
            for label in range(classes):
                joint = posterior * chance[1][:, label]
                later += joint.sum() * float(expected_loss(joint / joint.sum(), loss))
            assert saved[1] == pytest.approx(float(expected_loss(posterior, loss)) - later)


def test_the_reviewer_who_tells_the_open_classes_apart_is_the_most_informative() -> None:
    # One is sharp between the first two classes, the other between the last two.
    first = np.array([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.34, 0.33, 0.33]])
    last = np.array([[0.34, 0.33, 0.33], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]])
    both = np.stack([first, last])
    assert np.argmax(information(np.array([0.49, 0.49, 0.02]), both)) == 0
    assert np.argmax(information(np.array([0.02, 0.49, 0.49]), both)) == 1


def test_one_more_is_asked_when_the_saving_is_above_its_cost() -> None:
    posterior, panel = np.array([0.6, 0.4]), np.stack([GOOD, FAIR])
    ask = best_to_ask(posterior, panel, stake=10.0, cost=1.0)
    assert ask is not None
    assert ask.reviewer == 0
    assert ask.is_worth_it
    dear = best_to_ask(posterior, panel, stake=10.0, cost=np.array([9.0, 0.1]))
    assert dear is not None
    assert dear.reviewer == 1
    idle = best_to_ask(np.array([0.99, 0.01]), panel, stake=10.0, cost=1.0)
    assert idle is not None
    assert not idle.is_worth_it
    assert best_to_ask(posterior, np.zeros((0, 2, 2)), stake=10.0) is None


def test_a_tempered_channel_tells_less_and_stays_a_distribution() -> None:
    half = channel(GOOD, 0.5)
    assert half.sum(axis=-1) == pytest.approx([1, 1])
    assert (
        information(np.array([0.5, 0.5]), half[None])[0]
        < (information(np.array([0.5, 0.5]), GOOD[None])[0])
    )


def test_three_who_agree_are_enough_and_five_who_do_not_go_to_an_adjudicator() -> None:
    panel = Panel()
    sure, likely, open_ = (np.array([p, 1 - p]) for p in (0.97, 0.85, 0.6))
    one, two = np.zeros(1, np.int64), np.zeros(2, np.int64)
    assert panel.next_move(sure, one) is Move.ASK
    assert panel.next_move(sure, two) is Move.DECIDE
    assert panel.next_move(likely, two) is Move.ASK
    assert panel.next_move(likely, np.array([0, 0, 0])) is Move.DECIDE
    assert panel.next_move(likely, np.array([0, 0, 1])) is Move.ASK
    assert panel.next_move(open_, np.array([0, 1, 0, 1, 0])) is Move.ADJUDICATE
    assert panel.next_move(sure, np.array([0, 1, 0, 0])) is Move.DECIDE
    # Three poor reviewers who agree against the models' belief do not decide.
    assert panel.next_move(open_, np.array([1, 1, 1])) is Move.ASK


def test_the_control_group_does_not_stop_early() -> None:
    panel = Panel(control_share=0.2)
    sure, two = np.array([0.97, 0.03]), np.zeros(2, np.int64)
    assert panel.next_move(sure, two, draw=0.1) is Move.ASK
    assert panel.next_move(sure, two, draw=0.3) is Move.DECIDE


def test_senseless_panels_and_posteriors_are_refused() -> None:
    with pytest.raises(ValueError, match="does not hold"):
        Panel(least=4)
    with pytest.raises(ValueError, match="control_share"):
        Panel(control_share=2.0)
    with pytest.raises(VotesInvalid, match="posterior"):
        information(np.array([np.nan, 1.0]), np.stack([GOOD]))
    with pytest.raises(VotesInvalid, match="chance"):
        information(np.array([0.5, 0.5]), GOOD)


def test_adaptive_stopping_saves_votes_at_the_same_error() -> None:
    from matching.agreement import Consensus
    from tests.matching.crowds import crowd

    votes, truth = crowd(coins(np.full(30, 0.85), 2), items=700, each=5, seed=3)
    gold = np.where(np.arange(700) < 200, truth, -1)
    model = Consensus().fit(votes, gold)
    panel, asked, right = Panel(), [], []
    for item in range(200, 700):
        mine = np.flatnonzero(votes.item == item)
        for seen in range(1, 6):
            label = votes.label[mine[:seen]]
            belief = model.posterior_of(votes.reviewer[mine[:seen]], label)
            if panel.next_move(belief, label) is not Move.ASK:
                break
        asked.append(seen)
        right.append(int(belief.argmax()) == truth[item])
    fixed = (model.posterior_[200:].argmax(axis=1) == truth[200:]).mean()
    assert np.mean(asked) < 4
    assert np.mean(right) > fixed - 0.03
