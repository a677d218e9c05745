"""Reads about the steps of an expert's standing."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, exists, func, select
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.orm import Session, aliased

from market.experts.models import Measure
from market.standings.rules import STEPS


def measures_of(expert_id: UUID) -> Select[Measure]:
    """Every step of an expert's standing, as a statement to page through."""
    return select(Measure).where(Measure.expert_id == expert_id)


def measure_in_force(session: Session, expert_id: UUID) -> Measure | None:
    """The step that an expert's standing is at: the furthest of those that have not ended."""
    return session.scalar(
        select(Measure)
        .where(Measure.expert_id == expert_id, Measure.ended_at.is_(None))
        .order_by(func.array_position(array(STEPS), Measure.step).desc(), Measure.id.desc())
        .limit(1)
    )


def newest_measure(session: Session, expert_id: UUID) -> Measure | None:
    """The step that was taken last about an expert, be it only closer review."""
    return session.scalar(measures_of(expert_id).order_by(Measure.id.desc()).limit(1))


def is_added_to(session: Session, measure: Measure) -> bool:
    """Whether a step in force is closer review that was added to another, which moved nothing."""
    earlier = exists().where(
        Measure.expert_id == measure.expert_id,
        Measure.ended_at.is_(None),
        Measure.id < measure.id,
    )
    return measure.step == "watch" and bool(session.scalar(select(earlier)))


def is_reviewed_whole(session: Session, expert_id: UUID, *, at: datetime) -> bool:
    """Whether a step in force asks that all that the expert hands in is reviewed."""
    asked = exists().where(
        Measure.expert_id == expert_id,
        Measure.reviews_all,
        Measure.ended_at.is_(None),
        (Measure.until.is_(None)) | (Measure.until > at),
    )
    return bool(session.scalar(select(asked)))


def is_over(at: datetime) -> ColumnElement[bool]:
    """Whether a step's time is over, and no later step of the same expert goes on."""
    later = aliased(Measure)
    goes_on = exists().where(
        later.expert_id == Measure.expert_id,
        later.ended_at.is_(None),
        later.id > Measure.id,
    )
    return and_(Measure.ended_at.is_(None), Measure.until <= at, ~goes_on)


def ended_measures(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Steps of standing whose time is over."""
    return list(
        session.scalars(select(Measure.id).where(is_over(at)).order_by(Measure.until).limit(limit))
    )
