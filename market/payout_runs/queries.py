"""Reads about payout runs."""

from datetime import date
from uuid import UUID

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session

from market.events import StateChange
from market.payout_runs.models import PayoutRun
from market.payout_runs.rules import PAYOUT_RUN, PayoutRunNotFound


def payout_run(session: Session, run_id: UUID, *, locked: bool = False) -> PayoutRun:
    """One payout run; locked against others until the transaction ends, if wished.

    Raises:
        PayoutRunNotFound.
    """
    found = session.get(PayoutRun, run_id, with_for_update=locked, populate_existing=locked)
    if found is None:
        raise PayoutRunNotFound(run_id)
    return found


def payout_runs() -> Select[PayoutRun]:
    """Payout runs, as a statement to page through."""
    return select(PayoutRun)


def is_being_cancelled(session: Session, period_end: date) -> bool:
    """Whether a run of this period is still taking out what it has not sent."""
    wanted = exists().where(PayoutRun.period_end == period_end, PayoutRun.state == "cancelling")
    return bool(session.scalar(select(wanted)))


def who_cancelled(session: Session, run_id: UUID) -> tuple[UUID, str]:
    """Who cancelled a run, and why."""
    by, note = session.execute(
        select(StateChange.actor_id, StateChange.note).where(
            StateChange.machine == PAYOUT_RUN.name,
            StateChange.subject_id == run_id,
            StateChange.action == "cancel",
        )
    ).one()
    # Only a person cancels, and none without a word on why.
    assert by is not None
    return by, note or ""
