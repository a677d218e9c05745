"""Ranking open work by comparisons: which of two is better, by reviewers of differing sharpness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from matching.assignment import totals
from matching.problem import Float64, Int64
from matching.votes import VotesInvalid, checked_index

TIE = 0.5
"""The outcome of a comparison that saw no difference."""


@dataclass(frozen=True, eq=False)
class Comparisons:
    """One reviewer preferred one of two items, or neither.

    Shapes: left, right, reviewer (comparisons,) integers; outcome (comparisons,) 1 where left was
        better, 0 where right was, 0.5 for a tie.
    Raises: VotesInvalid.
    """

    left: Int64
    right: Int64
    reviewer: Int64
    outcome: Float64
    items: int
    reviewers: int

    def __post_init__(self) -> None:
        for name, limit in (
            ("left", self.items),
            ("right", self.items),
            ("reviewer", self.reviewers),
        ):
            object.__setattr__(self, name, checked_index(name, getattr(self, name), limit))
        outcome = np.asarray(self.outcome, np.float64)
        if not len(self.left) == len(self.right) == len(self.reviewer) == len(outcome):
            raise VotesInvalid("outcome", None, "left, right, reviewer, outcome differ in length")
        wrong = np.flatnonzero(~np.isin(outcome, (0.0, TIE, 1.0)))
        if len(wrong):
            at = int(wrong[0])
            raise VotesInvalid("outcome", at, f"{outcome[at]} is not 0, 0.5 or 1")
        same = np.flatnonzero(self.left == self.right)
        if len(same):
            raise VotesInvalid("right", int(same[0]), "an item is compared with itself")
        object.__setattr__(self, "outcome", outcome)


class PairwiseRanking:
    """Bradley-Terry with ties, and a sharpness for each reviewer, all shrunk.

    The log odds that the left item wins are sharpness(reviewer) x (worth(left) - worth(right)).
    Sharpness only says how much a preference tells of the common order; one who differs from the
    rest with reason has a taste of its own and a low sharpness, which costs it nothing: no
    standing, no pay and no alert is made of it. It is never below nought: a preference that runs
    against the others is taken for another taste and not for its opposite.

    What `fit` learns: `worth_` and `worth_sd_` (items,), logits around nought; `sharpness_`
    (reviewers,), 1 for a typical one; `tie_`, log weight of a tie between equals.
    Source: Bradley, Terry, Biometrika 39 (1952); ties as in Davidson, JASA 65 (1970), eq. 2.3; a
        sharpness of each judge as in Chen et al., WSDM 2013.
    """

    def __init__(self, *, spread: float = 1.5, sharpness_spread: float = 0.5) -> None:
        self.spread = spread
        self.sharpness_spread = sharpness_spread
        self.worth_: Float64 = np.zeros(0)
        self.worth_sd_: Float64 = np.zeros(0)
        self.sharpness_: Float64 = np.zeros(0)
        self.tie_ = 0.0

    def fit(self, seen: Comparisons) -> PairwiseRanking:
        """The most probable worths, sharpnesses and tie weight, by L-BFGS."""
        items, reviewers = seen.items, seen.reviewers
        start = np.zeros(items + reviewers + 1)

        def loss(x: Float64) -> tuple[float, Float64]:
            return self._loss(x, seen)

        answer = minimize(
            loss, start, args=(), jac=True, method="L-BFGS-B", options={"maxiter": 300}
        )
        self.worth_ = answer.x[:items] - (answer.x[:items].mean() if items else 0.0)
        self.sharpness_ = np.exp(answer.x[items:-1])
        self.tie_ = float(answer.x[-1])
        chance = self._chances(answer.x, seen)
        # Twice the score of the outcome (1, 0, 1/2) has this variance: Fisher's information.
        mean = chance[:, 0] + TIE * chance[:, 1]
        square = chance[:, 0] + TIE**2 * chance[:, 1]
        told = self.sharpness_[seen.reviewer] ** 2 * (square - mean**2)
        precision = totals(seen.left, told, items) + totals(seen.right, told, items)
        self.worth_sd_ = 1.0 / np.sqrt(precision + 1.0 / self.spread**2)
        return self

    def win_chance(self, left: Int64, right: Int64) -> Float64:
        """The chance that a typical reviewer prefers left, a tie counting half, shape (pairs,).

        Raises: VotesInvalid.
        """
        left = checked_index("left", left, len(self.worth_))
        right = checked_index("right", right, len(self.worth_))
        gap = self.worth_[left] - self.worth_[right]
        chance = _softmax(gap, self.tie_)
        return np.asarray(chance[:, 0] + TIE * chance[:, 1], np.float64)

    def order(self) -> Int64:
        """Items, the best first."""
        return np.asarray(np.argsort(-self.worth_, kind="stable"), np.int64)

    def most_informative(self, left: Int64, right: Int64) -> int | None:
        """The place of the pair whose comparison tells the most of the order; None without pairs.

        Two items of which neither is known to be better, and of which little is known.
        """
        if len(left) == 0:
            return None
        chance = self.win_chance(left, right)
        unsure = self.worth_sd_[left] ** 2 + self.worth_sd_[right] ** 2
        return int(np.argmax(chance * (1 - chance) * unsure))

    def _chances(self, x: Float64, seen: Comparisons) -> Float64:
        worth, sharp = x[: seen.items], np.exp(x[seen.items : -1])
        gap = sharp[seen.reviewer] * (worth[seen.left] - worth[seen.right])
        return _softmax(gap, float(x[-1]))

    def _loss(self, x: Float64, seen: Comparisons) -> tuple[float, Float64]:
        """Negative log posterior and its gradient."""
        items, reviewers = seen.items, seen.reviewers
        worth, log_sharp, tie = x[:items], x[items:-1], float(x[-1])
        gap = worth[seen.left] - worth[seen.right]
        sharp = np.exp(np.clip(log_sharp, -5, 5))[seen.reviewer]
        chance = _softmax(sharp * gap, tie)
        said = np.where(seen.outcome == 1.0, 0, np.where(seen.outcome == TIE, 1, 2))
        told = np.log(np.maximum(chance[np.arange(len(said)), said], 1e-300))
        # The log weights are (z/2, tie, -z/2): its slope in z is half of win less loss.
        slope = 0.5 * ((said == 0) - chance[:, 0] - ((said == 2).astype(np.float64) - chance[:, 2]))
        force = slope * sharp
        of_worth = totals(seen.left, force, items) - totals(seen.right, force, items)
        of_sharp = totals(seen.reviewer, slope * sharp * gap, reviewers)
        of_tie = float(((said == 1) - chance[:, 1]).sum())
        prior = (
            0.5 * float((worth**2).sum()) / self.spread**2
            + 0.5 * float((log_sharp**2).sum()) / self.sharpness_spread**2
            + 0.5 * tie**2 / 4.0
        )
        gradient = np.concatenate(
            [
                worth / self.spread**2 - of_worth,
                log_sharp / self.sharpness_spread**2 - of_sharp,
                [tie / 4.0 - of_tie],
            ]
        )
        return prior - float(told.sum()), gradient


def _softmax(gap: Float64, tie: float) -> Float64:
    """Chances that left wins, that it is a tie, that right wins, shape (comparisons, 3)."""
    log_weight = np.stack([gap / 2, np.full(len(gap), tie), -gap / 2], axis=1)
    total = logsumexp(log_weight, axis=1, keepdims=True) if len(gap) else np.zeros((0, 1))
    return np.asarray(np.exp(log_weight - total), np.float64)
