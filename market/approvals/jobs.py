"""What becomes of time and of lines by the clock: silence never keeps an expert from its pay."""

from uuid import UUID

from market.approvals.actions import approve_lines, credit_locked, lock_weeks, settle_time
from market.approvals.queries import silent_experts, uncredited_offers
from market.broker import job
from market.db import database, now
from market.earnings.rules import LOCK_AFTER, Period, week_of
from market.sweeps import sweep

SWEEP = 1_000
"""The most rows that one transaction takes up; the next one follows at once."""


@job(queue="money")
def close_weeks(slot: str) -> None:
    """Lock the time of weeks that are over, and credit it, though the work on it may go on."""
    del slot
    before = Period(week_of(now() - LOCK_AFTER)).starts_at
    locked = SWEEP
    while locked == SWEEP:
        with database.begin() as session:
            locked = lock_weeks(session, before=before, at=now(), limit=SWEEP)
    with database.begin() as session:
        waiting = uncredited_offers(session, limit=SWEEP * 10)
    sweep(waiting, lambda session, offer_id: credit_locked(session, offer_id, at=now()))


@job(queue="money")
def approve_silent_lines(slot: str) -> None:
    """Approve the lines that their labs had time enough to look at."""
    del slot
    with database.begin() as session:
        waiting = silent_experts(session, at=now(), limit=SWEEP * 10)
    sweep(waiting, lambda session, expert_id: approve_lines(session, expert_id, at=now()))


@job(queue="money", line="bulk")
def settle_paid_time(payout_id: str) -> None:
    """Settle the time under the lines of a payout that is in the bank."""
    with database.begin() as session:
        settle_time(session, UUID(payout_id), at=now())
