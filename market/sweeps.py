"""Sweeps: one thing done to many rows, a transaction each, so that none holds those behind it up.

A sweep that ended at its first failure would come to the same row again every time, and nothing
behind it would ever be done.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session

from market.db import database, is_away

T = TypeVar("T")

log = structlog.get_logger(__name__)


def sweep(rows: Iterable[T], act: Callable[[Session, T], object]) -> None:
    """Do something to each of many rows, in a transaction of its own; else as `one_by_one`."""

    def begun(row: T) -> None:
        with database.begin() as session:
            act(session, row)

    one_by_one(rows, begun)


def one_by_one(rows: Iterable[T], act: Callable[[T], object]) -> None:
    """Do something to each of many rows; where it fails, to the others all the same.

    What failed is logged, row by row, and fails the job when all have had their turn: it is tried
    again, and at last told to ops. While the database is away nothing else is tried.

    Raises:
        The first failure, with how many rows failed besides.
    """
    first: Exception | None = None
    failed = 0
    for row in rows:
        try:
            act(row)
        except Exception as failure:
            if is_away(failure):
                raise
            log.warning("sweep.failed", row=str(row), error=str(failure).splitlines()[:1])
            first, failed = first or failure, failed + 1
    if first is not None:
        first.add_note(f"{failed} rows of a sweep failed; this is the first")
        raise first
