"""When the votes that are in are enough: people with a record, of one mind, and nobody at work."""

from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.enough.actions import KEPT, keep_look, stop_if_sure
from market.enough.jobs import stop_when_sure
from market.reviews.actions import claim_next_review, claim_review
from market.reviews.models import Review
from market.reviews.rules import ReviewTaken
from market.submissions.models import Submission
from market.verdicts.models import Verdict
from market.votes.actions import decide_early, record_vote
from market.votes.queries import perhaps_sure
from market.votes.rules import Vote
from tests.factories import AT
from tests.market.reviewed import (
    LATER,
    RIGHT,
    STUMP,
    hand_in_to,
    make_reviewer,
    plan_for,
    review_ids,
)


def vote(db: Session, handed: Submission, people: list[UUID], *said: Vote) -> None:
    """Let people vote, each on the review of its number."""
    for review_id, person, one in zip(review_ids(db, handed), people, said, strict=False):
        claim_review(db, review_id, reviewer_id=person, at=LATER)
        record_vote(db, review_id, reviewer_id=person, vote=one, at=LATER)


def states(db: Session, handed: Submission) -> list[str]:
    """Where the reviews of a submission stand, in their order."""
    rows = select(Review.state).where(Review.submission_id == handed.id).order_by(Review.number)
    return list(db.scalars(rows))


def test_reviewers_with_a_record_are_enough_before_all_have_voted_and_others_are_not(
    db: Session,
) -> None:
    project = plan_for(db, stop_at=0.9, control_rate=0.0)
    people = [make_reviewer(db) for _ in range(3)]
    known = hand_in_to(db, project)
    vote(db, known, people, STUMP, STUMP)
    assert perhaps_sure(db, since=AT, limit=9) == [known.id]
    assert perhaps_sure(db, since=LATER, limit=9) == []
    # Of people of whom nothing is known, two who agree are not enough.
    assert not stop_if_sure(db, known.id, at=LATER)
    for nth in range(8):
        vote(db, hand_in_to(db, project), people, *[STUMP if nth % 2 else RIGHT] * 3)
    apart, held, alone = (hand_in_to(db, project) for _ in range(3))
    vote(db, apart, people, STUMP, RIGHT)
    vote(db, held, people, STUMP, STUMP)
    claim_review(db, review_ids(db, held)[2], reviewer_id=people[2], at=LATER)
    vote(db, alone, people, STUMP)
    # Whoever is at work on a review is waited for.
    assert set(perhaps_sure(db, since=AT, limit=9)) == {known.id, apart.id}
    assert not stop_if_sure(db, held.id, at=LATER)
    assert not stop_if_sure(db, alone.id, at=LATER)
    # And who differs is never outweighed.
    assert not stop_if_sure(db, apart.id, at=LATER)
    assert states(db, apart) == ["voted", "voted", "queued"]
    # What somebody was sure of holds only of the votes that it knew.
    assert decide_early(db, known.id, votes=3, at=LATER) is None
    assert stop_if_sure(db, known.id, at=LATER)
    db.expire_all()
    verdict = db.get_one(Verdict, known.id)
    assert (verdict.votes, verdict.is_validated, verdict.is_stump) == (2, True, True)
    assert verdict.basis == "votes"
    assert states(db, known) == ["final", "final", "expired"]
    assert decide_early(db, known.id, votes=2, at=LATER) is None


def test_a_share_of_claims_is_asked_to_the_full_whatever_is_known(db: Session) -> None:
    project = plan_for(db, stop_at=0.8, control_rate=1.0)
    people = [make_reviewer(db) for _ in range(3)]
    for _ in range(8):
        handed = hand_in_to(db, project)
        vote(db, handed, people, STUMP, STUMP)
        assert not stop_if_sure(db, handed.id, at=LATER)
    # Nor does the clock's job, for which all of this is long ago.
    stop_when_sure("now")
    assert states(db, handed) == ["voted", "voted", "queued"]


@pytest.mark.parametrize("control_rate", [0.0, 1.0])
def test_the_next_look_is_kept_for_whose_vote_tells_the_most_and_not_in_the_control_group(
    db: Session, control_rate: float
) -> None:
    project = plan_for(db, stop_at=0.999, control_rate=control_rate)
    careless, sound, one, other, away = (make_reviewer(db) for _ in range(5))
    for nth in range(10):
        holds, fails = (STUMP, RIGHT) if nth % 2 else (RIGHT, STUMP)
        guess = holds if nth % 4 < 2 else fails
        said = ([one, other][nth % 2], sound, careless)
        vote(db, hand_in_to(db, project), list(said), holds, holds, guess)
    before = hand_in_to(db, project)
    split = hand_in_to(db, project)
    vote(db, split, [one, other], STUMP, RIGHT)
    assert not stop_if_sure(db, split.id, at=LATER)
    third = review_ids(db, split)[2]
    db.expire_all()
    kept = db.get_one(Review, third)
    if control_rate:
        assert (kept.reserved_for, kept.reserved_until) == (None, None)
        return
    # Neither the author's look nor that of who voted on it, nor of who has not been seen today.
    assert (kept.reserved_for, kept.reserved_until) == (sound, LATER + KEPT)
    with pytest.raises(ReviewTaken):
        claim_review(db, third, reviewer_id=careless, at=LATER)
    assert claim_next_review(db, reviewer_id=away, at=LATER).submission_id == before.id
    # Looked at again, it is not kept for longer, nor for another once its time is over.
    over = LATER + KEPT
    assert not stop_if_sure(db, split.id, at=LATER + KEPT / 2)
    assert not stop_if_sure(db, split.id, at=over)
    db.expire_all()
    assert db.get_one(Review, third).reserved_until == over
    assert claim_next_review(db, reviewer_id=sound, at=LATER).id == third


def test_a_look_kept_in_vain_is_anybodys(db: Session) -> None:
    handed = hand_in_to(db, plan_for(db, stop_at=0.9))
    first, other = make_reviewer(db), make_reviewer(db)
    assert keep_look(db, handed, first, at=LATER)
    assert not keep_look(db, handed, other, at=LATER)
    kept = review_ids(db, handed)[0]
    with pytest.raises(ReviewTaken):
        claim_review(db, kept, reviewer_id=other, at=LATER)
    assert claim_review(db, kept, reviewer_id=other, at=LATER + KEPT).reviewer_id == other


def test_work_under_another_plan_and_open_work_are_left_alone(db: Session) -> None:
    people = [make_reviewer(db) for _ in range(2)]
    plain = hand_in_to(db, plan_for(db))
    open_ = hand_in_to(db, plan_for(db, stop_at=0.8), with_attempt=False)
    vote(db, plain, people, STUMP, STUMP)
    vote(db, open_, people, Vote("accept"), Vote("accept"))
    assert perhaps_sure(db, since=AT, limit=9) == []
    assert not stop_if_sure(db, plain.id, at=LATER)
