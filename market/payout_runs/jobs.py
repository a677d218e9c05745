"""Payout runs, as they are worked off, and the clock that asks for them."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

from market.broker import job
from market.db import database, now
from market.earnings.rules import week_of
from market.operations import report_progress
from market.payout_runs.actions import (
    clear_some,
    end_cancellation,
    end_run,
    request_payout_run,
    start_run,
)
from market.payout_runs.queries import payout_run
from market.treasury.actions import hold_policy, pay_owners
from market.treasury.jobs import FAULTS, each_in_turn
from market.treasury.queries import owed
from payouts.recoveries import Owner
from payouts.withdrawals import unsent_of_run

One = TypeVar("One")

LOT = 100
"""How many payouts are opened, or taken out, in one transaction."""


@job(queue="money", time_limit_s=3600)
def run_payouts(run_id: str) -> None:
    """Open a payout for everybody who is owed something, a hundred to a transaction."""
    with database.begin() as session:
        run = start_run(session, UUID(run_id), at=now())
        if run is None:
            return
        owners = owed(session)
    if _in_lots(run.id, "paying", owners, partial(_pay, run.id, run.period_end)):
        with database.begin() as session:
            end_run(session, run.id, at=now())


def _pay(run_id: UUID, period_end: date, owners: Sequence[Owner]) -> bool:
    """Open the payouts of some in one transaction; whether the run goes on."""
    with database.begin() as session:
        if payout_run(session, run_id, locked=True).state != "running":
            # Cancelled meanwhile; held for the moment, so that it cannot be while we pay.
            return False
        pay_owners(
            session, owners, period_end=period_end, at=now(), policy=hold_policy(), run_id=run_id
        )
        return True


@job(queue="money", time_limit_s=3600)
def clear_run(run_id: str) -> None:
    """Take out what a cancelled run has not sent, a hundred to a transaction."""
    cancelled = UUID(run_id)
    with database.begin() as session:
        if payout_run(session, cancelled).state != "cancelling":
            return
        unsent = unsent_of_run(session, cancelled)
    if _in_lots(cancelled, "withdrawing", unsent, partial(_clear, cancelled)):
        with database.begin() as session:
            end_cancellation(session, cancelled, at=now())


def _clear(run_id: UUID, payout_ids: Sequence[UUID]) -> bool:
    with database.begin() as session:
        clear_some(session, run_id, payout_ids, at=now())
        return True


def _in_lots(
    run_id: UUID, phase: str, every: Sequence[One], act: Callable[[Sequence[One]], bool]
) -> bool:
    """Act on all of them, a hundred to a transaction; whether nothing stopped it on the way.

    Raises what could not be written, once everybody else has had its turn: the run stays open, and
    whoever runs its job again goes on with those.
    """
    failed: list[Exception] = []
    for done in range(0, len(every), LOT):
        some = every[done : done + LOT]
        try:
            if not act(some):
                return False
        except FAULTS:
            # One of them cannot be written as things stand, which is no fault of the others.
            failed += each_in_turn([partial(act, [one]) for one in some])
        with database.begin() as session:
            report_progress(
                session, run_id, phase=phase, done=done + len(some), total=len(every), at=now()
            )
    if failed:
        raise failed[0]
    return True


@job(queue="money")
def open_weekly_payouts(slot: str) -> None:
    """Open the payout run of the week that ended with the Monday before a time."""
    with database.begin() as session:
        at = datetime.fromisoformat(slot)
        request_payout_run(session, period_end=week_of(at), requested_by=None, at=at)
