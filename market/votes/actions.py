"""Voting, and what votes come to: another vote, a further level, a senior, rework, a verdict.

Everything here runs as the platform, because a verdict moves the submission, the attempt, the slot
and the task, which are no reviewer's to write. Whoever changes the reviews of a submission holds
that submission locked; locks are taken in one order: submission, review, attempt, offer, slot and
task.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, insert, select, update
from sqlalchemy.orm import Session

from market.attempts.models import Attempt
from market.events import Changes, Event
from market.fixes.actions import propose_fix, settle_fixes
from market.panels.models import PanelVote
from market.panels.queries import models_failed
from market.panels.rules import is_met
from market.people.queries import in_conflict
from market.review_plans.actions import draw_further
from market.review_plans.models import ReviewDraw
from market.review_plans.queries import authority_over, plan_at
from market.review_plans.rules import Plan, silence_accepts
from market.reviews.actions import add_review, write_reviews
from market.reviews.models import Review
from market.reviews.rules import (
    HELD,
    REVIEW,
    ConflictOfInterest,
    ReviewLapsed,
    ReviewNotFound,
    ReviewTaken,
    SelfReview,
)
from market.seats.actions import reopen_offer
from market.submissions.models import Submission
from market.submissions.rules import SUBMISSION
from market.tasks.models import Task
from market.verdicts.actions import dispute_task, record_verdict
from market.verdicts.models import Verdict
from market.verdicts.rules import Outcome
from market.votes.queries import paid_time_left, tally
from market.votes.rules import (
    MIN_REWORK_S,
    ChecklistUnmet,
    ReworkRefused,
    Tally,
    Vote,
    VoteUnfit,
    check_vote,
    criteria_of,
    points_of,
    share_by_points,
)

WAITING = ("queued", *HELD)


def record_vote(
    session: Session, review_id: UUID, *, reviewer_id: UUID, vote: Vote, at: datetime
) -> Verdict | None:
    """Record what a reviewer says; with the last vote that is needed, the verdict.

    Raises:
        ReviewNotFound, ReviewTaken, ReviewLapsed, SelfReview, ConflictOfInterest, ReworkRefused,
        RejectionUnfounded, VoteIncomplete, VoteUnfit, ChecklistUnmet, FixUnfit.
    """
    # Locked, so that of two last votes the second one sees the first.
    found = session.execute(
        select(
            Submission,
            Review.has_attempt,
            Review.state,
            Review.reviewer_id,
            Review.expires_at,
            Review.level,
            Review.kind,
            Task.payload["rubric"],
            in_conflict(reviewer_id, Submission.expert_id),
            ReviewDraw.authority,
            ReviewDraw.unmet,
            Attempt.stump_rule,
        )
        .join(Review, Review.submission_id == Submission.id)
        .join(Task, Task.id == Submission.task_id)
        .outerjoin(Attempt, Attempt.id == Submission.attempt_id)
        .outerjoin(
            ReviewDraw,
            and_(
                ReviewDraw.submission_id == Submission.id,
                ReviewDraw.round == Submission.round,
                ReviewDraw.level == 1,
            ),
        )
        .where(Review.id == review_id)
        .with_for_update(of=Submission)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if found is None:
        raise ReviewNotFound(review_id)
    submission, has_attempt, before, holder, expires_at, level, kind, rubric, is_tied = found[:9]
    authority, missed, rule = found[9:]
    if submission.expert_id == reviewer_id:
        raise SelfReview()
    if holder != reviewer_id or before not in HELD:
        raise ReviewTaken(before if holder == reviewer_id or before != "queued" else "unclaimed")
    if expires_at is None or expires_at <= at:
        raise ReviewLapsed()
    if is_tied:
        raise ConflictOfInterest()
    vote = share_by_points(vote, points_of({"rubric": rubric}))
    check_vote(
        vote,
        has_attempt=has_attempt,
        criteria=criteria_of({"rubric": rubric}),
        is_senior=kind == "adjudication",
    )
    others = _claimed_beside(session, submission) if has_attempt and rule else []
    panel = vote.panel or {}
    if set(panel) != set(others):
        raise VoteUnfit("panel", f"given for each of the {len(others)} models asked beside it")
    model_failed = vote.model_failed
    if others:
        model_failed = is_met(rule, bool(vote.model_failed), panel.values())
    if vote.verdict == "rework":
        _check_rework(session, submission)
    elif vote.verdict != "reject" and authority == "both" and missed:
        raise ChecklistUnmet(missed)
    voted = session.execute(
        update(Review)
        .where(Review.id == review_id, Review.state == before, Review.reviewer_id == reviewer_id)
        .values(
            state=REVIEW.target(before, "vote"),
            verdict=vote.verdict,
            model_failed=model_failed,
            attempt_fair=vote.attempt_fair,
            reason_code=vote.reason_code,
            note=vote.note,
            criterion=vote.criterion,
            share=vote.share,
            met=None if vote.met is None else list(vote.met),
            task_broken=vote.task_broken or None,
            seconds=vote.seconds,
            voted_at=at,
            version=Review.version + 1,
        )
        .returning(Review.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if voted is None:
        raise ReviewLapsed()
    if others:
        said = {submission.attempt_id: vote.model_failed, **panel}
        rows = [
            {"review_id": review_id, "attempt_id": one, "model_failed": failed}
            for one, failed in said.items()
        ]
        session.execute(insert(PanelVote), rows)
    if vote.fix is not None:
        propose_fix(
            session,
            submission,
            review_id,
            vote.fix,
            note=vote.note,
            corrector_id=reviewer_id,
            at=at,
        )
    changes = Changes(at, reviewer_id)
    event_id = changes.event(Event.REVIEW_VOTED, review_id, submission.organisation_id, reviewer_id)
    changes.move(REVIEW, review_id, before, "vote", event_id=event_id)
    counted = tally(session, submission.id, submission.round, level=level, kind=kind)
    decided = None
    if counted.waiting == 0:
        decided = _conclude(
            session,
            submission,
            counted,
            level,
            kind,
            changes,
            has_attempt=has_attempt,
            has_panel=bool(others),
        )
    changes.write(session)
    return decided


def approve_by_silence(session: Session, submission_id: UUID, *, at: datetime) -> Verdict | None:
    """Accept a submission whose reviews did not come in time; none when they just did.

    The votes that are missing count for nobody: a stump needs a majority of all that were asked.
    What only people may accept goes on waiting for them, and none is returned; that is paid for as
    if it were accepted, since nobody's silence is its author's loss.
    """
    submission = session.scalar(
        select(Submission)
        .where(
            Submission.id == submission_id,
            Submission.state.in_(("awaiting_review", "in_review")),
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if submission is None:
        return None
    changes = Changes(at)
    if not silence_accepts(*authority_over(session, submission)):
        submission.unjudged_at = at
        submission.version += 1
        whom = (submission.organisation_id, submission.expert_id)
        changes.event(Event.SUBMISSION_UNJUDGED, submission_id, *whom)
        session.flush()
        changes.write(session)
        return None
    counted = tally(session, submission_id, submission.round)
    _expire_waiting(session, submission, "review_time_over", changes)
    if counted.fixes:
        # Nobody decided, so nobody's words take the place of the author's.
        settle_fixes(session, submission, changes)
    outcome = Outcome(
        action="auto_approve",
        share=100,
        votes=counted.votes,
        rejects=counted.rejects,
        is_validated=counted.is_validated,
        is_fair=counted.is_fair,
        basis="silence",
        reason_code="review_time_over",
        models_failed=models_failed(session, submission_id, submission.round, needed=counted.needed)
        if submission.attempt_id is not None
        else {},
    )
    decided = _finish(session, submission, outcome, changes)
    changes.write(session)
    return decided


def decide_early(
    session: Session, submission_id: UUID, *, votes: int, at: datetime
) -> Verdict | None:
    """Decide by the votes that are in, where they are as many as somebody was sure of and nobody is
    at work on another; what was only queued is asked no more. A majority is of those who voted.

    None where that is so no more, or what follows is no verdict yet.
    """
    submission = session.scalar(
        select(Submission)
        .where(
            Submission.id == submission_id,
            Submission.state.in_(("awaiting_review", "in_review")),
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if submission is None:
        return None
    counted = tally(session, submission_id, submission.round)
    states = session.scalars(
        select(Review.state).where(
            Review.submission_id == submission_id,
            Review.round == submission.round,
            Review.state.in_(WAITING),
        )
    ).all()
    if counted.votes != votes or set(states) != {"queued"}:
        return None
    changes = Changes(at)
    _expire_waiting(session, submission, "sure_enough", changes)
    decided = _conclude(
        session,
        submission,
        replace(counted, needed=votes, waiting=0),
        1,
        "vote",
        changes,
        has_attempt=submission.attempt_id is not None,
        has_panel=bool(_claimed_beside(session, submission)),
    )
    changes.write(session)
    return decided


def _conclude(
    session: Session,
    submission: Submission,
    counted: Tally,
    level: int,
    kind: str,
    changes: Changes,
    *,
    has_attempt: bool,
    has_panel: bool,
) -> Verdict | None:
    """What follows when nobody is left to vote: one more vote, a level, a senior, or a decision."""
    if not counted.is_complete and not counted.is_certain(has_claim=has_attempt):
        add_review(session, submission, level, kind, changes.at, has_attempt=has_attempt)
        return None
    plan = plan_at(session, submission.project_id, counted.plan_version)
    if kind == "vote" and _goes_further(
        session, submission, counted, level, plan, changes, has_attempt=has_attempt
    ):
        return None
    if counted.fixes:
        accepts = counted.shares.count(100) if counted.says == "accept" else 0
        settle_fixes(session, submission, changes, accepts=accepts, level=level, kind=kind)
    if counted.says == "rework":
        _ask_rework(session, submission, counted, plan, changes)
        return None
    says = counted.says
    outcome = Outcome(
        action=says,
        share={"accept": 100, "reject": 0}.get(says, counted.share),
        votes=counted.votes,
        rejects=counted.rejects,
        is_validated=counted.is_validated,
        is_fair=counted.is_fair,
        basis="adjudication" if kind == "adjudication" else "votes",
        is_task_broken=counted.task_broken > 0,
        is_dropped=says == "reject" and plan.rejected == "drop",
        models_failed=models_failed(
            session,
            submission.id,
            submission.round,
            level=level,
            kind=kind,
            needed=counted.needed,
        )
        if has_panel
        else {},
    )
    return _finish(session, submission, outcome, changes)


def _claimed_beside(session: Session, submission: Submission) -> Sequence[UUID]:
    return session.scalars(
        select(Attempt.id).where(
            Attempt.panel_of == submission.attempt_id, Attempt.state == "validating"
        )
    ).all()


def _goes_further(
    session: Session,
    submission: Submission,
    counted: Tally,
    level: int,
    plan: Plan,
    changes: Changes,
    *,
    has_attempt: bool,
) -> bool:
    above = plan.above(level)
    while above is not None:
        wanted = draw_further(
            session, submission, above, version=counted.plan_version, at=changes.at
        )
        if wanted:
            _close_voted(session, submission, counted.says, counted.votes, changes)
            for _ in range(wanted):
                add_review(
                    session, submission, above.level, "vote", changes.at, has_attempt=has_attempt
                )
            return True
        above = plan.above(above.level)
    if not counted.is_split(has_claim=has_attempt, on=plan.adjudicate):
        return False
    # Nobody was right yet: all of them wait for the senior.
    for review_id in write_reviews(session, "conflict", *_voted_on(submission)):
        changes.move(REVIEW, review_id, "voted", "conflict")
    add_review(session, submission, level + 1, "adjudication", changes.at, has_attempt=has_attempt)
    dispute_task(session, submission.task_id, changes)
    return True


def _ask_rework(
    session: Session, submission: Submission, counted: Tally, plan: Plan, changes: Changes
) -> None:
    _close_voted(session, submission, "rework", counted.votes, changes)
    until = changes.at + timedelta(seconds=plan.rework_within_s)
    whom = (submission.organisation_id, submission.expert_id)
    event_id = changes.event(Event.SUBMISSION_REWORK_REQUESTED, submission.id, *whom)
    submission.state = changes.move(
        SUBMISSION, submission.id, submission.state, "ask_rework", event_id=event_id
    )
    submission.version += 1
    session.flush()
    reopen_offer(session, submission.offer_id, lease_until=until, at=changes.at)


def _check_rework(session: Session, submission: Submission) -> None:
    version = tally(session, submission.id, submission.round).plan_version
    plan = plan_at(session, submission.project_id, version)
    if submission.round > plan.max_rework:
        raise ReworkRefused(f"this work was sent back {submission.round - 1} times already")
    if paid_time_left(session, submission.offer_id) < MIN_REWORK_S:
        raise ReworkRefused("its offer has no paid time left for more work")


def _finish(
    session: Session, submission: Submission, outcome: Outcome, changes: Changes
) -> Verdict:
    decided = record_verdict(session, submission, outcome, changes)
    _close_voted(session, submission, outcome.action, outcome.votes, changes)
    if outcome.basis == "votes":
        return decided
    adjudicating = write_reviews(
        session,
        "final",
        Review.submission_id == submission.id,
        Review.round == submission.round,
        Review.state == "adjudicating",
    )
    for review_id in adjudicating:
        changes.move(REVIEW, review_id, "adjudicating", "decide")
    return decided


def _close_voted(
    session: Session, submission: Submission, says: str, votes: int, changes: Changes
) -> None:
    # Who voted as it was decided is done; who did not stays in conflict, for a senior to look at.
    sides = {"reject": ("reject",), "rework": ("rework", "reject")}
    side = Review.verdict.in_(sides.get(says, ("accept", "accept_share")))
    voted = _voted_on(submission)
    agreed = write_reviews(session, "agreed", *voted, side)
    for review_id in agreed:
        changes.move(REVIEW, review_id, changes.move(REVIEW, review_id, "voted", "agree"), "close")
    if agreed:
        write_reviews(session, "final", Review.id.in_(agreed))
    if len(agreed) < votes:
        for review_id in write_reviews(session, "conflict", *voted):
            changes.move(REVIEW, review_id, "voted", "conflict")


def _voted_on(submission: Submission) -> tuple[ColumnElement[bool], ...]:
    return (
        Review.submission_id == submission.id,
        Review.round == submission.round,
        Review.state == "voted",
    )


def _expire_waiting(
    session: Session, submission: Submission, reason: str, changes: Changes
) -> None:
    waiting = session.execute(
        select(Review.id, Review.state)
        .where(Review.submission_id == submission.id, Review.state.in_(WAITING))
        .with_for_update()
    ).all()
    for review_id, state in waiting:
        changes.move(REVIEW, review_id, state, "expire", reason_code=reason)
    if waiting:
        write_reviews(session, "expired", Review.id.in_([row.id for row in waiting]))
