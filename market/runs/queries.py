"""Reads about matching runs: how they went, and the seats that they left open."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session

from market.db import made_at
from market.filters import narrowed
from market.projects.models import Project
from market.runs.models import MatchingRun, OpenSeat
from market.runs.rules import ENDED, RunNotFound


def run(session: Session, run_id: UUID, *, locked: bool = False) -> MatchingRun:
    """One matching run.

    Raises:
        RunNotFound.
    """
    found = session.get(MatchingRun, run_id, with_for_update=locked, populate_existing=locked)
    if found is None:
        raise RunNotFound(run_id)
    return found


def runs(*, project_id: UUID | None = None, state: str | None = None) -> Select[MatchingRun]:
    """All matching runs, or those for a project or in a state, as a statement to page through."""
    return narrowed(
        select(MatchingRun), (MatchingRun.project_id, project_id), (MatchingRun.state, state)
    )


def run_before(session: Session, project_id: UUID | None) -> UUID | None:
    """The newest run whose prices tell something of a scope: over the same project, or over
    everything.
    """
    # Without a project the second asks the same as the first.
    scope = MatchingRun.project_id.is_(None) | MatchingRun.project_id.is_not_distinct_from(
        project_id
    )
    rows = select(MatchingRun.id).where(MatchingRun.state == "succeeded", scope)
    return session.scalar(rows.order_by(MatchingRun.id.desc()).limit(1))


def is_market_run_due(session: Session, *, every: timedelta, at: datetime) -> bool:
    """Whether the whole market should be matched again: some project is live, no run over
    everything has begun within this time, and none is still to end.

    Before the first such run the time counts from when the oldest live project was written down.
    """
    live = select(Project.id).where(Project.state == "live").order_by(Project.id).limit(1)
    oldest = session.scalar(live)
    if oldest is None:
        return False
    whole = select(MatchingRun).where(MatchingRun.project_id.is_(None))
    newest = session.scalars(whole.order_by(MatchingRun.id.desc()).limit(1)).first()
    if newest is None:
        return at - made_at(oldest) >= every
    return newest.state in ENDED and at - newest.requested_at >= every


def is_run_pending(session: Session, project_id: UUID) -> bool:
    """Whether a run that will see a project as it is now is about to begin."""
    coming = exists().where(
        MatchingRun.state == "pending",
        (MatchingRun.project_id == project_id) | MatchingRun.project_id.is_(None),
    )
    return bool(session.scalar(select(coming)))


def open_seats(run_id: UUID) -> Select[OpenSeat]:
    """The seats that a run left open, as a statement to page through by task."""
    return select(OpenSeat).where(OpenSeat.run_id == run_id)
