"""Voting, and what others said before, over HTTP."""

from datetime import datetime
from typing import Any, Literal

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from market.auth import Part, Principal
from market.db import PLATFORM, database, now
from market.http import Wire, get, post, read_id
from market.reviews.models import Review
from market.reviews.queries import review
from market.reviews.rules import ReviewNotFound
from market.verdicts.routes import VerdictOut, verdict_out
from market.votes.actions import record_vote
from market.votes.queries import votes_below
from market.votes.rules import Vote


class VoteIn(Wire):
    """What a reviewer says: on the work, and, of an attempt, on the model and the question.

    `fix` is the work as you fixed it, with `accept` and why in the note: at most half of its words
    may differ. Where the criteria of the task's rubric have `points`, `accept_share` names those
    that hold in `met`, and the share follows. `panel` says of each attempt beside it, by its id,
    whether that model failed.
    """

    verdict: Literal["accept", "accept_share", "rework", "reject"]
    model_failed: bool | None = None
    attempt_fair: bool | None = None
    reason_code: str | None = None
    note: str = ""
    seconds: int = 0
    share: int | None = None
    met: list[str] | None = None
    criterion: str | None = None
    task_broken: bool = False
    fix: dict[str, Any] | None = None
    panel: dict[str, bool] | None = None


class VoteOut(Wire):
    """One vote, without the name of whoever gave it."""

    number: int
    round: int
    level: int
    kind: str
    verdict: str | None
    model_failed: bool | None
    attempt_fair: bool | None
    reason_code: str | None
    note: str | None
    criterion: str | None
    share: int | None
    met: list[str] | None
    seconds: int | None
    voted_at: datetime | None


class VotesBelowOut(Wire):
    """What others said before a review: at once for a senior, for a higher level after its vote."""

    review_id: str
    items: list[VoteOut]


class VotedOut(Wire):
    """A vote taken, and the verdict if it was the last one needed."""

    review_id: str
    state: str
    verdict: VerdictOut | None


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
                share=data.share,
                met=None if data.met is None else tuple(data.met),
                criterion=data.criterion,
                task_broken=data.task_broken,
                fix=data.fix,
                panel={read_id("att", one): said for one, said in (data.panel or {}).items()},
            ),
            at=now(),
        )
        return VotedOut(
            review_id=review_id,
            state="voted" if decided is None else "decided",
            verdict=None if decided is None else verdict_out(decided),
        )


def vote_out(row: Review) -> VoteOut:
    return VoteOut(
        number=row.number,
        round=row.round,
        level=row.level,
        kind=row.kind,
        verdict=row.verdict,
        model_failed=row.model_failed,
        attempt_fair=row.attempt_fair,
        reason_code=row.reason_code,
        note=row.note,
        criterion=row.criterion,
        share=row.share,
        met=row.met,
        seconds=row.seconds,
        voted_at=row.voted_at,
    )


@get("/reviews/{review_id:str}/votes-below", scope="review:read", tags=["Reviews"])
def get_votes_below(
    review_id: FromPath[str], principal: NamedDependency[Principal]
) -> VotesBelowOut:
    """What others said before you: a senior reads it to decide, a higher level after its vote."""
    with database.begin() as session:
        seen = review(session, read_id("rev", review_id))
        if principal.part is Part.REVIEWER and seen.reviewer_id != principal.person_id:
            raise ReviewNotFound(seen.id)
    # As the platform, since other people's votes are no reviewer's to read but here.
    with database.begin(PLATFORM) as session:
        return VotesBelowOut(
            review_id=review_id, items=[vote_out(one) for one in votes_below(session, seen)]
        )


ROUTES: list[HTTPRouteHandler] = [post_vote, get_votes_below]
