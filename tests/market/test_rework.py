"""Rework: one more round for the author and its reviewers, and its end."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market.attempts.models import Attempt
from market.events import Event, EventRow
from market.moves import unfolded
from market.offers.models import Offer
from market.review_plans.actions import set_plan
from market.review_plans.rules import Plan
from market.reviews.actions import claim_next_review, claim_review, open_reviews
from market.reviews.jobs import clear_claim
from market.reviews.models import Review
from market.reviews.rules import (
    RESERVED,
    QueueEmpty,
    ReviewTaken,
)
from market.submissions.actions import give_back, leave_offer, save_draft, submit_work
from market.submissions.models import Submission
from market.tasks.models import Task, TaskSlot
from market.verdicts.models import Verdict
from market.votes.actions import approve_by_silence, record_vote
from market.votes.rules import (
    ReworkRefused,
    Vote,
)
from market.work.actions import end_session, start_session
from tests.factories import AT, make_expert, make_offer, make_project, make_task
from tests.market.reviewed import (
    ACCEPT,
    LATER,
    REJECT,
    REWORK,
    cast,
    hand_in,
    hand_in_to,
    make_reviewer,
    plan_for,
    review_ids,
    states,
)

# Rework and parts ---------------------------------------------------------------------------------


def rework_asked(db: Session, **given: Any) -> tuple[Submission, Offer, list[UUID]]:
    """Work that two of three reviewers sent back, with its offer and who reviewed it."""
    handed = hand_in(db, with_attempt=given.pop("with_attempt", False), **given)
    people = []
    for review_id, vote in zip(review_ids(db, handed), (REWORK, ACCEPT, REWORK), strict=True):
        person = make_reviewer(db)
        people.append(person)
        claim_review(db, review_id, reviewer_id=person, at=LATER)
        if handed.attempt_id is not None:
            vote = Vote(vote.verdict, True, True, note=vote.note)
        assert record_vote(db, review_id, reviewer_id=person, vote=vote, at=LATER) is None
    db.expire_all()
    return handed, db.get_one(Offer, handed.offer_id), people


def test_rework_goes_to_its_author_and_then_to_its_reviewers(db: Session) -> None:
    handed, offer, people = rework_asked(db)
    assert (handed.state, offer.state) == ("rework_requested", "active")
    assert offer.lease_until == LATER + timedelta(hours=48)
    assert states(db, handed) == {"final": 2, "conflict": 1}
    assert db.get_one(TaskSlot, handed.slot_id).state == "submitted"
    assert db.scalar(select(func.count()).select_from(Verdict)) == 0
    # The work goes on under the same offer, on the same clock, and is paid.
    again = LATER + timedelta(hours=1)
    start_session(db, offer.id, expert_id=offer.expert_id, at=again)
    save_draft(db, offer.id, expert_id=offer.expert_id, payload={"a": 2}, at=again)
    ends = again + timedelta(minutes=1)
    second = submit_work(db, offer.id, expert_id=offer.expert_id, payload={"a": 3}, at=ends)
    assert second.id == handed.id
    db.expire_all()
    assert (handed.state, handed.round, handed.payload) == ("awaiting_review", 2, {"a": 3})
    assert (offer.state, db.get_one(TaskSlot, handed.slot_id).state) == ("completed", "submitted")
    assert open_reviews(db, handed.id, at=ends) == 3
    assert open_reviews(db, handed.id, at=ends) == 0
    fresh = db.scalars(select(Review).where(Review.round == 2).order_by(Review.number)).all()
    assert [one.reserved_for for one in fresh] == people
    asked = select(EventRow.person_id).where(EventRow.type == "review.asked")
    assert db.scalars(asked.order_by(EventRow.position)).all() == people
    with pytest.raises(ReviewTaken):
        claim_review(db, fresh[0].id, reviewer_id=make_reviewer(db), at=ends)
    with pytest.raises(QueueEmpty):
        claim_next_review(db, reviewer_id=make_reviewer(db), at=ends)
    assert claim_next_review(db, reviewer_id=people[1], at=ends).id == fresh[1].id
    # Whoever does not come in time is not waited for.
    stranger, late = make_reviewer(db), ends + RESERVED
    assert claim_review(db, fresh[0].id, reviewer_id=stranger, at=late).reviewer_id == stranger
    claim_review(db, fresh[1].id, reviewer_id=people[1], at=ends)
    for person, one in ((stranger, fresh[0]), (people[2], fresh[2])):
        claim_review(db, one.id, reviewer_id=person, at=late)
        record_vote(db, one.id, reviewer_id=person, vote=ACCEPT, at=late)
    verdict = approve_by_silence(db, handed.id, at=late)
    assert verdict is not None
    assert (verdict.votes, verdict.share, verdict.basis) == (2, 100, "silence")
    assert unfolded(db) == []


def test_rework_is_refused_when_it_would_go_on_for_ever_or_unpaid(db: Session) -> None:
    project = plan_for(db, votes=1, max_rework=0)
    handed = hand_in_to(db, project, with_attempt=False)
    with pytest.raises(ReworkRefused, match="0 times"):
        cast(db, handed, REWORK)
    short = hand_in(db, reviews=1, with_attempt=False, cap_s=900)
    with pytest.raises(ReworkRefused, match="paid time"):
        cast(db, short, REWORK)


@pytest.mark.parametrize("way", ["give_back", "deadline"])
def test_rework_that_does_not_come_back_frees_its_seat_and_pays_the_time(
    db: Session, way: str, react: Callable[[], list[str]]
) -> None:
    handed, offer, _ = rework_asked(db, with_attempt=True)
    assert db.scalars(select(Attempt.state)).one() == "validating"
    if way == "give_back":
        assert give_back(db, offer.id, expert_id=offer.expert_id, reason="no_time", at=LATER)
    else:
        assert offer.lease_until is not None
        over = offer.lease_until + timedelta(minutes=16)
        assert not leave_offer(db, offer.id, at=over - timedelta(minutes=2))
        assert leave_offer(db, offer.id, at=over)
    db.expire_all()
    assert handed.state == "returned"
    assert offer.state == ("released" if way == "give_back" else "abandoned")
    slot, task = db.get_one(TaskSlot, handed.slot_id), db.get_one(Task, handed.task_id)
    assert (slot.state, slot.offer_id, task.state) == ("open", None, "queued")
    ran = react()
    assert {"clear_claim", "credit_time"} <= set(ran)
    clear_claim(str(handed.id))
    assert db.scalars(select(Attempt.state)).one() == "not_stumped"
    assert unfolded(db) == []


def test_whoever_stops_working_is_told_of_every_move(db: Session) -> None:
    handed, offer, _ = rework_asked(db)
    started = start_session(db, offer.id, expert_id=offer.expert_id, at=LATER)
    end_session(db, started.id, expert_id=offer.expert_id, at=LATER)
    told = set(db.scalars(select(EventRow.type).where(EventRow.subject_id == handed.id)))
    assert {Event.SUBMISSION_SUBMITTED, Event.SUBMISSION_REWORK_REQUESTED} <= told


# Rejections ---------------------------------------------------------------------------------------


def seated(db: Session, seats: int, **plan: Any) -> list[Offer]:
    """Offers on all seats of a task whose work one reviewer decides."""
    project = make_project(db, reviews_per_submission=1, answers_per_task=seats)
    set_plan(db, project.id, Plan(**plan), at=AT)
    task = make_task(db, project)
    return [make_offer(db, task, make_expert(db).id) for _ in range(seats)]


@pytest.mark.parametrize(
    ("rejected", "slot", "task"), [("others", "open", "queued"), ("drop", "released", "cancelled")]
)
def test_what_is_rejected_goes_to_others_or_is_dropped_as_the_plan_says(
    db: Session, rejected: str, slot: str, task: str, react: Callable[[], list[str]]
) -> None:
    (offer,) = seated(db, 1, rejected=rejected)
    handed = hand_in(db, offer=offer, with_attempt=False)
    cast(db, handed, REJECT)
    assert handed.state == "rejected"
    assert db.get_one(TaskSlot, offer.slot_id).state == slot
    assert db.get_one(Task, offer.task_id).state == task
    told = db.scalars(select(EventRow.type).where(EventRow.subject_id == offer.task_id)).all()
    assert ("task.cancelled" in told) == (rejected == "drop")
    # Rejected or dropped, the time on it is paid.
    assert "credit_earning" in react()
    assert unfolded(db) == []


def test_a_task_without_its_dropped_seats_ends_with_the_answers_that_it_has(db: Session) -> None:
    first, second, third = seated(db, 3, rejected="drop")
    task = db.get_one(Task, first.task_id)
    cast(db, hand_in(db, offer=first, with_attempt=False), REJECT)
    assert (task.state, db.get_one(TaskSlot, first.slot_id).state) == ("active", "released")
    cast(db, hand_in(db, offer=second, with_attempt=False), ACCEPT)
    assert task.state == "active"
    cast(db, hand_in(db, offer=third, with_attempt=False), REJECT)
    assert task.state == "accepted"
    seats = db.scalars(select(TaskSlot.state).where(TaskSlot.task_id == task.id)).all()
    assert sorted(seats) == ["counted", "released", "released"]
    assert unfolded(db) == []
