"""Reads about payout runs."""

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from market.payout_runs.models import PayoutRun
from market.payout_runs.rules import PayoutRunNotFound


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
