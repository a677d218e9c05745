"""Matching runs as arrays: what was seen, what it is worth, and how it is told; pure.

Also the states of a run, and refusals.
"""

import hashlib
import json
import re
from dataclasses import dataclass, fields, replace
from io import BytesIO
from types import NoneType
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from market.errors import MarketError
from market.policies.rules import RunPolicy
from market.states import Machine, Move
from matching.assignment import Assignment, OpenSeats, Prices
from matching.explain import PairExplanation, PricePaid, explain_pair
from matching.problem import (
    Bool,
    Float64,
    Int32,
    Int64,
    Problem,
    Quota,
    UInt64,
    newcomer_quotas,
)
from matching.value import PairParts, Value, ValuePart, pair_value

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

Ids = NDArray[np.uint8]
"""Ids as bytes, shape (any, 16)."""


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


class RunNotOver(MarketError):
    """A question about what a run chose, before it has ended well."""

    def __init__(self, state: str) -> None:
        super().__init__(f"this run is {state}; only a run that succeeded can be explained")
        self.state = state


class OperationNotCancellable(MarketError):
    """Long work of a kind that cannot be stopped half way."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"work of the kind {kind} cannot be cancelled")
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectFacts:
    """What a run needs to know of one project.

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
    lines = np.array([pay_lines(p.offer_ttl_s, p.work_ttl_s) for p in facts], np.int64)[project]
    expected = candidates.task_expected_s[candidates.pair_task]
    rate, top = candidates.pair_rates()
    worst_pay, worst_fee = worst_cost(cap, top, fee, lines)
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


def index_of(ids: Ids, wanted: UUID) -> int | None:
    """Where an id stands among ids; nowhere, when it is not there."""
    found = np.flatnonzero((ids == np.frombuffer(wanted.bytes, np.uint8)).all(axis=1))
    return int(found[0]) if len(found) else None


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


def margins(problem: Problem, assignment: Assignment, pairs: Int64) -> Float64:
    """By how much pairs beat the prices of a seat of their task, of their expert's time and money.

    Shapes: pairs, margins (any,).
    Units: units of value.
    """
    task, expert, prices = problem.task[pairs], problem.expert[pairs], assignment.prices
    margin: Float64 = problem.value[pairs] - prices.task[task] - prices.expert[expert]
    if problem.cost is not None:
        margin = margin - prices.budget[problem.task_project()[task]] * problem.cost[pairs]
    if problem.hours is not None:
        margin = margin - prices.hour[expert] * problem.hours[pairs]
    return margin


def parts_of(value: Value, pair: int) -> dict[str, dict[str, float | str]]:
    """The named parts of one pair's value, as measured and as weighed."""
    return {
        part.name: {
            "unit": part.unit,
            "weight": part.weight,
            "measured": float(part.measured[pair]),
            "weighed": float(part.weighed[pair]),
        }
        for part in value.parts
    }


def why_chosen(value: float, parts: dict[str, dict[str, float | str]], margin: float) -> str:
    """One sentence for the expert and for ops: what spoke for the pair, and by how much it won."""
    ranked = sorted(parts, key=lambda name: -float(parts[name]["weighed"]))
    spoke = ", ".join(f"{name} {float(parts[name]['weighed']):.3g}" for name in ranked[:3])
    place = "above" if margin >= 0 else "below"
    return (
        f"Chosen for {spoke or 'want of anyone nearer'}: worth {value:.4g} in all,"
        f" {abs(margin):.4g} {place} what the seat and the time would have brought elsewhere."
    )


def why_open(rule: str, seats: int, demand: int) -> str:
    """One sentence: how many seats of a task stay open, and what stands in the way."""
    some = "1 seat stays" if seats == 1 else f"{seats} seats stay"
    return f"{some} open of {demand}: {OPEN_WORDS.get(rule, rule)}."


OPEN_WORDS = {
    "no eligible expert": "no expert in good standing, with time left, whose domains meet the task"
    " and who is not on it already",
    "expert has no seat left": "the experts who could take it have all the tasks they can hold",
    "not enough hours left": "the experts who could take it have too few hours left this week",
    "project budget spent": "the project's free budget does not reach for another answer",
    "budget": "the project's free budget did not reach when the offer was to be made",
    "taken": "somebody else took the seat, or its expert's last one, while the run was solving",
    "share cap of the project reached": "the experts who could take it hold their share already",
    "worth less than an open seat": "nobody is worth more on it than the seat left open",
}
"""Rules that keep a seat open, in words; the others speak for themselves."""


