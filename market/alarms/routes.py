"""Alarms and readings, over HTTP, for ops."""

from datetime import datetime
from typing import Annotated, Literal

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK
from msgspec import Meta

from market.alarms.actions import acknowledge_alarm
from market.alarms.queries import Raised, alarms, readings
from market.auth import Principal
from market.db import database, now
from market.http import Wire, get, post, read_id, wire_id, wire_ids


class AcknowledgementIn(Wire):
    """What was found of an alarm."""

    note: Annotated[str, Meta(min_length=1, max_length=2000)]


class QualityAlarmOut(Wire):
    """A level that ran dry (`frontier`), predictions that no longer hold (`drift`), a set that is
    one item many times (`spread`: of a project, or of one person in it), or a reviewer who is
    probably poor where the answer is known (`reviewer`); the latter two until `ended_at`.
    """

    id: str
    kind: Literal["frontier", "drift", "spread", "reviewer"]
    domain: str | None
    target_model_id: str | None
    complexity: int | None
    project_id: str | None
    person_id: str | None
    at: datetime
    evidence: float | None
    reason: str
    ended_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    note: str | None


class ReadingOut(Wire):
    """How a level stood: its stump rate with 90 %, its productive experts with 80 % intervals."""

    slot: str
    domain: str
    complexity: int
    target_model_id: str
    at: datetime
    claims: int
    rate: float
    low: float
    high: float
    opening: float | None
    productive: float
    productive_low: float
    productive_high: float
    proposed_complexity: int | None
    reason: str


@get("/alarms", scope="match:read", tags=["Quality"])
def get_alarms(is_open: FromQuery[bool | None] = None) -> list[QualityAlarmOut]:
    """The latest alarms; with `is_open`, only those that nobody has looked at, or the others."""
    with database.begin() as session:
        return [_out(one) for one in alarms(session, is_open=is_open)]


@post(
    "/alarms/{alarm_id:str}/acknowledge",
    scope="match:write",
    status_code=HTTP_200_OK,
    tags=["Quality"],
)
def post_acknowledgement(
    alarm_id: FromPath[str],
    data: JSONBody[AcknowledgementIn],
    principal: NamedDependency[Principal],
) -> QualityAlarmOut:
    """Say that you looked at an alarm, and what you found; the first word stays."""
    with database.begin() as session:
        found = acknowledge_alarm(
            session,
            read_id("alm", alarm_id),
            note=data.note,
            actor_id=principal.person_id,
            at=now(),
        )
        return _out(found)


@get("/frontier/readings", scope="match:read", tags=["Quality"])
def get_readings(domain: FromQuery[str | None] = None) -> list[ReadingOut]:
    """How every level stood, week by week and on each release, the latest first."""
    with database.begin() as session:
        return [
            ReadingOut(
                slot=row.slot,
                domain=row.domain,
                complexity=row.level + 1,
                target_model_id=wire_id("mdl", row.target_model_id),
                at=row.at,
                claims=row.claims,
                rate=row.rate,
                low=row.low,
                high=row.high,
                opening=row.opening,
                productive=row.productive,
                productive_low=row.productive_low,
                productive_high=row.productive_high,
                proposed_complexity=None if row.proposed_level is None else row.proposed_level + 1,
                reason=row.reason,
            )
            for row in readings(session, domain=domain)
        ]


def _out(one: Raised) -> QualityAlarmOut:
    seen = one.acknowledged
    return QualityAlarmOut(
        id=wire_id("alm", one.id),
        kind=one.kind,
        domain=one.domain,
        target_model_id=wire_ids("mdl", one.target_model_id),
        complexity=None if one.level is None else one.level + 1,
        project_id=wire_ids("prj", one.project_id),
        person_id=wire_ids("per", one.person_id),
        at=one.at,
        evidence=one.evidence,
        reason=one.reason,
        ended_at=one.ended_at,
        acknowledged_at=None if seen is None else seen.at,
        acknowledged_by=None if seen is None else wire_ids("per", seen.person_id),
        note=None if seen is None else seen.note,
    )


ROUTES: list[HTTPRouteHandler] = [get_alarms, post_acknowledgement, get_readings]
