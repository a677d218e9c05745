"""A query's rows as arrays, one a column, with nothing done in Python for a single row."""

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from matching.problem import Float64, Int32, Int64


class Columns:
    """The columns of a query's rows, as PostgreSQL streams them in its binary COPY format.

    Every column has one width and no nulls, so that all rows together are one array.

    Source: PostgreSQL documentation, COPY, "Binary Format".
    """

    def __init__(self, session: Session, statement: str, kinds: tuple[str, ...]) -> None:
        fields: list[tuple[str, str]] = [("columns", ">i2")]
        for at, kind in enumerate(kinds):
            fields += [(f"width{at}", ">i4"), (f"c{at}", "V16" if kind == "id" else f">{kind}")]
        layout = np.dtype(fields)
        stream = bytearray()
        raw = session.connection().connection.driver_connection
        if raw is None:
            raise RuntimeError("the session has no connection")
        with raw.cursor() as cursor, cursor.copy(f"copy ({statement}) to stdout binary") as copy:
            for chunk in copy:
                stream += chunk
        # A header of 19 bytes before, and the end mark of two bytes behind.
        self._table = np.frombuffer(memoryview(stream)[19:-2], layout)
        self.rows = len(self._table)
        widths = [16 if kind == "id" else int(kind[1]) for kind in kinds]
        for at, width in enumerate(widths):
            if not (self._table[f"width{at}"] == width).all():
                raise RuntimeError(f"column {at + 1} is not {width} bytes wide in every row")

    def ids(self, at: int) -> NDArray[np.uint8]:
        """A column of ids, as bytes; (rows, 16)."""
        column = np.ascontiguousarray(self._table[f"c{at}"])
        return column.view(np.uint8).reshape(self.rows, 16)

    def int32(self, at: int) -> Int32:
        """A column of small numbers."""
        return self._table[f"c{at}"].astype(np.int32)

    def int64(self, at: int) -> Int64:
        """A column of whole numbers."""
        return self._table[f"c{at}"].astype(np.int64)

    def float64(self, at: int) -> Float64:
        """A column of numbers."""
        return self._table[f"c{at}"].astype(np.float64)