def packed(candidates: Candidates, problem: Problem, value: Value, assignment: Assignment) -> bytes:
    """A run's problem and answer as one compressed file of arrays, which `unpacked` reads."""
    prices, seats = assignment.prices, assignment.open_seats
    columns: dict[str, NDArray[np.generic]] = {
        "task_ids": candidates.task_ids,
        "expert_ids": candidates.expert_ids,
    }
    for prefix, holder in (("p.", problem), ("a.", assignment), ("d.", prices)):
        for each in fields(holder):
            column = getattr(holder, each.name)
            if isinstance(column, np.ndarray):
                columns[prefix + each.name] = column
    columns["o.task"], columns["o.seats"] = seats.task, seats.seats
    for part in value.parts:
        columns[f"m.{part.name}"], columns[f"w.{part.name}"] = part.measured, part.weighed
    single = {
        "p": _singles(problem),
        "a": _singles(assignment),
        "rules": seats.rule,
        "parts": [(part.name, part.unit, part.weight) for part in value.parts],
        "quotas": [
            {**_singles(quota), "members": quota.members.tolist()} for quota in problem.quotas
        ],
    }
    columns["single"] = np.frombuffer(json.dumps(single).encode(), np.uint8)
    file = BytesIO()
    np.savez_compressed(file, allow_pickle=False, **columns)
    return file.getvalue()


def _singles(holder: object) -> dict[str, float | str | None]:
    return {
        each.name: getattr(holder, each.name)
        for each in fields(holder)  # type: ignore[arg-type]
        if isinstance(getattr(holder, each.name), (int, float, str, NoneType))
    }


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """A run as it was recorded: the problem that was solved, what made the values, the answer."""

    task_ids: Ids
    expert_ids: Ids
    problem: Problem
    value: Value
    assignment: Assignment


def unpacked(file: bytes) -> Recorded:
    """What `packed` put into a file."""
    with np.load(BytesIO(file), allow_pickle=False) as columns:
        single = json.loads(columns["single"].tobytes())

        def under(prefix: str) -> dict[str, Any]:
            size = len(prefix)
            return {name[size:]: columns[name] for name in columns if name.startswith(prefix)}

        quotas = tuple(
            Quota(**{**quota, "members": np.array(quota["members"], np.int32)})
            for quota in single["quotas"]
        )
        problem = Problem(**under("p."), **single["p"], quotas=quotas)
        weighed = tuple(
            ValuePart(name, unit, weight, columns[f"m.{name}"], columns[f"w.{name}"])
            for name, unit, weight in single["parts"]
        )
        seats = OpenSeats(columns["o.task"], columns["o.seats"], tuple(single["rules"]))
        assignment = Assignment(
            **under("a."), **single["a"], prices=Prices(**under("d.")), open_seats=seats
        )
        return Recorded(
            columns["task_ids"],
            columns["expert_ids"],
            problem,
            Value(problem.value, weighed),
            assignment,
        )


def explain(recorded: Recorded, task_id: UUID, expert_id: UUID) -> PairExplanation | None:
    """Why a run put an expert on a task, or did not; none, when it did not look at the pair."""
    task = index_of(recorded.task_ids, task_id)
    expert = index_of(recorded.expert_ids, expert_id)
    if task is None or expert is None:
        return None
    problem = recorded.problem
    found = np.flatnonzero((problem.task == task) & (problem.expert == expert))
    if not len(found):
        return None
    told = explain_pair(problem, recorded.assignment, recorded.value, int(found[0]))
    # The library counts tasks and experts; who reads this asked about one of each.
    prices = tuple(PricePaid(NUMBERED.sub(r"the \1", p.name), p.amount) for p in told.prices)
    return replace(told, prices=prices, sentence=why_pair(told))


NUMBERED = re.compile(r"\b(task|expert|project|quota) \d+")


def why_pair(told: PairExplanation) -> str:
    """One sentence about a pair that a run looked at."""
    if told.chosen:
        place = "above" if told.margin >= 0 else "below"
        return (
            f"Chosen: worth {told.value:.4g}, {abs(told.margin):.4g} {place} the prices of the"
            " seats it takes."
        )
    dearest = max(told.prices, key=lambda price: price.amount)
    name = NUMBERED.sub(r"the \1", dearest.name)
    if told.margin < 0:
        return (
            f"Not chosen: worth {told.value:.4g}, it falls {-told.margin:.4g} short of its prices,"
            f" most of all {dearest.amount:.4g} for {name};"
            f" in the way: {told.rule}."
        )
    return (
        f"Not chosen although worth {told.margin:.4g} more than its prices, which is within the"
        f" gap of the plan or an even choice; in the way: {told.rule}."
    )
