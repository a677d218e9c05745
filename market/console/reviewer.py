"""Pages of a reviewer: what waits, one blind review at a time, and what came of one's votes."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Template
from sqlalchemy import func, select

from market.attempts.queries import attempt as attempt_with_id
from market.attempts.queries import beside
from market.bonuses.rules import MIN_DISSENT
from market.console.forms import REFUSALS, Form, field, go, once, said_no, whole_number
from market.console.frame import Notice, back_to, page
from market.console.threads import talk_on
from market.console.visitors import REVIEWER, my_id
from market.db import PLATFORM, Json, database, now, run_as
from market.edits.queries import edit_rounds
from market.fixes.queries import changes_of, fixes_on
from market.fixes.rules import MOST_EDITED, FixUnfit
from market.http import page_of, read_id
from market.projects.queries import project
from market.qualifications.models import Qualification
from market.review_plans.queries import plan_over
from market.reviews.actions import claim_next_review, claim_review, recuse_reviewer
from market.reviews.models import Review
from market.reviews.queries import answers_beside, claimable, review, task_of
from market.reviews.rules import HELD, REASON_CODES, ReviewNotFound
from market.stumps.queries import evidence
from market.submissions.models import Submission
from market.submissions.queries import submission
from market.tasks.models import Task
from market.votes.actions import record_vote
from market.votes.queries import votes_below
from market.votes.rules import MIN_REJECTION, MIN_REMARK, Vote, criteria_of, points_of

QUEUE = 25
PAGE = 25
LONGEST_S = 24 * 3600


@get("/", guards=REVIEWER, sync_to_thread=True)
def get_queue(request: Request[Any, Any, Any], cursor: FromQuery[str | None] = None) -> Template:
    """What the visitor holds, what it could take, and what it said before."""
    me, at = my_id(request), now()
    with database.begin() as session:
        mine = select(Review).where(Review.reviewer_id == me)
        open_to_me = claimable(me, at=at).subquery()
        queue = _one_each(
            session.scalars(
                claimable(me, at=at)
                .order_by(Review.due_at.asc().nulls_last(), Review.id)
                .limit(4 * QUEUE)
            ).all()
        )[:QUEUE]
        held = session.scalars(mine.where(Review.state.in_(HELD)).order_by(Review.expires_at)).all()
        shown = [one.submission_id for one in (*held, *queue)]
        # As the platform, because the work is a reviewer's to read once it is taken; of what waits
        # only the field is told.
        with run_as(session, PLATFORM):
            fields = session.execute(
                select(Submission.id, Task.domain)
                .join(Task, Task.id == Submission.task_id)
                .where(Submission.id.in_(shown))
            ).all()
        done, following = page_of(
            session,
            mine.where(Review.state.not_in(HELD)),
            Review.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"reviews of {me}",
        )
        return page(
            request,
            "reviewer/queue.html",
            held=held,
            queue=queue,
            fields={one.id: one.domain for one in fields},
            waiting=session.scalar(select(func.count(open_to_me.c.submission_id.distinct()))) or 0,
            done=done,
            following=following,
            qualifications=session.scalars(
                select(Qualification).where(Qualification.person_id == me)
            ).all(),
        )


def _one_each(queue: Sequence[Review]) -> list[Review]:
    """Of work that several people review one line: nobody may take two reviews of it."""
    found: dict[UUID, Review] = {}
    for one in queue:
        found.setdefault(one.submission_id, one)
    return list(found.values())


@post("/next", guards=REVIEWER, sync_to_thread=True, status_code=303)
def post_next(request: Request[Any, Any, Any], data: Form) -> Redirect:
    """Take what waits longest."""
    del data
    # As the platform, because the submission moves with its first claim.
    with database.begin(PLATFORM) as session:
        row = claim_next_review(session, reviewer_id=my_id(request), at=now())
        return back_to(_address(row.id), "taken")


@post("/reviews/{review_id:str}/claim", guards=REVIEWER, sync_to_thread=True, status_code=303)
def post_claim(request: Request[Any, Any, Any], review_id: FromPath[str], data: Form) -> Redirect:
    """Take one review."""
    del data
    # As the platform, because the submission moves with its first claim.
    with database.begin(PLATFORM) as session:
        row = claim_review(session, read_id("rev", review_id), reviewer_id=my_id(request), at=now())
        return back_to(_address(row.id), "taken")


@post("/reviews/{review_id:str}/recuse", guards=REVIEWER, sync_to_thread=True, status_code=303)
def post_recuse(request: Request[Any, Any, Any], review_id: FromPath[str], data: Form) -> Redirect:
    """Step back for a conflict of interest."""
    del data
    with database.begin(PLATFORM) as session:
        recuse_reviewer(session, read_id("rev", review_id), reviewer_id=my_id(request), at=now())
    return back_to("/console/reviewer", "recused")


def _address(review_id: UUID) -> str:
    return f"/console/reviewer/reviews/rev_{review_id.hex}"


def _review(
    request: Request[Any, Any, Any],
    review_id: UUID,
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    me = my_id(request)
    with database.begin() as session:
        row = review(session, review_id)
        if row.reviewer_id not in (None, me):
            raise ReviewNotFound(review_id)
        if row.reviewer_id is None:
            return page(request, "reviewer/untaken.html", review=row)
        handed = submission(session, row.submission_id)
        task = task_of(session, handed)
        asked = attempt_with_id(session, handed.attempt_id) if handed.attempt_id else None
        others_asked = [
            one for one in (beside(session, asked) if asked else []) if one.state != "failed"
        ]
        said = evidence(session, [one.id for one in (asked, *others_asked) if one is not None])
        outputs = said[asked.id] if asked else []
        edited = edit_rounds(session, handed.id)[:1]
        instructed = ("instructions", "rubric")
        others = {k: v for k, v in task.payload.items() if k not in instructed}
    # As the platform, since other people's votes are no reviewer's to read but here.
    with database.begin(PLATFORM) as session:
        below = votes_below(session, row)
        promised = None if row.has_attempt else plan_over(session, handed).dissent_minor
        currency = project(session, row.project_id).currency
        answered = answers_beside(session, row)
        seen = {one.id for one in (row, *below)}
        fixes = [
            (one, changes_of(one, handed))
            for one in fixes_on(session, handed.id)
            if one.review_id in seen
        ]
    talk = talk_on(request, row.submission_id)
    return page(
        request,
        "reviewer/review.html",
        status=status,
        notice=notice,
        review=row,
        is_held=row.state in HELD,
        task=task,
        others=others,
        handed=handed,
        talk=talk,
        attempt=asked,
        outputs=[one.output for one in outputs],
        panel=[(one, [answer.output for answer in said[one.id]]) for one in others_asked],
        is_unedited=any(one.is_flagged for one in edited),
        criteria=criteria_of(task.payload),
        points=points_of(task.payload),
        below=below,
        promised=promised,
        currency=currency,
        least_dissent=MIN_DISSENT,
        answered=answered,
        fixes=fixes,
        most_edited=MOST_EDITED,
        reason_codes=REASON_CODES,
        least_rejection=MIN_REJECTION,
        least_remark=MIN_REMARK,
        typed=typed or {},
    )


@get("/reviews/{review_id:str}", guards=REVIEWER, sync_to_thread=True)
def get_review(request: Request[Any, Any, Any], review_id: FromPath[str]) -> Template:
    """One review: the task, the work and the model's answers; never who wrote it."""
    return _review(request, read_id("rev", review_id))


