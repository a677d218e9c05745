"""Reads about bonuses."""

from uuid import UUID

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session

from market.bonuses.models import Bonus
from market.offers.models import Offer
from market.offers.rules import HELD


def bonuses(project_id: UUID) -> Select[Bonus]:
    """Bonuses of a project that the caller may see, as a statement to page through."""
    return select(Bonus).where(Bonus.project_id == project_id)


def bonus_by_reference(session: Session, project_id: UUID, reference: str) -> Bonus | None:
    """The bonus that a reference gave before."""
    return session.scalar(
        select(Bonus).where(Bonus.project_id == project_id, Bonus.reference == reference)
    )


def has_worked(session: Session, project_id: UUID, expert_id: UUID) -> bool:
    """Whether an expert took any work of a project, whatever came of it."""
    worked = exists().where(
        Offer.project_id == project_id,
        Offer.expert_id == expert_id,
        Offer.state.in_((*HELD, "released", "abandoned")),
    )
    return bool(session.scalar(select(worked)))
