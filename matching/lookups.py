"""For rows that are to be predicted one after the other: which states each of them will ask for."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from matching.filter import Filter
from matching.problem import Float64, Int64
from matching.responses import Responses


@dataclass(frozen=True)
class Prepared:
    """Rows with all that can be computed of them before any of their outcomes is known.

    Of each view its filter, and for every row an offset, the keys and the values of its effects, or
    None where every effect counts once.
    """

    rows: Responses
    views: list[
        tuple[Filter, list[float], list[tuple[Hashable, ...]], Sequence[Sequence[float] | None]]
    ]


def row_keys(rows: Responses, effects: Sequence[str]) -> list[tuple[Hashable, ...]]:
    """The keys of every row for some effects, None where there is nothing."""
    columns: list[list[Hashable]] = []
    for name in effects:
        if name == "domain":
            columns.append(_pairs(rows.subject, rows.group))
        elif name == "pair":
            columns.append(_pairs(rows.subject, rows.item))
        elif name == "local":
            columns.append(_pairs(rows.group, rows.item))
        elif name == "item":
            columns.append(_singles(rows.item))
        elif name in {"group", "bend"}:
            columns.append(_singles(rows.group))
        elif name.startswith("context"):
            columns.append(_singles(rows.context[:, int(name.removeprefix("context"))]))
        else:
            # Craft, and what somebody makes of each trait of an item.
            columns.append(_singles(rows.subject))
    return list(zip(*columns, strict=True)) if columns else [()] * len(rows)


def row_values(effects: Sequence[str], scores: Float64) -> Sequence[Sequence[float] | None]:
    """What each effect is multiplied with, a score of the item; None for one.

    Shapes: scores (rows, traits).
    """
    if not any(name == "bend" or name.startswith("slope") for name in effects):
        return [None] * len(scores)
    columns = np.ones((len(scores), len(effects)))
    for n, name in enumerate(effects):
        if name == "bend":
            columns[:, n] = scores[:, 0]
        elif name.startswith("slope"):
            columns[:, n] = scores[:, int(name.removeprefix("slope"))]
    # Tuples of numbers are nothing that the collector of cycles has to walk through.
    return list(map(tuple, columns.tolist()))


def _singles(column: Int64) -> list[Hashable]:
    codes: list[Hashable] = list(column.tolist())
    if len(column) and column.min() <= -1 and (column == -1).any():
        return [None if code == -1 else code for code in codes]
    return codes


def _pairs(first: Int64, second: Int64) -> list[Hashable]:
    pairs: list[Hashable] = list(zip(first.tolist(), second.tolist(), strict=True))
    absent = (first == -1) | (second == -1)
    if absent.any():
        return [None if no else pair for pair, no in zip(pairs, absent.tolist(), strict=True)]
    return pairs
