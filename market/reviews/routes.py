"""Reviewing, and what came of submissions, over HTTP."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK
from sqlalchemy.orm import Session

from market.attempts.models import Attempt, AttemptResponse
from market.attempts.queries import attempt
from market.attempts.routes import AttemptOut, EvidenceOut, attempt_out, evidence_out
from market.auth import Part, Principal
from market.db import PLATFORM, database, now
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    page,
    page_of,
    post,
    read_id,
    wire_id,
    wire_ids,
)
from market.projects.queries import project
from market.reviews.actions import (
    claim_next_review,
    claim_review,
    open_review,
    record_vote,
    recuse_reviewer,
)
from market.reviews.models import Review, Verdict
from market.reviews.queries import (
    claimable,
    evidence,
    progress,
    review,
    reviews,
    stumps,
    task_of,
    verdict,
    votes,
)
from market.reviews.rules import Share, Vote
from market.submissions.models import Submission
from market.submissions.queries import submission, submissions
from market.tasks.models import Task


class ReviewOut(Wire):
    """A review as its queue and its reviewer see it; the author stays unnamed."""

    id: str
    project_id: str
    submission_id: str
    state: str
    round: int
    has_attempt: bool
    queued_at: datetime
    claimed_at: datetime | None
    expires_at: datetime | None
    voted_at: datetime | None
    verdict: str | None
    model_failed: bool | None
    attempt_fair: bool | None
    reason_code: str | None
    note: str | None
    seconds: int | None


class ReviewWorkOut(ReviewOut):
    """A review with all that is to be judged: the task, the work, and the model's answers."""

    task: dict[str, Any]
    payload: dict[str, Any]
    attempt: AttemptOut | None


class VoteIn(Wire):
    """What a reviewer says: on the work, and, of an attempt, on the model and the question."""

    verdict: Literal["accept", "reject"]
    model_failed: bool | None = None
    attempt_fair: bool | None = None
    reason_code: str | None = None
    note: str = ""
    seconds: int = 0


class VoteOut(Wire):
    """One vote, without the name of whoever gave it."""

    number: int
    verdict: str | None
    model_failed: bool | None
    attempt_fair: bool | None
    reason_code: str | None
    note: str | None
    seconds: int | None
    voted_at: datetime | None


class VerdictOut(Wire):
    """What was decided on a submission."""

    is_accepted: bool
    is_tested: bool
    is_validated: bool
    is_stump: bool
    is_silent: bool
    votes: int
    rejects: int
    decided_at: datetime


class VotedOut(Wire):
    """A vote taken, and the verdict if it was the last one needed."""

    review_id: str
    state: str
    verdict: VerdictOut | None


class SubmissionOut(Wire):
    """A submission in a list."""

    id: str
    project_id: str
    task_id: str
    offer_id: str
    attempt_id: str | None
    state: str
    round: int
    submitted_at: datetime | None
    decided_at: datetime | None


class SubmissionWorkOut(SubmissionOut):
    """A submission with its work, its evidence, and, once there is one, its verdict and why."""

    payload: dict[str, Any]
    attempt: AttemptOut | None
    verdict: VerdictOut | None
    votes: list[VoteOut]


class StumpOut(Wire):
    """A validated stump with its proof: the question, the model's answers, and the votes."""

    submission_id: str
    task_id: str
    external_id: str
    domain: str
    complexity: int
    attempt_id: str
    prompt: str
    reference: str
    parameters: dict[str, Any]
    payload: dict[str, Any]
    judge_missed: int | None
    outputs: list[EvidenceOut]
    votes: list[VoteOut]
    submitted_at: datetime | None
    decided_at: datetime


class ShareOut(Wire):
    """A share with the interval in which the true one lies, 95 times in 100 (Wilson)."""

    part: int
    whole: int
    value: float | None
    low: float
    high: float


class VolumeOut(Wire):
    """How much there is."""

    tasks: int
    tasks_open: int
    tasks_in_review: int
    tasks_accepted: int
    attempts: int
    attempts_failed: int
    submitted: int
    awaiting_verdict: int
    decided: int
    tested: int
    recorded_s: int


class SpeedOut(Wire):
    """How fast it goes; times in seconds."""

    submissions_per_day: float
    first_submitted_at: datetime | None
    last_submitted_at: datetime | None
    median_work_s: float | None
    median_verdict_s: float | None


