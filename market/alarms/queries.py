"""Reads of alarms and readings, and of what predictions said and what came."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar
from uuid import UUID

from sqlalchemy import Uuid, bindparam, select, text, true
from sqlalchemy.orm import Session

from market.alarms.models import (
    Acknowledgement,
    DriftAlarm,
    FrontierReading,
    ReviewerAlarm,
    SpreadAlarm,
)
from market.quality.models import FrontierAlarm

Alarm = TypeVar("Alarm", FrontierAlarm, DriftAlarm, SpreadAlarm, ReviewerAlarm)

_WATCHED = text(
    """
    select distinct domain, target_model_id from market.observation
    where kind = 'verdict' and predicted_stump is not null and domain is not null
        and target_model_id is not null
    order by domain, target_model_id
    """
)

_SINCE = text(
    """
    select seq, predicted_fooled * predicted_valid as predicted,
        case when fooled = 0 then 0.0 else fooled * valid end::float8 as came
    from market.observation
    where domain = :domain and target_model_id = :target_model_id and kind = 'verdict'
        and replaced_at is null and predicted_stump is not null and fooled is not null
        and (fooled = 0 or valid is not null)
        and seq > coalesce((select max(seq) from market.drift_alarm d where d.domain = :domain
            and d.target_model_id = :target_model_id), 0)
    order by seq
    """
).bindparams(bindparam("target_model_id", type_=Uuid()))


@dataclass(frozen=True, slots=True)
class Said:
    """What was predicted of a piece of work that was handed in, and what came. Units: shares."""

    seq: int
    predicted: float
    came: float


def watched(session: Session) -> list[tuple[str, UUID]]:
    """Domains and target models of which anything was predicted."""
    return [(row.domain, row.target_model_id) for row in session.execute(_WATCHED)]


def said_since_alarm(session: Session, domain: str, target_model_id: UUID) -> list[Said]:
    """Predictions with what came, after the last alarm of a domain and model, in their order."""
    given = {"domain": domain, "target_model_id": target_model_id}
    return [Said(*row) for row in session.execute(_SINCE, given)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """An alarm of any kind, and whether anybody has looked at it.

    Of predictions: a domain and a target model, with the evidence. Of a set: its project, and the
    person where it is one expert's part of it. Of a reviewer: the person.
    """

    id: UUID
    kind: Literal["frontier", "drift", "spread", "reviewer"]
    at: datetime
    reason: str
    acknowledged: Acknowledgement | None
    domain: str | None = None
    target_model_id: UUID | None = None
    level: int | None = None
    evidence: float | None = None
    project_id: UUID | None = None
    person_id: UUID | None = None
    ended_at: datetime | None = None


def alarms(session: Session, *, is_open: bool | None = None, limit: int = 200) -> list[Raised]:
    """Alarms, the latest first; only those that nobody has looked at, or the others, if asked."""
    found = _latest(session, FrontierAlarm, is_open=is_open, limit=limit)
    found += _latest(session, DriftAlarm, is_open=is_open, limit=limit)
    found += _latest(session, SpreadAlarm, is_open=is_open, limit=limit)
    found += _latest(session, ReviewerAlarm, is_open=is_open, limit=limit)
    return sorted(found, key=lambda one: one.at, reverse=True)[:limit]


def _latest(
    session: Session, table: type[Alarm], *, is_open: bool | None, limit: int
) -> list[Raised]:
    known = Acknowledgement.alarm_id.is_not(None)
    statement = (
        select(table, Acknowledgement)
        .outerjoin(Acknowledgement, Acknowledgement.alarm_id == table.id)
        .where(true() if is_open is None else (~known if is_open else known))
        .order_by(table.at.desc())
        .limit(limit)
    )
    return [_raised(row, seen) for row, seen in session.execute(statement)]


def _raised(
    row: FrontierAlarm | DriftAlarm | SpreadAlarm | ReviewerAlarm, seen: Acknowledgement | None
) -> Raised:
    if isinstance(row, SpreadAlarm):
        return Raised(
            id=row.id,
            kind="spread",
            at=row.at,
            reason=row.reason,
            acknowledged=seen,
            project_id=row.project_id,
            person_id=row.expert_id,
            ended_at=row.ended_at,
        )
    if isinstance(row, ReviewerAlarm):
        return Raised(
            id=row.id,
            kind="reviewer",
            at=row.at,
            reason=row.reason,
            acknowledged=seen,
            person_id=row.reviewer_id,
            ended_at=row.ended_at,
        )
    is_frontier = isinstance(row, FrontierAlarm)
    return Raised(
        id=row.id,
        kind="frontier" if is_frontier else "drift",
        at=row.at,
        reason=row.reason,
        acknowledged=seen,
        domain=row.domain,
        target_model_id=row.target_model_id,
        level=row.level if isinstance(row, FrontierAlarm) else None,
        evidence=row.evidence,
    )


def open_spreads(session: Session, project_id: UUID) -> dict[UUID | None, SpreadAlarm]:
    """The alarms about a project's set that have not ended: of the whole (None), and of experts."""
    rows = session.scalars(
        select(SpreadAlarm).where(
            SpreadAlarm.project_id == project_id, SpreadAlarm.ended_at.is_(None)
        )
    )
    return {row.expert_id: row for row in rows}


def alarm(session: Session, alarm_id: UUID) -> Raised | None:
    """One alarm of any kind."""
    row = (
        session.get(FrontierAlarm, alarm_id)
        or session.get(DriftAlarm, alarm_id)
        or session.get(SpreadAlarm, alarm_id)
        or session.get(ReviewerAlarm, alarm_id)
    )
    return None if row is None else _raised(row, session.get(Acknowledgement, alarm_id))


def readings(
    session: Session, *, domain: str | None = None, limit: int = 500
) -> Sequence[FrontierReading]:
    """Readings of levels, the latest first."""
    statement = select(FrontierReading)
    if domain is not None:
        statement = statement.where(FrontierReading.domain == domain)
    return session.scalars(
        statement.order_by(FrontierReading.at.desc(), FrontierReading.id.desc()).limit(limit)
    ).all()
