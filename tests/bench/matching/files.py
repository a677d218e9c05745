"""A problem from a folder of files, as docs/matching.md describes them; what is wrong is named."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from matching.problem import Float64, Int32, Int64, Problem, UInt64

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

MOST = dict.fromkeys(("demand", "seats", "min_load"), (1 << 31) - 1) | {"budget": (1 << 53) - 1}
"""Limits that are whole numbers, and the greatest that each may be."""

ENDLESS = {"hours": 1e9, "budget": LARGEST / 2}
"""What stands for no limit of hours, or of money, and so for infinitely much."""

UNSAID = {"demand": 1, "seats": 1, "min_load": 0, **ENDLESS}
"""Limits of whom no table and no default tells."""


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
    # A text in quotes may go on over a line's end, wherever the file is cut to be read.
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(path, parse_options=parse, convert_options=convert)


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
        # Whole numbers are read as floats too, so that none is too long.
        limits = json.loads(
            path.read_text("utf-8-sig"), parse_int=float, object_pairs_hook=_named_once
        )
    except RecursionError as refusal:
        raise InputRefused(f"{path.name} is not one object") from refusal
    except (ValueError, OSError) as refusal:
        raise InputRefused(f"{path.name} cannot be read: {refusal}") from refusal
    if not isinstance(limits, dict):
        raise InputRefused(f"{path.name} is not one object")
    unknown = sorted(set(limits) - LIMITS)
    if unknown:
        raise InputRefused(f"{path.name}: {unknown[0]!r} is not a limit")
    given = {name: limit for name, limit in limits.items() if limit is not None}
    for name, limit in given.items():
        if not isinstance(limit, float) or math.isnan(limit):
            raise InputRefused(f"{path.name}: {name} is {limit!r}, not a number")
        if name in ENDLESS and limit == math.inf:
            continue
        most = MOST.get(name)
        if most is not None and not (limit.is_integer() and 0 <= limit <= most):
            refused = f"{name} is {limit:g}, not a whole number from 0 to {most}"
            raise InputRefused(f"{path.name}: {refused}")
    return {name: limit for name, limit in given.items() if name not in ENDLESS or limit < math.inf}


def _named_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputRefused(f"limits.json names {twice[0]!r} twice")
    return dict(pairs)


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
    if pa.types.is_boolean(given.type):
        raise InputRefused(f"column {column!r} is not all numbers: it holds true and false")
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


def spread(
    table: pa.Table | None, column: str, place: Int64, size: int, limits: Mapping[str, float]
) -> Float64:
    """A limit for each id: the default, and the table's own where it has one."""
    out = np.full(size, limits.get(column, UNSAID[column]), np.float64)
    if table is not None and column in table.column_names:
        given = numbers(table, column)
        if column in ENDLESS:
            given = np.where(given == np.inf, ENDLESS[column], given)
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
            budget = whole(
                "budget",
                spread(tables["project"], "budget", place["project"], projects, limits),
            )
    if "hours" in pairs.column_names and given("hours", "expert"):
        hours = numbers(pairs, "hours")
        hours_available = spread(tables["expert"], "hours", place["expert"], experts, limits)
    seats = seats_in("seats", spread(tables["expert"], "seats", place["expert"], experts, limits))
    value = numbers(pairs, "value")
    price = limits.get("min_load_price")
    if given("min_load", "expert"):
        floors = spread(tables["expert"], "min_load", place["expert"], experts, limits)
        # A floor cannot ask for more than there is to give.
        min_load = np.minimum(seats_in("min_load", floors), seats)
        if price is None:
            # Dearer than what any one seat could lose, so that a floor is met where it can be.
            price = min(10 * float(np.abs(value).max(initial=0)) + 1, 1e6)
    demand = seats_in("demand", spread(tables["task"], "demand", place["task"], tasks, limits))
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