class QualityOut(Wire):
    """How good it is: of verdicts, the accepted; of those with an attempt, the others."""

    accepted: ShareOut
    validated: ShareOut
    stumps: ShareOut


class ProgressOut(Wire):
    """How a project goes, counted from its rows at this moment."""

    project_id: str
    at: datetime
    volume: VolumeOut
    speed: SpeedOut
    quality: QualityOut


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
    statement = claimable(principal.person_id) if queue else reviews(state=in_state)
    if principal.part is Part.REVIEWER and not queue:
        statement = statement.where(Review.reviewer_id == principal.person_id)
    with database.begin() as session:
        rows, following = page_of(
            session,
            statement,
            Review.id,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|reviews|{in_state}",
            newest_first=not queue,
        )
        return page([ReviewOut(**_review_fields(row)) for row in rows], following)


@get("/reviews/{review_id:str}", scope="review:read", tags=["Reviews"])
def get_review(
    review_id: FromPath[str], principal: NamedDependency[Principal]
) -> ReviewOut | ReviewWorkOut:
    """One review; what is to be judged is shown to its reviewer and to ops."""
    with database.begin() as session:
        row = review(session, read_id("rev", review_id))
        if principal.part is Part.REVIEWER and row.reviewer_id != principal.person_id:
            return ReviewOut(**_review_fields(row))
        return _review_work(session, row)


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


@post(
    "/reviews/{review_id:str}/vote", scope="review:write", status_code=HTTP_200_OK, tags=["Reviews"]
)
def post_vote(
    review_id: FromPath[str], data: JSONBody[VoteIn], principal: NamedDependency[Principal]
) -> VotedOut:
    """Vote; with the last vote that is needed the submission is decided."""
    # As the platform, because a verdict moves the submission, its slot and its task.
    with database.begin(PLATFORM) as session:
        decided = record_vote(
            session,
            read_id("rev", review_id),
            reviewer_id=principal.person_id,
            vote=Vote(
                verdict=data.verdict,
                model_failed=data.model_failed,
                attempt_fair=data.attempt_fair,
                reason_code=data.reason_code,
                note=data.note,
                seconds=data.seconds,
            ),
            at=now(),
        )
        return VotedOut(
            review_id=review_id,
            state="voted" if decided is None else "decided",
            verdict=None if decided is None else _verdict_out(decided),
        )


