"""Reads about cases and what was recovered after them."""

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from market.recoveries.models import RecoveryCase
from market.recoveries.rules import CaseNotFound
from payouts.bank_models import Recovery


def cases(*, state: str | None = None) -> Select[RecoveryCase]:
    """Cases, as a statement to page through; an expert reads its own."""
    wanted = select(RecoveryCase)
    return wanted if state is None else wanted.where(RecoveryCase.state == state)


def case(session: Session, case_id: UUID, *, locked: bool = False) -> RecoveryCase:
    """One case; locked against others until the transaction ends, if wished.

    Raises:
        CaseNotFound.
    """
    wanted = select(RecoveryCase).where(RecoveryCase.id == case_id)
    if locked:
        wanted = wanted.with_for_update().execution_options(populate_existing=True)
    found = session.scalar(wanted)
    if found is None:
        raise CaseNotFound(case_id)
    return found


def recovered(session: Session, case_ids: list[UUID]) -> dict[UUID, Recovery]:
    """What came back so far after each of some upheld cases."""
    rows = session.scalars(select(Recovery).where(Recovery.case_id.in_(case_ids)))
    return {one.case_id: one for one in rows}
