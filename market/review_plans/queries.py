"""Reads of review plans, of draws, and of what came of an author's work."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from sqlalchemy import Integer, cast, func, select
from sqlalchemy.orm import Session

from market.review_plans.models import ReviewDraw, ReviewPlan
from market.review_plans.rules import PLAIN, Plan, Record, unmet
from market.submissions.models import Submission
from market.verdicts.models import Verdict
from market.verdicts.rules import REVIEWED, wilson


def newest_plan(session: Session, project_id: UUID) -> tuple[int, Plan]:
    """The plan of a project and its version; version 0 where it has none."""
    found = session.scalars(
        select(ReviewPlan)
        .where(ReviewPlan.project_id == project_id)
        .order_by(ReviewPlan.version.desc())
        .limit(1)
    ).one_or_none()
    if found is None:
        return 0, PLAIN
    return found.version, msgspec.convert(found.document, Plan)


def plan_at(session: Session, project_id: UUID, version: int) -> Plan:
    """The plan under which a review was opened."""
    if version == 0:
        return PLAIN
    found = session.get_one(ReviewPlan, (project_id, version))
    return msgspec.convert(found.document, Plan)


def plan_over(session: Session, handed: Submission) -> Plan:
    """The plan under which a round of a submission is reviewed."""
    drawn = session.get(ReviewDraw, (handed.id, handed.round, 1))
    if drawn is None:
        return newest_plan(session, handed.project_id)[1]
    return plan_at(session, handed.project_id, drawn.plan_version)


def author_record(session: Session, expert_id: UUID) -> Record:
    """What came of an author's work that somebody looked at."""
    row = session.execute(
        select(func.count(), func.coalesce(func.sum(cast(Verdict.is_accepted, Integer)), 0)).where(
            Verdict.expert_id == expert_id, Verdict.basis.in_(REVIEWED)
        )
    ).one()
    decided, accepted = int(row[0]), int(row[1])
    return Record(decided, accepted, wilson(accepted, decided).low)


def authority_over(session: Session, handed: Submission) -> tuple[str | None, Sequence[str]]:
    """Who may accept a round of a submission, and what of its checklist it does not meet.

    As it was drawn, or by the plan of this moment where nobody has come to that yet.
    """
    drawn = session.get(ReviewDraw, (handed.id, handed.round, 1))
    if drawn is not None:
        return drawn.authority, drawn.unmet
    _, plan = newest_plan(session, handed.project_id)
    return plan.authority, unmet(plan.checks, handed.payload)


def draws(session: Session, submission_id: UUID) -> list[ReviewDraw]:
    """All draws on a submission, in their order."""
    return list(
        session.scalars(
            select(ReviewDraw)
            .where(ReviewDraw.submission_id == submission_id)
            .order_by(ReviewDraw.round, ReviewDraw.level)
        )
    )
