"""Reads of what became of drafts."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Select, Uuid, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from market.db import Json
from market.edits.models import SubmissionEdit
from market.edits.rules import EditNotFound, Region, Stretch, stretches_of, text_of
from market.experiments.queries import guidance_for

_TEXTS = text(
    """
    select o.terms, t.payload as task, s.payload as work,
        s.round = :round and s.state not in ('draft', 'rework_requested') as is_last
    from market.submission s join market.offer o on o.id = s.offer_id
    join market.task t on t.id = s.task_id
    where s.id = :submission
    """
).bindparams(bindparam("submission", type_=Uuid()))


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of drafts, by each submission's last hand-in.

    Units: shares of the draft's words; distances in words; quartiles, None where there is none.
    """

    submissions: int
    unedited: int
    flagged: int
    untouched: tuple[float, float, float] | None
    distance: tuple[float, float, float] | None


def edits_of(project_id: UUID | None, *, is_flagged: bool | None = None) -> Select[SubmissionEdit]:
    """Edits of a project, or of all, that the caller may see, as a statement to page through."""
    statement = select(SubmissionEdit)
    if project_id is not None:
        statement = statement.where(SubmissionEdit.project_id == project_id)
    if is_flagged is not None:
        statement = statement.where(SubmissionEdit.is_flagged.is_(is_flagged))
    return statement


def edit_rounds(session: Session, submission_id: UUID) -> list[SubmissionEdit]:
    """What became of a submission's draft each time it was handed in, the last first; none where
    it began from no draft.
    """
    wanted = select(SubmissionEdit).where(SubmissionEdit.submission_id == submission_id)
    return list(session.scalars(wanted.order_by(SubmissionEdit.round.desc())))


def last_edit(session: Session, submission_id: UUID) -> SubmissionEdit:
    """What became of a submission's draft when it was handed in last.

    Raises:
        EditNotFound.
    """
    found = edit_rounds(session, submission_id)
    if not found:
        raise EditNotFound()
    return found[0]


def edit_summary(session: Session, project_id: UUID | None) -> Summary:
    """What became of a project's drafts, or of all that the caller may see."""
    last = (
        edits_of(project_id)
        .ext(distinct_on(SubmissionEdit.submission_id))
        .order_by(SubmissionEdit.submission_id, SubmissionEdit.round.desc())
        .subquery()
    )
    at = (0.25, 0.5, 0.75)
    row = session.execute(
        select(
            func.count(),
            func.count().filter(last.c.distance == 0),
            func.count().filter(last.c.is_flagged),
            func.percentile_cont(list(at)).within_group(last.c.untouched_share),
            func.percentile_cont(list(at)).within_group(last.c.distance),
        )
    ).one()
    count, unedited, flagged, untouched, distance = row
    return Summary(count, unedited, flagged, _three(untouched), _three(distance))


def stretches(session: Session, edit: SubmissionEdit) -> list[Stretch]:
    """The draft and what was made of it, part by part in their order; whoever asks runs as the
    platform, and has checked whose submission it is. Empty once its author writes on.
    """
    row = session.execute(_TEXTS, {"submission": edit.submission_id, "round": edit.round}).one()
    if not row.is_last:
        return []
    draft = guidance_for(session, row.terms, row.task).draft or ""
    regions = [Region(*one) for one in edit.regions]
    return stretches_of(draft, text_of(row.work), regions)


def _three(found: Sequence[float | None] | None) -> tuple[float, float, float] | None:
    if not found or found[0] is None:
        return None
    low, middle, high = (float(one or 0) for one in found)
    return low, middle, high


def told(edit: SubmissionEdit) -> Json:
    """An edit as it travels, without whose it is."""
    return {
        "round": edit.round,
        "at": edit.at,
        "draft_words": edit.draft_words,
        "text_words": edit.text_words,
        "distance": edit.distance,
        "untouched_share": edit.untouched_share,
        "is_exact": edit.is_exact,
        "is_flagged": edit.is_flagged,
    }
