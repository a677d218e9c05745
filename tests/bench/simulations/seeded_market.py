"""A market whose truth is known: recorded runs, what would come of any pair, and planted policies.

What an expert makes of a task follows from skill and a little luck; predictions know some of it,
interest knows nothing of it. A policy of interest alone is far from the best one, and one that
avoids skill is worse than drawing lots.
"""

from dataclasses import dataclass

import numpy as np

from matching.assign import assign
from matching.past import Came, Past
from matching.policy import Policy, Weights
from matching.preview import Candidate
from matching.problem import Float64, Problem
from matching.value import PairParts, pair_value

NOTHING = Weights(
    stump=0, quality=0, interest=0, affinity=0, learning=0, cost=0, concentration=0, urgency=0
)
NEAR = 6
GROUPS = 4


def weighed(**weights: float) -> Weights:
    """Weights of which only those named count."""
    return Weights(**{**dict.fromkeys(Weights.__dataclass_fields__, 0.0), **weights})


TODAY = Policy(weights=weighed(stump=0.3, interest=1.0), randomness=0.9, perturbation=0.1)
BLIND = Policy(weights=weighed(stump=0.05, interest=1.0), randomness=0.9, perturbation=0.1)
"""Today's policy where a good one is to be found: it all but overlooks who can."""

GOOD = Policy(weights=weighed(stump=1.0, interest=0.3))
BAD = Policy(weights=weighed(interest=1.0, affinity=2.0))
"""Affinity is to the wrong people in this market: the less they can, the nearer they seem."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """One recorded run and the truth about every pair of it.

    Shapes: stump, accepted (pairs,), true chances.
    """

    past: Past
    stump: Float64
    accepted: Float64

    def truth(self, chance: Float64) -> float:
        """Stumps that a policy with these chances would have brought on the average."""
        return float(chance @ self.stump)


def market(
    seed: int,
    *,
    tasks: int = 500,
    experts: int = 250,
    policy: Policy = TODAY,
    people: int | None = None,
) -> Known:
    """A run under a policy, drawn by the matcher itself, with its outcomes; the same `people` bring
    the same skills to other tasks.
    """
    rng = np.random.default_rng([seed, 91])
    task = np.repeat(np.arange(tasks, dtype=np.int32), NEAR)
    order = np.argsort(rng.random((tasks, experts)), axis=1)[:, :NEAR]
    expert = np.sort(order, axis=1).ravel().astype(np.int32)
    skill = rng.normal(0, 1, experts)
    if people is not None:
        skill = np.random.default_rng([people, 92]).normal(0, 1, experts)
    pairs = len(task)
    ability = skill[expert] + rng.normal(0, 0.5, pairs) - 0.5
    can = 1 / (1 + np.exp(-ability))
    believed = 1 / (1 + np.exp(-(0.7 * skill[expert] + rng.normal(0, 0.7, pairs) - 0.3)))
    interest = rng.random(pairs)
    accepted = 0.5 + 0.4 * interest
    parts = PairParts(
        stump=believed,
        interest=interest,
        affinity=1 / (1 + np.exp(skill[expert])),
        quality=np.full(pairs, 0.5),
        cost=rng.integers(1_000, 9_000, pairs).astype(np.float64),
    )
    problem = Problem(
        expert=expert,
        task=task,
        value=pair_value(parts, policy).total,
        demand=np.ones(tasks, np.int32),
        capacity=np.full(experts, 3, np.int32),
    )
    answer = assign(problem, policy, seed=seed)
    chance = np.zeros(pairs)
    chance[answer.marginal_pair] = answer.marginal
    taken = np.zeros(pairs, np.bool_)
    taken[answer.chosen] = True
    said_yes = (rng.random(pairs) < accepted).astype(np.float64)
    stump = said_yes * (rng.random(pairs) < can)
    assert parts.cost is not None
    came = Came(
        taken=taken,
        known=np.ones(pairs, np.bool_),
        accepted=said_yes,
        stump=stump,
        cost=said_yes * parts.cost,
        wait=rng.exponential(5.0, pairs),
        age=np.full(pairs, 100.0),
        delay=np.full(pairs, 10.0),
    )
    past = Past(
        problem=problem,
        parts=parts,
        chance=chance,
        said=np.ones(pairs, np.bool_),
        newcomer=rng.random(experts) < 0.2,
        expert_label=np.arange(experts),
        task_group=np.arange(tasks) % GROUPS,
        came=came,
    )
    return Known(past, accepted * can, accepted)


def candidate(policy: Policy) -> Candidate:
    """A policy as a preview takes it."""
    return Candidate(policy)
