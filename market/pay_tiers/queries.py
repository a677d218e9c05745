"""Reads about an expert's pay tiers, before, now and announced."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from market.experts.models import TierAssignment


def announced_tier(session: Session, expert_id: UUID, at: datetime) -> TierAssignment | None:
    """The step down to a lower pay tier that was announced and has not begun."""
    return session.scalar(
        select(TierAssignment).where(
            TierAssignment.expert_id == expert_id,
            TierAssignment.announced_at.is_not(None),
            func.lower(TierAssignment.during) > at,
        )
    )


def tier_steps(expert_id: UUID) -> Select[TierAssignment]:
    """Every pay tier of an expert, as a statement to page through."""
    return select(TierAssignment).where(TierAssignment.expert_id == expert_id)
