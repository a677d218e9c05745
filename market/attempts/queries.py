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

    What is claimed and handed in is the attempt at the target model, with those beside it.

    Raises:
        AttemptNotFound.
    """
    found = attempt(session, attempt_id, locked=True)
    if found.expert_id != expert_id or found.panel_of is not None:
        raise AttemptNotFound(attempt_id)
    return found


def attempts(offer_id: UUID) -> Select[Attempt]:
    """The attempts of an offer that the caller may see, as a statement to page through.

    Those at the models of a panel stand in the attempt that they go beside.
    """
    return select(Attempt).where(Attempt.offer_id == offer_id, Attempt.panel_of.is_(None))


def beside(session: Session, head: Attempt, *, locked: bool = False) -> list[Attempt]:
    """The attempts at the other models of the panel that a question was put to, in their order."""
    if head.stump_rule is None:
        return []
    statement = select(Attempt).where(Attempt.panel_of == head.id).order_by(Attempt.id)
    if locked:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    return list(session.scalars(statement))


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
    """How many questions an offer has put, failed ones included."""
    counted = select(func.count()).where(Attempt.offer_id == offer_id, Attempt.panel_of.is_(None))
    return int(session.scalar(counted) or 0)
