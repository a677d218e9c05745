"""Items of tests: their states, what a row of an upload may hold, how answers are marked; pure."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
import numpy as np
from msgspec import Meta

from market.errors import MarketError
from market.experts.rules import is_domain
from market.states import Machine, Move
from market.uploads import Fault, Shape, has_nul
from matching.problem import Float64, Int64

ITEM = Machine(
    "bank_item",
    ("active",),
    (
        # Something is odd about its answers: it is put to nobody until ops have looked.
        Move("flag", ("active",), "flagged"),
        Move("keep", ("flagged",), "active"),
        # Put to nobody any more; what was answered still counts.
        Move("retire", ("active", "flagged"), "retired"),
        # Counts for nobody any more, and for nobody who has answered it.
        Move("withdraw", ("active", "flagged", "retired"), "withdrawn"),
    ),
)

FLAGS = ("discriminates_wrongly", "easier", "harder", "challenged")
"""Why an item is to be looked at: the able get it wrong, it drifted, or a taker says so."""

DECISIONS = ("keep", "rekey", "retire", "withdraw")

MIDDLE_LEVEL = 5
LEVEL_STEP = 0.5
"""How much less easy a level makes an item that nobody has answered yet, in logits."""

CALIBRATED = 20
"""Answers from which an item scores, here or where its calibration came from."""

READY = 25
"""Calibrated items from which a bank gives verdicts; before, its sittings are pilots."""

MIN_NOTE = 40
"""Characters that a decision about an item needs."""

MAX_CHOICES = 20
MAX_KEYS = 20

Text = Annotated[str, Meta(min_length=1, max_length=200)]


class ItemRow(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An item as a row of an upload; one without choices is answered in words.

    `key` are the answers that are right: some of the choices, or words. `slope`, `ease` and
    `answers` are a calibration from elsewhere, on the scale of ability standard deviations.
    """

    bank: Annotated[str, Meta(min_length=1, max_length=120)]
    external_id: Text
    prompt: Annotated[str, Meta(min_length=1, max_length=20_000)]
    key: tuple[Text, ...]
    level: Annotated[int, Meta(ge=1, le=10)]
    choices: tuple[Text, ...] = ()
    version: Annotated[int, Meta(ge=1, le=10_000)] = 1
    topic: Annotated[str, Meta(max_length=120)] = ""
    limit_s: Annotated[int, Meta(ge=10, le=3600)] = 180
    slope: Annotated[float, Meta(ge=0.05, le=5)] | None = None
    ease: Annotated[float, Meta(ge=-8, le=8)] | None = None
    answers: Annotated[int, Meta(ge=0, le=10_000_000)] = 0


ITEM_ROWS = Shape(ItemRow, "external_id", nested=("choices", "key"))


def plain(answer: str) -> str:
    """An answer as it is compared: without regard to case and to how wide its gaps are."""
    return " ".join(answer.split()).casefold()


def is_right(answer: str, key: Iterable[str]) -> bool:
    """Whether an answer is among the right ones."""
    return plain(answer) in {plain(one) for one in key}


def judged_ease(level: int) -> float:
    """How easy an item is that nobody has answered yet, in logits."""
    return (MIDDLE_LEVEL - level) * LEVEL_STEP


def content_digest(row: ItemRow) -> bytes:
    """The name of an item's content: what two uploads of one item must agree in."""
    return hashlib.sha256(msgspec.json.encode(row, order="deterministic")).digest()


def key_fault(key: Sequence[str], choices: Sequence[str]) -> str | None:
    """What is wrong with a key, in words."""
    if not 1 <= len(key) <= MAX_KEYS or any(not plain(one) for one in key):
        return f"1 to {MAX_KEYS} answers that are not blank"
    if choices and not set(key) <= set(choices):
        return "some of the item's choices, word for word"
    return None


def checked_row(row: ItemRow) -> ItemRow | Fault:
    """A row that can be an item, or why it cannot."""
    name = row.external_id
    if has_nul(msgspec.to_builtins(row)):
        return Fault("nul_character", "", "it holds a NUL character, which cannot be kept", name)
    if not is_domain(row.bank):
        return Fault("domain_invalid", "/bank", "a bank is named as its domain is", name)
    if not row.prompt.strip():
        return Fault("blank", "/prompt", "it has no character but blanks", name)
    if row.choices and not 2 <= len({plain(one) for one in row.choices}) <= MAX_CHOICES:
        return Fault("out_of_range", "/choices", f"2 to {MAX_CHOICES} different choices", name)
    if len({plain(one) for one in row.choices}) != len(row.choices):
        return Fault("out_of_range", "/choices", "two choices are the same", name)
    wrong = key_fault(row.key, row.choices)
    if wrong is not None:
        return Fault("key_unfit", "/key", f"a key is {wrong}", name)
    if (row.slope is None) != (row.ease is None) or (row.answers and row.slope is None):
        return Fault("calibration_part", "/slope", "slope, ease and answers come together", name)
    if any(one is not None and not math.isfinite(one) for one in (row.slope, row.ease)):
        return Fault("out_of_range", "/slope", "slope and ease are numbers", name)
    return row


