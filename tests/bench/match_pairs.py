"""Solve a matching problem from files: `python -m tests.bench match-pairs DIR [--out PLAN.csv]`.

The files, the defaults and the answer are described in docs/matching.md.
"""

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from matching.assign import Assignment, Effort, Progress, assign, under_policy
from matching.policy import Policy
from matching.problem import MICRO, Float64, Int32, Int64, Problem, UInt64
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

COLUMNS = {
    "pairs": ("expert", "task", "value", "hours", "cost"),
    "tasks": ("task", "demand", "project"),
    "experts": ("expert", "seats", "hours", "min_load"),
    "projects": ("project", "budget"),
}


LARGEST = float(1 << 53)
"""Whole numbers beyond this have no place of their own among floats."""


class InputRefused(ValueError):
    """A file is missing or says what cannot be read; the sentence names it."""


@dataclass(frozen=True)
class Loaded:
    """A problem, and the texts that stand for its experts and tasks."""

    problem: Problem
    experts: list[str]
    tasks: list[str]
    ignored: tuple[str, ...]
    """What the files say and nothing makes use of: columns that have no meaning, limits that find
    nothing to count."""


def read_table(folder: Path, name: str, needed: tuple[str, ...]) -> pa.Table | None:
    """A table under any of the three endings, or nothing when there is none."""
    found = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    found = [path for path in found if path.exists()]
    if not found:
        return None
    if len(found) > 1:
        raise InputRefused(f"{name} is there twice: {found[0].name} and {found[1].name}")
    path = found[0]
    try:
        table = _parsed(path)
    except (pa.ArrowException, OSError) as refusal:
        # A sentence may go on about how the file was opened; where it is, the reader knows.
        said = str(refusal).replace(str(path), path.name).splitlines()[0]
        raise InputRefused(f"{path.name} cannot be read: {said}") from refusal
    for column in COLUMNS[name]:
        if table.column_names.count(column) > 1:
            raise InputRefused(f"{path.name} has two columns {column!r}")
    for column in needed:
        if column not in table.column_names:
            raise InputRefused(f"{path.name} has no column {column!r}")
        if column == "value":
            continue
        row = pc.index(pc.fill_null(_texts(table[column], column), ""), "").as_py()
        if row >= 0:
            raise InputRefused(f"{path.name}: row {row} names no {column}")
    return table


def _parsed(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path)
    # Ids are any text: 007 is not 7.
    text = dict.fromkeys(("expert", "task", "project"), pa.string())
    convert = pyarrow.csv.ConvertOptions(column_types=text, strings_can_be_null=False)
    return pyarrow.csv.read_csv(path, convert_options=convert)


