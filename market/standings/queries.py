"""Reads about the steps of an expert's standing."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session, aliased

from market.experts.models import Measure


def measures_of(expert_id: UUID) -> Select[Measure]:
    """Every step of an expert's standing, as a statement to page through."""
    return select(Measure).where(Measure.expert_id == expert_id)


def measure_in_force(session: Session, expert_id: UUID) -> Measure | None:
    """The latest step of an expert's standing that has not ended."""
    return session.scalar(
        select(Measure)
        .where(Measure.expert_id == expert_id, Measure.ended_at.is_(None))
        .order_by(Measure.id.desc())
        .limit(1)
    )


def is_reviewed_whole(session: Session, expert_id: UUID, *, at: datetime) -> bool:
    """Whether a step in force asks that all that the expert hands in is reviewed."""
    asked = exists().where(
        Measure.expert_id == expert_id,
        Measure.reviews_all,
        Measure.ended_at.is_(None),
        (Measure.until.is_(None)) | (Measure.until > at),
    )
    return bool(session.scalar(select(asked)))


def ended_measures(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Steps of standing whose time is over, where no later step of the same expert goes on."""
    later = aliased(Measure)
    goes_on = exists().where(
        later.expert_id == Measure.expert_id,
        later.ended_at.is_(None),
        later.id > Measure.id,
    )
    return list(
        session.scalars(
            select(Measure.id)
            .where(Measure.ended_at.is_(None), Measure.until <= at, ~goes_on)
            .order_by(Measure.until)
            .limit(limit)
        )
    )
