"""Conflicts of interest: nobody reviews the same hand, or whoever is tied to it."""

from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.auth import Part
from market.people.actions import claim_identity, sign_up
from market.reviews.actions import claim_next_review, claim_review
from market.reviews.jobs import recuse_conflicted
from market.reviews.models import Review
from market.reviews.rules import (
    ConflictOfInterest,
    QueueEmpty,
)
from market.votes.actions import record_vote
from tests.factories import (
    AT,
)
from tests.market.reviewed import (
    ACCEPT,
    LATER,
    REJECT,
    hand_in,
    make_reviewer,
    review_ids,
    states,
)

# Ties between people ------------------------------------------------------------------------------


def test_nobody_reviews_whoever_is_the_same_hand_over_any_number_of_claims(db: Session) -> None:
    handed = hand_in(db, with_attempt=False)
    first = review_ids(db, handed)[0]
    near, far, stranger = (make_reviewer(db) for _ in range(3))

    def claim(person: UUID, kind: str, value: str) -> None:
        claim_identity(db, person, kind, value, source="test", at=AT)

    claim(handed.expert_id, "payout_account", "DE89 3704 0044")
    claim(near, "payout_account", " de89 3704  0044")
    claim(near, "device", "a-device")
    claim(far, "device", "A-Device")
    claim(stranger, "device", "another")
    for person in (near, far):
        with pytest.raises(ConflictOfInterest):
            claim_review(db, first, reviewer_id=person, at=LATER)
        with pytest.raises(QueueEmpty):
            claim_next_review(db, reviewer_id=person, at=LATER)
    # The database itself refuses what the application might forget.
    with pytest.raises(IntegrityError, match="conflict_of_interest"), db.begin_nested():
        db.execute(
            text("update market.review set reviewer_id = :far where id = :id"),
            {"far": far, "id": first},
        )
    claim_review(db, first, reviewer_id=stranger, at=LATER)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("ada@people.example", "Ada+work@People.example", True),
        ("a.d.a@gmail.com", "ada+x@googlemail.com", True),
        ("a.da@people.example", "ada@people.example", False),
        ("ada@people.example", "ada@other.example", False),
    ],
)
def test_an_alias_of_an_address_is_the_same_hand(
    db: Session, one: str, other: str, is_same: bool
) -> None:
    author = sign_up(db, part=Part.REVIEWER, name="A", email=one, at=AT).person.id
    reviewer = sign_up(db, part=Part.REVIEWER, name="B", email=other, at=AT).person.id
    found = db.scalar(
        text("select market.in_conflict(:one, :other)"), {"one": author, "other": reviewer}
    )
    assert found is is_same


def test_an_institution_ties_people_without_making_them_one(db: Session) -> None:
    one, other, third = (make_reviewer(db) for _ in range(3))
    for person, value in ((one, "ETH Zürich"), (other, "eth zürich"), (other, "MIT")):
        claim_identity(db, person, "institution", value, source="test", at=AT)
    claim_identity(db, third, "institution", "MIT", source="test", at=AT)

    def tied(a: UUID, b: UUID) -> object:
        return db.scalar(text("select market.in_conflict(:a, :b)"), {"a": a, "b": b})

    assert (tied(one, other), tied(other, third), tied(one, third)) == (True, True, False)


def test_a_tie_that_comes_to_light_takes_the_review_away_even_after_the_vote(
    db: Session, react: Callable[[], list[str]]
) -> None:
    handed = hand_in(db, with_attempt=False)
    first, second, third = review_ids(db, handed)
    tied, honest = make_reviewer(db), make_reviewer(db)
    claim_review(db, first, reviewer_id=tied, at=LATER)
    record_vote(db, first, reviewer_id=tied, vote=ACCEPT, at=LATER)
    for person, which in ((honest, second), (make_reviewer(db), third)):
        claim_review(db, which, reviewer_id=person, at=LATER)
    claim_identity(db, tied, "device", "shared", source="test", at=LATER)
    claim_identity(db, handed.expert_id, "device", "shared", source="test", at=LATER)
    assert "recuse_conflicted" in react()
    recuse_conflicted(str(tied))
    assert states(db, handed) == {"recused": 1, "claimed": 2, "queued": 1}
    for which in (second, third):
        holder = db.get_one(Review, which).reviewer_id
        assert holder is not None
        assert record_vote(db, which, reviewer_id=holder, vote=REJECT, at=LATER) is None
    fresh = review_ids(db, handed)[3]
    last = make_reviewer(db)
    claim_review(db, fresh, reviewer_id=last, at=LATER)
    verdict = record_vote(db, fresh, reviewer_id=last, vote=ACCEPT, at=LATER)
    assert verdict is not None
    # The vote that was taken out counts for nobody.
    assert (verdict.votes, verdict.rejects, verdict.is_accepted) == (3, 2, False)
