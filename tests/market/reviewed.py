"""Submissions before their reviewers, and reviewers who vote: what tests of reviews begin with."""

import itertools
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from market.attempts.actions import Answer, claim_stump, make_attempt, record_answer, submit_attempt
from market.auth import Part
from market.offers.models import Offer
from market.people.actions import sign_up
from market.projects.models import Project
from market.qualifications.actions import (
    begin_qualification,
    grade_qualification,
    invite_to_qualify,
)
from market.review_plans.actions import set_plan
from market.review_plans.rules import Plan
from market.reviews.actions import claim_review, open_reviews
from market.reviews.models import Review
from market.submissions.actions import submit_work
from market.submissions.models import Submission
from market.verdicts.models import Verdict
from market.votes.actions import record_vote
from market.votes.rules import Vote
from market.work.actions import start_session
from tests.factories import AT, make_expert, make_offer, make_project, make_task

LATER = AT + timedelta(hours=1)
REASON = (
    "The work answers another question than the one that was put, in each of its three parts. " * 2
)
STUMP = Vote("accept", model_failed=True, attempt_fair=True, seconds=60)
UNFAIR = Vote("accept", model_failed=True, attempt_fair=False)
RIGHT = Vote("accept", model_failed=False, attempt_fair=True)
ACCEPT = Vote("accept")
REJECT = Vote("reject", reason_code="wrong_answer", note=REASON)
REJECT_STUMP = Vote(
    "reject", model_failed=True, attempt_fair=True, reason_code="wrong_answer", note=REASON
)
REMARK = "The third part says what was found and does not show how it was found."
REWORK = Vote("rework", note=REMARK)
PART = Vote("accept_share", share=60, note=REMARK)
_numbers = itertools.count(1)


def make_reviewer(db: Session) -> UUID:
    """Someone who reviews."""
    number = next(_numbers)
    joined = sign_up(
        db, part=Part.REVIEWER, name="Reviewer", email=f"reviewer.{number}@at.example", at=AT
    )
    return joined.person.id


def hand_in(
    db: Session,
    *,
    reviews: int = 3,
    with_attempt: bool = True,
    at: datetime = AT,
    offer: Offer | None = None,
    payload: dict[str, Any] | None = None,
    **project: Any,
) -> Submission:
    """A submission before its reviewers, with a claimed stump unless told otherwise."""
    if offer is None:
        made = make_project(db, at=at, reviews_per_submission=reviews, **project)
        offer = make_offer(db, make_task(db, made, at=at), make_expert(db, at=at).id, at=at)
    expert_id = offer.expert_id
    start_session(db, offer.id, expert_id=expert_id, at=at)
    ends = at + timedelta(seconds=60)
    if with_attempt:
        asked = make_attempt(
            db, offer.id, expert_id=expert_id, prompt="2 + 2?", reference="4", at=at
        )
        answer = Answer("Answer: 5", 200, 12, b"{}", b'{"a": 5}', 3, 3, "stop", "m-1")
        record_answer(db, asked.id, 0, answer, at=at)
        claim_stump(db, asked.id, expert_id=expert_id, claims_stump=True, at=at)
        handed = submit_attempt(
            db, offer.id, asked.id, expert_id=expert_id, payload={"why": "it adds"}, at=ends
        )
    else:
        payload = payload or {"a": 1}
        handed = submit_work(db, offer.id, expert_id=expert_id, payload=payload, at=ends)
    open_reviews(db, handed.id, at=ends)
    db.flush()
    return handed


def review_ids(db: Session, handed: Submission) -> list[UUID]:
    """The reviews of a submission, in their order."""
    wanted = select(Review.id).where(Review.submission_id == handed.id).order_by(Review.number)
    return list(db.scalars(wanted))


def cast(db: Session, handed: Submission, *votes: Vote, at: datetime = LATER) -> Verdict | None:
    """Let a fresh reviewer each claim and vote; the verdict, if there was one."""
    verdict = None
    for review_id, vote in zip(review_ids(db, handed), votes, strict=False):
        reviewer = make_reviewer(db)
        claim_review(db, review_id, reviewer_id=reviewer, at=at)
        verdict = record_vote(db, review_id, reviewer_id=reviewer, vote=vote, at=at)
    db.expire_all()
    return verdict


