"""Solve a matching problem from files: `python -m tests.bench match-pairs DIR [--out PLAN.csv]`.

The files, the defaults and the answer are described in docs/matching.md.
"""

import argparse
import hashlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from matching.assign import Assignment, Effort, Progress, assign, under_policy
from matching.policy import Policy
from matching.problem import MICRO, Float64, Int64, Problem, UInt64
from matching.verify import verify

SUFFIXES = (".csv", ".csv.gz", ".parquet")
LIMITS = {
    "demand",
    "seats",
    "hours",
    "min_load",
    "budget",
    "min_load_price",
    "open_seat_price",
    "share_cap",
}


class InputRefused(ValueError):
    """A file is missing or says what cannot be read; the sentence names it."""


@dataclass(frozen=True)
class Loaded:
    """A problem, and the texts that stand for its experts and tasks."""

    problem: Problem
    experts: list[str]
    tasks: list[str]


def read_table(folder: Path, name: str, needed: tuple[str, ...]) -> pa.Table | None:
    """A table under any of the three endings, or nothing when there is none."""
    found = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    found = [path for path in found if path.exists()]
    if not found:
        return None
    if len(found) > 1:
        raise InputRefused(f"{name} is there twice: {found[0].name} and {found[1].name}")
    path = found[0]
    if path.suffix == ".parquet":
        table = pyarrow.parquet.read_table(path)
    else:
        # Ids are any text: 007 is not 7.
        text = dict.fromkeys(("expert", "task", "project"), pa.string())
        convert = pyarrow.csv.ConvertOptions(column_types=text, strings_can_be_null=False)
        table = pyarrow.csv.read_csv(path, convert_options=convert)
    for column in needed:
        if column not in table.column_names:
            raise InputRefused(f"{path.name} has no column {column!r}")
    return table


def codes(column: pa.ChunkedArray, known: list[str]) -> tuple[Int64, list[str]]:
    """Numbers for texts: those known first, in order, then new ones as they come."""
    texts = column.cast(pa.string()).combine_chunks()
    if texts.null_count:
        raise InputRefused("an id is missing")
    mine = texts.dictionary_encode()
    names = mine.dictionary.to_pylist()
    number = {name: place for place, name in enumerate(known)}
    grown = list(known)
    for name in names:
        if name not in number:
            number[name] = len(grown)
            grown.append(name)
    into = np.array([number[name] for name in names], np.int64)
    places = mine.indices.to_numpy(zero_copy_only=False)
    return into[places] if len(names) else np.zeros(0, np.int64), grown


def numbers(table: pa.Table, column: str) -> Float64:
    """A column of numbers; an empty cell is not a number, and is refused later by its index."""
    return np.asarray(
        pc.cast(table[column], pa.float64()).to_numpy(zero_copy_only=False), np.float64
    )


def whole(name: str, values: Float64) -> Int64:
    """Numbers that have to be whole."""
    off = np.flatnonzero(~(values == np.rint(values)))
    if len(off):
        raise InputRefused(f"{name}: row {off[0]} is not a whole number: {values[off[0]]}")
    return values.astype(np.int64)


def spread(table: pa.Table | None, column: str, place: Int64, size: int, default: float) -> Float64:
    """A limit for each id: the default, and the table's own where it has one."""
    out = np.full(size, default, np.float64)
    if table is not None and column in table.column_names:
        given = numbers(table, column)
        has = ~np.isnan(given)
        out[place[has]] = given[has]
    return out


def load(folder: Path) -> Loaded:
    """The problem that a folder describes."""
    path = folder / "limits.json"
    if not path.exists():
        raise InputRefused("limits.json is missing")
    limits = json.loads(path.read_text())
    unknown = sorted(set(limits) - LIMITS)
    if unknown:
        raise InputRefused(f"limits.json: {unknown[0]!r} is not a limit")
    pairs = read_table(folder, "pairs", ("expert", "task", "value"))
    if pairs is None:
        raise InputRefused("pairs.csv, pairs.csv.gz or pairs.parquet is missing")
    tables = {
        name: read_table(folder, f"{name}s", (name,)) for name in ("expert", "task", "project")
    }
    place: dict[str, Int64] = {}
    names: dict[str, list[str]] = {"expert": [], "task": [], "project": []}
    for name, table in tables.items():
        place[name] = np.zeros(0, np.int64)
        if table is not None:
            place[name], names[name] = codes(table[name], [])
            if len(names[name]) < table.num_rows:
                raise InputRefused(f"{name}s lists an id twice")
    expert, names["expert"] = codes(pairs["expert"], names["expert"])
    task, names["task"] = codes(pairs["task"], names["task"])
    experts, tasks = len(names["expert"]), len(names["task"])

    project = np.zeros(tasks, np.int64)
    listed = tables["task"]
    if listed is not None and "project" in listed.column_names:
        # A task without a project is in one of its own kind, named by no text.
        mine = pc.fill_null(listed["project"].cast(pa.string()), "")
        names["project"] = [*names["project"], *([] if "" in names["project"] else [""])]
        project[:] = names["project"].index("")
        project[place["task"]], names["project"] = codes(mine, names["project"])
    projects = max(len(names["project"]), 1)

    def given(column: str, name: str) -> bool:
        table = tables[name]
        return limits.get(column) is not None or (
            table is not None and column in table.column_names
        )

    cost = budget = hours = hours_available = min_load = None
    if "cost" in pairs.column_names:
        cost = whole("cost", numbers(pairs, "cost"))
        if given("budget", "project"):
            top = float(1 << 52)
            money = spread(
                tables["project"], "budget", place["project"], projects, limits.get("budget", top)
            )
            budget = whole("budget", money)
    if "hours" in pairs.column_names and given("hours", "expert"):
        hours = numbers(pairs, "hours")
        hours_available = spread(
            tables["expert"], "hours", place["expert"], experts, limits.get("hours", 1e9)
        )
    seats = whole(
        "seats", spread(tables["expert"], "seats", place["expert"], experts, limits.get("seats", 1))
    )
    value = numbers(pairs, "value")
    price = limits.get("min_load_price")
    if given("min_load", "expert"):
        asked = limits.get("min_load", 0)
        floors = spread(tables["expert"], "min_load", place["expert"], experts, asked)
        # A floor cannot ask for more than there is to give.
        min_load = np.minimum(whole("min_load", floors), seats)
        if price is None:
            # Dearer than what any one seat could lose, so that a floor is met where it can be.
            price = min(10 * float(np.abs(value).max(initial=0)) + 1, 1e6)
    demand = whole(
        "demand", spread(tables["task"], "demand", place["task"], tasks, limits.get("demand", 1))
    )
    problem = Problem(
        expert=expert.astype(np.int32),
        task=task.astype(np.int32),
        value=value,
        demand=demand.astype(np.int32),
        capacity=seats.astype(np.int32),
        hours=hours,
        hours_available=hours_available,
        cost=cost,
        project=project.astype(np.int32),
        budget=budget,
        min_load=None if min_load is None else min_load.astype(np.int32),
        min_load_price=price,
        share_cap=limits.get("share_cap"),
        open_seat_price=limits.get("open_seat_price"),
        tie_break=pair_hashes(names["expert"], names["task"], expert, task),
    )
    return Loaded(problem, names["expert"], names["task"])


