"""Reads of previews, and of the runs and outcomes that they replay."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, exists, select, text
from sqlalchemy.orm import Session

from market.explanations.models import RunSnapshot
from market.explanations.queries import recorded
from market.previews.models import PolicyPreview
from market.previews.rules import HOUR_S, Outcome, PreviewNotFound, Recording
from market.runs.models import MatchingRun

MOST_RUNS = 200
"""Runs of a stretch that are replayed, the newest."""

# Submissions, verdicts and earnings belong to features that stand later in a task's life; they are
# read as tables.
_OUTCOMES = text(
    """
    select o.task_id, o.expert_id, o.accepted_at is not null as accepted,
        o.created_at, o.accepted_at, v.decided_at, coalesce(v.is_stump, false) as stump,
        (v.decided_at is not null or o.state in ('declined', 'timed_out', 'rescinded', 'canceled',
            'released', 'abandoned')) as known,
        coalesce(v.decided_at, o.ended_at) as known_at,
        coalesce((select sum(e.pay_minor + e.fee_minor) from market.earning e
            where e.offer_id = o.id), 0)::bigint as cost_minor
    from market.offer o
    left join market.submission s on s.offer_id = o.id
    left join market.verdict v on v.submission_id = s.id
    where o.run_id = :run
    """
)


def preview(session: Session, preview_id: UUID) -> PolicyPreview:
    """One preview.

    Raises:
        PreviewNotFound.
    """
    found = session.get(PolicyPreview, preview_id)
    if found is None:
        raise PreviewNotFound(preview_id)
    return found


def previews(policy_id: UUID | None = None) -> Select[PolicyPreview]:
    """All previews, or those of one policy version, as a statement to page through."""
    statement = select(PolicyPreview)
    return statement if policy_id is None else statement.where(PolicyPreview.policy_id == policy_id)


def recorded_runs(
    session: Session, since: datetime, until: datetime, project_id: UUID | None
) -> list[UUID]:
    """Runs of a stretch that kept what they saw, the oldest first, the newest of too many."""
    wanted = (
        select(MatchingRun.id)
        .where(
            MatchingRun.state == "succeeded",
            MatchingRun.ended_at >= since,
            MatchingRun.ended_at < until,
            MatchingRun.pairs > 0,
            exists().where(RunSnapshot.run_id == MatchingRun.id),
        )
        .order_by(MatchingRun.ended_at.desc(), MatchingRun.id.desc())
        .limit(MOST_RUNS)
    )
    if project_id is not None:
        wanted = wanted.where(MatchingRun.project_id == project_id)
    return list(session.scalars(wanted))[::-1]


def recording(session: Session, run_id: UUID, *, at: datetime) -> Recording:
    """One run of a stretch, and what came of its offers until now.

    Raises:
        RunNotOver.
    """
    outcomes = []
    for row in session.execute(_OUTCOMES, {"run": run_id}):
        known_at = row.known_at if row.known and row.known_at is not None else at
        until = row.accepted_at or row.created_at
        outcomes.append(
            Outcome(
                task_id=row.task_id,
                expert_id=row.expert_id,
                accepted=row.accepted,
                known=row.known,
                stump=row.stump,
                cost_minor=row.cost_minor,
                wait_h=(until - row.created_at).total_seconds() / HOUR_S,
                age_h=max((at - row.created_at).total_seconds(), 0.0) / HOUR_S,
                delay_h=max((known_at - row.created_at).total_seconds(), 0.0) / HOUR_S,
            )
        )
    return Recording(recorded(session, run_id), tuple(outcomes))
