"""Reads of submissions, and of offers that end without one."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Select, and_, exists, or_, select
from sqlalchemy.orm import Session

from market.db import Json
from market.filters import narrowed
from market.offers.models import Offer
from market.offers.rules import HELD, LIVE
from market.projects.models import Project
from market.submissions.models import Submission
from market.submissions.rules import LEASE_GRACE, SubmissionNotFound, says_something
from market.work.models import WorkSession
from market.work.rules import OPEN_SESSIONS


def left_offers(session: Session, *, at: datetime, limit: int) -> list[UUID]:
    """Offers whose time is over, grace included, and on which nobody works; and offers that were
    withdrawn under work, when the grace to hand it in is over.
    """
    return list(
        session.scalars(
            select(Offer.id)
            .where(
                or_(
                    and_(
                        Offer.state == "active",
                        Offer.lease_until < at - LEASE_GRACE,
                        ~exists().where(
                            WorkSession.offer_id == Offer.id, WorkSession.state.in_(OPEN_SESSIONS)
                        ),
                    ),
                    and_(
                        Offer.state == "grace",
                        Offer.lease_until <= at,
                        # A pause stops this deadline too.
                        ~exists().where(
                            WorkSession.offer_id == Offer.id, WorkSession.state == "paused"
                        ),
                    ),
                )
            )
            .limit(limit)
        )
    )


def passed_draft(session: Session, offer: Offer) -> Json | None:
    """The last draft in which somebody else left something on the seat of an offer that is worked
    on: only where its project passes drafts on, and did so in the terms of whoever wrote it. Drafts
    on the task's other seats stay unseen, as all answers of peers do. Runs as the platform.
    """
    if offer.state not in LIVE or offer.state not in HELD:
        return None
    left = session.scalars(
        select(Submission.payload)
        .join(Offer, Offer.id == Submission.offer_id)
        .join(Project, Project.id == Submission.project_id)
        .where(
            Submission.task_id == offer.task_id,
            Submission.slot_id == offer.slot_id,
            Submission.state.in_(("returned", "timed_out")),
            # What was handed in, sent back and then given up is no draft, but judged work.
            Submission.submitted_at.is_(None),
            Submission.expert_id != offer.expert_id,
            Offer.terms["passes_drafts"].as_boolean(),
            Project.passes_drafts,
        )
        .order_by(Submission.id.desc())
    )
    return next((payload for payload in left if says_something(payload)), None)


def submission(session: Session, submission_id: UUID) -> Submission:
    """The submission with this id.

    Raises:
        SubmissionNotFound.
    """
    found = session.scalar(select(Submission).where(Submission.id == submission_id))
    if found is None:
        raise SubmissionNotFound(submission_id)
    return found


def submissions(*, project_id: UUID | None = None, state: str | None = None) -> Select[Submission]:
    """Submissions that the caller may see, as a statement to page through."""
    return narrowed(
        select(Submission), (Submission.project_id, project_id), (Submission.state, state)
    )