# Calibration --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Known:
    """What an upload says of an item. Units: slope and ease in logits, None where it says none."""

    id: UUID
    level: int
    topic: str
    slope: float | None
    ease: float | None
    answers: int


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer to one item. Units: `expected`, the chance of a right one as it was given."""

    person_id: UUID
    item_id: UUID
    answered_at: datetime
    expected: float
    is_right: bool


@dataclass(frozen=True, slots=True)
class Basis:
    """All that a calibration of a bank is made from, and when ops last looked at which item.

    `looked`: of an item that was flagged and decided, when, and how many answers it had by then.
    """

    bank_id: UUID
    items: tuple[Known, ...]
    told: tuple[Answered, ...]
    looked: dict[UUID, tuple[datetime, int]]


@dataclass(frozen=True, slots=True)
class Odd:
    """An item that its answers speak against."""

    item_id: UUID
    reason: str
    detail: str
    answers: int


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A bank as its answers have it.

    Shapes: slope, ease, answers, share_right, chance_negative (items,).
    Units: slope, ease in logits; share_right, chance_negative NaN where nobody answered.
    """

    basis: Basis
    slope: Float64
    ease: Float64
    answers: Int64
    share_right: Float64
    chance_negative: Float64
    odd: tuple[Odd, ...]


def fit_bank(basis: Basis) -> Fit:
    """Calibrate a bank, and find the items that the able get wrong, or that have drifted.

    What a row of an upload says of an item counts as many answers as it says; an item about which
    nothing is known starts from its level.
    """
    # Loads scipy, which a process that calibrates nothing can do without.
    from matching.itembank import Anchors
    from matching.itembank import ItemBank as Bank

    slope = np.array([1.0 if one.slope is None else one.slope for one in basis.items])
    ease = np.array(
        [judged_ease(one.level) if one.ease is None else one.ease for one in basis.items]
    )
    before = np.array([one.answers for one in basis.items], np.int64)
    nothing = np.full(len(basis.items), np.nan)
    if not basis.told:
        return Fit(basis, slope, ease, before, nothing, nothing, ())
    place = {one.id: n for n, one in enumerate(basis.items)}
    people = {one: n for n, one in enumerate(dict.fromkeys(row.person_id for row in basis.told))}
    bank = Bank().fit(
        [people[row.person_id] for row in basis.told],
        [place[row.item_id] for row in basis.told],
        [row.is_right for row in basis.told],
        domain=[one.topic for one in basis.items],
        anchors=Anchors(slope, ease, before),
    )
    found = bank.statistics()
    seen = found.answers > 0
    odd = [
        Odd(
            basis.items[n].id,
            "discriminates_wrongly",
            f"the able get it wrong more often than others do, with probability"
            f" {found.chance_negative[n]:.3f}, after {found.answers[n]} answers",
            int(found.answers[n]),
        )
        for n in bank.suspects(least=CALIBRATED).tolist()
    ]
    odd += _drifted(basis)
    found_odd = {one.item_id: one for one in reversed(odd) if _is_news(basis, one)}
    return Fit(
        basis,
        bank.slope_,
        bank.ease_,
        bank.answers_,
        np.where(seen, found.share_right, np.nan),
        np.where(seen, found.chance_negative, np.nan),
        # In one order, so that two calibrations at once do not wait for each other for ever.
        tuple(found_odd[one] for one in sorted(found_odd)),
    )


def _drifted(basis: Basis) -> list[Odd]:
    """Items that have become easier or harder than they were when they were put."""
    from matching.adaptive import ItemWatch

    place = {one.id: n for n, one in enumerate(basis.items)}
    watch, count = ItemWatch(len(place)), np.zeros(len(place), np.int64)
    found: dict[UUID, str] = {}
    for row in basis.told:
        count[place[row.item_id]] += 1
        looked = basis.looked.get(row.item_id)
        if looked is not None and row.answered_at <= looked[0]:
            continue
        words = watch.observe(place[row.item_id], row.expected, right=row.is_right)
        if words is not None:
            found[row.item_id] = words
    return [
        Odd(item_id, words.split()[0], words, int(count[place[item_id]]))
        for item_id, words in found.items()
    ]


def _is_news(basis: Basis, one: Odd) -> bool:
    # Whoever looked at an item has seen these answers; only further ones can say more.
    looked = basis.looked.get(one.item_id)
    return looked is None or one.answers >= looked[1] + CALIBRATED


# Refusals -----------------------------------------------------------------------------------------


class ItemNotFound(MarketError):
    """No item has this id."""

    def __init__(self, item_id: UUID) -> None:
        super().__init__("there is no such item")
        self.item_id = item_id


class ItemUnfit(MarketError):
    """A decision about an item with a field that does not fit."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field} must be {wanted}")
        self.field = field


class BankMissing(MarketError):
    """A sitting in what there is no item bank for."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no item bank for {name}; this test is graded by hand, or wait for a bank"
        )
        self.bank = name
