"""A hundred experts, a target model that gets better, and the next complexity: made-up, seeded."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from matching.problem import Bool, Float64, Int64

MINUTES = 15.0 * 4.0 ** np.arange(5)
"""Expert minutes of the levels: a quarter of an hour to sixty-four hours."""

STEP = 1.0
"""What a level adds to the log-odds of a stump, two doublings of an expert's minutes."""

PRODUCTIVE = -2.633
"""Log-odds from which one valid stump in ten attempts is likelier than not."""


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Experts as they truly are. Shapes: skill (experts,). Units: logits about the mean."""

    skill: Float64

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.skill)

    def stump_logit(self, level: int, ability: float) -> Float64:
        """Log-odds of a valid stump of each at a level against a model of this ability."""
        return self.skill + 0.9 + STEP * level - ability

    def able(self, level: int, ability: float) -> Bool:
        """Who is truly productive there."""
        return np.asarray(self.stump_logit(level, ability) > PRODUCTIVE, np.bool_)


def make_people(rng: np.random.Generator, count: int = 100) -> People:
    """Experts of differing skill, all of them productive against the first model."""
    return People(np.clip(rng.normal(0.0, 0.9, count), -2.2, 2.2))


def release_leaving(people: People, left: int) -> float:
    """The ability of a model against which so many can still stump at the lowest level."""
    skill = np.sort(people.skill)[::-1]
    return float((skill[left - 1] + skill[left]) / 2 + 0.9 - PRODUCTIVE)


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Attempts in the order in which they happened. Shapes: all (attempts,)."""

    expert: Int64
    stumped: Bool


def attempt(
    rng: np.random.Generator, people: People, level: int, ability: float, each: int
) -> Outcomes:
    """Everybody makes so many attempts, in a random order."""
    expert = rng.permutation(np.repeat(np.arange(people.count), each)).astype(np.int64)
    chance = expit(people.stump_logit(level, ability))[expert]
    return Outcomes(expert, rng.random(len(expert)) < chance)
