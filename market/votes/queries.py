"""Reads of votes."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from market.offers.models import Offer
from market.reviews.models import Review
from market.votes.rules import Tally
from market.work.models import WorkSession

VOTED = ("voted", "agreed", "conflict", "adjudicating", "final", "overturned")
"""States of a review that has its vote."""

TALLY = text(
    """
    select
        coalesce(max(d.votes), count(*) filter (where r.state <> 'recused')) as needed,
        count(r.verdict) filter (where r.state <> 'recused') as votes,
        count(*) filter (where r.verdict = 'reject' and r.state <> 'recused') as rejects,
        count(*) filter (where r.model_failed and r.state <> 'recused') as model_failed,
        count(*) filter (where r.attempt_fair and r.state <> 'recused') as attempt_fair,
        count(*) filter (where r.verdict = 'rework' and r.state <> 'recused') as reworks,
        array_agg(case r.verdict when 'accept' then 100 else coalesce(r.share, 0) end)
            filter (where r.verdict is not null and r.state <> 'recused') as shares,
        count(*) filter (where r.state in ('queued', 'claimed', 'in_progress')) as waiting,
        count(*) filter (where r.task_broken and r.state <> 'recused') as task_broken,
        (select first.plan_version from market.review_draw first
            where first.submission_id = :submission_id and first.round = :round
            and first.level = 1) as plan_version,
        (select count(*) from market.submission_fix f where f.submission_id = :submission_id
            and f.state = 'proposed') as fixes
    from market.review r left join market.review_draw d on r.kind = 'vote'
        and (d.submission_id, d.round, d.level) = (r.submission_id, r.round, r.level)
    where r.submission_id = :submission_id and r.round = :round and r.level = :level
        and r.kind = :kind
    """
)


def tally(
    session: Session, submission_id: UUID, round_: int, *, level: int = 1, kind: str = "vote"
) -> Tally:
    """The votes of one level on a submission, counted from its reviews."""
    row = session.execute(
        TALLY,
        {"submission_id": submission_id, "round": round_, "level": level, "kind": kind},
    ).one()
    return Tally(
        needed=row.needed,
        votes=row.votes,
        rejects=row.rejects,
        model_failed=row.model_failed,
        attempt_fair=row.attempt_fair,
        reworks=row.reworks,
        shares=tuple(row.shares or ()),
        waiting=row.waiting,
        task_broken=row.task_broken,
        plan_version=row.plan_version or 0,
        fixes=row.fixes,
    )


def paid_time_left(session: Session, offer_id: UUID) -> int:
    """What an offer's cap still allows.

    Units: seconds.
    """
    used = select(func.coalesce(func.sum(WorkSession.paid_s), 0))
    spent = session.scalar(used.where(WorkSession.offer_id == offer_id)) or 0
    cap_s = session.scalar(select(Offer.terms["cap_s"].as_integer()).where(Offer.id == offer_id))
    return max(0, int(cap_s or 0) - int(spent))


def votes_below(session: Session, seen: Review) -> list[Review]:
    """What others said before this review: for a senior at once, for a higher level once it voted.

    Nobody sees the votes of its own level.
    """
    if seen.kind == "vote" and (seen.level == 1 or seen.verdict is None):
        return []
    return list(
        session.scalars(
            select(Review)
            .where(
                Review.submission_id == seen.submission_id,
                Review.round == seen.round,
                Review.level < seen.level,
                Review.state.in_(VOTED),
            )
            .order_by(Review.level, Review.number)
        )
    )


def votes(session: Session, submission_ids: Sequence[UUID]) -> dict[UUID, list[Review]]:
    """The votes on some submissions, each submission's in their order."""
    found: dict[UUID, list[Review]] = {submission_id: [] for submission_id in submission_ids}
    statement = select(Review).where(
        Review.submission_id.in_(submission_ids), Review.state.in_(VOTED)
    )
    for row in session.scalars(statement.order_by(Review.submission_id, Review.number)):
        found[row.submission_id].append(row)
    return found


_SURE = text(
    """
    select s.id from market.submission s
    join market.review_draw d on (d.submission_id, d.round, d.level) = (s.id, s.round, 1)
    join market.review_plan p on (p.project_id, p.version) = (d.project_id, d.plan_version)
    where s.state in ('awaiting_review', 'in_review') and s.attempt_id is not null
        and s.project_id = any(array(
            select q.project_id from market.review_plan q where q.document ->> 'stop_at' > ''))
        and p.document ->> 'stop_at' > ''
        and (select count(r.voted_at) > 1 and max(r.voted_at) > :since
                and count(*) filter (where r.state = 'queued') > 0
                and count(*) filter (where r.state in ('claimed', 'in_progress')) = 0
            from market.review r where r.submission_id = s.id and r.round = s.round
                and r.level = 1 and r.kind = 'vote' and r.state <> 'recused')
    order by s.submitted_at limit :limit
    """
)


def perhaps_sure(session: Session, *, since: datetime, limit: int) -> list[UUID]:
    """Claims that got a vote since a time, under plans that may be sure before all have voted, with
    two votes at least and nobody at work on another.
    """
    return list(session.scalars(_SURE, {"since": since, "limit": limit}))


def overdue_submissions(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Submissions whose time for review is over, by the terms under which they were made.

    Not what was found to wait for people already, since it was handed in last.
    """
    rows = session.execute(
        text(
            """
            select s.id from market.submission s join market.offer o on o.id = s.offer_id
            where s.state in ('awaiting_review', 'in_review')
                and (s.unjudged_at is null or s.unjudged_at < s.submitted_at) and s.submitted_at
                + make_interval(secs => (o.terms ->> 'review_within_s')::double precision) <= :at
            order by s.submitted_at limit :limit
            """
        ),
        {"at": at, "limit": limit},
    ).all()
    return [row.id for row in rows]
