"""Reads of fixes."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from market.fixes.models import SubmissionFix
from market.fixes.rules import SETTLED, FieldFix, FixNotFound, measure
from market.submissions.models import Submission


def fixes_of(project_id: UUID, *, state: str | None = None) -> Select[SubmissionFix]:
    """A project's fixes that stand or stood, as a statement to page through."""
    wanted = SETTLED if state is None else (state,)
    return select(SubmissionFix).where(
        SubmissionFix.project_id == project_id, SubmissionFix.state.in_(wanted)
    )


def fixes_on(session: Session, submission_id: UUID) -> Sequence[SubmissionFix]:
    """A submission's fixes that the caller may see, the last first."""
    return session.scalars(
        select(SubmissionFix)
        .where(SubmissionFix.submission_id == submission_id)
        .order_by(SubmissionFix.id.desc())
    ).all()


def stands_for(submission_id: InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    """Whether a fix stands in the place of a submission's own words: to join fixes by."""
    return and_(SubmissionFix.submission_id == submission_id, SubmissionFix.state == "standing")


def standing_fix(session: Session, submission_id: UUID) -> SubmissionFix | None:
    """The fix that is delivered in the place of the author's version, where one is."""
    return standing_fixes(session, [submission_id]).get(submission_id)


def standing_fixes(session: Session, submission_ids: Sequence[UUID]) -> dict[UUID, SubmissionFix]:
    """The fix that is delivered in the place of each of some submissions, where one is."""
    found = session.scalars(
        select(SubmissionFix).where(
            SubmissionFix.submission_id.in_(submission_ids), SubmissionFix.state == "standing"
        )
    )
    return {one.submission_id: one for one in found}


def settled_fix(session: Session, submission_id: UUID) -> SubmissionFix:
    """The fix that stands, or that stood until its author won an appeal against it.

    Raises:
        FixNotFound.
    """
    found = fix_to_tell(session, submission_id)
    if found is None or found.state not in SETTLED:
        raise FixNotFound(submission_id)
    return found


def fix_to_tell(session: Session, submission_id: UUID) -> SubmissionFix | None:
    """Of a submission's fixes that the caller may see the one that stands or stood; where none
    did, the last that was made.
    """
    found = fixes_on(session, submission_id)
    return next((one for one in found if one.state in SETTLED), next(iter(found), None))


def changes_of(fix: SubmissionFix, work: Submission) -> list[FieldFix]:
    """What a fix changed, field by field; nothing once its author has written on."""
    if work.round != fix.round:
        return []
    return list(measure(work.payload, fix.payload).fields)
