"""Whether to ask one more reviewer, and which: what a vote is expected to save against its cost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.special import xlogy

from matching.problem import Float64, Int64
from matching.votes import VotesInvalid, checked_posterior

TINY = 1e-12
"""Below this a probability is taken for this, where its logarithm is needed."""


class Loss(StrEnum):
    """What it costs to be unsure, of one item, before the stake is multiplied in."""

    ERROR = "error"
    """The chance that the likeliest class is wrong; blind to progress that flips nothing."""
    BRIER = "brier"
    """Expected squared distance from the truth, halved: as the chance of error, but smooth."""
    LOG = "log"
    """Expected surprise, nats."""


class Move(StrEnum):
    """What is done next with an item."""

    ASK = "ask"
    DECIDE = "decide"
    ADJUDICATE = "adjudicate"


@dataclass(frozen=True, slots=True)
class Panel:
    """When reviewers are asked and when that is enough: three, and five where they differ.

    `control_share` of the items that could stop early go on to the full number all the same, by a
    draw, so that what early stopping costs stays measured.

    Units: sure, agreed and control_share probabilities: `agreed` is asked of an item whose usual
        number of reviewers all say the same, so that agreement of poor ones does not decide; the
        others count reviewers.
    Raises: ValueError.
    """

    least: int = 2
    usual: int = 3
    most: int = 5
    sure: float = 0.95
    agreed: float = 0.8
    control_share: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.usual <= self.most:
            raise ValueError(f"1 <= {self.least} <= {self.usual} <= {self.most} does not hold")
        if not (0 <= self.agreed <= self.sure < 1 and 0 <= self.control_share <= 1):
            raise ValueError("0 <= agreed <= sure < 1, and control_share is in [0, 1]")

    def next_move(self, posterior: Float64, label: Int64, *, draw: float = 1.0) -> Move:
        """Ask, decide, or leave it to an adjudicator.

        Shapes: posterior (classes,); label (votes so far,).
        Units: draw uniform in [0, 1), the same for one item each time it is asked about; below
            `control_share` the item is of the control group and does not stop early.
        Raises: VotesInvalid.
        """
        sure = float(checked_posterior(posterior, len(posterior)).max()) >= self.sure
        seen, agreed = len(label), len(np.unique(label)) == 1
        if seen < self.least:
            return Move.ASK
        if seen < self.usual:
            stops = sure and agreed and draw >= self.control_share
            return Move.DECIDE if stops else Move.ASK
        if sure or (agreed and float(posterior[label[0]]) >= self.agreed):
            return Move.DECIDE
        return Move.ASK if seen < self.most else Move.ADJUDICATE


def expected_loss(posterior: Float64, loss: Loss) -> Float64:
    """The loss of stopping now, of each posterior, shape (..., classes) to (...)."""
    if loss is Loss.ERROR:
        return np.asarray(1.0 - posterior.max(axis=-1))
    if loss is Loss.BRIER:
        return np.asarray(1.0 - (posterior**2).sum(axis=-1))
    return np.asarray(-xlogy(posterior, np.maximum(posterior, TINY)).sum(axis=-1))


def channel(chance: Float64, worth: float) -> Float64:
    """Matrices of votes that tell as much as `worth` of an independent one.

    Rows are raised to this power and made to sum to one again, so that what follows is an honest
    Bayesian's: the mean of the posteriors is the prior, and no vote is expected to hurt.

    Shapes: chance (..., truth, label).
    """
    powered = np.maximum(chance, TINY) ** worth
    return np.asarray(powered / powered.sum(axis=-1, keepdims=True), np.float64)


def expected_savings(posterior: Float64, chance: Float64, loss: Loss = Loss.BRIER) -> Float64:
    """How much one vote of each reviewer is expected to lower the loss; never below nought.

    Shapes: posterior (classes,); chance (reviewers, truth, label); the answer (reviewers,).
    Source: expected value of sample information, Raiffa, Schlaifer, Applied Statistical Decision
        Theory (1961), section 4.5.
    Raises: VotesInvalid.
    """
    now, joint, said = _joint(posterior, chance)
    after = joint / np.maximum(said, TINY)[:, None, :]
    later = (said * expected_loss(after.transpose(0, 2, 1), loss)).sum(axis=1)
    return np.asarray(np.maximum(expected_loss(now, loss) - later, 0.0), np.float64)


def information(posterior: Float64, chance: Float64) -> Float64:
    """What a vote of each reviewer tells of the truth, nats, shape (reviewers,).

    Shapes: posterior (classes,); chance (reviewers, truth, label).
    Source: Shannon's mutual information, as used to choose questions by Lindley, Annals of
        Mathematical Statistics 27 (1956).
    Raises: VotesInvalid.
    """
    return expected_savings(posterior, chance, Loss.LOG)


@dataclass(frozen=True, slots=True)
class Ask:
    """Whom to ask next, and what is expected of it.

    Units: saving and cost in those of the stake; reviewer is a place among those offered.
    """

    reviewer: int
    saving: float
    cost: float

    @property
    def is_worth_it(self) -> bool:
        """Whether the vote is expected to save more than it costs."""
        return self.saving > self.cost


def best_to_ask(
    posterior: Float64,
    chance: Float64,
    *,
    stake: float,
    cost: Float64 | float = 0.0,
    loss: Loss = Loss.BRIER,
) -> Ask | None:
    """The reviewer whose vote is expected to save the most beyond its cost; None without any.

    Shapes: posterior (classes,); chance (reviewers, truth, label); cost (reviewers,) or one.
    Units: stake, what a wrong decision costs; cost in the same unit.
    Raises: VotesInvalid.
    """
    if len(chance) == 0:
        return None
    saving = stake * expected_savings(posterior, chance, loss)
    price = np.broadcast_to(np.asarray(cost, np.float64), saving.shape)
    best = int(np.argmax(saving - price))
    return Ask(best, float(saving[best]), float(price[best]))


def _joint(posterior: Float64, chance: Float64) -> tuple[Float64, Float64, Float64]:
    """The posterior, P(truth, label) of each reviewer, and P(label) of each."""
    if chance.ndim != 3 or chance.shape[1] != len(posterior):
        raise VotesInvalid("chance", None, f"shape {chance.shape} is not (reviewers, truth, label)")
    now = checked_posterior(posterior, len(posterior))
    joint: Float64 = now[None, :, None] * chance
    return now, joint, joint.sum(axis=1)
