"""Reviewers at once: one review, one verdict, one resolved task, however they meet."""

from collections.abc import Callable
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import func, select

from market.db import database
from market.events import Event, EventRow
from market.reviews.actions import (
    claim_next_review,
    claim_review,
)
from market.reviews.models import Review
from market.reviews.rules import (
    ReviewTaken,
)
from market.tasks.models import Task
from market.verdicts.models import Verdict
from market.votes.actions import approve_by_silence, record_vote
from tests.factories import (
    make_expert,
    make_offer,
    make_project,
    make_task,
)
from tests.market.reviewed import (
    ACCEPT,
    LATER,
    STUMP,
    hand_in,
    make_reviewer,
    review_ids,
)
from tests.races import at_once

# Races --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("committed")
def test_of_two_reviewers_who_claim_one_review_one_gets_it() -> None:
    with database.begin() as session:
        handed = hand_in(session, reviews=1)
        people = [make_reviewer(session) for _ in range(6)]
        review_id = review_ids(session, handed)[0]

    def claim(person: UUID) -> UUID | None:
        with database.begin() as session:
            return claim_review(session, review_id, reviewer_id=person, at=LATER).reviewer_id

    found = at_once([partial(claim, person) for person in people])
    assert sum(isinstance(one, UUID) for one in found) == 1
    assert sum(isinstance(one, ReviewTaken) for one in found) == 5


@pytest.mark.usefixtures("committed")
def test_the_queue_gives_each_reviewer_another_review() -> None:
    with database.begin() as session:
        for _ in range(6):
            hand_in(session, reviews=1)
        people = [make_reviewer(session) for _ in range(6)]

    def claim(person: UUID) -> UUID:
        with database.begin() as session:
            return claim_next_review(session, reviewer_id=person, at=LATER).id

    found = at_once([partial(claim, person) for person in people])
    assert len({one for one in found if isinstance(one, UUID)}) == 6, found


@pytest.mark.usefixtures("committed")
def test_one_person_claims_one_review_of_a_submission_however_fast() -> None:
    with database.begin() as session:
        handed = hand_in(session, reviews=4)
        person = make_reviewer(session)
        ids = review_ids(session, handed)

    def claim(review_id: UUID) -> UUID:
        with database.begin() as session:
            return claim_review(session, review_id, reviewer_id=person, at=LATER).id

    def claim_next() -> UUID:
        with database.begin() as session:
            return claim_next_review(session, reviewer_id=person, at=LATER).id

    acts: list[Callable[[], UUID]] = [*(partial(claim, one) for one in ids), claim_next, claim_next]
    found = at_once(acts)
    # Claiming again what one holds is no second claim.
    assert len({one for one in found if isinstance(one, UUID)}) == 1, found
    with database.begin() as session:
        held = select(func.count()).select_from(Review).where(Review.reviewer_id == person)
        assert session.scalar(held) == 1


@pytest.mark.usefixtures("committed")
def test_the_last_two_votes_at_once_give_one_verdict() -> None:
    for _ in range(4):
        with database.begin() as session:
            handed = hand_in(session, reviews=3)
            held = []
            for review_id in review_ids(session, handed):
                person = make_reviewer(session)
                claim_review(session, review_id, reviewer_id=person, at=LATER)
                held.append((review_id, person))

        def vote(review_id: UUID, person: UUID) -> bool:
            with database.begin() as session:
                found = record_vote(session, review_id, reviewer_id=person, vote=STUMP, at=LATER)
                return found is not None

        found = at_once([partial(vote, *one) for one in held])
        assert sorted(map(bool, found)) == [False, False, True]
        with database.begin() as session:
            verdict = session.get_one(Verdict, handed.id)
            assert (verdict.votes, verdict.is_stump) == (3, True)
            recorded = select(func.count()).select_from(EventRow)
            recorded = recorded.where(
                EventRow.subject_id == handed.id, EventRow.type == Event.VERDICT_RECORDED
            )
            assert session.scalar(recorded) == 1


@pytest.mark.usefixtures("committed")
def test_a_last_vote_and_silence_at_once_give_one_verdict() -> None:
    with database.begin() as session:
        handed = hand_in(session, reviews=1)
        review_id, person = review_ids(session, handed)[0], make_reviewer(session)
        claim_review(session, review_id, reviewer_id=person, at=LATER)

    def vote() -> bool:
        with database.begin() as session:
            vote = record_vote(session, review_id, reviewer_id=person, vote=STUMP, at=LATER)
            return vote is not None

    def wait() -> bool:
        with database.begin() as session:
            return approve_by_silence(session, handed.id, at=LATER) is not None

    found = at_once([vote, wait])
    assert sum(one is True for one in found) == 1, found
    with database.begin() as session:
        assert len(session.scalars(select(Verdict)).all()) == 1


@pytest.mark.usefixtures("committed")
def test_two_verdicts_on_one_task_at_once_resolve_it() -> None:
    with database.begin() as session:
        project = make_project(session, reviews_per_submission=1)
        task = make_task(session, project, slots=2)
        held = []
        for _ in range(2):
            offer = make_offer(session, task, make_expert(session).id)
            handed = hand_in(session, offer=offer, with_attempt=False)
            review_id, person = review_ids(session, handed)[0], make_reviewer(session)
            claim_review(session, review_id, reviewer_id=person, at=LATER)
            held.append((review_id, person))
        task_id = task.id

    def vote(review_id: UUID, person: UUID) -> bool:
        with database.begin() as session:
            found = record_vote(session, review_id, reviewer_id=person, vote=ACCEPT, at=LATER)
            return found is not None

    assert at_once([partial(vote, *one) for one in held]) == [True, True]
    with database.begin() as session:
        assert session.get_one(Task, task_id).state == "accepted"
