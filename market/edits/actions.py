"""How it is kept what became of a draft."""

import hashlib
from datetime import datetime
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from market.db import Json, new_id
from market.edits.models import SubmissionEdit
from market.edits.rules import DraftUnedited, compare, text_of
from market.experiments.queries import guidance_for
from market.offers.models import Offer
from market.projects.models import Project
from market.tasks.models import Task


def record_edit(
    session: Session, offer: Offer, submission_id: UUID, *, turn: int, payload: Json, at: datetime
) -> bool:
    """Keep what became of the draft that an offer's work began from, for a round of its
    submission; whether it began from one. Whoever calls runs as the platform.

    Raises:
        DraftUnedited.
    """
    trials = offer.terms.get("trials") or ()
    # Nearly all work begins from nothing, and costs no statement here.
    is_tried = any(one["kind"] == "draft" and one["arm"] != "control" for one in trials)
    if not is_tried and not offer.terms.get("draft_field"):
        return False
    task, unedited = session.execute(
        select(Task.payload, Project.unedited_drafts)
        .join(Project, Project.id == Task.project_id)
        .where(Task.id == offer.task_id)
    ).one()
    draft = guidance_for(session, offer.terms, task).draft
    if draft is None:
        return False
    found = compare(draft, text_of(payload))
    if found.is_unedited and unedited == "refused":
        raise DraftUnedited()
    session.execute(
        insert(SubmissionEdit),
        {
            "id": new_id(),
            "submission_id": submission_id,
            "round": turn,
            "organisation_id": offer.organisation_id,
            "project_id": offer.project_id,
            "expert_id": offer.expert_id,
            "at": at,
            "draft_digest": hashlib.sha256(draft.encode()).digest(),
            "draft_words": found.draft_words,
            "text_words": found.text_words,
            "distance": found.distance,
            "untouched_share": found.untouched_share,
            "is_exact": found.is_exact,
            "is_flagged": found.is_unedited and unedited == "flagged",
            "regions": [
                [one.draft_from, one.draft_to, one.text_from, one.text_to] for one in found.regions
            ],
        },
    )
    return True
