"""What reviewers say together: a posterior for each item, a reliability for each reviewer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from matching.asking import channel
from matching.assignment import totals
from matching.confusion import Ballots, Coin, Confusion, Full, Pooled, vote_shares
from matching.ordinal import Ordinal
from matching.problem import Float64, Int64
from matching.reliability import reliability
from matching.tempering import (
    GOLD_STRENGTH,
    NEGLIGIBLE,
    Recipe,
    first_weights,
    recipes,
    stack,
    tempered,
)
from matching.unevenness import independence
from matching.votes import UNKNOWN, Votes, VotesInvalid, checked_gold, checked_index, row_sum

MOST_CELLS = 40_000_000
"""Items times classes beyond which an answer would not fit into the memory of one machine."""

MOST_MATRIX_CELLS = 50_000_000
"""Reviewers times classes squared beyond which nobody gets a matrix of its own."""

LEAST = 1e-4
"""Probability that is spread over all classes whatever was said: nobody is surely right."""

CHUNK = 65_536
"""Items whose posteriors are mixed at a time."""

MAJORITY_WEIGHT = 0.03
"""Weight of the smoothed majority in the mixture before any gold is seen."""


class TooManyClasses(VotesInvalid):
    """Items times classes would not fit: votes on texts, not on a closed list, look like this."""

    def __init__(self, items: int, classes: int) -> None:
        self.cells = items * classes
        super().__init__("classes", None, f"{items} items x {classes} classes are too many")


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the mixture one model is."""

    model: str
    weight: float
    kinship: float
    prior_power: float


@dataclass(frozen=True, slots=True)
class Model:
    """A model with its weight in the mixture, and in the say which class is likeliest."""

    member: Confusion
    weight: float
    order: float


