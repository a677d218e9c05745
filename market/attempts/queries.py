"""Reads of attempts and their evidence."""

from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from market.attempts.models import Attempt, AttemptResponse
from market.attempts.rules import AttemptNotFound


def attempt(session: Session, attempt_id: UUID, *, locked: bool = False) -> Attempt:
    """The attempt with this id, if the caller may see it.

    Raises:
        AttemptNotFound.
    """
    statement = select(Attempt).where(Attempt.id == attempt_id)
    if locked:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = session.scalar(statement)
    if found is None:
        raise AttemptNotFound(attempt_id)
    return found


def own_attempt(session: Session, attempt_id: UUID, expert_id: UUID) -> Attempt:
    """One attempt of an expert's, locked; another's is as if it were not there.

    Raises:
        AttemptNotFound.
    """
    found = attempt(session, attempt_id, locked=True)
    if found.expert_id != expert_id:
        raise AttemptNotFound(attempt_id)
    return found


def attempts(offer_id: UUID) -> Select[Attempt]:
    """The attempts of an offer that the caller may see, as a statement to page through."""
    return select(Attempt).where(Attempt.offer_id == offer_id)


def responses(session: Session, attempt_id: UUID) -> list[AttemptResponse]:
    """The samples of an attempt, in their order."""
    return list(
        session.scalars(
            select(AttemptResponse)
            .where(AttemptResponse.attempt_id == attempt_id)
            .order_by(AttemptResponse.k)
        )
    )


def attempts_made(session: Session, offer_id: UUID) -> int:
    """How many attempts an offer has made, failed ones included."""
    counted = select(func.count()).select_from(Attempt).where(Attempt.offer_id == offer_id)
    return int(session.scalar(counted) or 0)
