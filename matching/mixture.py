"""Several predictors as one, never far from the best of them; and the cheapest ones."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt, tanh
from operator import mul

SHARE = 0.0005
"""Weight that goes back to the opening weights at each answer, so that a member can come back."""

TIMID = 1e-4
"""Added to what a member said of what happened: one sure mistake does not silence it for ever."""


GLICKO_SQUASH = 0.304
"""Three over pi squared: how much variance of a rating damps its logit."""


def log_odds(p: float) -> float:
    """The logit of a probability, cut off at one in a million."""
    p = min(max(p, 1e-6), 1 - 1e-6)
    return log(p / (1 - p))


class FixedShare:
    """Bayesian weights of predictors, with a share of them always given back.

    Source: Herbster, Warmuth, Machine Learning 32 (1998), fixed share with log loss; the share
        goes to the opening weights and not evenly, so that the net costs little.
    """

    def __init__(self, opening: Sequence[float], *, share: float = SHARE) -> None:
        self.opening = list(opening)
        self.weight = list(opening)
        self.share = share
        self.returned = [share * weight for weight in opening]

    def look(self, chances: Sequence[float]) -> float:
        """The mixture of the members' probabilities."""
        found: float = sum(map(mul, self.weight, chances))
        return found

    def learn(self, chances: Sequence[float], outcome: float, weight: float = 1.0) -> None:
        """Move weight to the members that said what happened; soft outcomes move less."""
        # All these lists are as long as the opening weights; to count them is dear here.
        if outcome == 1.0 and weight == 1.0:
            grown = [w * (p + TIMID) for w, p in zip(self.weight, chances)]  # noqa: B905
        elif outcome == 0.0 and weight == 1.0:
            grown = [w * (1 + TIMID - p) for w, p in zip(self.weight, chances)]  # noqa: B905
        else:
            grown = [
                w * ((p + TIMID) ** outcome * (1 + TIMID - p) ** (1 - outcome)) ** weight
                for w, p in zip(self.weight, chances, strict=True)
            ]
        kept = (1 - self.share) / sum(grown)
        self.weight = [g * kept + o for g, o in zip(grown, self.returned)]  # noqa: B905


class Elo:
    """Ratings of subjects and items in logits, with a step that shrinks with experience.

    Source: Pelanek, Computers & Education 98 (2016), uncertainty function a / (1 + b n).
    """

    def __init__(self, base: float, *, step: float = 1.0, slowing: float = 0.05) -> None:
        self.base = base
        self.step, self.slowing = step, slowing
        self.subject: dict[int, list[float]] = {}
        self.item: dict[int, list[float]] = {}

    def look(self, subject: int, item: int) -> float:
        """The logit of an answer."""
        mine, its = self.subject.get(subject), self.item.get(item)
        return self.base + (mine[0] if mine else 0.0) - (its[0] if its else 0.0)

    def learn(self, subject: int, item: int, outcome: float) -> None:
        """Move both ratings by the surprise."""
        mine = self.subject.get(subject)
        if mine is None:
            mine = self.subject[subject] = [0.0, 0.0]
        its = self.item.get(item)
        if its is None:
            its = self.item[item] = [0.0, 0.0]
        self.meet(mine, its, outcome)

    def meet(self, mine: list[float], its: list[float], outcome: float) -> None:
        """The same with both ratings at hand."""
        x = self.base + mine[0] - its[0]
        # The logistic function, without the call, which costs more than it does.
        if x >= 0:
            miss = outcome - 1 / (1 + exp(-x))
        else:
            e = exp(x)
            miss = outcome - e / (1 + e)
        mine[0] += self.step / (1 + self.slowing * mine[1]) * miss
        its[0] -= self.step / (1 + self.slowing * its[1]) * miss
        mine[1] += 1
        its[1] += 1


class Glicko:
    """Glicko-1 in logits: ratings with a variance, subject against item.

    Source: Glickman, Applied Statistics 48 (1999), equations 8 to 10, one game a period.
    """

    def __init__(self, base: float, *, variance: float = 1.0, drift: float = 1e-3) -> None:
        self.base = base
        self.variance, self.drift = variance, drift
        self.subject: dict[int, list[float]] = {}
        self.item: dict[int, list[float]] = {}

    def look(self, subject: int, item: int) -> float:
        """The logit of an answer, damped by the uncertainty of both ratings."""
        mine = self.subject.get(subject, (0.0, self.variance))
        its = self.item.get(item, (0.0, self.variance))
        return (self.base + mine[0] - its[0]) / sqrt(1 + GLICKO_SQUASH * (mine[1] + its[1]))

    def learn(self, subject: int, item: int, outcome: float) -> None:
        """One game between the two."""
        mine = self.subject.get(subject)
        if mine is None:
            mine = self.subject[subject] = [0.0, self.variance]
        its = self.item.get(item)
        if its is None:
            its = self.item[item] = [0.0, self.variance]
        self.meet(mine, its, outcome)

    def meet(self, mine: list[float], its: list[float], outcome: float) -> None:
        """The same with both ratings at hand."""
        gap = self.base + mine[0] - its[0]
        # Both sides of the game see the other's uncertainty as it was before.
        g, own = 1 / sqrt(1 + GLICKO_SQUASH * its[1]), 1 / sqrt(1 + GLICKO_SQUASH * mine[1])
        p, q = 0.5 + 0.5 * tanh(0.5 * g * gap), 0.5 + 0.5 * tanh(0.5 * own * gap)
        spread = 1 / (1 / mine[1] + g * g * p * (1 - p))
        mine[0] += spread * g * (outcome - p)
        mine[1] = spread + self.drift
        spread = 1 / (1 / its[1] + own * own * q * (1 - q))
        its[0] -= spread * own * (outcome - q)
        its[1] = spread + self.drift
