"""Who is at work and could look at a claim now."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from market.submissions.models import Submission

AT_WORK = timedelta(hours=1)
"""Whoever voted within this time is taken to be there still."""

LATEST = 20
"""The latest reviews of somebody, among which a vote is looked for."""

_FREE = text(
    """
    select m.person_id
    from (
        select distinct person_id from market.membership
        where part = 'reviewer' and ended_at is null
    ) m
    where m.person_id <> :expert_id
        and exists (
            select from (
                select r.voted_at from market.review r where r.reviewer_id = m.person_id
                order by r.id desc limit :latest
            ) latest where latest.voted_at > :since)
        and not exists (
            select from market.review held
            where held.reviewer_id = m.person_id and held.state in ('claimed', 'in_progress'))
        and not exists (
            select from market.review kept
            where kept.reserved_for = m.person_id and kept.state = 'queued'
                and kept.reserved_until > :at)
        and not exists (
            select from market.review seen
            where seen.submission_id = :submission_id and seen.round = :round
                and seen.reviewer_id = m.person_id)
        and not market.in_conflict(m.person_id, :expert_id)
    order by m.person_id
    """
)


def free_reviewers(session: Session, handed: Submission, *, at: datetime) -> list[UUID]:
    """Who may look at a submission and would: voted lately, holds no review, has none kept, is not
    tied to the author and did not look at this round yet.
    """
    given = {
        "submission_id": handed.id,
        "round": handed.round,
        "expert_id": handed.expert_id,
        "since": at - AT_WORK,
        "latest": LATEST,
        "at": at,
    }
    return list(session.scalars(_FREE, given))
