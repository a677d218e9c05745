"""Why a run chose what it chose: its problem and answer kept as arrays, and told in words; pure."""

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
from matching.assignment import Assignment, OpenSeats, Prices
from matching.explain import (
    PairExplanation,
    PricePaid,
    explain_idle_expert,
    explain_open_seat,
    explain_pair,
)
from matching.problem import Bool, Float64, Int32, Int64, Problem, Quota
from matching.value import PairParts, Value, ValuePart

Ids = NDArray[np.uint8]
"""Ids as bytes, shape (any, 16)."""


class RunNotOver(MarketError):
    """A question about what a run chose, before it has ended well."""

    def __init__(self) -> None:
        super().__init__("only a run that succeeded can be explained")


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What a run knew beyond its problem: all that was measured, for another policy to weigh.

    Shapes: said (pairs,), whether interest was stated; newcomer (experts,); task_domain (tasks,),
        an index of `domains`; project_ids (projects, 16).
    """

    parts: PairParts
    said: Bool
    newcomer: Bool
    task_domain: Int32
    domains: tuple[str, ...]
    project_ids: Ids


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """A run as it was recorded: the problem that was solved, what made the values, the answer, and
    the prices that the search began with, where it began with those of an earlier run.

    Runs recorded before facts were kept have none, and cannot be previewed.
    """

    task_ids: Ids
    expert_ids: Ids
    problem: Problem
    value: Value
    assignment: Assignment
    facts: Facts | None = None
    start: Prices | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RunPrices:
    """What a run paid for money and time, under the ids of the market.

    Shapes: expert_ids (experts, 16), hour (experts,); project_ids (projects, 16), budget
        (projects,).
    Units: units of value for an hour, for a minor unit.
    """

    expert_ids: Ids
    hour: Float64
    project_ids: Ids
    budget: Float64


def start_prices(known: RunPrices, problem: Problem, expert_ids: Ids, project_ids: Ids) -> Prices:
    """The prices of an earlier run under the numbers of a problem; nought for who is new in it.

    What quotas, share caps and conflicts cost is found anew.

    Shapes: expert_ids (experts, 16), project_ids (projects, 16) of the problem.
    """
    nothing = np.zeros(0)
    return Prices(
        task=np.zeros(problem.tasks),
        expert=np.zeros(problem.experts),
        budget=_carried(known.project_ids, known.budget, project_ids),
        hour=_carried(known.expert_ids, known.hour, expert_ids),
        quota=np.zeros(len(problem.quotas)),
        share_key=np.zeros((0, 2), np.int32),
        share=nothing,
        clash_key=np.zeros((0, 3), np.int32),
        clash=nothing,
    )


def _carried(ids: Ids, price: Float64, wanted: Ids) -> Float64:
    name = [np.ascontiguousarray(some).view("V16").ravel() for some in (ids, wanted)]
    place = {one: n for n, one in enumerate(name[0].tolist())}
    at = np.array([place.get(one, -1) for one in name[1].tolist()], np.int64)
    return np.where(at >= 0, np.append(price, 0.0)[at], 0.0)


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


SMALLEST_SAID = 0.0005
"""What rounds to nothing in a sentence is left to the numbers."""


def why_chosen(value: float, parts: dict[str, dict[str, float | str]], margin: float) -> str:
    """One sentence for the expert and for ops: what spoke for the pair, and by how much it won."""
    ranked = sorted(parts, key=lambda name: -float(parts[name]["weighed"]))
    spoke = ", ".join(
        f"{name} {float(parts[name]['weighed']):.3f}"
        for name in ranked[:3]
        if abs(float(parts[name]["weighed"])) >= SMALLEST_SAID
    )
    place = "above" if margin >= 0 else "below"
    return (
        f"Chosen for {spoke or 'want of anyone nearer'}: worth {value:.3f} in all,"
        f" {abs(margin):.3f} {place} what the seat and the time would have brought elsewhere."
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
    "hours": "its expert's open hours no longer held the work when the offer was to be made",
    "terms": "its project changed what it pays while the run was solving; the next run offers it",
    "taken": "somebody else took the seat, or its expert's last one, while the run was solving",
    "share cap of the project reached": "the experts who could take it hold their share already",
    "worth less than an open seat": "nobody is worth more on it than the seat left open",
}
"""Rules that keep a seat open, in words; the others speak for themselves."""


def answer_digest(assignment: Assignment) -> str:
    """A SHA-256 of all that an answer says: pairs, probabilities, prices, bound, bit by bit."""
    found = hashlib.sha256()
    for holder in (assignment, assignment.prices, assignment.open_seats):
        for each in fields(holder):
            given = getattr(holder, each.name)
            if isinstance(given, np.ndarray):
                found.update(f"{each.name} {given.dtype.str} {given.shape}".encode())
                found.update(np.ascontiguousarray(given).tobytes())
            elif isinstance(given, (int, float, str, tuple, NoneType)):
                found.update(f"{each.name} {given!r}".encode())
    return found.hexdigest()


def index_of(ids: Ids, wanted: UUID) -> int | None:
    """Where an id stands among ids; nowhere, when it is not there."""
    found = np.flatnonzero((ids == np.frombuffer(wanted.bytes, np.uint8)).all(axis=1))
    return int(found[0]) if len(found) else None


def packed(recorded: Recorded) -> bytes:
    """A run's problem and answer as one compressed file of arrays, which `unpacked` reads."""
    problem, value, assignment = recorded.problem, recorded.value, recorded.assignment
    prices, seats = assignment.prices, assignment.open_seats
    columns: dict[str, NDArray[np.generic]] = {
        "task_ids": recorded.task_ids,
        "expert_ids": recorded.expert_ids,
    }
    for prefix, holder in (
        ("p.", problem),
        ("a.", assignment),
        ("d.", prices),
        ("s.", recorded.start),
    ):
        if holder is None:
            continue
        for each in fields(holder):
            column = getattr(holder, each.name)
            if isinstance(column, np.ndarray):
                columns[prefix + each.name] = column
    columns["o.task"], columns["o.seats"] = seats.task, seats.seats
    facts = recorded.facts
    if facts is not None:
        for each in fields(facts.parts):
            part = getattr(facts.parts, each.name)
            if part is not None:
                columns[f"x.{each.name}"] = part
        for name in ("said", "newcomer", "task_domain", "project_ids"):
            columns[f"f.{name}"] = getattr(facts, name)
    for part in value.parts:
        columns[f"m.{part.name}"], columns[f"w.{part.name}"] = part.measured, part.weighed
    single = {
        "p": _singles(problem),
        "a": _singles(assignment),
        "rules": seats.rule,
        "domains": None if facts is None else facts.domains,
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
        start = Prices(**under("s.")) if "s.budget" in columns else None
        domains, facts = single.get("domains"), None
        if domains is not None:
            facts = Facts(parts=PairParts(**under("x.")), domains=tuple(domains), **under("f."))
        return Recorded(
            columns["task_ids"],
            columns["expert_ids"],
            problem,
            Value(problem.value, weighed),
            assignment,
            facts,
            start,
        )


def prices_in(file: bytes) -> RunPrices | None:
    """What a run paid, out of what `packed` put into a file; none, where projects have no names."""
    with np.load(BytesIO(file), allow_pickle=False) as columns:
        if "f.project_ids" not in columns:
            return None
        return RunPrices(
            columns["expert_ids"], columns["d.hour"], columns["f.project_ids"], columns["d.budget"]
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


def unnumbered(words: str) -> str:
    """Words of the library, which counts tasks and experts, for who asked about one of each."""
    return NUMBERED.sub(r"the \1", words)


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


@dataclass(frozen=True, slots=True)
class SubjectTold:
    """What kept seats of a task open, or of an expert idle.

    Units: seats; `candidates` eligible pairs.
    """

    seats: int
    seats_in_all: int
    rule: str
    candidates: int
    sentence: str


def open_seat_told(recorded: Recorded, task_id: UUID) -> SubjectTold | None:
    """Why a run left seats of a task open; none, when it did not look at the task."""
    task = index_of(recorded.task_ids, task_id)
    if task is None:
        return None
    problem, chosen = recorded.problem, recorded.assignment.chosen
    demand = int(problem.demand[task])
    if demand == int((problem.task[chosen] == task).sum()):
        return SubjectTold(0, demand, "filled", 0, f"No seat of {demand} stays open.")
    told = explain_open_seat(problem, recorded.assignment, recorded.value, task)
    sentence = why_open(told.rule, told.open_seats, told.demand)
    return SubjectTold(told.open_seats, told.demand, told.rule, len(told.candidates), sentence)


def task_price(recorded: Recorded, task_id: UUID) -> float | None:
    """What a seat of a task had to beat in a run; none, when it did not look at the task.

    Units: units of value.
    """
    task = index_of(recorded.task_ids, task_id)
    return None if task is None else float(recorded.assignment.prices.task[task])


def idle_expert_told(recorded: Recorded, expert_id: UUID) -> SubjectTold | None:
    """Why a run gave an expert no more; none, when it did not look at the expert."""
    expert = index_of(recorded.expert_ids, expert_id)
    if expert is None:
        return None
    problem, chosen = recorded.problem, recorded.assignment.chosen
    capacity = int(problem.capacity[expert])
    if capacity == int((problem.expert[chosen] == expert).sum()):
        return SubjectTold(0, capacity, "full", 0, f"All {capacity} seats are used.")
    told = explain_idle_expert(problem, recorded.assignment, recorded.value, expert)
    idle, rule = told.capacity - told.load, unnumbered(told.rule)
    sentence = f"{idle} of {told.capacity} seats stay free; in the way of the nearest task: {rule}."
    return SubjectTold(idle, told.capacity, rule, len(told.candidates), sentence)