def make_decided(
    db: Session,
    project: Project,
    expert_id: UUID,
    *accepted: bool,
    at: datetime = AT,
    every: timedelta = timedelta(days=1),
    waited: timedelta = timedelta(hours=1),
    payload: dict[str, Any] | None = None,
    **task: Any,
) -> list[Submission]:
    """Work with its verdict, one after the other: rows as reviews leave them, without the reviews.

    True where it was accepted; each was handed in `waited` before it was decided.
    """
    found = []
    for n, is_accepted in enumerate(accepted):
        decided_at = at + n * every
        offer = make_offer(db, make_task(db, project, at=at, **task), expert_id, at=at)
        handed = Submission(
            organisation_id=offer.organisation_id,
            project_id=offer.project_id,
            task_id=offer.task_id,
            slot_id=offer.slot_id,
            offer_id=offer.id,
            expert_id=expert_id,
            payload=payload or {"answer": n},
            created_at=at,
            submitted_at=decided_at - waited,
            decided_at=decided_at,
        )
        db.add(handed)
        db.flush()
        db.add(
            Verdict(
                submission_id=handed.id,
                organisation_id=offer.organisation_id,
                project_id=offer.project_id,
                task_id=offer.task_id,
                expert_id=expert_id,
                votes=3,
                rejects=0 if is_accepted else 3,
                is_accepted=is_accepted,
                is_tested=False,
                is_validated=False,
                is_stump=False,
                is_silent=False,
                share=100 if is_accepted else 0,
                decided_at=decided_at,
            )
        )
        found.append(handed)
    db.flush()
    return found


def make_senior(db: Session, level: int = 2, person: UUID | None = None) -> UUID:
    """Someone who is qualified to review at a level."""
    person = person or make_reviewer(db)
    asked = invite_to_qualify(db, person, review_level=level, at=AT)
    begin_qualification(db, asked.id, person_id=person, at=AT)
    assert grade_qualification(db, asked.id, score=90, at=AT).state == "granted"
    return person


def plan_for(db: Session, **plan: Any) -> UUID:
    """A live project whose work is reviewed by a plan; its id."""
    project = make_project(db, reviews_per_submission=plan.pop("votes", 3), budget_minor=10**9)
    set_plan(db, project.id, Plan(**plan), at=AT)
    return project.id


def hand_in_to(db: Session, project_id: UUID, **given: Any) -> Submission:
    """A submission to a project, before its reviewers."""
    project = db.get_one(Project, project_id)
    expert_id = given.pop("expert", None) or make_expert(db).id
    at = given.setdefault("at", AT)
    offer = make_offer(db, make_task(db, project), expert_id, at=at)
    return hand_in(db, offer=offer, **given)


def settled(db: Session, project_id: UUID, senior: UUID, **given: Any) -> Submission:
    """Work that split its two reviewers, and that a senior then accepted."""
    set_plan(db, project_id, Plan(), at=AT)
    handed = hand_in_to(db, project_id, with_attempt=False, **given)
    assert cast(db, handed, ACCEPT, REJECT) is None
    case = select(Review.id).where(Review.kind == "adjudication", Review.submission_id == handed.id)
    (case_id,) = db.scalars(case)
    claim_review(db, case_id, reviewer_id=senior, at=LATER)
    assert record_vote(db, case_id, reviewer_id=senior, vote=ACCEPT, at=LATER) is not None
    db.expire_all()
    return handed


def minute(nth: int) -> datetime:
    """A time for the nth piece of work of one author."""
    return AT + timedelta(minutes=2 * nth)


def states(db: Session, handed: Submission) -> Counter[str]:
    """The states of all reviews of a submission."""
    return Counter(db.scalars(select(Review.state).where(Review.submission_id == handed.id)))
