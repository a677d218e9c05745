"""Reads of qualifications."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, exists, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from market.filters import narrowed
from market.qualifications.models import Qualification, SittingRate
from market.qualifications.rules import QualificationNotFound


def qualification(session: Session, qualification_id: UUID, *, lock: bool = False) -> Qualification:
    """The qualification with this id, if the caller may see it; locked, when it is to be changed.

    Raises:
        QualificationNotFound.
    """
    statement = select(Qualification).where(Qualification.id == qualification_id)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = session.scalar(statement)
    if found is None:
        raise QualificationNotFound(qualification_id)
    return found


def qualifications(
    *, person_id: UUID | None = None, state: str | None = None
) -> Select[Qualification]:
    """Qualifications that the caller may see, as a statement to page through."""
    return narrowed(
        select(Qualification), (Qualification.person_id, person_id), (Qualification.state, state)
    )


def is_qualified_for(
    person_id: UUID, level: int | InstrumentedAttribute[int]
) -> ColumnElement[bool]:
    """Whether a person may review at a level: qualified for it, or for a higher one."""
    return exists().where(
        Qualification.person_id == person_id,
        Qualification.state == "granted",
        Qualification.review_level >= level,
    )


def ended_qualifications(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Invitations, tests and qualifications whose time is over."""
    return list(
        session.scalars(
            select(Qualification.id)
            .where(
                Qualification.state.in_(("invited", "in_progress", "granted")),
                Qualification.ends_at <= at,
            )
            .order_by(Qualification.ends_at)
            .limit(limit)
        )
    )


def last_ended(
    session: Session, person_id: UUID, domain: str | None, level: int | None
) -> Qualification | None:
    """The last test of a person in a subject that was not passed."""
    return session.scalars(
        select(Qualification)
        .where(
            Qualification.person_id == person_id,
            Qualification.domain.is_not_distinct_from(domain),
            Qualification.review_level.is_not_distinct_from(level),
            Qualification.state == "denied",
        )
        .order_by(Qualification.id.desc())
        .limit(1)
    ).one_or_none()


def sitting_rate(session: Session, at: datetime) -> SittingRate:
    """What tests are paid with at a time: the rate that was published last, or the first."""
    begun = (SittingRate.starts_at <= at).desc()
    order = (begun, SittingRate.starts_at.desc(), SittingRate.id.desc())
    return session.scalars(select(SittingRate).order_by(*order).limit(1)).one()
