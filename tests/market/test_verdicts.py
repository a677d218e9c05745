"""Verdicts: what votes come to, what silence does, and what follows for stumps and tasks."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient
from sqlalchemy import event, func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from market.attempts.actions import Answer, claim_stump, make_attempt, record_answer, submit_attempt
from market.attempts.models import Attempt
from market.auth import Part
from market.events import Event, EventRow
from market.offers.models import Offer
from market.reviews.actions import (
    claim_review,
    open_reviews,
)
from market.reviews.models import Review
from market.reviews.rules import (
    ReviewTaken,
)
from market.tasks.models import Task, TaskSlot
from market.verdicts.rules import wilson
from market.votes.actions import approve_by_silence, record_vote
from market.votes.queries import overdue_submissions
from market.votes.rules import (
    Tally,
    Vote,
)
from market.work.actions import start_session
from tests.factories import (
    AT,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)
from tests.market.reviewed import (
    ACCEPT,
    LATER,
    REASON,
    REJECT,
    REJECT_STUMP,
    RIGHT,
    STUMP,
    UNFAIR,
    cast,
    hand_in,
    make_reviewer,
    review_ids,
)

# Voting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("votes", "accepted", "validated", "stump", "attempt"),
    [
        ((STUMP, STUMP, STUMP), True, True, True, "verified"),
        ((STUMP, STUMP, RIGHT), True, True, True, "verified"),
        ((STUMP, STUMP, REJECT_STUMP), True, True, True, "verified"),
        ((UNFAIR, UNFAIR, STUMP), True, True, False, "refuted"),
        ((RIGHT, RIGHT, STUMP), True, False, False, "not_stumped"),
        ((REJECT_STUMP, REJECT_STUMP, STUMP), False, True, False, "refuted"),
        # Of two, one is no majority: the work is accepted, the stump is not proven.
        ((STUMP, RIGHT), True, False, False, "not_stumped"),
        ((STUMP, REJECT_STUMP), True, True, True, "verified"),
        ((STUMP, STUMP, RIGHT, RIGHT), True, False, False, "not_stumped"),
        ((STUMP,), True, True, True, "verified"),
        ((REJECT_STUMP,), False, True, False, "refuted"),
    ],
)
def test_a_majority_decides_and_a_tie_is_the_authors(
    db: Session,
    votes: tuple[Vote, ...],
    accepted: bool,
    validated: bool,
    stump: bool,
    attempt: str,
) -> None:
    handed = hand_in(db, reviews=len(votes))
    assert cast(db, handed, *votes[:-1]) is None
    last = make_reviewer(db)
    review_id = review_ids(db, handed)[len(votes) - 1]
    claim_review(db, review_id, reviewer_id=last, at=LATER)
    verdict = record_vote(db, review_id, reviewer_id=last, vote=votes[-1], at=LATER)
    assert verdict is not None
    assert (verdict.is_accepted, verdict.is_validated, verdict.is_stump) == (
        accepted,
        validated,
        stump,
    )
    db.expire_all()
    assert handed.state == ("accepted" if accepted else "rejected")
    assert handed.decided_at == LATER
    assert db.scalars(select(Attempt.state)).one() == attempt
    slot = db.get_one(TaskSlot, handed.slot_id)
    task = db.get_one(Task, handed.task_id)
    assert (slot.state, task.state) == (("counted", "accepted") if accepted else ("open", "queued"))
    told = db.scalars(select(EventRow.type).where(EventRow.subject_id == handed.id)).all()
    assert told.count(Event.VERDICT_RECORDED) == 1
    assert told.count(Event.SUBMISSION_ACCEPTED if accepted else Event.SUBMISSION_REJECTED) == 1


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    votes=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=5)
)
def test_a_verdict_follows_from_the_votes_as_the_rules_say(
    db: Session, votes: list[tuple[bool, bool, bool]]
) -> None:
    needed = len(votes)
    with db.begin_nested() as attempt:
        handed = hand_in(db, reviews=needed)
        verdict = cast(
            db,
            handed,
            *(
                Vote(
                    "reject" if rejects else "accept",
                    model_failed=failed,
                    attempt_fair=fair,
                    reason_code="incomplete" if rejects else None,
                    note=REASON if rejects else "",
                )
                for rejects, failed, fair in votes
            ),
        )
        assert verdict is not None
        rejects = sum(vote[0] for vote in votes)
        failed = sum(vote[1] for vote in votes)
        fair = sum(vote[2] for vote in votes)
        assert verdict.is_accepted == (rejects <= needed / 2)
        assert verdict.is_validated == (failed > needed / 2)
        assert verdict.is_stump == (
            verdict.is_accepted and verdict.is_validated and fair > needed / 2
        )
        states = db.scalars(select(Review.state).where(Review.submission_id == handed.id)).all()
        apart = rejects if verdict.is_accepted else needed - rejects
        assert (states.count("final"), states.count("conflict")) == (needed - apart, apart)
        attempt.rollback()
    db.expire_all()


def test_work_without_an_attempt_is_accepted_and_is_no_stump(db: Session) -> None:
    handed = hand_in(db, with_attempt=False)
    verdict = cast(db, handed, ACCEPT, Vote("accept", model_failed=True, attempt_fair=True), ACCEPT)
    assert verdict is not None
    assert (verdict.is_accepted, verdict.is_tested, verdict.is_stump) == (True, False, False)


def test_a_conceded_attempt_is_accepted_and_is_no_stump_whatever_is_voted(db: Session) -> None:
    project = make_project(db, reviews_per_submission=1)
    offer = make_offer(db, make_task(db, project), make_expert(db).id)
    start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    asked = make_attempt(
        db, offer.id, expert_id=offer.expert_id, prompt="2 + 2?", reference="4", at=AT
    )
    record_answer(db, asked.id, 0, Answer("4", 200, 1, b"{}", b"{}", 1, 1, None, None), at=AT)
    claim_stump(db, asked.id, expert_id=offer.expert_id, claims_stump=False, at=AT)
    handed = submit_attempt(
        db,
        offer.id,
        asked.id,
        expert_id=offer.expert_id,
        payload={"could": "not"},
        at=AT + timedelta(seconds=60),
    )
    open_reviews(db, handed.id, at=AT)
    verdict = cast(db, handed, STUMP)
    assert verdict is not None
    assert (verdict.is_accepted, verdict.is_tested) == (True, True)
    assert (verdict.is_validated, verdict.is_stump) == (False, False)
    assert asked.state == "not_stumped"


def test_a_task_with_two_seats_is_accepted_with_the_last_of_its_verdicts(db: Session) -> None:
    project = make_project(db, reviews_per_submission=1)
    task = make_task(db, project, slots=2)
    handed = [
        hand_in(db, offer=make_offer(db, task, make_expert(db).id), with_attempt=False)
        for _ in range(2)
    ]
    cast(db, handed[0], ACCEPT)
    assert task.state == "in_review"
    cast(db, handed[1], REJECT)
    # The seat of the rejected answer is open again, and the other one counts.
    assert task.state == "active"
    third = hand_in(db, offer=make_offer(db, task, make_expert(db).id), with_attempt=False)
    assert task.state == "in_review"
    cast(db, third, ACCEPT)
    assert task.state == "accepted"
    resolved = select(func.count()).where(EventRow.type == Event.TASK_RESOLVED)
    assert db.scalar(resolved.select_from(EventRow)) == 1


def statements_of(db: Session, act: Callable[[], object]) -> int:
    """How many statements an action sends."""
    db.flush()
    sent: list[str] = []
    connection = db.connection()

    def note(*given: object) -> None:
        sent.append(str(given[2]))

    event.listen(connection, "before_cursor_execute", note)
    act()
    db.flush()
    event.remove(connection, "before_cursor_execute", note)
    return len(sent)


def test_a_vote_is_cheap(db: Session) -> None:
    handed = hand_in(db, reviews=2)
    first, last = review_ids(db, handed)
    reviewers = [make_reviewer(db), make_reviewer(db)]
    claim_review(db, first, reviewer_id=reviewers[0], at=LATER)
    claim_review(db, last, reviewer_id=reviewers[1], at=LATER)
    vote = partial(record_vote, db, vote=STUMP, at=LATER)
    assert statements_of(db, lambda: vote(first, reviewer_id=reviewers[0])) <= 6
    assert statements_of(db, lambda: vote(last, reviewer_id=reviewers[1])) <= 16


# Silence ------------------------------------------------------------------------------------------


def test_what_is_not_reviewed_in_time_is_accepted_and_proves_nothing(db: Session) -> None:
    handed = hand_in(db, review_ttl_s=3600)
    assert handed.submitted_at is not None
    due = handed.submitted_at + timedelta(seconds=3600)
    assert overdue_submissions(db, at=due - timedelta(seconds=1), limit=9) == []
    assert overdue_submissions(db, at=due, limit=9) == [handed.id]
    first = review_ids(db, handed)[0]
    reviewer = make_reviewer(db)
    claim_review(db, first, reviewer_id=reviewer, at=due)
    verdict = approve_by_silence(db, handed.id, at=due)
    assert verdict is not None
    assert (verdict.is_accepted, verdict.is_silent, verdict.is_stump) == (True, True, False)
    assert approve_by_silence(db, handed.id, at=due) is None
    db.expire_all()
    assert handed.state == "accepted"
    assert set(db.scalars(select(Review.state))) == {"expired"}
    assert db.scalars(select(Attempt.state)).one() == "not_stumped"
    with pytest.raises(ReviewTaken):
        record_vote(db, first, reviewer_id=reviewer, vote=STUMP, at=due)


def test_the_time_after_which_silence_accepts_cannot_be_lengthened_once_work_is_handed_in(
    db: Session, web: TestClient[Any]
) -> None:
    lab = make_caller(db, web, Part.LAB)
    project = make_project(db, lab.organisation_id, review_ttl_s=3600)
    offer = make_offer(db, make_task(db, project), make_expert(db).id)
    handed = hand_in(db, offer=offer)
    db.commit()
    url = f"/v1/projects/prj_{project.id.hex}"
    seen = {"If-Match": lab.get(url).headers["etag"]}
    longer = lab.patch(url, json={"review_ttl_s": 30 * 24 * 3600}, headers=seen)
    assert (longer.status_code, longer.json()["review_ttl_s"]) == (200, 30 * 24 * 3600)
    assert handed.submitted_at is not None
    due = handed.submitted_at + timedelta(seconds=3600)
    assert overdue_submissions(db, at=due, limit=9) == [handed.id]
    # The terms that an offer was made under are nobody's to change, whoever asks.
    with pytest.raises(DBAPIError, match="terms"):
        db.execute(update(Offer).values(terms={}))


def test_silence_of_one_does_not_undo_the_majority_of_all(db: Session) -> None:
    handed = hand_in(db)
    assert cast(db, handed, STUMP, STUMP) is None
    verdict = approve_by_silence(db, handed.id, at=LATER)
    assert verdict is not None
    assert (verdict.votes, verdict.is_validated, verdict.is_stump) == (2, True, True)


# Pure -------------------------------------------------------------------------------------------


def test_the_interval_of_wilson_is_the_published_one() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    for part, whole, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        found = wilson(part, whole)
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)
    assert (wilson(0, 0).value, wilson(0, 0).low, wilson(0, 0).high) == (None, 0.0, 1.0)


@given(whole=st.integers(1, 10_000), data=st.data())
def test_a_share_lies_in_its_interval(whole: int, data: st.DataObject) -> None:
    found = wilson(data.draw(st.integers(0, whole)), whole)
    assert found.value is not None
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1


@given(needed=st.integers(1, 15), data=st.data())
def test_no_tally_is_both_rejected_and_a_stump(needed: int, data: st.DataObject) -> None:
    some = st.integers(0, needed)
    found = Tally(needed, needed, data.draw(some), data.draw(some), data.draw(some))
    assert found.is_accepted == (found.rejects <= needed - found.rejects)