@get("/submissions", scope="work:read", tags=["Work"])
def get_submissions(
    principal: NamedDependency[Principal],
    project_id: FromQuery[str | None] = None,
    in_state: StateFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[SubmissionOut]:
    """Submissions, newest first: your own, or those to your projects."""
    wanted = None if project_id is None else read_id("prj", project_id)
    with database.begin() as session:
        rows, following = page_of(
            session,
            submissions(project_id=wanted, state=in_state),
            Submission.id,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|submissions|{wanted}|{in_state}",
        )
        return page([SubmissionOut(**_submission_fields(row)) for row in rows], following)


@get("/submissions/{submission_id:str}", scope="work:read", tags=["Work"])
def get_submission(submission_id: FromPath[str]) -> SubmissionWorkOut:
    """One submission with its evidence; its author reads the votes once there is a verdict."""
    with database.begin() as session:
        row = submission(session, read_id("sub", submission_id))
        decided = verdict(session, row.id)
        asked = attempt(session, row.attempt_id) if row.attempt_id else None
        return SubmissionWorkOut(
            **_submission_fields(row),
            payload=row.payload,
            attempt=attempt_out(session, asked) if asked else None,
            verdict=_verdict_out(decided) if decided else None,
            votes=[_vote_out(vote) for vote in votes(session, [row.id])[row.id]],
        )


@get("/projects/{project_id:str}/stumps", scope="project:read", tags=["Projects"])
def get_stumps(
    project_id: FromPath[str],
    principal: NamedDependency[Principal],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[StumpOut]:
    """The validated stumps of a project with their proof, newest first."""
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        rows, following = page_of(
            session,
            stumps(found.id),
            Submission.id,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|stumps|{found.id}",
        )
        outputs = evidence(session, [asked.id for _, _, asked, _ in rows])
        said = votes(session, [row.id for row, _, _, _ in rows])
        return page(
            [
                _stump_out(decided, row, asked, task, outputs[asked.id], said[row.id])
                for row, decided, asked, task in rows
            ],
            following,
        )


@get("/projects/{project_id:str}/progress", scope="project:read", tags=["Projects"])
def get_progress(project_id: FromPath[str]) -> ProgressOut:
    """How a project goes: volume, speed and quality, counted from its rows."""
    at = now()
    with database.begin() as session:
        found = project(session, read_id("prj", project_id))
        seen = progress(session, found.id, at=at)
    return ProgressOut(
        project_id=project_id,
        at=at,
        volume=VolumeOut(
            tasks=seen.tasks,
            tasks_open=seen.tasks_open,
            tasks_in_review=seen.tasks_in_review,
            tasks_accepted=seen.tasks_accepted,
            attempts=seen.attempts,
            attempts_failed=seen.attempts_failed,
            submitted=seen.submitted,
            awaiting_verdict=seen.awaiting_verdict,
            decided=seen.decided,
            tested=seen.tested,
            recorded_s=seen.recorded_s,
        ),
        speed=SpeedOut(
            submissions_per_day=seen.submissions_per_day,
            first_submitted_at=seen.first_submitted_at,
            last_submitted_at=seen.last_submitted_at,
            median_work_s=seen.median_work_s,
            median_verdict_s=seen.median_verdict_s,
        ),
        quality=QualityOut(
            accepted=_share_out(seen.accepted),
            validated=_share_out(seen.validated),
            stumps=_share_out(seen.stumps),
        ),
    )


def _review_fields(row: Review) -> dict[str, Any]:
    return {
        "id": wire_id("rev", row.id),
        "project_id": wire_id("prj", row.project_id),
        "submission_id": wire_id("sub", row.submission_id),
        "state": row.state,
        "round": row.round,
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
        "seconds": row.seconds,
    }


def _review_work(session: Session, row: Review) -> ReviewWorkOut:
    handed = submission(session, row.submission_id)
    task = task_of(session, handed)
    asked = attempt(session, handed.attempt_id) if handed.attempt_id else None
    return ReviewWorkOut(
        **_review_fields(row),
        task=task.payload,
        payload=handed.payload,
        attempt=attempt_out(session, asked) if asked else None,
    )


def _submission_fields(row: Submission) -> dict[str, Any]:
    return {
        "id": wire_id("sub", row.id),
        "project_id": wire_id("prj", row.project_id),
        "task_id": wire_id("tsk", row.task_id),
        "offer_id": wire_id("ofr", row.offer_id),
        "attempt_id": wire_ids("att", row.attempt_id),
        "state": row.state,
        "round": row.round,
        "submitted_at": row.submitted_at,
        "decided_at": row.decided_at,
    }


def _verdict_out(row: Verdict) -> VerdictOut:
    return VerdictOut(
        is_accepted=row.is_accepted,
        is_tested=row.is_tested,
        is_validated=row.is_validated,
        is_stump=row.is_stump,
        is_silent=row.is_silent,
        votes=row.votes,
        rejects=row.rejects,
        decided_at=row.decided_at,
    )


def _vote_out(row: Review) -> VoteOut:
    return VoteOut(
        number=row.number,
        verdict=row.verdict,
        model_failed=row.model_failed,
        attempt_fair=row.attempt_fair,
        reason_code=row.reason_code,
        note=row.note,
        seconds=row.seconds,
        voted_at=row.voted_at,
    )


def _stump_out(
    decided: Verdict,
    row: Submission,
    asked: Attempt,
    task: Task,
    outputs: Sequence[AttemptResponse],
    said: Sequence[Review],
) -> StumpOut:
    return StumpOut(
        submission_id=wire_id("sub", row.id),
        task_id=wire_id("tsk", task.id),
        external_id=task.external_id,
        domain=task.domain,
        complexity=task.complexity,
        attempt_id=wire_id("att", asked.id),
        prompt=asked.prompt,
        reference=asked.reference,
        parameters=asked.parameters,
        payload=row.payload,
        judge_missed=asked.judge_missed,
        outputs=[evidence_out(output) for output in outputs],
        votes=[_vote_out(vote) for vote in said],
        submitted_at=row.submitted_at,
        decided_at=decided.decided_at,
    )


def _share_out(share: Share) -> ShareOut:
    return ShareOut(
        part=share.part, whole=share.whole, value=share.value, low=share.low, high=share.high
    )


ROUTES: list[HTTPRouteHandler] = [
    get_reviews,
    get_review,
    post_review_claim,
    post_next_claim,
    post_review_open,
    post_review_recuse,
    post_vote,
    get_submissions,
    get_submission,
    get_stumps,
    get_progress,
]
