"""Reads of histories: whether the caller may see the thing, and how it came to where it is."""

from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.events import StateChange
from market.histories.rules import TABLES, Step

_MAY_READ = text("select has_table_privilege(current_user, :table, 'select')")
_OF_PAYOUT = text(
    """
    select from_state, to_state, action, at, actor_id, reason_code, note
    from payouts.payout_move where payout_id = :id order by number
    """
)


def state_now(session: Session, prefix: str, subject_id: UUID) -> str | None:
    """The state of a thing, if whoever asks may see it: row security says."""
    table = TABLES[prefix]
    if not session.scalar(_MAY_READ, {"table": table}):
        return None
    # A name out of our own table, which no caller chose.
    statement = text(f"select state from {table} where id = :id")  # noqa: S608
    found: str | None = session.scalar(statement, {"id": subject_id})
    return found


def steps_of(session: Session, prefix: str, subject_id: UUID) -> list[Step]:
    """All moves of a thing, in order. Runs as the platform."""
    if prefix == "pay":
        return [Step(*row) for row in session.execute(_OF_PAYOUT, {"id": subject_id})]
    rows = session.scalars(
        select(StateChange).where(StateChange.subject_id == subject_id).order_by(StateChange.id)
    )
    return [
        Step(
            row.from_state,
            row.to_state,
            row.action,
            row.at,
            row.actor_id,
            row.reason_code,
            row.note,
            tuple(row.evidence or ()),
        )
        for row in rows
    ]
