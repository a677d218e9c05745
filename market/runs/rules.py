"""Matching runs as arrays: what was seen, and what it is worth under a policy; pure.

Also the states of a run, and refusals.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from uuid import UUID

import numpy as np

from market.errors import MarketError
from market.explanations.rules import Ids
from market.policies.rules import RunPolicy
from market.states import Machine, Move
from matching.problem import Bool, Float64, Int32, Int64, Problem, UInt64, newcomer_quotas
from matching.value import PairParts, Value, pair_value

RUN = Machine(
    "matching_run",
    ("pending",),
    (
        Move("start", ("pending",), "running"),
        Move("finish", ("running",), "succeeded"),
        Move("fail", ("pending", "running"), "failed"),
        Move("cancel", ("pending", "running"), "cancelled"),
    ),
)
"""How a run goes: it may be started again after a crash without leaving `running`."""

ENDED = ("succeeded", "failed", "cancelled")

WEEK_S = 7 * 24 * 3600

PRIOR_ABILITY = (0.0, 0.5)
"""What is believed of an expert without evidence, by level (claimed, qualified), in logits."""

PRIOR_SD = 1.0
"""How unsure that belief is, in logits."""

MIDDLE_COMPLEXITY = 5.0
COMPLEXITY_STEP = 0.5
"""A task of the middle complexity has difficulty 0, each step more half a logit; this stands until
difficulties have been estimated from verdicts."""


class RunNotFound(MarketError):
    """No matching run has this id."""

    def __init__(self, run_id: UUID) -> None:
        super().__init__("there is no such matching run")
        self.run_id = run_id


class SeedOutOfRange(MarketError):
    """A seed that is negative or too large."""

    def __init__(self, seed: int) -> None:
        super().__init__(f"a seed is a whole number from 0 to {2**63 - 1}, not {seed}")
        self.seed = str(seed)


class OperationNotCancellable(MarketError):
    """Long work of a kind that cannot be stopped half way."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"work of the kind {kind} cannot be cancelled")
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFacts:
    """What a run needs to know of one project.

    `fixed_minor` is what one seat can pay beside its hours: for accepted work and for attempts.
    With `tops_up`, time only raises that to its own worth.

    Units: `_s` in seconds, `_minor` in minor units of `currency`; `seats` of all its tasks.
    """

    id: UUID
    organisation_id: UUID
    currency: str
    rate_minor_per_hour: int | None
    cap_s: int
    fee_basis_points: int
    offer_ttl_s: int
    work_ttl_s: int
    free_minor: int
    seats: int
    fixed_minor: int = 0
    tops_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Who could take what, as one moment saw it.

    Every pair holds: the task is open, the expert in good standing, its domain meets the task's at
    the level asked for, it has a seat and hours left, it is not on the task already and does not
    belong to the lab.

    Shapes: task_* (tasks,); expert_* (experts,); rate_now, rate_top (experts, currencies), 0 where
        there is none; fit_* (fits,), one for each task domain and expert; pair_* (pairs,), in the
        order of task and expert; held_key, held_seats (any,), key = expert * projects + project.
    Units: seconds; hours; minor units an hour; ability in logits, NaN before evidence; nearness and
        interest from 0 to 1, interest NaN where nothing was said.
    """

    projects: tuple[ProjectFacts, ...]
    currencies: tuple[str, ...]
    task_ids: Ids
    task_project: Int32
    task_seats: Int32
    task_expected_s: Int64
    task_weight: Float64
    task_complexity: Int32
    expert_ids: Ids
    expert_capacity: Int32
    expert_hours: Float64
    expert_is_new: Bool
    rate_now: Int64
    rate_top: Int64
    fit_level: Int32
    fit_ability: Float64
    fit_nearness: Float64
    pair_expert: Int32
    pair_task: Int32
    pair_fit: Int32
    pair_interest: Float64
    held_key: Int64
    held_seats: Int64

    @property
    def pairs(self) -> int:
        """Eligible pairs."""
        return len(self.pair_expert)

    def pair_rates(self) -> tuple[Int64, Int64]:
        """What an hour of each pair costs now, and at most while the work may last.

        Shapes: (pairs,) each.
        """
        project = self.task_project[self.pair_task]
        own = np.array([p.rate_minor_per_hour or 0 for p in self.projects], np.int64)[project]
        column = {name: at for at, name in enumerate(self.currencies)}
        currency = np.array([column[p.currency] for p in self.projects], np.int64)[project]
        now = np.where(own > 0, own, self.rate_now[self.pair_expert, currency])
        top = np.where(own > 0, own, self.rate_top[self.pair_expert, currency])
        return now, np.maximum(top, now)


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """Candidates as a problem to solve, and what makes up each pair's value."""

    problem: Problem
    value: Value


