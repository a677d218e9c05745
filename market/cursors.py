"""What the database driver does for every statement, and need not."""

from collections.abc import Sequence
from typing import overload

import psycopg
from psycopg.rows import TupleRow


class Columns(Sequence[psycopg.Column]):
    """The columns of a result, each described when it is asked for."""

    __slots__ = ("_count", "_cursor")

    def __init__(self, cursor: psycopg.Cursor[TupleRow], count: int) -> None:
        self._cursor = cursor
        self._count = count

    def __len__(self) -> int:
        """How many there are."""
        return self._count

    @overload
    def __getitem__(self, index: int) -> psycopg.Column: ...
    @overload
    def __getitem__(self, index: slice) -> list[psycopg.Column]: ...
    def __getitem__(self, index: int | slice) -> psycopg.Column | list[psycopg.Column]:
        """One column, or some."""
        places = range(self._count)[index]
        if isinstance(places, int):
            return psycopg.Column(self._cursor, places)
        return [psycopg.Column(self._cursor, place) for place in places]


class LeanCursor(psycopg.Cursor[TupleRow]):
    """A cursor that describes no column before somebody looks at it.

    SQLAlchemy knows the columns of a statement that it has run before, and asks each time only
    whether there are any; to describe them took a twelfth of what a claim costs.
    """

    @property
    def description(self) -> Sequence[psycopg.Column] | None:  # type: ignore[override]
        """The columns of the result; none after a statement that gives no rows."""
        found = self.pgresult
        if found is None or not found.nfields:
            return super().description
        return Columns(self, found.nfields)
