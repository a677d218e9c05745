"""Proposing a fix with a vote, and what becomes of fixes when their work is decided.

Everything here runs as the platform; whoever calls holds the submission locked.
"""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from market.db import Json
from market.events import Changes, Event
from market.fixes.models import SubmissionFix
from market.fixes.rules import FIX, Proposed, checked_fix, standing_of
from market.reviews.models import Review
from market.submissions.models import Submission


def propose_fix(
    session: Session,
    work: Submission,
    review_id: UUID,
    payload: Mapping[str, object],
    *,
    note: str,
    corrector_id: UUID,
    at: datetime,
) -> SubmissionFix:
    """Keep a reviewer's version beside the author's.

    Raises:
        FixUnfit.
    """
    found = checked_fix(work.payload, payload)
    fixed: Json = dict(payload)
    made = SubmissionFix(
        review_id=review_id,
        submission_id=work.id,
        round=work.round,
        organisation_id=work.organisation_id,
        project_id=work.project_id,
        author_id=work.expert_id,
        corrector_id=corrector_id,
        payload=fixed,
        note=note,
        author_words=found.author_words,
        fixed_words=found.fixed_words,
        distance=found.distance,
        edited_share=found.edited_share,
        at=at,
    )
    session.add(made)
    session.flush()
    return made


def settle_fixes(
    session: Session,
    work: Submission,
    changes: Changes,
    *,
    accepts: int = 0,
    level: int = 0,
    kind: str = "vote",
) -> SubmissionFix | None:
    """Say which of the round's fixes stands now that its work is decided; none unless `accepts`
    votes of the level that decided took it whole.
    """
    found = session.execute(
        select(SubmissionFix, Review.level, Review.kind, Review.state)
        .join(Review, Review.id == SubmissionFix.review_id)
        .where(SubmissionFix.submission_id == work.id, SubmissionFix.state == "proposed")
        .order_by(SubmissionFix.id)
        .with_for_update(of=SubmissionFix)
    ).all()
    # Whoever stepped back after the vote has no part in what is decided.
    counted = [
        Proposed(row.id, row.distance)
        for row, of_level, of_kind, state in found
        if (of_level, of_kind) == (level, kind) and state != "recused"
    ]
    chosen = standing_of(counted, accepts) if accepts else None
    stands = None
    for row, _, _, _ in found:
        event_id = None
        if row.id == chosen:
            stands = row
            event_id = changes.event(
                Event.FIX_STOOD, row.submission_id, row.organisation_id, row.author_id
            )
        row.state = changes.move(
            FIX, row.id, row.state, "stand" if row.id == chosen else "pass_over", event_id=event_id
        )
        row.settled_at = changes.at
        row.version += 1
    session.flush()
    return stands


def withdraw_fix(session: Session, fix: SubmissionFix, changes: Changes, *, reason: str) -> None:
    """Put the author's own words in their place again, with all of the credit; whoever calls
    holds the fix locked.
    """
    whom = (fix.organisation_id, fix.author_id)
    told = changes.event(Event.FIX_WITHDRAWN, fix.submission_id, *whom)
    fix.state = changes.move(FIX, fix.id, fix.state, "withdraw", event_id=told, reason_code=reason)
    fix.settled_at = changes.at
    fix.version += 1
    session.flush()


def locked_fix(session: Session, fix_id: UUID) -> SubmissionFix | None:
    """A fix, held for a change."""
    return session.get(SubmissionFix, fix_id, with_for_update=True, populate_existing=True)
