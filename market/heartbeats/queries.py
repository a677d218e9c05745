"""Reads of sessions by what their heartbeats tell."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from market.work.models import WorkSession
from market.work.rules import PROMPT_S


def quiet_sessions(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Running sessions whose expert has been quiet for so long that it is to be asked, and was not
    since it was last active.
    """
    return list(
        session.scalars(
            select(WorkSession.id)
            .where(
                WorkSession.state == "running",
                WorkSession.last_active_at <= at - timedelta(seconds=PROMPT_S),
                or_(
                    WorkSession.warned_at.is_(None),
                    WorkSession.warned_at < WorkSession.last_active_at,
                ),
            )
            .limit(limit)
        )
    )
