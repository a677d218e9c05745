"""Reads of appeals."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from market.appeals.models import Appeal
from market.appeals.rules import OPEN, AppealNotFound


def appeal(session: Session, appeal_id: UUID, *, lock: bool = False) -> Appeal:
    """The appeal with this id, if the caller may see it; locked, when it is to be changed.

    Raises:
        AppealNotFound.
    """
    statement = select(Appeal).where(Appeal.id == appeal_id)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = session.scalar(statement)
    if found is None:
        raise AppealNotFound(appeal_id)
    return found


def appeals(*, state: str | None = None) -> Select[Appeal]:
    """Appeals that the caller may see, as a statement to page through."""
    statement = select(Appeal)
    return statement if state is None else statement.where(Appeal.state == state)


def overdue_appeals(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Appeals that were not decided in the promised time."""
    return list(
        session.scalars(
            select(Appeal.id)
            .where(Appeal.state.in_(OPEN), Appeal.due_at <= at)
            .order_by(Appeal.due_at)
            .limit(limit)
        )
    )