def pay_lines(offer_ttl_s: int, work_ttl_s: int) -> int:
    """How many lines of pay an offer's time can come in: one for each week that it can touch."""
    return 1 + -(-(offer_ttl_s + work_ttl_s) // WEEK_S)


def worst_cost(
    cap_s: Int64, rate: Int64, fee_basis_points: Int64, lines: Int64
) -> tuple[Int64, Int64]:
    """What to reserve for offers at worst: pay and fee, each line's rounding allowed for.

    Shapes: all alike.
    Units: seconds; minor units an hour; hundredths of a per cent; lines; minor units.
    """
    # Each line of pay is rounded on its own, so that one more can add one more minor unit.
    pay = -(-cap_s * rate // 3600) + lines - 1
    return pay, -(-pay * fee_basis_points // 10_000) + lines - 1


def worst_costs(
    facts: Sequence[ProjectFacts], project: Int32 | Int64, rate: Int64
) -> tuple[Int64, Int64]:
    """What to reserve for offers at worst, by the contract of each one's project: pay and fee.

    Shapes: project, an index into `facts`, and rate (offers,).
    Units: minor units an hour; minor units.
    """
    cap = np.array([one.cap_s for one in facts], np.int64)[project]
    fee_basis_points = np.array([one.fee_basis_points for one in facts], np.int64)[project]
    lines = [pay_lines(one.offer_ttl_s, one.work_ttl_s) for one in facts]
    fixed = np.array([one.fixed_minor for one in facts], np.int64)[project]
    tops_up = np.array([one.tops_up for one in facts], np.bool_)[project]
    pay, fee = worst_cost(cap, rate, fee_basis_points, np.array(lines, np.int64)[project])
    more = np.where(tops_up, np.maximum(0, fixed - pay), fixed)
    # What is paid for the work and for its attempts are two lines more, each with its own fee.
    more_fee = np.where(fixed > 0, -(-more * fee_basis_points // 10_000) + 2, 0)
    return pay + more, fee + more_fee


def weigh(candidates: Candidates, policy: RunPolicy, *, seed: int) -> Weighed:
    """The problem that these candidates are under a policy.

    An expert who said nothing of a task counts as interested as the policy says. A chance of a
    stump follows the one-parameter logistic model, from the expert's ability in the domain, or what
    is believed before there is evidence, and from the task's complexity.

    Source: G. Rasch, Probabilistic Models for Some Intelligence and Attainment Tests, 1960; the
        average over a normal belief by MacKay's approximation, Neural Computation 4, 1992, eq. 10.
    """
    project = candidates.task_project[candidates.pair_task]
    facts = candidates.projects
    fee = np.array([p.fee_basis_points for p in facts], np.int64)[project]
    cap = np.array([p.cap_s for p in facts], np.int64)[project]
    expected = candidates.task_expected_s[candidates.pair_task]
    rate, top = candidates.pair_rates()
    worst_pay, worst_fee = worst_costs(facts, project, top)
    value = pair_value(_parts(candidates, policy, rate, cap, expected, fee), policy.matcher)
    problem = Problem(
        expert=candidates.pair_expert,
        task=candidates.pair_task,
        value=value.total,
        demand=candidates.task_seats,
        capacity=candidates.expert_capacity,
        hours=expected / 3600.0,
        hours_available=candidates.expert_hours,
        cost=worst_pay + worst_fee,
        project=candidates.task_project,
        budget=np.array([p.free_minor for p in facts], np.int64),
        tie_break=tie_breaks(candidates, seed),
    )
    share = policy.matcher.newcomer_share
    if share:
        quotas = newcomer_quotas(
            problem, candidates.expert_is_new, share, policy.matcher.newcomer_price
        )
        problem = problem.with_changes(quotas=quotas)
    return Weighed(problem, value)


def _parts(
    candidates: Candidates,
    policy: RunPolicy,
    rate: Int64,
    cap: Int64,
    expected: Int64,
    fee: Int64,
) -> PairParts:
    task, fit = candidates.pair_task, candidates.pair_fit
    interest = candidates.pair_interest
    ability = candidates.fit_ability[fit]
    is_unknown = np.isnan(ability)
    believed = np.array(PRIOR_ABILITY)[candidates.fit_level[fit] - 1]
    difficulty = (candidates.task_complexity[task] - MIDDLE_COMPLEXITY) * COMPLEXITY_STEP
    logit = np.where(is_unknown, believed, ability) - difficulty
    spread = np.where(is_unknown, PRIOR_SD, 0.0)
    stump = 1 / (1 + np.exp(-logit / np.sqrt(1 + np.pi * spread**2 / 8)))
    return PairParts(
        stump=stump,
        # The slope of the logistic carries the spread of ability over to the probability.
        stump_sd=np.minimum(spread * stump * (1 - stump), 0.5),
        worth=candidates.task_weight[task],
        interest=np.where(np.isnan(interest), policy.default_interest, interest),
        affinity=candidates.fit_nearness[fit],
        learning=is_unknown.astype(np.float64),
        cost=np.minimum(expected, cap) * rate / 3600.0 * (1 + fee / 10_000),
        concentration=_concentration(candidates),
    )


def _concentration(candidates: Candidates) -> Float64:
    project = candidates.task_project[candidates.pair_task].astype(np.int64)
    share = np.zeros(candidates.pairs)
    if len(candidates.held_key):
        key = candidates.pair_expert.astype(np.int64) * len(candidates.projects) + project
        at = np.minimum(np.searchsorted(candidates.held_key, key), len(candidates.held_key) - 1)
        seats = np.array([max(p.seats, 1) for p in candidates.projects], np.float64)[project]
        held = np.where(candidates.held_key[at] == key, candidates.held_seats[at], 0)
        share = np.minimum(held / seats, 1.0)
    return share


def tie_breaks(candidates: Candidates, seed: int) -> UInt64:
    """A number for each pair by which equal values are told apart, from its ids and the seed.

    Shapes: (pairs,) uint64.
    Source: the finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, figure 17).
    """
    salt = _mixed(np.array([seed], np.uint64))
    task = _mixed(_folded(candidates.task_ids) ^ salt)
    expert = _mixed(_folded(candidates.expert_ids) + salt)
    return _mixed(task[candidates.pair_task] + np.uint64(3) * expert[candidates.pair_expert])


def _folded(ids: Ids) -> UInt64:
    halves = np.ascontiguousarray(ids).view(">u8").astype(np.uint64)
    folded: UInt64 = _mixed(halves[:, 0]) ^ halves[:, 1]
    return folded


def _mixed(numbers: UInt64) -> UInt64:
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def id_at(ids: Ids, index: int) -> UUID:
    """One of some ids."""
    return UUID(bytes=ids[index].tobytes())


def input_digest(candidates: Candidates, policy_digest: str, seed: int) -> str:
    """A SHA-256 of everything that a run's answer follows from."""
    found = hashlib.sha256(f"{policy_digest} {seed} {candidates.currencies}".encode())
    for project in candidates.projects:
        found.update(repr(project).encode())
    for each in fields(candidates):
        column = getattr(candidates, each.name)
        if isinstance(column, np.ndarray):
            found.update(f"{each.name} {column.dtype.str} {column.shape}".encode())
            found.update(np.ascontiguousarray(column).tobytes())
    return found.hexdigest()
