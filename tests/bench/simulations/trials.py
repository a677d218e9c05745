"""From a record to a decision: a policy is found by search, tried on half of the experts, and kept;
a bad one is stopped; the same one twice declares nothing.
"""

from dataclasses import dataclass, field, replace
from uuid import UUID

import numpy as np

from market.candidates.rules import by_arm
from market.experiments.rules import Exposed, UnitsPast, is_treated, look
from matching.assign import assign
from matching.policy import Policy
from matching.preview import Candidate, replayed
from matching.problem import Bool, Float64
from matching.tuning import Goal, search
from matching.value import pair_value
from tests.bench.simulations.seeded_market import BAD, BLIND, TODAY, market

ROUNDS = 12
BEFORE = 4
"""Rounds under the control that were on record when the trial began."""

EXPERTS = 120
PEOPLE = 1500
TASKS = 240
AA_LIMIT = 0.05


@dataclass
class Record:
    """What a stretch of rounds left behind: who had each assignment, and what came of it."""

    expert: list[int] = field(default_factory=list)
    stump: list[float] = field(default_factory=list)
    accepted: list[bool] = field(default_factory=list)
    predicted: list[float] = field(default_factory=list)

    def play(self, seed: int, turn: int, control: Policy, treated: Policy, arm: Bool) -> None:
        """One more round of the same people, planned with each one's arm."""
        # The record's own draw is not used here: arms are weighed, and the plan made anew.
        plain = replace(control, randomness=1.0)
        known = market(
            1000 * seed + turn, tasks=2 * PEOPLE, experts=PEOPLE, policy=plain, people=seed
        )
        past = known.past
        expert = past.problem.expert
        one, two = pair_value(past.parts, control), pair_value(past.parts, treated)
        value = by_arm(one, two, arm[expert])
        chosen = assign(replace(past.problem, value=value.total), seed=turn).chosen
        self.expert += expert[chosen].tolist()
        self.stump += past.came.stump[chosen].tolist()
        self.accepted += past.came.accepted[chosen].astype(np.bool_).tolist()
        assert past.parts.stump is not None
        self.predicted += past.parts.stump[chosen].tolist()


def before(seed: int, control: Policy, ids: list[UUID], arm: Bool) -> UnitsPast:
    """What was on record of everybody when the trial began."""
    record = Record()
    for turn in range(BEFORE):
        record.play(seed, ROUNDS + turn, control, control, arm)
    had = np.bincount(record.expert, minlength=PEOPLE)
    there = np.flatnonzero(had)

    def sums(amount: object) -> Float64:
        return np.bincount(record.expert, np.asarray(amount, float), PEOPLE)[there].astype(float)

    yes = sums(record.accepted)
    return UnitsPast(
        unit=tuple(ids[n] for n in there),
        treated=arm[there],
        total={"stump": sums(record.stump), "rejected": yes - sums(record.stump)},
        count={"stump": had[there].astype(float), "rejected": yes},
        predicted=sums(record.predicted) / had[there],
    )


def trial(
    seed: int, treated_policy: Policy, *, control: Policy = TODAY, rounds: int = ROUNDS
) -> tuple[str, int]:
    """What a trial on half of the experts led to, and at which look; looked at after each round."""
    ids = [UUID(int=int(n)) for n in range(1, PEOPLE + 1)]
    arm = np.array([is_treated(f"trial {seed}", one, 0.5) for one in ids], np.bool_)
    past = before(seed, control, ids, arm)
    record = Record()
    for turn in range(rounds):
        record.play(seed, turn, control, treated_policy, arm)
        stumps = np.array(record.stump)
        seen = look(
            Exposed(
                unit=tuple(ids[n] for n in record.expert),
                treated=arm[record.expert],
                # Work that is no stump is rejected in this market; what is declined is neither.
                outcome={"stump": stumps, "rejected": 1 - stumps},
                known={
                    "stump": np.ones(len(stumps), np.bool_),
                    "rejected": np.array(record.accepted),
                },
                past=past,
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
