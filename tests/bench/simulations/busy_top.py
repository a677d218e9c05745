"""A planted power law: how busy matching keeps the people at the top, while others get work too.

Fifteen of a hundred make ten times as much, and the matcher knows of it only what a record of
attempts says; a fifth of the others have no record at all. Work is short: six seats for ten that
people state. Newcomers have a share of each project, and everyone a least load.
"""

from dataclasses import replace

import numpy as np

from matching.assign import assign, under_policy
from matching.credit import ExpertRate
from matching.policy import Policy
from matching.problem import Bool, Float64, Problem, newcomer_quotas
from matching.value import PairParts, pair_value
from matching.verify import verify

ROUNDS = 40
EXPERTS = 100
STARS = 15
NEWCOMERS = 17
ATTEMPTS = 4000
PROJECTS = 5
DOMAINS = 4
SEATS_OF_STATED = 0.6
POLICY = Policy(exploration=0.5, newcomer_share=0.1, newcomer_price=1.0, min_load_price=1.0)


def run(seed: int, rounds: int) -> dict[str, object]:
    """Of the top, the share who are as busy as they stated, by value and, for comparison, by turns;
    and what others get.
    """
    rng = np.random.default_rng(seed)
    every = [_one(np.random.default_rng(s)) for s in rng.integers(0, 2**31, rounds)]
    names = ("top_full", "top_seats", "top_full_by_turns", "newcomers", "with_work", "proved")
    found = {
        name: {"mean": float(mean), "least": float(least)}
        for name, mean, least in zip(names, np.mean(every, 0), np.min(every, 0), strict=True)
    }
    met = (
        min(found[name]["mean"] for name in ("top_full", "top_seats")) >= 0.9
        and found["top_full"]["mean"] > found["top_full_by_turns"]["mean"] + 0.25
        and found["newcomers"]["least"] >= POLICY.newcomer_share - 0.02
        and found["with_work"]["least"] == 1
        and found["proved"]["least"] == 1
    )
    return {"experts": EXPERTS, "top": STARS, **found, "met": met}


def _one(rng: np.random.Generator) -> tuple[float, float, float, float, float, float]:
    top, newcomers = np.zeros(EXPERTS, np.bool_), np.zeros(EXPERTS, np.bool_)
    top[rng.choice(EXPERTS, STARS, replace=False)] = True
    newcomers[rng.choice(np.flatnonzero(~top), NEWCOMERS, replace=False)] = True
    chance, doubt = _believed(rng, top, newcomers)
    by_value = under_policy(_market(rng, newcomers, chance, doubt), POLICY)
    answer = assign(by_value, POLICY)
    held = np.bincount(by_value.expert[answer.chosen], minlength=EXPERTS)
    turns = assign(replace(by_value, value=np.ones(by_value.pairs), quotas=()))
    by_turns = np.bincount(by_value.expert[turns.chosen], minlength=EXPERTS)
    stated = by_value.capacity
    return (
        float((held[top] == stated[top]).mean()),
        float(held[top].sum() / stated[top].sum()),
        float((by_turns[top] == stated[top]).mean()),
        float(held[newcomers].sum() / by_value.demand.sum()),
        float((held > 0).mean()),
        float(not verify(by_value, answer) and answer.gap <= 1e-3),
    )


def _believed(rng: np.random.Generator, top: Bool, newcomers: Bool) -> tuple[Float64, Float64]:
    """What a record of attempts tells of each expert's chance of a stump, and how surely.

    How much anybody tried has nothing to do with how well; newcomers did not.
    """
    rate = np.where(top, 0.5, 0.05) * rng.uniform(0.85, 1.15, EXPERTS)
    volume = np.where(newcomers, 0.0, rng.lognormal(0, 0.5, EXPERTS))
    expert = rng.choice(EXPERTS, ATTEMPTS, p=volume / volume.sum()).astype(np.int64)
    made = (rng.random(ATTEMPTS) < rate[expert]).astype(np.float64)
    rates = ExpertRate(EXPERTS).fit(expert, made).rates()
    return rates.mean, rates.sd


def _market(rng: np.random.Generator, newcomers: Bool, chance: Float64, doubt: Float64) -> Problem:
    """Tasks of five projects in four domains, and people who know one to three of these."""
    stated = rng.integers(1, 6, EXPERTS)
    demand = rng.integers(1, 3, int(SEATS_OF_STATED * stated.sum() / 1.5))
    project = rng.integers(0, PROJECTS, len(demand)).astype(np.int32)
    domain = rng.integers(0, DOMAINS, len(demand))
    knows = rng.random((EXPERTS, DOMAINS)) < 0.4
    knows[np.arange(EXPERTS), rng.integers(0, DOMAINS, EXPERTS)] = True
    task, expert = (side.astype(np.int32) for side in np.nonzero(knows.T[domain]))
    parts = PairParts(
        stump=chance[expert],
        stump_sd=np.minimum(doubt[expert], 0.5),
        worth=rng.uniform(0.5, 1.5, len(demand))[task],
        affinity=rng.random(len(task)),
        interest=rng.random(len(task)),
    )
    problem = Problem(
        expert=expert,
        task=task,
        value=pair_value(parts, POLICY).total,
        demand=demand.astype(np.int32),
        capacity=stated.astype(np.int32),
        project=project,
        min_load=np.ones(EXPERTS, np.int32),
    )
    share, price = POLICY.newcomer_share, POLICY.newcomer_price
    return problem.with_changes(quotas=newcomer_quotas(problem, newcomers, share, price))
