"""Reviews: who may claim and vote, what runs out, and what the database refuses."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.attempts.models import Attempt
from market.auth import Part
from market.db import new_id
from market.events import EventRow, StateChange
from market.people.actions import grant_part
from market.reviews.actions import (
    claim_next_review,
    claim_review,
    open_review,
    open_reviews,
    recuse_reviewer,
    requeue_reviews,
    tell_reviewer,
)
from market.reviews.jobs import tell_reviewers
from market.reviews.models import Review
from market.reviews.rules import (
    CLAIM_S,
    REVIEW,
    WAITS_LONG,
    AlreadyReviewing,
    QueueEmpty,
    ReviewLapsed,
    ReviewNotFound,
    ReviewTaken,
    SelfReview,
)
from market.states import StateConflict
from market.votes.actions import record_vote
from market.votes.rules import (
    RejectionUnfounded,
    Vote,
    VoteIncomplete,
    VoteUnfit,
    check_vote,
)
from tests.factories import (
    pairs_in_database,
)
from tests.market.reviewed import (
    LATER,
    REASON,
    RIGHT,
    STUMP,
    hand_in,
    make_reviewer,
    review_ids,
)

# Opening and claiming -----------------------------------------------------------------------------


def test_a_submission_gets_as_many_reviews_as_its_terms_promise_once(db: Session) -> None:
    handed = hand_in(db, reviews=5)
    assert len(review_ids(db, handed)) == 5
    assert open_reviews(db, handed.id, at=LATER) == 0
    assert open_reviews(db, new_id(), at=LATER) == 0
    assert db.scalars(select(Attempt.state)).one() == "validating"


def test_a_claim_moves_the_submission_and_belongs_to_one_person(db: Session) -> None:
    handed = hand_in(db)
    first, second, _ = review_ids(db, handed)
    reviewer = make_reviewer(db)
    row = claim_review(db, first, reviewer_id=reviewer, at=LATER)
    assert (row.state, row.expires_at) == ("claimed", LATER + timedelta(seconds=CLAIM_S))
    db.refresh(handed)
    assert handed.state == "in_review"
    assert claim_review(db, first, reviewer_id=reviewer, at=LATER).version == row.version
    with pytest.raises(ReviewTaken):
        claim_review(db, first, reviewer_id=make_reviewer(db), at=LATER)
    with pytest.raises(AlreadyReviewing):
        claim_review(db, second, reviewer_id=reviewer, at=LATER)
    with pytest.raises(ReviewNotFound):
        claim_review(db, new_id(), reviewer_id=reviewer, at=LATER)


def test_nobody_reviews_work_of_their_own(db: Session) -> None:
    handed = hand_in(db)
    first = review_ids(db, handed)[0]
    with pytest.raises(SelfReview):
        claim_review(db, first, reviewer_id=handed.expert_id, at=LATER)
    with pytest.raises(SelfReview):
        record_vote(db, first, reviewer_id=handed.expert_id, vote=STUMP, at=LATER)
    with pytest.raises(QueueEmpty):
        claim_next_review(db, reviewer_id=handed.expert_id, at=LATER)
    with pytest.raises(IntegrityError, match="self_review"), db.begin_nested():
        db.execute(text("update market.review set reviewer_id = expert_id"))


def test_the_longest_waiting_review_comes_first_and_nobodys_twice(db: Session) -> None:
    old, new = hand_in(db), hand_in(db)
    reviewer = make_reviewer(db)
    assert claim_next_review(db, reviewer_id=reviewer, at=LATER).submission_id == old.id
    assert claim_next_review(db, reviewer_id=reviewer, at=LATER).submission_id == new.id
    with pytest.raises(QueueEmpty):
        claim_next_review(db, reviewer_id=reviewer, at=LATER)


def test_who_may_review_is_told_of_work_that_waits_and_nobody_else_is(db: Session) -> None:
    handed = hand_in(db, reviews=1)
    author = handed.expert_id
    grant_part(db, author, Part.REVIEWER, organisation_id=None, at=LATER)
    reviewer, other = make_reviewer(db), make_reviewer(db)
    waited = LATER + WAITS_LONG
    assert not tell_reviewer(db, reviewer, at=LATER)
    db.commit()
    tell_reviewers("2026-03-05T05:30:00+00:00")
    tell_reviewers("2026-03-05T05:30:00+00:00")
    told = db.scalars(select(EventRow).where(EventRow.type == "review.waiting")).all()
    assert {row.subject_id for row in told} == set(review_ids(db, handed))
    # Each once; and never whose own work it is.
    assert sorted(row.person_id for row in told if row.person_id) == sorted([reviewer, other])
    claim_review(db, review_ids(db, handed)[0], reviewer_id=other, at=waited)
    assert not tell_reviewer(db, make_reviewer(db), at=waited)


def test_a_claim_that_runs_out_goes_back_to_the_queue(db: Session) -> None:
    handed = hand_in(db)
    first = review_ids(db, handed)[0]
    reviewer, other = make_reviewer(db), make_reviewer(db)
    claim_review(db, first, reviewer_id=reviewer, at=LATER)
    open_review(db, first, reviewer_id=reviewer, at=LATER)
    over = LATER + timedelta(seconds=CLAIM_S)
    with pytest.raises(ReviewLapsed):
        record_vote(db, first, reviewer_id=reviewer, vote=STUMP, at=over)
    assert requeue_reviews(db, at=over - timedelta(seconds=1), limit=9) == 0
    assert requeue_reviews(db, at=over, limit=9) == 1
    told = db.scalars(select(EventRow).where(EventRow.type == "review.expired")).one()
    assert (told.subject_id, told.person_id) == (first, reviewer)
    with pytest.raises(ReviewTaken):
        record_vote(db, first, reviewer_id=reviewer, vote=STUMP, at=over)
    db.expire_all()
    assert claim_review(db, first, reviewer_id=other, at=over).reviewer_id == other
    moves = db.scalars(
        select(StateChange.action).where(StateChange.subject_id == first).order_by(StateChange.id)
    ).all()
    assert list(moves) == ["claim", "open", "expire", "requeue", "claim"]


def test_who_steps_back_is_replaced_by_a_fresh_review(db: Session) -> None:
    handed = hand_in(db, reviews=1)
    first = review_ids(db, handed)[0]
    reviewer = make_reviewer(db)
    claim_review(db, first, reviewer_id=reviewer, at=LATER)
    recuse_reviewer(db, first, reviewer_id=reviewer, at=LATER)
    _, fresh = review_ids(db, handed)
    with pytest.raises(AlreadyReviewing):
        claim_review(db, fresh, reviewer_id=reviewer, at=LATER)
    other = make_reviewer(db)
    claim_review(db, fresh, reviewer_id=other, at=LATER)
    verdict = record_vote(db, fresh, reviewer_id=other, vote=STUMP, at=LATER)
    assert verdict is not None
    assert (verdict.votes, verdict.is_stump) == (1, True)


def test_a_vote_is_given_once_and_by_its_holder(db: Session) -> None:
    handed = hand_in(db)
    first = review_ids(db, handed)[0]
    reviewer = make_reviewer(db)
    with pytest.raises(ReviewTaken):
        record_vote(db, first, reviewer_id=reviewer, vote=STUMP, at=LATER)
    claim_review(db, first, reviewer_id=reviewer, at=LATER)
    with pytest.raises(ReviewTaken):
        record_vote(db, first, reviewer_id=make_reviewer(db), vote=STUMP, at=LATER)
    record_vote(db, first, reviewer_id=reviewer, vote=STUMP, at=LATER)
    with pytest.raises(ReviewTaken):
        record_vote(db, first, reviewer_id=reviewer, vote=RIGHT, at=LATER)
    with pytest.raises(ReviewNotFound):
        record_vote(db, new_id(), reviewer_id=reviewer, vote=STUMP, at=LATER)


@pytest.mark.parametrize(
    ("vote", "refusal"),
    [
        (Vote("reject", note=REASON), RejectionUnfounded),
        (Vote("reject", reason_code="wrong_answer", note="Wrong."), RejectionUnfounded),
        (Vote("reject", reason_code="wrong_answer", note=" " * 200), RejectionUnfounded),
        (Vote("reject", reason_code="i_said_so", note=REASON), VoteUnfit),
        (Vote("maybe"), VoteUnfit),
        (Vote("accept", seconds=-1), VoteUnfit),
        (Vote("accept", seconds=10**6), VoteUnfit),
        (Vote("accept", note="x" * 10_001), VoteUnfit),
        (Vote("accept", attempt_fair=True), VoteIncomplete),
        (Vote("accept", model_failed=True), VoteIncomplete),
    ],
)
def test_a_vote_that_does_not_say_enough_is_refused(vote: Vote, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        check_vote(vote, has_attempt=True)


def test_the_database_too_refuses_a_rejection_without_a_reason(db: Session) -> None:
    handed = hand_in(db, with_attempt=False)
    first = review_ids(db, handed)[0]
    reviewer = make_reviewer(db)
    claim_review(db, first, reviewer_id=reviewer, at=LATER)
    with pytest.raises(IntegrityError, match="ck_review_rejection"), db.begin_nested():
        db.execute(
            text(
                "update market.review set state = 'voted', verdict = 'reject', voted_at = now(),"
                " note = 'no', reason_code = 'incomplete' where id = :id"
            ),
            {"id": first},
        )


def test_the_database_lets_through_what_the_rules_list(db: Session) -> None:
    assert pairs_in_database(db, REVIEW) == REVIEW.pairs()


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(actions=st.lists(st.integers(0, 4), max_size=12))
def test_no_sequence_of_actions_leaves_the_table_and_history_folds_back(
    db: Session, actions: list[int]
) -> None:
    with db.begin_nested() as attempt:
        handed = hand_in(db, reviews=2)
        ids = review_ids(db, handed)
        people = [make_reviewer(db), make_reviewer(db)]
        at = LATER
        for nth, action in enumerate(actions):
            at += timedelta(seconds=CLAIM_S // 2)
            which, who = ids[nth % 2], people[nth // 2 % 2]
            acts: list[Callable[[], object]] = [
                partial(claim_review, db, which, reviewer_id=who, at=at),
                partial(open_review, db, which, reviewer_id=who, at=at),
                partial(record_vote, db, which, reviewer_id=who, vote=STUMP, at=at),
                partial(requeue_reviews, db, at=at, limit=9),
                partial(recuse_reviewer, db, which, reviewer_id=who, at=at),
            ]
            try:
                with db.begin_nested():
                    acts[action]()
            except (ReviewTaken, ReviewLapsed, AlreadyReviewing, StateConflict):
                db.expire_all()
        db.expire_all()
        for subject_id, start, state in [
            (handed.id, "draft", handed.state),
            *(
                (row.id, "queued", row.state)
                for row in db.scalars(select(Review).where(Review.submission_id == handed.id))
            ),
        ]:
            moves = db.scalars(
                select(StateChange)
                .where(StateChange.subject_id == subject_id)
                .order_by(StateChange.id)
            ).all()
            for move in moves:
                assert move.from_state == start
                start = move.to_state
            assert start == state
        attempt.rollback()
    db.expire_all()
