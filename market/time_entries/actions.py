"""What becomes of recorded time: confirmed by its expert or by its age, or taken out."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from market.db import new_id
from market.events import Event, StateChange, change_state
from market.offers.queries import offer as any_offer
from market.time_entries.queries import time_entry
from market.work.models import TimeEntry
from market.work.rules import TIME_ENTRY, TimeHandedIn


def confirm_time(session: Session, *, recorded_before: datetime, at: datetime, limit: int) -> int:
    """Confirm recorded time that its expert has not objected to for long enough; how many lines."""
    due = (
        select(TimeEntry.id)
        .where(TimeEntry.state == "recorded", TimeEntry.recorded_at < recorded_before)
        .order_by(TimeEntry.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    confirmed = session.scalars(
        update(TimeEntry)
        .where(TimeEntry.id.in_(due))
        .values(state="confirmed", version=TimeEntry.version + 1)
        .returning(TimeEntry.id)
    ).all()
    if confirmed:
        session.execute(
            insert(StateChange),
            [
                {
                    "id": new_id(),
                    "machine": "time_entry",
                    "subject_id": entry_id,
                    "from_state": "recorded",
                    "to_state": "confirmed",
                    "action": "confirm",
                    "at": at,
                    "reason_code": "time_passed",
                }
                for entry_id in confirmed
            ],
        )
    return len(confirmed)


def change_time(
    session: Session,
    entry_id: UUID,
    action: str,
    *,
    actor_id: UUID,
    at: datetime,
    note: str | None = None,
) -> TimeEntry:
    """Confirm a line of recorded time, or take it out; what is contested has a feature of its own.

    The caller has checked who may do what; a line is voided only while nothing was handed in on it.

    Raises:
        TimeEntryNotFound, TimeHandedIn, StateConflict.
    """
    entry = time_entry(session, entry_id)
    if action == "void" and any_offer(session, entry.offer_id).state == "completed":
        raise TimeHandedIn()
    change_state(
        session,
        TIME_ENTRY,
        entry,
        action,
        at=at,
        event=Event.TIME_ENTRY_CHANGED,
        organisation_id=entry.organisation_id,
        person_id=entry.expert_id,
        actor_id=actor_id,
        note=note,
    )
    return entry
