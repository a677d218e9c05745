"""What moves departures along: standing that changes, countries that close, and the clock."""

from collections.abc import Callable, Iterator
from functools import partial
from uuid import UUID

from market.broker import job
from market.db import database, now
from market.departures.actions import (
    advance_departure,
    begin_departure,
    call_off,
    follow_standing,
    keep_minimums,
)
from market.departures.queries import due_departures, may_stay, must_leave
from market.departures.rules import Due
from market.states import StateConflict
from market.sweeps import one_by_one

SWEEP = 2_000
"""How many departures a sweep lists together; many wait long for somebody to say where to be paid,
and hold up none of the others."""


@job(queue="default")
def follow_departure(expert_id: str) -> None:
    """An expert's standing changed: it leaves, or comes back."""
    with database.begin() as session:
        follow_standing(session, UUID(expert_id), at=now())


@job(queue="default", max_retries=2)
def advance_departures(slot: str) -> None:
    """Begin and end departures of closed countries, and see how far all others are.

    A transaction each, so that none waits for the locks of all, nor for one that fails.
    """
    del slot
    one_by_one(_steps(), lambda step: step())


def _steps() -> Iterator[Callable[[], None]]:
    with database.begin() as session:
        leaving, staying = must_leave(session, limit=SWEEP), may_stay(session, limit=SWEEP)
    for expert_id, reason in leaving:
        yield partial(_begin, expert_id, reason)
    for departure_id in staying:
        yield partial(_call_off, departure_id)
    with database.begin() as session:
        keep_minimums(session)
    last: UUID | None = None
    while True:
        with database.begin() as session:
            due = due_departures(session, limit=SWEEP, after=last)
        for one in due:
            if one.state != one.left.stage:
                yield partial(_advance, one)
        if len(due) < SWEEP:
            return
        last = due[-1].departure_id


def _begin(expert_id: UUID, reason: str) -> None:
    with database.begin() as session:
        begin_departure(session, expert_id, "region", reason=reason, at=now())


def _call_off(departure_id: UUID) -> None:
    try:
        with database.begin() as session:
            call_off(session, departure_id, at=now())
    except StateConflict:
        # Called off by somebody since the look: there is nothing left to do.
        return


def _advance(due: Due) -> None:
    with database.begin() as session:
        advance_departure(session, due, at=now())