class Consensus:
    """The truth of items by several models of reviewers, tempered and mixed by log loss on gold.

    Without gold the mixture is a default that was the best over public queues of votes; with gold
    its weights move to what tells this queue's gold best, each gold item judged as if it had not
    been known. How sure to be comes from the tempered mixture; which class is likeliest from the
    same models untempered, the two probabilities changing places where they differ. `ordered`
    says that the classes are grades, lowest first.

    What `fit` learns: `posterior_` (items, classes); `reliability_`; `weight_` (recipes + 1,), the
    mixture, the smoothed majority last; `members_`, the models; `prior_` (classes,); `kinship_`,
    how alike votes on one item are beyond its truth, the mean of the mixture; `independence_`,
    from 0 to 1, how far nothing in the votes speaks against their being independent.
    Source: Dawid, Skene (1979) for the models; the linear pool with weights by log score as in
        Hall, Mitchell, International Journal of Forecasting 23 (2007).
    """

    def __init__(self, *, ordered: bool = False, gold_strength: float = GOLD_STRENGTH) -> None:
        self.ordered = ordered
        self.gold_strength = gold_strength
        self.members_: list[Confusion] = []
        self.weight_: Float64 = np.zeros(0)
        self.posterior_: Float64 = np.zeros((0, 0))
        self.prior_: Float64 = np.zeros(0)
        self.kinship_ = 0.0
        self.independence_ = 0.0
        self.reviewers_ = 0

    def fit(self, votes: Votes, gold: Int64 | None = None) -> Consensus:
        """Learn from all votes, and from the truth of gold items, UNKNOWN elsewhere.

        Raises: VotesInvalid, TooManyClasses.
        """
        truth = checked_gold(gold, votes)
        if votes.items * votes.classes > MOST_CELLS:
            raise TooManyClasses(votes.items, votes.classes)
        self.reviewers_ = votes.reviewers
        # One reviewer more, without a vote: what is believed of somebody who was never seen.
        ballots = Ballots(
            Votes(
                votes.item,
                votes.reviewer,
                votes.label,
                votes.items,
                votes.reviewers + 1,
                votes.classes,
            )
        )
        majority = vote_shares(ballots.counts)
        models = self._models(votes)
        self.members_ = []
        start = majority
        for model in models:
            self.members_.append(model.member.fit_from(ballots, start, truth))
            # Of two models of one kind the second starts where the first ended: half the rounds.
            start = model.member.posterior() if isinstance(model.member, Full) else majority
        self._recipes = recipes(len(models))
        self.independence_ = independence(ballots, self._most_telling())
        weights = [model.weight for model in models]
        first = first_weights(weights, MAJORITY_WEIGHT, self.independence_)
        self.weight_ = stack(self._gold_chance(ballots, majority, truth), first, self.gold_strength)
        self.weight_[self.weight_ < NEGLIGIBLE] = 0.0
        self.weight_ /= self.weight_.sum()
        self.kinship_ = self._mean_kinship()
        order = np.array([model.order for model in models])
        self._order = order / order.sum()
        if (truth != UNKNOWN).any():
            self._order = 0.5 * self._order + 0.5 * self._member_share()
        evidence = [member.evidence_ for member in self.members_]
        sharp = self._sharp(evidence, ballots.total)
        self.posterior_ = with_top(self._mixed(evidence, ballots.counts), sharp.argmax(axis=1))
        given = np.flatnonzero(truth != UNKNOWN)
        self.posterior_[given] = sharp[given] = np.eye(votes.classes)[truth[given]]
        self.prior_ = (self.posterior_.sum(axis=0) + 1.0) / (votes.items + votes.classes)
        self.reliability_ = reliability(ballots, self.posterior_, sharp, reviewers=votes.reviewers)
        return self

    def posterior_of(self, reviewer: Int64, label: Int64) -> Float64:
        """The truth of one item by these votes on it, under the models as they are.

        Costs nothing that grows with the queue. A reviewer who was not there at the fit is
        UNKNOWN, and counts as one of whom nothing is known yet. No votes: what the prior says.

        Shapes: reviewer, label (votes of the item,); the answer (classes,).
        Raises: VotesInvalid.
        """
        one = self._one(reviewer, label)
        evidence = [
            (m.log_chance(one.votes.reviewer, one.votes.label) * one.weight[:, None]).sum(
                axis=0, keepdims=True
            )
            for m in self.members_
        ]
        top = self._sharp(evidence, one.total).argmax(axis=1)
        return np.asarray(with_top(self._mixed(evidence, one.counts), top)[0], np.float64)

    def chance(self, reviewer: Int64) -> Float64:
        """What these reviewers say of each truth, by the models' shares in the mixture.

        Shapes: reviewer (reviewers asked,); the answer (reviewers asked, truth, label).
        """
        known = self._known(reviewer)
        share = self._member_share()
        chance: Float64 = np.zeros((len(known), len(self.prior_), len(self.prior_)))
        for weight, member in zip(share, self.members_, strict=True):
            chance += weight * member.chance(known)
        return chance

    def next_vote(self, reviewer: Int64, seen: int) -> Float64:
        """What one more vote by each of these reviewers tells of an item that has `seen` votes.

        The n-th vote tells less than the first, because votes on one item err together.

        Shapes: reviewer (reviewers asked,); the answer (reviewers asked, truth, label).
        """
        return channel(self.chance(reviewer), marginal_worth(seen, self.kinship_))

    def shares(self) -> list[Share]:
        """What the mixture is made of, the heaviest first."""
        names = [type(member).__name__.lower() for member in self.members_]
        rows = [
            Share(names[r.member], float(w), r.kinship, r.prior_power)
            for r, w in zip(self._recipes, self.weight_[:-1], strict=True)
        ]
        rows.append(Share("majority", float(self.weight_[-1]), 0.0, 0.0))
        return sorted((row for row in rows if row.weight > 0), key=lambda row: -row.weight)

    def _models(self, votes: Votes) -> list[Model]:
        """The models, each with its weights before any gold."""
        models = [Model(Pooled(), 0.15, 0.0), Model(Coin(), 0.05, 0.3)]
        if (votes.reviewers + 1) * votes.classes**2 <= MOST_MATRIX_CELLS:
            models += [Model(Full(strength=8.0), 0.45, 0.3), Model(Full(strength=1.0), 0.35, 0.4)]
            if self.ordered and votes.classes > 2:
                models.append(Model(Ordinal(), 0.35, 0.3))
        return models

    def _most_telling(self) -> Confusion:
        """The model of reviewers' own habits, or the nearest to it that was fitted."""
        full = [member for member in self.members_ if type(member) is Full]
        return full[0] if full else self.members_[1]

    def _gold_chance(self, ballots: Ballots, majority: Float64, truth: Int64) -> Float64:
        """What each recipe gave to the truth of each gold item that has votes."""
        given = np.flatnonzero(truth != UNKNOWN)
        voted = ballots.total[given] > 0
        given, at = given[voted], np.arange(int(voted.sum()))
        total, told = ballots.total[given], truth[given]
        if len(given) == 0:
            return np.zeros((0, len(self._recipes) + 1))
        held_out = [member.held_out(ballots, truth)[voted] for member in self.members_]
        columns = [
            tempered(held_out[r.member], total, self.members_[r.member].prior_, r)[at, told]
            for r in self._recipes
        ]
        return np.stack([*columns, majority[given, told]], axis=1)

    def _mixed(self, evidence: list[Float64], counts: Float64) -> Float64:
        """The linear pool of all recipes, shape (items, classes)."""
        majority = vote_shares(counts)
        result: Float64 = self.weight_[-1] * majority
        total = counts.sum(axis=1)
        used = [
            (recipe, weight)
            for recipe, weight in zip(self._recipes, self.weight_[:-1], strict=True)
            if weight > 0
        ]
        for begin in range(0, len(counts), CHUNK):
            rows = slice(begin, begin + CHUNK)
            for recipe, weight in used:
                prior = self.members_[recipe.member].prior_
                part = tempered(evidence[recipe.member][rows], total[rows], prior, recipe)
                result[rows] += weight * part
        floor = LEAST / result.shape[1]
        return np.asarray((1.0 - LEAST) * result / row_sum(result) + floor, np.float64)

    def _sharp(self, evidence: list[Float64], total: Float64) -> Float64:
        """What the models believe untempered, shape (items, classes).

        Tempering takes care of how sure to be; which class comes first is better judged sharp.
        """
        sharp: Float64 = np.zeros_like(evidence[0])
        for place, (weight, member) in enumerate(zip(self._order, self.members_, strict=True)):
            if weight > 0:
                recipe = Recipe(place, 0.0, 0.5 + 0.25 * self.independence_)
                sharp += weight * tempered(evidence[place], total, member.prior_, recipe)
        return sharp

    def _member_share(self) -> Float64:
        """The weight of each model among the models, over all its recipes."""
        member = np.array([recipe.member for recipe in self._recipes])
        share = totals(member, self.weight_[:-1], len(self.members_))
        total = float(share.sum())
        # A mixture that is all majority has no model of a single reviewer; any one will do.
        return share / total if total > 0 else np.full(len(share), 1.0 / len(share))

    def _mean_kinship(self) -> float:
        kinship = np.array([recipe.kinship for recipe in self._recipes])
        total = float(self.weight_[:-1].sum())
        return float(kinship @ self.weight_[:-1]) / total if total > 0 else 1.0

    def _known(self, reviewer: Int64) -> Int64:
        asked = np.asarray(reviewer, np.int64)
        asked = np.where(asked == UNKNOWN, self.reviewers_, asked)
        return checked_index("reviewer", asked, self.reviewers_ + 1)

    def _one(self, reviewer: Int64, label: Int64) -> Ballots:
        """The votes on one item, as ballots."""
        known = self._known(reviewer)
        label = np.asarray(label, np.int64)
        place = np.zeros(len(known), np.int64)
        return Ballots(Votes(place, known, label, 1, self.reviewers_ + 1, len(self.prior_)))


def with_top(posterior: Float64, top: Int64) -> Float64:
    """The same probabilities, the greatest of each row exchanged for that of this class."""
    at = np.arange(len(posterior))
    was = posterior.argmax(axis=1)
    result = posterior.copy()
    result[at, was] = posterior[at, top]
    result[at, top] = posterior[at, was]
    return result


def marginal_worth(seen: int, kinship: float) -> float:
    """How many independent votes the next one counts for, when an item has `seen` votes.

    Source: Kish, Survey Sampling (1965), section 5.4, as a difference.
    """
    before, after = (n / (1.0 + max(n - 1, 0) * kinship) for n in (seen, seen + 1))
    return max(after - before, 1e-3)