def _texts(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    try:
        return column.cast(pa.string())
    except pa.ArrowException as refusal:
        raise InputRefused(f"{name}: {column.type} is no text and no number") from refusal


def read_limits(path: Path) -> dict[str, float]:
    """The defaults for all; a limit of null, or of infinitely much, is no limit."""
    if not path.exists():
        raise InputRefused(f"{path.name} is missing")
    try:
        limits = json.loads(path.read_text())
    except ValueError as refusal:
        raise InputRefused(f"{path.name} cannot be read: {refusal}") from refusal
    if not isinstance(limits, dict):
        raise InputRefused(f"{path.name} is not one object")
    unknown = sorted(set(limits) - LIMITS)
    if unknown:
        raise InputRefused(f"{path.name}: {unknown[0]!r} is not a limit")
    for name, limit in limits.items():
        if limit is None:
            continue
        is_number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
        if not is_number or math.isnan(limit):
            raise InputRefused(f"{path.name}: {name} is {limit!r}, not a number")
    endless = {name for name in ("hours", "budget") if limits.get(name) == math.inf}
    return {
        name: limit for name, limit in limits.items() if limit is not None and name not in endless
    }


def codes(column: pa.ChunkedArray, known: list[str]) -> tuple[Int64, list[str]]:
    """Numbers for texts: those known first, in order, then new ones as they come."""
    texts = _texts(column, "ids").combine_chunks()
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
    given = table[column]
    try:
        cast = pc.cast(given, pa.float64())
    except pa.ArrowException as refusal:
        said = str(refusal).splitlines()[0]
        raise InputRefused(f"column {column!r} is not all numbers: {said}") from refusal
    return np.asarray(cast.to_numpy(zero_copy_only=False), np.float64)


def whole(name: str, values: Float64) -> Int64:
    """Numbers that have to be whole."""
    off = np.flatnonzero(~((values == np.rint(values)) & (np.abs(values) < LARGEST)))
    if len(off):
        what = "too large" if abs(values[off[0]]) >= LARGEST else "not a whole number"
        raise InputRefused(f"{name}: row {off[0]} is {what}: {values[off[0]]}")
    return values.astype(np.int64)


def seats_in(name: str, values: Float64) -> Int32:
    """Numbers of seats."""
    seats = whole(name, values)
    off = np.flatnonzero(seats > np.iinfo(np.int32).max)
    if len(off):
        raise InputRefused(f"{name}: row {off[0]} is too large: {seats[off[0]]}")
    return np.maximum(seats, -1).astype(np.int32)


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
    if not folder.is_dir():
        raise InputRefused(f"{folder} is not a folder")
    limits = read_limits(folder / "limits.json")
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
        return column in limits or (table is not None and column in table.column_names)

    cost = budget = hours = hours_available = min_load = None
    if "cost" in pairs.column_names:
        cost = whole("cost", numbers(pairs, "cost"))
        if given("budget", "project"):
            top = LARGEST / 2
            money = spread(
                tables["project"], "budget", place["project"], projects, limits.get("budget", top)
            )
            budget = whole("budget", money)
    if "hours" in pairs.column_names and given("hours", "expert"):
        hours = numbers(pairs, "hours")
        hours_available = spread(
            tables["expert"], "hours", place["expert"], experts, limits.get("hours", 1e9)
        )
    seats = seats_in(
        "seats", spread(tables["expert"], "seats", place["expert"], experts, limits.get("seats", 1))
    )
    value = numbers(pairs, "value")
    price = limits.get("min_load_price")
    if given("min_load", "expert"):
        asked = limits.get("min_load", 0)
        floors = spread(tables["expert"], "min_load", place["expert"], experts, asked)
        # A floor cannot ask for more than there is to give.
        min_load = np.minimum(seats_in("min_load", floors), seats)
        if price is None:
            # Dearer than what any one seat could lose, so that a floor is met where it can be.
            price = min(10 * float(np.abs(value).max(initial=0)) + 1, 1e6)
    demand = seats_in(
        "demand", spread(tables["task"], "demand", place["task"], tasks, limits.get("demand", 1))
    )
    problem = Problem(
        expert=expert.astype(np.int32),
        task=task.astype(np.int32),
        value=value,
        demand=demand,
        capacity=seats,
        hours=hours,
        hours_available=hours_available,
        cost=cost,
        project=project.astype(np.int32),
        budget=budget,
        min_load=min_load,
        min_load_price=price,
        share_cap=limits.get("share_cap"),
        open_seat_price=limits.get("open_seat_price"),
        tie_break=pair_hashes(names["expert"], names["task"], expert, task),
    )
    every = {"pairs": pairs, **{f"{name}s": table for name, table in tables.items()}}
    return Loaded(problem, names["expert"], names["task"], _ignored(every, given))


def _ignored(
    tables: dict[str, pa.Table | None], given: Callable[[str, str], bool]
) -> tuple[str, ...]:
    said = [
        f"{name}: column {column!r} has no meaning here"
        for name, table in tables.items()
        if table is not None
        for column in table.column_names
        if column not in COLUMNS[name]
    ]
    pairs = tables["pairs"]
    for limit, name, counted in (("budget", "project", "cost"), ("hours", "expert", "hours")):
        if given(limit, name) and pairs is not None and counted not in pairs.column_names:
            said.append(f"{limit} limits nothing: pairs have no column {counted!r}")
    return tuple(said)


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
    policy = None
    try:
        loaded = load(asked.folder)
        if asked.policy is not None:
            policy = Policy.from_dict(json.loads(asked.policy.read_text()))
    except (ValueError, OSError) as refusal:
        print(json.dumps({"refused": str(refusal)}))
        return 2
    problem = loaded.problem
    for sentence in loaded.ignored:
        print(f"not used: {sentence}", file=sys.stderr)

    def tell(one: Progress) -> None:
        print(
            f"round {one.round}: objective {one.objective:.6g}, bound {one.bound:.6g}",
            file=sys.stderr,
        )

    solving = time.perf_counter()
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
                "ignored": loaded.ignored,
            }
        )
    )
    return 1 if wrong else 0