def _met(data: Mapping[str, str]) -> tuple[str, ...] | None:
    """The criteria that were ticked, where there were any to tick."""
    if "by_points" not in data:
        return None
    return tuple(name.removeprefix("met:") for name in data if name.startswith("met:"))


def _yes(data: Mapping[str, str], name: str) -> bool | None:
    return {"yes": True, "no": False}.get(data.get(name, ""))


def _fixed(payload: Json, data: Mapping[str, str]) -> Json:
    """The work as its fields were typed; what is no text is written as JSON, as it was shown."""
    fixed: Json = {}
    for name, value in payload.items():
        typed = data.get(f"fix:{name}")
        if typed is None:
            fixed[name] = value
        elif isinstance(value, str):
            fixed[name] = typed.replace("\r\n", "\n")
        else:
            try:
                fixed[name] = msgspec.json.decode(typed)
            except msgspec.DecodeError:
                raise FixUnfit(f"{name} must be JSON, as it was") from None
    return fixed


def _seconds_since(row: Review, at: datetime) -> int:
    """How long the review has been its reviewer's.

    Units: seconds.
    """
    if row.claimed_at is None:
        return 0
    return max(0, min(LONGEST_S, int((at - row.claimed_at).total_seconds())))


@post("/reviews/{review_id:str}/vote", guards=REVIEWER, sync_to_thread=True, status_code=303)
def post_vote(
    request: Request[Any, Any, Any], review_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Vote; with the last vote that is needed the submission is decided."""
    found, me = read_id("rev", review_id), my_id(request)
    said = data.get("verdict", "")
    # A fix is taken with a vote to accept.
    verdict = "accept" if said == "fix" else said

    def act() -> str:
        at = now()
        # As the platform, because a verdict moves the submission, its slot and its task.
        with database.begin(PLATFORM) as session:
            row = review(session, found)
            share = whole_number(data, "share", "the share", least=1, most=99, absent=0)
            record_vote(
                session,
                found,
                reviewer_id=me,
                vote=Vote(
                    verdict=verdict,
                    model_failed=_yes(data, "model_failed"),
                    attempt_fair=_yes(data, "attempt_fair"),
                    reason_code=field(data, "reason_code") or None,
                    note=field(data, "note"),
                    seconds=_seconds_since(row, at),
                    share=(share or None) if verdict == "accept_share" else None,
                    met=_met(data) if verdict == "accept_share" else None,
                    criterion=field(data, "criterion") or None,
                    task_broken=data.get("task_broken") == "yes",
                    fix=_fixed(submission(session, row.submission_id).payload, data)
                    if said == "fix"
                    else None,
                    panel={
                        read_id("att", name.removeprefix("panel:")): failed == "yes"
                        for name, failed in data.items()
                        if name.startswith("panel:")
                    },
                ),
                at=at,
            )
        return "/console/reviewer?said=voted"

    try:
        return once(data, act)
    except ReviewNotFound:
        raise
    except REFUSALS as refusal:
        status, notice = said_no(refusal)
        return _review(request, found, status=status, notice=notice, typed=data)


@get("/reviews", guards=REVIEWER, sync_to_thread=True)
def get_reviews(request: Request[Any, Any, Any]) -> Redirect:
    """The list of reviews is the reviewer's first page."""
    del request
    return go("/console/reviewer")


ROUTES: list[HTTPRouteHandler] = [
    get_queue,
    get_reviews,
    post_next,
    get_review,
    post_claim,
    post_recuse,
    post_vote,
]
