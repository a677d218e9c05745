"""Reviewing, and what came of submissions, over HTTP."""

from datetime import datetime
from typing import Any

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK
from sqlalchemy.orm import Session

from market.attempts.queries import attempt
from market.attempts.routes import AttemptOut, attempt_out
from market.auth import Part, Principal
from market.db import PLATFORM, Json, database, now, run_as
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    listed,
    post,
    read_id,
    wire_id,
)
from market.projects.queries import project
from market.review_plans.queries import plan_over
from market.reviews.actions import (
    claim_next_review,
    claim_review,
    open_review,
    recuse_reviewer,
)
from market.reviews.models import Review
from market.reviews.queries import answers_beside, claimable, review, reviews, task_of
from market.submissions.queries import submission


class ReviewOut(Wire):
    """A review as its queue and its reviewer see it; the author stays unnamed."""

    id: str
    project_id: str
    submission_id: str
    state: str
    round: int
    level: int
    kind: str
    has_attempt: bool
    queued_at: datetime
    due_at: datetime | None
    claimed_at: datetime | None
    expires_at: datetime | None
    voted_at: datetime | None
    verdict: str | None
    model_failed: bool | None
    attempt_fair: bool | None
    reason_code: str | None
    note: str | None
    criterion: str | None
    share: int | None
    met: list[str] | None
    seconds: int | None


class ReviewWorkOut(ReviewOut):
    """A review with all that is to be judged: the task, the work, and the model's answers.

    `dissent_minor` (of `currency`) is what your vote may earn you where it is not as is decided and
    its note says why, if the lab finds it worth it; null where its plan promises nothing.

    `beside` are the other answers to the task, for a senior who settles a split, and empty for
    everybody else.
    """

    task: dict[str, Any]
    payload: dict[str, Any]
    attempt: AttemptOut | None
    dissent_minor: int | None
    currency: str
    beside: list[dict[str, Any]]


@get("/reviews", scope="review:read", tags=["Reviews"])
def get_reviews(
    principal: NamedDependency[Principal],
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ReviewOut]:
    """Reviews: as a reviewer, those you hold or held, and with `state=queued` those you can take.

    The queue begins with what waits longest; every other list with the newest.
    """
    queue = principal.part is Part.REVIEWER and in_state == "queued"
    statement = claimable(principal.person_id, at=now()) if queue else reviews(state=in_state)
    if principal.part is Part.REVIEWER and not queue:
        statement = statement.where(Review.reviewer_id == principal.person_id)
    with database.begin() as session:
        return listed(
            session,
            statement,
            Review.id,
            lambda row: ReviewOut(**_review_fields(row)),
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|reviews|{in_state}",
            newest_first=not queue,
        )


@get("/reviews/{review_id:str}", scope="review:read", tags=["Reviews"])
def get_review(
    review_id: FromPath[str], principal: NamedDependency[Principal]
) -> ReviewOut | ReviewWorkOut:
    """One review; what is to be judged is shown to its reviewer and to ops."""
    with database.begin() as session:
        row = review(session, read_id("rev", review_id))
        if principal.part is Part.REVIEWER and row.reviewer_id != principal.person_id:
            return ReviewOut(**_review_fields(row))
    # As the platform, since the plan is its lab's to read but for what it promises here.
    with database.begin(PLATFORM) as session:
        return _review_work(session, review(session, row.id))


@post(
    "/reviews/{review_id:str}/claim",
    scope="review:write",
    status_code=HTTP_200_OK,
    tags=["Reviews"],
)
def post_review_claim(
    review_id: FromPath[str], principal: NamedDependency[Principal]
) -> ReviewWorkOut:
    """Take a review: it is yours for two hours, with all that is to be judged."""
    # As the platform, because the submission moves with its first claim.
    with database.begin(PLATFORM) as session:
        row = claim_review(
            session, read_id("rev", review_id), reviewer_id=principal.person_id, at=now()
        )
        return _review_work(session, row)


@post("/review-claims", scope="review:write", status_code=HTTP_200_OK, tags=["Reviews"])
def post_next_claim(principal: NamedDependency[Principal]) -> ReviewWorkOut:
    """Take the review that waits longest."""
    # As the platform, because the submission moves with its first claim.
    with database.begin(PLATFORM) as session:
        row = claim_next_review(session, reviewer_id=principal.person_id, at=now())
        return _review_work(session, row)


@post(
    "/reviews/{review_id:str}/open", scope="review:write", status_code=HTTP_200_OK, tags=["Reviews"]
)
def post_review_open(review_id: FromPath[str], principal: NamedDependency[Principal]) -> ReviewOut:
    """Say that you have begun."""
    with database.begin(PLATFORM) as session:
        row = open_review(
            session, read_id("rev", review_id), reviewer_id=principal.person_id, at=now()
        )
        return ReviewOut(**_review_fields(row))


@post(
    "/reviews/{review_id:str}/recuse",
    scope="review:write",
    status_code=HTTP_200_OK,
    tags=["Reviews"],
)
def post_review_recuse(
    review_id: FromPath[str], principal: NamedDependency[Principal]
) -> ReviewOut:
    """Step back for a conflict of interest; nothing is held against you."""
    with database.begin(PLATFORM) as session:
        row = recuse_reviewer(
            session, read_id("rev", review_id), reviewer_id=principal.person_id, at=now()
        )
        return ReviewOut(**_review_fields(row))


def _review_fields(row: Review) -> dict[str, Any]:
    return {
        "id": wire_id("rev", row.id),
        "project_id": wire_id("prj", row.project_id),
        "submission_id": wire_id("sub", row.submission_id),
        "state": row.state,
        "round": row.round,
        "level": row.level,
        "kind": row.kind,
        "due_at": row.due_at,
        "has_attempt": row.has_attempt,
        "queued_at": row.queued_at,
        "claimed_at": row.claimed_at,
        "expires_at": row.expires_at,
        "voted_at": row.voted_at,
        "verdict": row.verdict,
        "model_failed": row.model_failed,
        "attempt_fair": row.attempt_fair,
        "reason_code": row.reason_code,
        "note": row.note,
        "criterion": row.criterion,
        "share": row.share,
        "met": row.met,
        "seconds": row.seconds,
    }


def _review_work(session: Session, row: Review) -> ReviewWorkOut:
    handed = submission(session, row.submission_id)
    task = task_of(session, handed)
    asked = attempt(session, handed.attempt_id) if handed.attempt_id else None
    others: list[Json] = []
    if row.kind == "adjudication":
        # As the platform, since what others handed in is no reviewer's to read but here.
        with run_as(session, PLATFORM):
            others = answers_beside(session, row)
    return ReviewWorkOut(
        **_review_fields(row),
        task=task.payload,
        payload=handed.payload,
        attempt=attempt_out(session, asked) if asked else None,
        dissent_minor=None if row.has_attempt else plan_over(session, handed).dissent_minor,
        currency=project(session, row.project_id).currency,
        beside=others,
    )


ROUTES: list[HTTPRouteHandler] = [
    get_reviews,
    get_review,
    post_review_claim,
    post_next_claim,
    post_review_open,
    post_review_recuse,
]
