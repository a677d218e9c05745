"""The language of expressions: its typed tree, its limits, what a tree says of facts; pure.

A condition on something that is not known is false, whatever it asks; `not` of it is true. Only
`is known` and `is unknown` ask whether something is known. So SQL and Python have two values each,
and agree.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import msgspec

from market.errors import MarketError

LANGUAGE = 1
"""The version of the language that a stored tree is written in."""

MAX_LENGTH = 2_000
MAX_DEPTH = 12
MAX_CONDITIONS = 64
MAX_LISTED = 200

Kind = Literal["number", "measure", "text", "choice", "set"]

ORDERINGS = ("<", "<=", ">", ">=")
COMPARISONS = ("=", "!=", *ORDERINGS)

OPERATORS: Mapping[Kind, tuple[str, ...]] = {
    "number": (*COMPARISONS, "in", "not in", "is"),
    # Two measured numbers are never the same, so that to ask for one would mislead.
    "measure": (*ORDERINGS, "is"),
    "text": ("=", "!=", "in", "not in", "is"),
    "choice": (*COMPARISONS, "in", "not in", "is"),
    "set": ("has", "is"),
}
"""What can be asked of each kind of field."""

Known = Decimal | float | int | str | frozenset[str]
Facts = Mapping[str, Known]
"""What is known of one person or thing, by the whole name of the field; the rest is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Something that can be asked about: its name in the language and where its value is kept.

    `column` is an expression of SQL: `{key}` stands for the parameter of a keyed field's domain,
    `{at}` for that of the time. A measure is kept in logits and asked for from 0 to 1.
    """

    name: str
    kind: Kind
    column: str
    about: str
    is_keyed: bool = False
    choices: tuple[str, ...] = ()
    form: re.Pattern[str] | None = None
    example: str = ""


class Vocabulary:
    """The fields that expressions about one kind of thing can use."""

    def __init__(self, *fields: Field) -> None:
        self.fields = {field.name: field for field in fields}

    def names(self) -> list[str]:
        """The fields as they are written, `skill.<domain>` for a keyed one."""
        return [f"{one.name}.<domain>" if one.is_keyed else one.name for one in self]

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields.values())

    def split(self, name: str) -> tuple[Field, str | None] | None:
        """The field that a whole name is about, and its key."""
        if name in self.fields and not self.fields[name].is_keyed:
            return self.fields[name], None
        head, _, key = name.partition(".")
        found = self.fields.get(head)
        return (found, key) if found is not None and found.is_keyed and key else None


# The tree -----------------------------------------------------------------------------------------


class Node(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", forbid_unknown_fields=True):
    """A part of an expression."""


class Everyone(Node, tag="everyone", frozen=True):
    """Holds always."""


class All(Node, tag="all", frozen=True):
    """Holds where every part does."""

    parts: tuple["Tree", ...]


class Any(Node, tag="any", frozen=True):
    """Holds where one part does, at least."""

    parts: tuple["Tree", ...]


class Not(Node, tag="not", frozen=True):
    """Holds where its part does not."""

    part: "Tree"


class Cohort(Node, tag="cohort", frozen=True):
    """A saved expression by its name, as it was when this one was written."""

    name: str
    version: int
    part: "Tree"


class Condition(Node, tag="condition", frozen=True):
    """A question about one field. `values` are numbers or texts as they are written, one unless
    the operator is `in` or `not in`; of `is`, the word `known` or `unknown`.

    Units: `start` and `end` in characters of the source.
    """

    field: str
    operator: str
    values: tuple[str, ...]
    start: int
    end: int


Tree = Everyone | All | Any | Not | Cohort | Condition


class Expression(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An expression as it is stored: its source, its tree, and the language of both."""

    source: str
    tree: Tree
    language: int = LANGUAGE


def to_json(expression: Expression) -> dict[str, object]:
    """An expression as plain data for a column of JSON."""
    plain: dict[str, object] = msgspec.to_builtins(expression)
    return plain


def from_json(stored: object) -> Expression:
    """An expression that was stored."""
    return msgspec.convert(stored, Expression)


def conditions(tree: Tree) -> list[Condition]:
    """Every condition of a tree, in the order in which they are written."""
    if isinstance(tree, Condition):
        return [tree]
    if isinstance(tree, All | Any):
        return [one for part in tree.parts for one in conditions(part)]
    return conditions(tree.part) if isinstance(tree, Not | Cohort) else []


def depth(tree: Tree) -> int:
    """How many parts lie within one another, at most."""
    if isinstance(tree, All | Any):
        return 1 + max(depth(part) for part in tree.parts)
    return 1 + depth(tree.part) if isinstance(tree, Not | Cohort) else 1


