"""What an item was worth, in parts and in words, and how unlike the items of a set are; pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

import numpy as np

from market.lifts.rules import MOST_LIFT
from market.verdicts.rules import Share, wilson
from matching.duplicates import near_copies, spread_of_signatures, with_words
from matching.problem import UInt64

MOST = 2.0 * (1 + MOST_LIFT)
"""The most credit that one item can have: valid, new, of the highest complexity, and of the most
lift that counts."""

LEAST_SET = 10
"""Items with words from which a set is told of: a few alike are what any few may be."""

MOST_OF_SET = 2_000
"""Items of a set that are looked at, the latest: 2 MB of signatures."""

LEAST_SPREAD = 0.5
"""Spread below which a set is alike. Unlike questions and summaries in English have .87 to .97."""

MOST_COPIES = 0.1
"""Share of near-copies that a set may have; it has more once the whole interval lies above."""


class SetFlag(StrEnum):
    """What is wrong with a set, each of whose items may be right."""

    ALIKE = "alike"
    COPIES = "near_copies"


@dataclass(frozen=True, slots=True)
class CreditedItem:
    """An accepted item with the signature of its text."""

    submission_id: UUID
    expert_id: UUID
    signature: bytes


@dataclass(frozen=True, slots=True)
class SetSpread:
    """How unlike the items of a set are, and how many are near-copies of an earlier one of it.

    Units: `spread` 1 all different to 0 all the same; none, as `copies`, of too few items, and
    then `reason` says so. `groups`: near-copies, the first of each group before the others.
    """

    items: int
    spread: float | None
    copies: Share | None
    flags: tuple[SetFlag, ...]
    groups: tuple[tuple[UUID, ...], ...]
    reason: str


@dataclass(frozen=True, slots=True)
class ProjectSpread:
    """A project's set, and the part of it that each expert made, the largest first."""

    whole: SetSpread
    experts: tuple[tuple[UUID, SetSpread], ...]


def spread_of(items: Sequence[CreditedItem]) -> ProjectSpread:
    """How unlike a project's items are, in all and expert by expert; items in their order."""
    table = np.frombuffer(b"".join(one.signature for one in items), np.uint64)
    table = table.reshape(len(items), -1) if items else np.zeros((0, 1), np.uint64)
    keeps = with_words(table)
    known = [one for one, is_kept in zip(items, keeps, strict=True) if is_kept]
    table = table[keeps]
    by_expert: dict[UUID, list[int]] = {}
    for place, one in enumerate(known):
        by_expert.setdefault(one.expert_id, []).append(place)
    ordered = sorted(by_expert.items(), key=lambda part: (-len(part[1]), part[0]))
    return ProjectSpread(
        _spread_of_set(known, table),
        tuple(
            (expert_id, _spread_of_set([known[place] for place in places], table[places]))
            for expert_id, places in ordered
        ),
    )


def _spread_of_set(items: Sequence[CreditedItem], table: UInt64) -> SetSpread:
    if len(items) < LEAST_SET:
        reason = f"{len(items)} accepted items with words; a spread is told of {LEAST_SET} or more."
        return SetSpread(len(items), None, None, (), (), reason)
    spread, first = spread_of_signatures(table), near_copies(table)
    groups: dict[int, list[UUID]] = {}
    for place, one in zip(first.tolist(), items, strict=True):
        groups.setdefault(place, []).append(one.submission_id)
    copies = wilson(len(items) - len(groups), len(items))
    flags, said = [], []
    if spread < LEAST_SPREAD:
        flags.append(SetFlag.ALIKE)
        said.append(
            f"Two items share {1 - spread:.0%} of their runs of letters on average;"
            f" {1 - LEAST_SPREAD:.0%} is where a set is called alike."
        )
    if copies.low > MOST_COPIES:
        flags.append(SetFlag.COPIES)
        said.append(
            f"{copies.part} of {copies.whole} are near-copies of an earlier item, surely more than"
            f" {MOST_COPIES:.0%}, though each may have passed its review."
        )
    return SetSpread(
        len(items),
        spread,
        copies,
        tuple(flags),
        tuple(
            tuple(group)
            for group in sorted(groups.values(), key=len, reverse=True)
            if len(group) > 1
        ),
        " ".join(said) or "The items are unlike enough that nothing is flagged.",
    )


def level_weight(complexity: int) -> float:
    """What a level of complexity, 1 to 10, multiplies credit with: 1 to 2."""
    return 1 + (complexity - 1) / 9


def what_would_change(items: int, sd: float) -> str:
    """What would move an expert's impact, in a sentence."""
    return (
        f"It rests on {items} decided items and is known to about {sd:.2f}. A validated item that"
        " nobody made before raises it; one that resembles earlier work, or does not hold, lowers"
        " it; a higher complexity counts up to double, and what its lab measured of training on it"
        f" up to {100 * MOST_LIFT:.0f} % either way. A model's failing alone counts nothing."
    )
