"""Reads of reviews, verdicts and stumps, and of how a project goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Select, exists, select, text
from sqlalchemy.orm import Session, aliased

from market.attempts.models import Attempt, AttemptResponse
from market.reviews.models import Review, Verdict
from market.reviews.rules import ReviewNotFound, Share, Tally, wilson
from market.submissions.models import Submission
from market.tasks.models import Task

VOTED = ("voted", "agreed", "conflict", "adjudicating", "final", "overturned")
"""States of a review that has its vote."""

TALLY = text(
    """
    select
        count(*) filter (where state not in ('recused')) as needed,
        count(verdict) as votes,
        count(*) filter (where verdict = 'reject') as rejects,
        count(*) filter (where model_failed) as model_failed,
        count(*) filter (where attempt_fair) as attempt_fair
    from market.review where submission_id = :submission_id and round = :round
    """
)


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


def review(session: Session, review_id: UUID) -> Review:
    """The review with this id, if the caller may see it.

    Raises:
        ReviewNotFound.
    """
    found = session.scalar(select(Review).where(Review.id == review_id))
    if found is None:
        raise ReviewNotFound(review_id)
    return found


def reviews(*, state: str | None = None, submission_id: UUID | None = None) -> Select[Review]:
    """Reviews that the caller may see, as a statement to page through."""
    statement = select(Review)
    if state is not None:
        statement = statement.where(Review.state == state)
    if submission_id is not None:
        statement = statement.where(Review.submission_id == submission_id)
    return statement


def claimable(reviewer_id: UUID) -> Select[Review]:
    """Reviews that wait and that this person may take: not of its own work, nobody's twice."""
    mine = aliased(Review)
    return select(Review).where(
        Review.state == "queued",
        Review.expert_id != reviewer_id,
        ~exists().where(
            mine.submission_id == Review.submission_id,
            mine.round == Review.round,
            mine.reviewer_id == reviewer_id,
        ),
    )


def tally(session: Session, submission_id: UUID, round_: int) -> Tally:
    """The votes on a submission, counted from its reviews."""
    row = session.execute(TALLY, {"submission_id": submission_id, "round": round_}).one()
    return Tally(row.needed, row.votes, row.rejects, row.model_failed, row.attempt_fair)


def verdict(session: Session, submission_id: UUID) -> Verdict | None:
    """What was decided on a submission, if anything was."""
    return session.scalar(select(Verdict).where(Verdict.submission_id == submission_id))


def votes(session: Session, submission_ids: Sequence[UUID]) -> dict[UUID, list[Review]]:
    """The votes on some submissions, each submission's in their order."""
    found: dict[UUID, list[Review]] = {submission_id: [] for submission_id in submission_ids}
    statement = select(Review).where(
        Review.submission_id.in_(submission_ids), Review.state.in_(VOTED)
    )
    for row in session.scalars(statement.order_by(Review.submission_id, Review.number)):
        found[row.submission_id].append(row)
    return found


def evidence(session: Session, attempt_ids: Sequence[UUID]) -> dict[UUID, list[AttemptResponse]]:
    """The samples of some attempts, each attempt's in their order."""
    found: dict[UUID, list[AttemptResponse]] = {attempt_id: [] for attempt_id in attempt_ids}
    statement = select(AttemptResponse).where(AttemptResponse.attempt_id.in_(attempt_ids))
    for row in session.scalars(statement.order_by(AttemptResponse.attempt_id, AttemptResponse.k)):
        found[row.attempt_id].append(row)
    return found


def stumps(project_id: UUID) -> Select[Submission, Verdict, Attempt, Task]:
    """The validated stumps of a project with what proves them, as a statement to page through."""
    return (
        select(Submission, Verdict, Attempt, Task)
        .join(Verdict, Verdict.submission_id == Submission.id)
        .join(Attempt, Attempt.id == Submission.attempt_id)
        .join(Task, Task.id == Submission.task_id)
        .where(Verdict.project_id == project_id, Verdict.is_stump)
    )


def task_of(session: Session, handed: Submission) -> Task:
    """The task that was worked on, for whoever may see its submission."""
    return session.get_one(Task, handed.task_id)


def overdue_submissions(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Submissions whose time for review is over, by the terms under which they were made."""
    rows = session.execute(
        text(
            """
            select s.id from market.submission s join market.offer o on o.id = s.offer_id
            where s.state in ('awaiting_review', 'in_review') and s.submitted_at
                + make_interval(secs => (o.terms ->> 'review_within_s')::double precision) <= :at
            order by s.submitted_at limit :limit
            """
        ),
        {"at": at, "limit": limit},
    ).all()
    return [row.id for row in rows]


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
        from market.attempt where project_id = :project_id
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
