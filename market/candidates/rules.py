"""Candidates as arrays: what one moment saw, and what it is worth under a policy; pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from uuid import UUID

import numpy as np

from market.experiments.rules import Trial, Tried
from market.explanations.rules import Ids
from market.policies.rules import RunPolicy
from market.predictions.rules import Asked, Predictions, Slice
from matching.problem import Bool, Float64, Int32, Int64, Problem, UInt64, newcomer_quotas
from matching.value import PairParts, Value, ValuePart, pair_value
from payouts.pay import BASIS_POINTS, pay_minor

WEEK_S = 7 * 24 * 3600

WEEK_H = 7 * 24
"""The age at which a task is as urgent as it can be, in hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFacts:
    """What a run needs to know of one project.

    `fixed_minor` is what one seat can pay beside its hours: for accepted work and for attempts.
    With `tops_up`, time only raises that to its own worth. `bonus_minor` comes on top of either,
    for a stump. Any of its hours may be overtime, which pays `overtime_basis_points` of the rate,
    10,000 where there is none. A trial of pay adds its raise to every rate; `trials` are those that
    the project is in.

    Units: `_s` in seconds, `_minor` in minor units of `currency`, without a raise but for
        `fixed_minor` and `bonus_minor`; `seats` of all its tasks; the raise in hundredths of a per
        cent.
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
    bonus_minor: int = 0
    tops_up: bool = False
    overtime_basis_points: int = 10_000
    raise_basis_points: int = 0
    trials: tuple[Tried, ...] = ()

    def raised(self, amount_minor: int) -> int:
        """An amount of its contract with what a trial of pay adds to it, rounded up."""
        return -(-amount_minor * (10_000 + self.raise_basis_points) // 10_000)

    def paying(
        self,
        *,
        deliverable_minor: int | None,
        attempt_fee_minor: int | None,
        attempt_fees_max: int,
        impact_bonus_minor: int | None,
        overtime_basis_points: int | None,
    ) -> "ProjectFacts":
        """The same project with what its contract pays beside the rate, the raise added to it."""
        return replace(
            self,
            fixed_minor=self.raised(deliverable_minor or 0)
            + self.raised(attempt_fee_minor or 0) * attempt_fees_max,
            bonus_minor=self.raised(impact_bonus_minor or 0),
            overtime_basis_points=overtime_basis_points or BASIS_POINTS,
        )

    def most_pay(self, rate_minor_per_hour: int) -> int:
        """The most that one seat can pay at a rate, as its expert is told: what is reserved also
        allows for the roundings of several lines.
        """
        rate = -(-rate_minor_per_hour * self.overtime_basis_points // 10_000)
        hours = pay_minor(self.cap_s, rate)
        work = max(hours, self.fixed_minor) if self.tops_up else hours + self.fixed_minor
        return work + self.bonus_minor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """Who could take what, as one moment saw it.

    Every pair holds: the task is open, the expert in good standing, its domain meets the task's at
    the level asked for, it has a seat and hours left, it is not on the task already, does not
    belong to the lab, and is taken by the step of eligibility that the task is at. `met` is how
    many pairs the domains let through, `pairs` how many were kept. `models` are the target models
    that the tasks are put to, a task's own before its project's.

    Shapes: task_* (tasks,); expert_* (experts,); rate_now, rate_top (experts, currencies), 0 where
        there is none; fit_* (fits,), one for each task domain and expert; pair_* (pairs,), in the
        order of task and expert; held_key, held_seats (any,), key = expert * projects + project.
    Units: seconds; hours; minor units an hour; ability in logits, NaN before evidence; nearness,
        likeness (of profile and task by their words, NaN where a task has none that tell) and
        interest from 0 to 1, interest NaN where nothing was said; task_age_h whole hours.
    """

    projects: tuple[ProjectFacts, ...]
    currencies: tuple[str, ...]
    task_ids: Ids
    task_project: Int32
    task_seats: Int32
    task_expected_s: Int64
    task_weight: Float64
    task_complexity: Int32
    task_age_h: Int32
    task_domain: Int32
    domains: tuple[str, ...]
    task_model: Int32
    models: tuple[UUID | None, ...]
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
    pair_likeness: Float64
    held_key: Int64
    held_seats: Int64
    met: int

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
        raised = np.array([10_000 + p.raise_basis_points for p in self.projects], np.int64)[project]
        # Rounded up as in `raised`, so that terms and what is reserved for them agree.
        now, top = -(-now * raised // 10_000), -(-np.maximum(top, now) * raised // 10_000)
        return now, top


@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """Candidates as a problem to solve, and what makes up each pair's value: as weighed, and all
    that was measured, for another policy to weigh.
    """

    problem: Problem
    value: Value
    parts: PairParts


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
    overtime = np.array([one.overtime_basis_points for one in facts], np.int64)
    # Plain time and overtime of a week are two lines.
    lines = [
        pay_lines(one.offer_ttl_s, one.work_ttl_s) * (1 + (one.overtime_basis_points > 10_000))
        for one in facts
    ]
    # At worst all of it is overtime.
    rate = -(-rate * overtime[project] // 10_000)
    fixed = np.array([one.fixed_minor for one in facts], np.int64)[project]
    tops_up = np.array([one.tops_up for one in facts], np.bool_)[project]
    pay, fee = worst_cost(cap, rate, fee_basis_points, np.array(lines, np.int64)[project])
    more = np.where(tops_up, np.maximum(0, fixed - pay), fixed)
    # What is paid for the work and for its attempts are two lines more, each with its own fee.
    more_fee = np.where(fixed > 0, -(-more * fee_basis_points // 10_000) + 2, 0)
    # The bonus for a stump is a line of its own, and no time or sum counts towards it.
    bonus = np.array([one.bonus_minor for one in facts], np.int64)[project]
    return pay + more + bonus, fee + more_fee + -(-bonus * fee_basis_points // 10_000)


def asked_of(candidates: Candidates) -> Asked:
    """What predictions need to know of the pairs."""
    task = candidates.pair_task
    known: dict[Slice, int] = {}
    of_task = np.zeros(len(candidates.task_ids), np.int32)
    described = zip(
        candidates.task_project.tolist(),
        candidates.task_domain.tolist(),
        candidates.task_complexity.tolist(),
        candidates.task_model.tolist(),
        strict=True,
    )
    for at, (project, domain, complexity, model) in enumerate(described):
        one = Slice(
            candidates.projects[project].id,
            candidates.domains[domain],
            complexity,
            candidates.models[model],
        )
        of_task[at] = known.setdefault(one, len(known))
    return Asked(
        expert_ids=candidates.expert_ids,
        slices=tuple(known),
        expert=candidates.pair_expert,
        level=candidates.fit_level[candidates.pair_fit],
        ability=candidates.fit_ability[candidates.pair_fit],
        complexity=candidates.task_complexity[task],
        slice=of_task[task],
    )


def weigh(
    candidates: Candidates,
    predictions: Predictions,
    policy: RunPolicy,
    *,
    seed: int,
    trial: Trial | None = None,
) -> Weighed:
    """The problem that these candidates are under a policy.

    An expert who said nothing of a task counts as interested as the policy says. A task gets more
    urgent for a week. Affinity is how near the domains are, and, where the task's words tell, the
    mean of that and of how much of them the profile shares. Under a trial the pairs of its treated
    units are weighed by the policy that is tried; caps, prices and the lot stay the policy's own.
    """
    project = candidates.task_project[candidates.pair_task]
    facts = candidates.projects
    fee = np.array([p.fee_basis_points for p in facts], np.int64)[project]
    cap = np.array([p.cap_s for p in facts], np.int64)[project]
    expected = candidates.task_expected_s[candidates.pair_task]
    rate, top = candidates.pair_rates()
    worst_pay, worst_fee = worst_costs(facts, project, top)
    cost = np.minimum(expected, cap) * rate / 3600.0 * (1 + fee / 10_000)
    parts = _parts(candidates, predictions, policy, cost)
    value = pair_value(parts, policy.matcher)
    if trial is not None:
        tried = _parts(candidates, predictions, trial.policy, cost)
        other = pair_value(tried, trial.policy.matcher)
        value = by_arm(value, other, treated_pairs(candidates, trial))
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
    return Weighed(problem, value, parts)


def treated_pairs(candidates: Candidates, trial: Trial) -> Bool:
    """Which pairs a trial weighs by its own policy, shape (pairs,)."""
    project = candidates.task_project[candidates.pair_task]
    facts = candidates.projects
    ids = [one.id for one in facts]
    scope = np.array([trial.projects is None or one in trial.projects for one in ids], np.bool_)
    if trial.unit == "project":
        inside: Bool = trial.treats(ids)[project]
    else:
        inside = trial.treats(expert_ids(candidates))[candidates.pair_expert]
    return np.asarray(inside & scope[project], np.bool_)


def by_arm(control: Value, treated: Value, inside: Bool) -> Value:
    """The value of each pair by the policy of its arm, part by part.

    Both arms compete for the same seats, so that the treated arm is brought to the control's scale
    first: a policy that counts everything double plans the same alone, and must not win seats by
    it. A part's `weight` is the control's, where it has one: the other arm's stands in its policy.
    """
    nothing = np.zeros(len(inside))
    treated = _to_scale(treated, control)
    one = {part.name: part for part in control.parts}
    two = {part.name: part for part in treated.parts}
    parts = []
    for name in dict.fromkeys([*one, *two]):
        here, there = one.get(name), two.get(name)
        told = here or two[name]
        measured = [nothing if part is None else part.measured for part in (there, here)]
        weighed = [nothing if part is None else part.weighed for part in (there, here)]
        parts.append(
            ValuePart(
                name,
                told.unit,
                told.weight,
                np.where(inside, *measured),
                np.where(inside, *weighed),
            )
        )
    return Value(np.where(inside, treated.total, control.total), tuple(parts))


def _to_scale(value: Value, like: Value) -> Value:
    """A value whose pairs that are worth something are worth as much on the average as another's;
    as it is, where either has none.
    """
    worth = [float(np.maximum(one.total, 0.0).sum()) for one in (value, like)]
    if min(worth) <= 0:
        return value
    ratio = worth[1] / worth[0]
    parts = tuple(replace(part, weighed=part.weighed * ratio) for part in value.parts)
    return Value(value.total * ratio, parts)


def _parts(
    candidates: Candidates, predictions: Predictions, policy: RunPolicy, cost: Float64
) -> PairParts:
    task, fit = candidates.pair_task, candidates.pair_fit
    interest, likeness = candidates.pair_interest, candidates.pair_likeness
    nearness = candidates.fit_nearness[fit]
    return PairParts(
        stump=predictions.stump,
        stump_sd=predictions.stump_sd,
        worth=candidates.task_weight[task],
        novelty=predictions.novelty,
        urgency=np.minimum(candidates.task_age_h[task] / WEEK_H, 1.0),
        quality=predictions.quality,
        interest=np.where(np.isnan(interest), policy.default_interest, interest),
        affinity=np.where(np.isnan(likeness), nearness, (nearness + likeness) / 2),
        learning=predictions.learning,
        cost=cost,
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


def expert_ids(candidates: Candidates) -> list[UUID]:
    """The ids of the experts, in their order."""
    return [UUID(bytes=row.tobytes()) for row in candidates.expert_ids]


def project_ids(candidates: Candidates) -> Ids:
    """The ids of the projects, in their order; (projects, 16)."""
    ids = [np.frombuffer(one.id.bytes, np.uint8) for one in candidates.projects]
    return np.array(ids, np.uint8).reshape(-1, 16)


def input_digest(
    candidates: Candidates, predictions: Predictions, policy_digest: str, seed: int
) -> str:
    """A SHA-256 of everything that a run's answer follows from, warm prices aside."""
    named = (candidates.currencies, candidates.domains, candidates.models)
    found = hashlib.sha256(f"{policy_digest} {seed} {named}".encode())
    for project in candidates.projects:
        found.update(repr(project).encode())
    for holder in (candidates, predictions):
        for each in fields(holder):
            column = getattr(holder, each.name)
            if isinstance(column, np.ndarray):
                found.update(f"{each.name} {column.dtype.str} {column.shape}".encode())
                found.update(np.ascontiguousarray(column).tobytes())
    return found.hexdigest()
