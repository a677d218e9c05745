"""Reads of when experts work. The columns are those of their profiles, which come later."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import INT4MULTIRANGE, TSTZMULTIRANGE, Range
from sqlalchemy.orm import Session

from market.availability.rules import Calendar, Spans, Week, room_s

_CALENDARS = (
    text(
        """
        select id, timezone, week, away from market.expert
        where id = any(:experts) and not (isempty(week) and isempty(away))
        """
    )
    .bindparams(bindparam("experts", type_=ARRAY(Uuid())))
    .columns(id=Uuid(), week=INT4MULTIRANGE(), away=TSTZMULTIRANGE())
)


_ALL_CALENDARS = text(
    """
    select id, timezone, week, away from market.expert
    where not (isempty(week) and isempty(away))
        and (cast(:experts as uuid[]) is null or id = any(:experts))
    """
).columns(id=Uuid(), week=INT4MULTIRANGE(), away=TSTZMULTIRANGE())


_CALENDAR = text("select timezone, week, away from market.expert where id = :expert").columns(
    week=INT4MULTIRANGE(), away=TSTZMULTIRANGE()
)


@dataclass(frozen=True, slots=True)
class Openings:
    """How much work offers made now can ask of experts who keep hours, and who cannot take any.

    `room_s` has, for each such expert, a figure for each kind of offer that was asked about.

    Units: seconds.
    """

    closed: list[UUID]
    room_s: dict[UUID, tuple[int, ...]]


def openings(
    session: Session,
    kinds: Sequence[tuple[int, int]],
    *,
    least_s: int,
    at: datetime,
    experts: Sequence[UUID] | None = None,
) -> Openings:
    """How much work offers of some kinds can ask of experts who keep hours, of some of them or of
    all; `closed` are those who have no time for work of `least_s` in any.

    Units: a kind is the seconds to answer in, and those to do the work in.
    """
    rows = session.execute(_ALL_CALENDARS, {"experts": None if experts is None else list(experts)})
    found: dict[UUID, tuple[int, ...]] = {}
    # Many experts keep the same hours.
    known: dict[Calendar, tuple[int, ...]] = {}
    for row in rows:
        held = calendar(row.timezone, row.week, row.away)
        if held not in known:
            known[held] = tuple(
                room_s(held, at, offer_ttl_s=offer_ttl_s, work_ttl_s=work_ttl_s)
                for offer_ttl_s, work_ttl_s in kinds
            )
        found[row.id] = known[held]
    closed = [one for one, rooms in found.items() if max(rooms, default=0) < least_s]
    return Openings(closed, found)


def calendars_of(session: Session, expert_ids: Sequence[UUID]) -> dict[UUID, Calendar]:
    """When each of some experts works; who works at any time is absent."""
    rows = session.execute(_CALENDARS, {"experts": list(expert_ids)})
    return {row.id: calendar(row.timezone, row.week, row.away) for row in rows}


def calendar_of(session: Session, expert_id: UUID) -> Calendar | None:
    """When one expert works; None for who is no expert."""
    row = session.execute(_CALENDAR, {"expert": expert_id}).one_or_none()
    return None if row is None else calendar(row.timezone, row.week, row.away)


def calendar(zone: str, week: Sequence[Range[int]], away: Sequence[Range[datetime]]) -> Calendar:
    """A calendar out of the columns that it is kept in."""
    return Calendar(zone, week_in(week), away_in(away))


def week_in(kept: Sequence[Range[int]]) -> Week:
    """A week out of the column that it is kept in."""
    return tuple((one.lower or 0, one.upper or 0) for one in kept)


def away_in(kept: Sequence[Range[datetime]]) -> Spans:
    """Time off out of the column that it is kept in; the database refuses one without an end."""
    return tuple((one.lower, one.upper) for one in kept if one.lower and one.upper)