def without(tree: Tree, left_out: Condition, *, holds: bool = True) -> Tree:
    """A tree in which one condition stands in nobody's way; all else is as it was."""
    if tree == left_out:
        return Everyone() if holds else Not(part=Everyone())
    if isinstance(tree, All | Any):
        return type(tree)(parts=tuple(without(p, left_out, holds=holds) for p in tree.parts))
    if isinstance(tree, Not):
        return Not(part=without(tree.part, left_out, holds=not holds))
    return without(tree.part, left_out, holds=holds) if isinstance(tree, Cohort) else tree


# What a tree says ---------------------------------------------------------------------------------


def logit(share: Decimal) -> float:
    """A share from 0 to 1 on the scale of ability; its ends lie at infinity.

    Units: logits.
    """
    if share <= 0:
        return -math.inf
    return math.inf if share >= 1 else math.log(float(share) / (1 - float(share)))


def operands(field: Field, condition: Condition) -> list[Decimal | float | int | str]:
    """The values of a condition as its field is kept: numbers, logits, ranks or texts.

    The one place where they are read, so that SQL and Python compare with the same number.
    """
    if field.kind == "number":
        return [Decimal(value) for value in condition.values]
    if field.kind == "measure":
        return [logit(Decimal(value)) for value in condition.values]
    if field.kind == "choice":
        return [field.choices.index(value) + 1 for value in condition.values]
    return list(condition.values)


_COMPARE: Mapping[str, Callable[[Decimal | float, Decimal | float], bool]] = {
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
}


def holds(tree: Tree, facts: Facts, vocabulary: Vocabulary) -> bool:
    """Whether an expression holds for what is known."""
    if isinstance(tree, Everyone):
        return True
    if isinstance(tree, All):
        return all(holds(part, facts, vocabulary) for part in tree.parts)
    if isinstance(tree, Any):
        return any(holds(part, facts, vocabulary) for part in tree.parts)
    if isinstance(tree, Not):
        return not holds(tree.part, facts, vocabulary)
    if isinstance(tree, Cohort):
        return holds(tree.part, facts, vocabulary)
    return _condition_holds(tree, facts, vocabulary)


def _condition_holds(condition: Condition, facts: Facts, vocabulary: Vocabulary) -> bool:
    field = field_of(condition, vocabulary)
    known = facts.get(condition.field)
    if condition.operator == "is":
        return (known is not None) == (condition.values[0] == "known")
    if known is None:
        return False
    if isinstance(known, frozenset):
        return condition.values[0] in known
    if field.kind == "choice":
        known = field.choices.index(str(known)) + 1
    wanted = operands(field, condition)
    if condition.operator in ("=", "in"):
        return known in wanted
    if condition.operator in ("!=", "not in"):
        return known not in wanted
    limit = wanted[0]
    if isinstance(known, str) or isinstance(limit, str):
        raise TypeError(f"{condition.field} has no order")
    return _COMPARE[condition.operator](known, limit)


def field_of(condition: Condition, vocabulary: Vocabulary) -> Field:
    """The field that a condition asks about.

    Raises:
        FieldGone: the vocabulary has changed since the expression was stored.
    """
    found = vocabulary.split(condition.field)
    if found is None:
        raise FieldGone(condition.field, vocabulary.names())
    return found[0]


def failing(
    tree: Tree, facts: Facts, vocabulary: Vocabulary, *, wanted: bool = True
) -> list[Condition]:
    """The conditions by which something fails an expression; none where it holds.

    Where none of several alternatives holds, the conditions of each are told.
    """
    if holds(tree, facts, vocabulary) == wanted:
        return []
    if isinstance(tree, Condition):
        return [tree]
    if isinstance(tree, Not):
        return failing(tree.part, facts, vocabulary, wanted=not wanted)
    parts: Sequence[Tree] = ()
    if isinstance(tree, All | Any):
        parts = tree.parts
    elif isinstance(tree, Cohort):
        parts = (tree.part,)
    found = [one for part in parts for one in failing(part, facts, vocabulary, wanted=wanted)]
    return list(dict.fromkeys(found))


# Refusals -----------------------------------------------------------------------------------------


class ExpressionInvalid(MarketError):
    """A text that is no expression: where it fails, and what could stand there.

    Units: `position` in characters from 1; `length` in characters.
    """

    def __init__(self, said: str, position: int, length: int, wanted: Sequence[str] = ()) -> None:
        hint = f"; write {' or '.join(wanted)}" if wanted else ""
        super().__init__(f"at character {position + 1}: {said}{hint}")
        self.position = position + 1
        self.length = length
        self.wanted = list(wanted)


class ExpressionTooLarge(MarketError):
    """An expression beyond a limit."""

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"an expression has at most {limit} {what}; split it, or save a cohort")
        self.limit = limit


class FieldGone(MarketError):
    """A stored expression that asks about something which is not kept any more."""

    def __init__(self, field: str, known: Sequence[str]) -> None:
        super().__init__(f"{field} cannot be asked about any more; write the expression anew")
        self.known = list(known)
