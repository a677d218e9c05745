"""What a list is narrowed by: values of its columns, and expressions as SQL with bound parameters,
which also say who is eligible.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, TypeVarTuple

from litestar.params import QueryParameter
from sqlalchemy import Select, text
from sqlalchemy.orm import InstrumentedAttribute

from market.grammar import parse
from market.language import (
    MAX_LENGTH,
    All,
    Any,
    Cohort,
    Condition,
    Everyone,
    Field,
    Kind,
    Not,
    Tree,
    Vocabulary,
    field_of,
    operands,
)

Ts = TypeVarTuple("Ts")

Filter = Annotated[
    str | None,
    QueryParameter(
        name="filter",
        max_length=MAX_LENGTH,
        description="Only what this expression holds for.",
    ),
]

_TYPES: dict[Kind, str] = {
    "number": "numeric",
    "measure": "double precision",
    "text": "text",
    "choice": "integer",
    "set": "text",
}


@dataclass(slots=True)
class Compiled:
    """A condition in SQL about a table's row, and the values of its parameters."""

    row: str
    prefix: str
    at: datetime
    vocabulary: Vocabulary
    sql: str = "true"
    values: dict[str, object] = field(default_factory=dict)

    def bind(self, value: object) -> str:
        """A new parameter for a value."""
        name = f"{self.prefix}{len(self.values)}"
        self.values[name] = value
        return f":{name}"


def compiled(
    tree: Tree, vocabulary: Vocabulary, *, row: str, at: datetime, prefix: str = "x"
) -> Compiled:
    """A tree as a condition on the rows named `row`; it is true or false, never null.

    Parameters begin with `prefix`, so that several conditions can stand in one statement.

    Raises:
        FieldGone.
    """
    made = Compiled(row, prefix, at, vocabulary)
    made.sql = tree_sql(tree, lambda condition: _condition_sql(condition, made))
    return made


def filtered(
    statement: Select[*Ts], source: str | None, vocabulary: Vocabulary, *, row: str, at: datetime
) -> Select[*Ts]:
    """A list without the rows for which an expression does not hold.

    Raises:
        ExpressionInvalid, ExpressionTooLarge.
    """
    if source is None:
        return statement
    made = compiled(parse(source, vocabulary).tree, vocabulary, row=row, at=at, prefix="filter")
    return statement.where(text(made.sql).bindparams(**made.values))


def narrowed(
    statement: Select[*Ts], *wanted: tuple[InstrumentedAttribute[object], object | None]
) -> Select[*Ts]:
    """A list with only the rows whose columns have the wanted values; None wants nothing of one."""
    given = ((column, value) for column, value in wanted if value is not None)
    return statement.where(*(column == value for column, value in given))


def tree_sql(tree: Tree, leaf: Callable[[Condition], str]) -> str:
    """A tree as SQL, whose conditions `leaf` writes."""
    if isinstance(tree, Everyone):
        return "true"
    if isinstance(tree, All | Any):
        word = " and " if isinstance(tree, All) else " or "
        return f"({word.join(tree_sql(part, leaf) for part in tree.parts)})"
    if isinstance(tree, Not):
        return f"(not {tree_sql(tree.part, leaf)})"
    return tree_sql(tree.part, leaf) if isinstance(tree, Cohort) else leaf(tree)


def _column(found: Field, condition: Condition, made: Compiled) -> str:
    key = at = ""
    if "{key}" in found.column:
        key = made.bind(condition.field.removeprefix(f"{found.name}."))
    if "{at}" in found.column:
        at = f"cast({made.bind(made.at)} as timestamptz)"
    return found.column.format(row=made.row, key=key, at=at)


def _condition_sql(condition: Condition, made: Compiled) -> str:
    found = field_of(condition, made.vocabulary)
    column = _column(found, condition, made)
    operator = condition.operator
    if operator == "is":
        known = f"cardinality({column}) > 0" if found.kind == "set" else f"{column} is not null"
        return f"({known})" if condition.values[0] == "known" else f"(not ({known}))"
    if found.kind == "choice":
        # Our own words, in their order; they hold no quote.
        listed = ", ".join(f"'{choice}'" for choice in found.choices)
        column = f"array_position(array[{listed}], {column})"
    wanted = operands(found, condition)
    kind = _TYPES[found.kind]
    if operator in ("in", "not in"):
        listed = f"cast({made.bind(wanted)} as {kind}[])"
        asked = f"{column} = any({listed})" if operator == "in" else f"{column} <> all({listed})"
    else:
        value = f"cast({made.bind(wanted[0])} as {kind})"
        asked = f"{value} = any({column})" if operator == "has" else f"{column} {operator} {value}"
    # What is not known fulfils no condition.
    return f"coalesce({asked}, false)"
