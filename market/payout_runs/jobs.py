"""Payout runs, as they are worked off, and the clock that asks for them."""

from collections.abc import Sequence
from datetime import date, datetime
from functools import partial
from uuid import UUID

from market.broker import job
from market.db import database, now
from market.earnings.rules import week_of
from market.operations import report_progress
from market.payout_runs.actions import end_run, request_payout_run, start_run
from market.payout_runs.queries import payout_run
from market.treasury.actions import hold_policy, pay_owners
from market.treasury.jobs import FAULTS, each_in_turn
from market.treasury.queries import owed
from payouts.recoveries import Owner

PAY_AT_ONCE = 100
"""How many payouts a run opens in one transaction: so long a cancellation waits at most."""


@job(queue="money", time_limit_s=3600)
def run_payouts(run_id: str) -> None:
    """Open a payout for everybody who is owed something, a hundred to a transaction."""
    with database.begin() as session:
        run = start_run(session, UUID(run_id), at=now())
        if run is None:
            return
        period_end = run.period_end
        owners = owed(session)
    failed: list[Exception] = []
    for done in range(0, len(owners), PAY_AT_ONCE):
        some = owners[done : done + PAY_AT_ONCE]
        try:
            goes_on = _pay(run.id, period_end, some)
        except FAULTS:
            # One of them cannot be paid as things stand, which is no fault of the others.
            failed += each_in_turn([partial(_pay, run.id, period_end, [one]) for one in some])
            goes_on = True
        if not goes_on:
            return
        with database.begin() as session:
            report_progress(session, run.id, phase="paying", done=done, total=len(owners), at=now())
    if failed:
        # The run stays open: whoever runs this job again goes on with those.
        raise failed[0]
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


@job(queue="money")
def open_weekly_payouts(slot: str) -> None:
    """Open the payout run of the week that ended with the Monday before a time."""
    with database.begin() as session:
        at = datetime.fromisoformat(slot)
        request_payout_run(session, period_end=week_of(at), requested_by=None, at=at)
