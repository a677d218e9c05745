"""From a record to a decision: a policy is found by search, tried on half of the experts, and kept;
a bad one is stopped; the same one twice declares nothing.
"""

from dataclasses import replace
from uuid import UUID

import numpy as np

from market.candidates.rules import by_arm
from market.experiments.rules import Exposed, is_treated, look
from matching.assign import assign
from matching.policy import Policy
from matching.preview import Candidate, replayed
from matching.tuning import Goal, search
from matching.value import pair_value
from tests.bench.simulations.seeded_market import BAD, BLIND, TODAY, market

ROUNDS = 12
EXPERTS = 120
PEOPLE = 1500
TASKS = 240
AA_LIMIT = 0.05


def trial(
    seed: int, treated_policy: Policy, *, control: Policy = TODAY, rounds: int = ROUNDS
) -> tuple[str, int]:
    """What a trial on half of the experts led to, and at which look; looked at after each round."""
    ids = [UUID(int=int(n)) for n in range(1, PEOPLE + 1)]
    arm = np.array([is_treated(f"trial {seed}", one, 0.5) for one in ids], np.bool_)
    unit: list[UUID] = []
    treated: list[bool] = []
    stumps: list[float] = []
    accepted: list[bool] = []
    for turn in range(rounds):
        # The record's own draw is not used here: arms are weighed, and the plan made anew.
        plain = replace(control, randomness=1.0)
        tasks, experts = 2 * len(ids), len(ids)
        known = market(1000 * seed + turn, tasks=tasks, experts=experts, policy=plain, people=seed)
        past = known.past
        expert = past.problem.expert
        one = pair_value(past.parts, control)
        two = pair_value(past.parts, treated_policy)
        value = by_arm(one, two, arm[expert])
        plan = assign(replace(past.problem, value=value.total), seed=turn)
        for pair in plan.chosen.tolist():
            unit.append(ids[int(expert[pair])])
            treated.append(bool(arm[expert[pair]]))
            stumps.append(float(past.came.stump[pair]))
            accepted.append(bool(past.came.accepted[pair]))
        everything = np.ones(len(unit), np.bool_)
        seen = look(
            Exposed(
                unit=tuple(unit),
                treated=np.array(treated),
                # Work that is no stump is rejected in this market; what is declined is neither.
                outcome={"stump": np.array(stumps), "rejected": 1 - np.array(stumps)},
                known={"stump": everything, "rejected": np.array(accepted)},
            ),
            "stump",
            ("rejected",),
        )
        if seen.verdict.decision != "continue":
            return seen.verdict.decision, turn + 1
    return "continue", rounds


def found_policy(seed: int, *, evaluations: int = 40) -> tuple[Policy, float]:
    """The policy with the most stumps on the frontier of a recorded run, and what it brings in
    truth, as a multiple of today's.
    """
    known = market(seed, tasks=TASKS, experts=EXPERTS, policy=BLIND)
    told = search(
        [known.past], Candidate(BLIND), goal=Goal(0.9), evaluations=evaluations, seed=seed
    )
    policy = replace(told.choices[0].policy, randomness=1.0)
    after = replayed(known.past, Candidate(policy))[1]
    return policy, known.truth(after) / known.truth(known.past.chance)


def story(seed: int, seeds: int) -> dict[str, object]:
    """How often each of the three ends as it should."""
    gains, kept, stopped, declared = [], 0, 0, 0
    for turn in range(seeds):
        policy, gain = found_policy(seed + turn)
        gains.append(gain)
        kept += trial(seed + turn, policy, control=BLIND)[0] == "promote"
        stopped += trial(seed + turn, BAD)[0] == "stop_harm"
        declared += trial(seed + turn, replace(TODAY, randomness=1.0))[0] != "continue"
    return {
        "seeds": seeds,
        "found_better": float(np.mean(np.array(gains) > 1)),
        "gain_median": round(float(np.median(gains)), 3),
        "found_and_promoted": kept / seeds,
        "bad_stopped": stopped / seeds,
        "aa_declared": declared / seeds,
        "met": declared / seeds <= AA_LIMIT and stopped / seeds >= 0.9 and kept / seeds >= 0.8,
    }