def pair_hashes(experts: list[str], tasks: list[str], expert: Int64, task: Int64) -> UInt64:
    """A number for each pair that depends on its ids alone, not on the order of the file.

    Source: the mixing step of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).
    """

    def digests(names: list[str]) -> UInt64:
        parts = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
        return np.frombuffer(b"".join(parts), np.uint64)

    mixed = digests(experts)[expert] * np.uint64(0x9E3779B97F4A7C15) + digests(tasks)[task]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), np.uint64)


def worst_task_value(problem: Problem, answer: Assignment) -> float:
    """What the worst-off task with a seat to fill gets from its experts together."""
    got = np.bincount(
        problem.task[answer.chosen], problem.value[answer.chosen], minlength=problem.tasks
    )
    open_to = got[problem.demand > 0]
    return float(open_to.min()) if len(open_to) else 0.0


def write_plan(path: Path, loaded: Loaded, answer: Assignment) -> None:
    """The chosen pairs under their own ids."""
    problem = loaded.problem
    table = pa.table(
        {
            "expert": [loaded.experts[n] for n in problem.expert[answer.chosen].tolist()],
            "task": [loaded.tasks[n] for n in problem.task[answer.chosen].tolist()],
            "value": problem.value[answer.chosen],
            "probability": answer.probability,
        }
    )
    pyarrow.csv.write_csv(table, path)


def main(argv: list[str]) -> int:
    """Read, solve, judge, print; nought when the plan keeps every rule."""
    parser = argparse.ArgumentParser(prog="match-pairs")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=Effort().rounds)
    parser.add_argument("--groups", type=int, default=100, help="parts of a plan seated anew")
    parser.add_argument("--gap", type=float, default=1e-4, help="stop at this share of the bound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--policy", type=Path, help="a policy as JSON")
    parser.add_argument("--out", type=Path, help="write the chosen pairs here, as CSV")
    asked = parser.parse_args(argv)
    begun = time.perf_counter()
    try:
        loaded = load(asked.folder)
    except ValueError as refusal:
        print(json.dumps({"refused": str(refusal)}))
        return 2
    problem = loaded.problem

    def tell(one: Progress) -> None:
        print(
            f"round {one.round}: objective {one.objective:.6g}, bound {one.bound:.6g}",
            file=sys.stderr,
        )

    solving = time.perf_counter()
    policy = None
    if asked.policy is not None:
        policy = Policy.from_dict(json.loads(asked.policy.read_text()))
    effort = Effort(rounds=asked.rounds, neighbourhoods=asked.groups, target_gap=asked.gap)
    try:
        answer = assign(problem, policy, seed=asked.seed, effort=effort, progress=tell)
    except ValueError as refusal:
        print(json.dumps({"refused": str(refusal)}))
        return 2
    seconds = time.perf_counter() - solving
    wrong = verify(under_policy(problem, policy), answer)
    for sentence in wrong[:20]:
        print(sentence, file=sys.stderr)
    if asked.out is not None:
        write_plan(asked.out, loaded, answer)
    value = float(np.rint(problem.value[answer.chosen] * MICRO).sum()) / MICRO
    load_short = 0
    if problem.min_load is not None:
        held = np.bincount(problem.expert[answer.chosen], minlength=problem.experts)
        load_short = int(np.maximum(problem.min_load - held, 0).sum())
    print(
        json.dumps(
            {
                "objective": answer.objective,
                "bound": answer.bound,
                "gap": answer.gap,
                "worst_task_value": worst_task_value(problem, answer),
                "open_seats": int(answer.open_seats.seats.sum()),
                "seconds": round(seconds, 4),
                "verified": not wrong,
                "value": value,
                "seats_filled": len(answer.chosen),
                "missed_min_load": load_short,
                "proof": answer.proof,
                "rounds": answer.rounds,
                "read_s": round(solving - begun, 4),
            }
        )
    )
    return 1 if wrong else 0
