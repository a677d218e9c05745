"""Reads of verdicts, and of how a project goes."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.verdicts.models import Verdict
from market.verdicts.rules import Share, wilson


@dataclass(frozen=True, slots=True)
class Progress:
    """How a project goes, counted from its rows at one moment.

    Units: `_s` in seconds; `submissions_per_day` over the seven days before that moment.
    """

    tasks: int
    tasks_open: int
    tasks_in_review: int
    tasks_accepted: int
    attempts: int
    attempts_failed: int
    submitted: int
    awaiting_verdict: int
    decided: int
    accepted: Share
    tested: int
    validated: Share
    stumps: Share
    recorded_s: int
    submissions_per_day: float
    first_submitted_at: datetime | None
    last_submitted_at: datetime | None
    median_work_s: float | None
    median_verdict_s: float | None


def verdict(session: Session, submission_id: UUID) -> Verdict | None:
    """What was decided on a submission, if anything was."""
    return session.scalar(select(Verdict).where(Verdict.submission_id == submission_id))


_REJECTIONS = text(
    """
    select count(*) filter (where share = 0) as rejected, count(*) as decided
    from (
        select share from market.verdict where organisation_id = :organisation_id
        order by decided_at desc limit :latest
    ) v
    """
)

LATEST = 2_000
"""Decided works, the newest ones, by which it is told how much a lab rejects."""


def lab_rejections(session: Session, organisation_id: UUID) -> Share:
    """How much of the work decided last for a lab is rejected, as it stands after appeals.

    Work that is accepted in part is not rejected. Read as the platform: it is about everybody's.
    """
    given = {"organisation_id": organisation_id, "latest": LATEST}
    row = session.execute(_REJECTIONS, given).one()
    return wilson(row.rejected, row.decided)


PROGRESS = text(
    """
    with handed as (
        select s.id, s.offer_id, s.submitted_at, v.decided_at, v.is_accepted, v.is_tested,
            v.is_validated, v.is_stump, v.is_silent
        from market.submission s left join market.verdict v on v.submission_id = s.id
        where s.project_id = :project_id and s.submitted_at is not null
    ), worked as (
        select offer_id, sum(paid_s + capped_s) as seconds from market.work_session
        where project_id = :project_id group by offer_id
    ), done as (
        select count(*) as submitted,
            count(*) filter (where decided_at is null) as awaiting_verdict,
            count(decided_at) as decided,
            count(*) filter (where is_accepted) as accepted,
            count(*) filter (where is_tested) as tested,
            count(*) filter (where is_tested and is_validated) as validated,
            count(*) filter (where is_tested and is_stump) as stumps,
            count(*) filter (where submitted_at > cast(:since as timestamptz)
                and submitted_at <= cast(:at as timestamptz)) as recent,
            min(submitted_at) as first_submitted_at,
            max(submitted_at) as last_submitted_at,
            percentile_cont(0.5) within group (
                order by extract(epoch from decided_at - submitted_at)
            ) filter (where not is_silent) as median_verdict_s,
            percentile_cont(0.5) within group (order by worked.seconds) as median_work_s
        from handed left join worked using (offer_id)
    ), lots as (
        select count(*) as tasks,
            count(*) filter (where state in ('queued', 'active')) as tasks_open,
            count(*) filter (where state in ('in_review', 'disputed')) as tasks_in_review,
            count(*) filter (where state in ('accepted', 'delivered')) as tasks_accepted
        from market.task where project_id = :project_id
    ), asked as (
        select count(*) as attempts, count(*) filter (where state = 'failed') as attempts_failed
        from market.attempt where project_id = :project_id and panel_of is null
    )
    select *, (select coalesce(sum(seconds), 0) from worked) as recorded_s from done, lots, asked
    """
)


def progress(session: Session, project_id: UUID, *, at: datetime) -> Progress:
    """How a project goes: its volume, its speed and its quality, all counted from rows.

    The stump share is of submissions with an attempt at the target model that have a verdict.
    """
    since = at - timedelta(days=7)
    row = session.execute(PROGRESS, {"project_id": project_id, "at": at, "since": since}).one()
    return Progress(
        tasks=row.tasks,
        tasks_open=row.tasks_open,
        tasks_in_review=row.tasks_in_review,
        tasks_accepted=row.tasks_accepted,
        attempts=row.attempts,
        attempts_failed=row.attempts_failed,
        submitted=row.submitted,
        awaiting_verdict=row.awaiting_verdict,
        decided=row.decided,
        accepted=wilson(row.accepted, row.decided),
        tested=row.tested,
        validated=wilson(row.validated, row.tested),
        stumps=wilson(row.stumps, row.tested),
        recorded_s=int(row.recorded_s),
        submissions_per_day=row.recent / 7,
        first_submitted_at=row.first_submitted_at,
        last_submitted_at=row.last_submitted_at,
        median_work_s=None if row.median_work_s is None else float(row.median_work_s),
        median_verdict_s=None if row.median_verdict_s is None else float(row.median_verdict_s),
    )
