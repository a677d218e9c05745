"""How a departure begins, goes on and is called off; countries closed and opened again.

Everything here runs as the platform. Locks are taken in one order: expert, departure.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from market.db import new_id
from market.departures.models import ClosedCountry, Departure
from market.departures.queries import departure, departure_of
from market.departures.rules import (
    DEPARTURE,
    CannotComeBack,
    CountryClosed,
    DepartureNotFound,
    Due,
    checked_reason,
    way_back,
)
from market.events import Event, change_state, emit
from market.experts.models import Expert
from market.experts.queries import expert
from market.experts.rules import STANDING, WORKING
from market.payees.rules import CountryInvalid, is_country
from market.standings.queries import measure_in_force
from payouts.payees import let_leave

INTO = {"returning": "return_work", "settling": "settle", "paying": "pay", "done": "finish"}
"""The move that leads into each stage."""


def begin_departure(
    session: Session,
    expert_id: UUID,
    cause: str,
    *,
    reason: str,
    at: datetime,
    by: UUID | None = None,
) -> Departure:
    """Let an expert leave: no new work, its open work goes back, and all that it earned is paid,
    whatever the least amount of a payout is. One that has begun already answers with itself.

    Raises:
        ExpertNotFound, ReasonUnfit.
    """
    said = checked_reason(reason)
    found = expert(session, expert_id, lock=True)
    before = departure_of(session, expert_id)
    if before is not None:
        return before
    made = Departure(
        expert_id=expert_id, cause=cause, reason=said, begun_at=at, changed_at=at, begun_by=by
    )
    session.add(made)
    session.flush()
    emit(
        session,
        Event.DEPARTURE_BEGUN,
        made.id,
        at=at,
        person_id=expert_id,
        actor_id=by,
        data={"cause": cause},
    )
    _leave(session, found, cause, at=at, by=by)
    return made


def follow_standing(session: Session, expert_id: UUID, *, at: datetime) -> None:
    """Whoever is shut out leaves, and comes back when that is lifted; whoever leaves for another
    reason goes on leaving when a step of its standing ends.
    """
    found = expert(session, expert_id, lock=True)
    under_way = departure_of(session, expert_id)
    if found.state == "closed" and under_way is None:
        measure = measure_in_force(session, expert_id)
        why = "" if measure is None else measure.note
        begin_departure(
            session,
            expert_id,
            "closed",
            reason=f"Your standing is closed. {why}".strip()[:2_000],
            at=at,
        )
    elif under_way is not None and found.state in WORKING:
        if under_way.cause == "closed":
            call_off(session, under_way.id, at=at)
        else:
            _leave(session, found, under_way.cause, at=at, by=None)


def advance_departure(session: Session, due: Due, *, at: datetime) -> bool:
    """Move a departure to where what it waits for says it is; whether it moved."""
    found = departure(session, due.departure_id, locked=True)
    stage = due.left.stage
    if found.state in ("called_off", stage):
        return False
    found.changed_at = at
    change_state(
        session,
        DEPARTURE,
        found,
        INTO[stage],
        at=at,
        event=Event.DEPARTURE_DONE if stage == "done" else Event.DEPARTURE_CHANGED,
        person_id=found.expert_id,
    )
    return True


def keep_minimums(session: Session) -> None:
    """Let whoever leaves be paid below the least amount of a payout, also who says only now where
    to be paid; for all others it counts again.
    """
    let_leave(session, select(Departure.expert_id).where(Departure.state != "called_off"))


def come_back(session: Session, expert_id: UUID, *, at: datetime) -> Departure:
    """An expert who left by its own will stays after all, in the standing that it had.

    Raises:
        DepartureNotFound, CannotComeBack.
    """
    found = departure_of(session, expert_id)
    if found is None:
        raise DepartureNotFound()
    if found.cause != "own":
        raise CannotComeBack(found.cause)
    return call_off(session, found.id, at=at, by=expert_id)


def call_off(
    session: Session, departure_id: UUID, *, at: datetime, by: UUID | None = None
) -> Departure:
    """End a departure: the expert is offered work again, as far as its standing allows.

    Raises:
        DepartureNotFound, StateConflict.
    """
    seen = departure(session, departure_id)
    who = expert(session, seen.expert_id, lock=True)
    found = departure(session, departure_id, locked=True)
    found.changed_at = at
    change_state(
        session,
        DEPARTURE,
        found,
        "call_off",
        at=at,
        event=Event.DEPARTURE_CALLED_OFF,
        person_id=who.id,
        actor_id=by,
    )
    if who.state == "left":
        measure = measure_in_force(session, who.id)
        change_state(
            session,
            STANDING,
            who,
            way_back(None if measure is None else measure.step),
            at=at,
            event=Event.STANDING_CHANGED,
            person_id=who.id,
            actor_id=by,
            reason_code="departure_called_off",
        )
    return found


def close_country(
    session: Session, country: str, *, reason: str, by: UUID, at: datetime
) -> ClosedCountry:
    """Close a country: everybody who lives or is paid there leaves, and whoever comes there later.

    Raises:
        CountryInvalid, ReasonUnfit, CountryClosed.
    """
    if not is_country(country):
        raise CountryInvalid(country)
    said = checked_reason(reason)
    made: ClosedCountry | None = session.scalar(
        insert(ClosedCountry)
        .values(id=new_id(), country=country, reason=said, closed_at=at, closed_by=by)
        .on_conflict_do_nothing()
        .returning(ClosedCountry)
    )
    if made is None:
        raise CountryClosed(country, is_closed=True)
    return made


def open_country(session: Session, country: str, *, by: UUID, at: datetime) -> ClosedCountry:
    """Open a closed country again: departures that it was the cause of are called off.

    Raises:
        CountryClosed.
    """
    found = session.scalar(
        select(ClosedCountry)
        .where(ClosedCountry.country == country, ClosedCountry.opened_at.is_(None))
        .with_for_update()
    )
    if found is None:
        raise CountryClosed(country, is_closed=False)
    found.opened_at, found.opened_by = at, by
    session.flush()
    return found


def _leave(session: Session, found: Expert, cause: str, *, at: datetime, by: UUID | None) -> None:
    # Whoever may not work anyhow keeps the standing that says why.
    if found.state in WORKING:
        change_state(
            session,
            STANDING,
            found,
            "leave",
            at=at,
            event=Event.STANDING_CHANGED,
            person_id=found.id,
            actor_id=by,
            reason_code=f"departure_{cause}",
        )
