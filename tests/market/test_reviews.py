"""Reviews, verdicts and stumps: who may vote, what votes decide, and what follows."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from market.attempts.actions import Answer, claim_stump, make_attempt, record_answer, submit_attempt
from market.attempts.models import Attempt
from market.auth import Part
from market.db import Scope, database, new_id
from market.events import Event, EventRow, StateChange
from market.reviews.actions import (
    claim_next_review,
    claim_review,
    open_review,
    open_reviews,
    recuse_reviewer,
    requeue_reviews,
)
from market.reviews.models import Review
from market.reviews.rules import (
    CLAIM_S,
    REVIEW,
    AlreadyReviewing,
    QueueEmpty,
    ReviewLapsed,
    ReviewNotFound,
    ReviewTaken,
    SelfReview,
)
from market.states import StateConflict
from market.submissions.models import Submission
from market.tasks.models import Task, TaskSlot
from market.verdicts.models import Verdict, VerdictChange
from market.verdicts.queries import progress
from market.verdicts.rules import wilson
from market.votes.actions import approve_by_silence, record_vote
from market.votes.queries import overdue_submissions
from market.votes.rules import (
    RejectionUnfounded,
    Tally,
    Vote,
    VoteIncomplete,
    VoteUnfit,
    check_vote,
)
from market.work.actions import start_session
from tests.factories import (
    AT,
    Caller,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
    pairs_in_database,
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
from tests.races import at_once

Web = TestClient[Any]
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


# Over HTTP ----------------------------------------------------------------------------------------


class Scene(NamedTuple):
    """A lab with a project, its author, and a submission that waits for its reviews."""

    lab: Caller
    author: Caller
    handed: Submission
    reviews: list[str]

    @property
    def project(self) -> str:
        """Where the project stands on the wire."""
        return f"/v1/projects/prj_{self.handed.project_id.hex}"


@pytest.fixture
def scene(db: Session, web: Web) -> Scene:
    """A stump that was handed in an hour ago."""
    lab = make_caller(db, web, Part.LAB)
    began = datetime.now(UTC) - timedelta(hours=1)
    handed = hand_in(db, at=began, organisation_id=lab.organisation_id)
    db.commit()
    author = key_for(db, web, handed.expert_id, Part.EXPERT)
    return Scene(lab, author, handed, [f"rev_{one.hex}" for one in review_ids(db, handed)])


BODY = {"verdict": "accept", "model_failed": True, "attempt_fair": True, "seconds": 30}


def test_three_reviewers_make_a_stump_and_everyone_sees_their_part(
    db: Session, web: Web, scene: Scene, react: Callable[[], list[str]]
) -> None:
    address = f"/v1/submissions/sub_{scene.handed.id.hex}"
    for nth, name in enumerate(scene.reviews):
        reviewer = make_caller(db, web, Part.REVIEWER)
        queue = reviewer.get("/v1/reviews?state=queued").json()["items"]
        assert [row["id"] for row in queue] == scene.reviews[nth:]
        shown = reviewer.post(f"/v1/reviews/{name}/claim")
        assert shown.status_code == 200, shown.text
        work = shown.json()
        assert work["payload"] == {"why": "it adds"}
        assert work["attempt"]["responses"][0]["output"] == "Answer: 5"
        # Work is reviewed blind: neither the author nor any other vote is named.
        assert scene.handed.expert_id.hex not in shown.text
        assert reviewer.get(f"/v1/reviews/{name}").json()["task"]
        assert reviewer.post(f"/v1/reviews/{name}/open").json()["state"] == "in_progress"
        assert scene.author.get(address).json()["votes"] == []
        voted = reviewer.post(f"/v1/reviews/{name}/vote", json=BODY)
        assert voted.status_code == 200, voted.text
        assert (voted.json()["verdict"] is not None) == (nth == 2)
        assert reviewer.get("/v1/reviews").json()["items"][0]["id"] == name
    react()
    seen = scene.author.get(address).json()
    assert seen["state"] == "accepted"
    assert (seen["verdict"]["is_stump"], len(seen["votes"])) == (True, 3)
    assert scene.lab.get(address).json()["attempt"]["reference"] == "4"
    stumps = scene.lab.get(f"{scene.project}/stumps").json()
    assert [row["submission_id"] for row in stumps["items"]] == [address[16:]]
    proof = stumps["items"][0]
    assert (proof["prompt"], proof["outputs"][0]["output"]) == ("2 + 2?", "Answer: 5")
    assert len(proof["outputs"][0]["response_digest"]) == 64
    assert [vote["model_failed"] for vote in proof["votes"]] == [True] * 3
    found = scene.lab.get(f"{scene.project}/progress").json()
    assert found["volume"]["submitted"] == found["volume"]["decided"] == 1
    assert found["volume"]["recorded_s"] == 60
    assert found["quality"]["stumps"]["value"] == 1.0
    assert 0.2 < found["quality"]["stumps"]["low"] < 0.21
    assert found["speed"]["median_work_s"] == 60


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({**BODY, "verdict": "reject"}, 422, "evidence_required"),
        ({**BODY, "verdict": "reject", "note": REASON}, 422, "evidence_required"),
        ({**BODY, "verdict": "reject", "reason_code": "incomplete"}, 422, "evidence_required"),
        ({**BODY, "verdict": "maybe"}, 422, "invalid_body"),
        ({"verdict": "accept"}, 422, "vote_incomplete"),
        ({**BODY, "seconds": -5}, 422, "vote_unfit"),
        ({**BODY, "reason_code": "because"}, 422, "vote_unfit"),
        ({**BODY, "note": "a\x00b"}, 422, "value_unstorable"),
        ({**BODY, "is_stump": True}, 422, "invalid_body"),
        ({}, 422, "invalid_body"),
    ],
)
def test_a_vote_that_does_not_fit_is_refused_in_words(
    db: Session, web: Web, scene: Scene, body: dict[str, Any], status: int, code: str
) -> None:
    reviewer = make_caller(db, web, Part.REVIEWER)
    reviewer.post(f"/v1/reviews/{scene.reviews[0]}/claim")
    answer = reviewer.post(f"/v1/reviews/{scene.reviews[0]}/vote", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_wrong_claims_and_votes_are_refused_in_words(db: Session, web: Web, scene: Scene) -> None:
    first, second, _ = scene.reviews
    reviewer, other = (make_caller(db, web, Part.REVIEWER) for _ in range(2))
    own = key_for(db, web, scene.handed.expert_id, Part.REVIEWER)

    def said(answer: Any) -> tuple[int, str]:
        return answer.status_code, answer.json()["code"]

    assert said(own.post(f"/v1/reviews/{first}/claim")) == (403, "self_review_forbidden")
    assert own.get("/v1/reviews?state=queued").json()["items"] == []
    assert own.get(f"/v1/reviews/{first}").status_code == 404
    assert said(own.post("/v1/review-claims")) == (404, "queue_empty")
    assert said(reviewer.post(f"/v1/reviews/{first}/vote", json=BODY)) == (409, "review_taken")
    assert reviewer.post(f"/v1/reviews/{first}/claim").status_code == 200
    assert said(other.post(f"/v1/reviews/{first}/claim")) == (409, "review_taken")
    assert said(reviewer.post(f"/v1/reviews/{second}/claim")) == (409, "already_reviewing")
    assert said(other.post(f"/v1/reviews/{first}/vote", json=BODY)) == (409, "review_taken")
    assert other.get(f"/v1/reviews/{first}").status_code == 404
    assert reviewer.post(f"/v1/reviews/{first}/vote", json=BODY).status_code == 200
    assert said(reviewer.post(f"/v1/reviews/{first}/vote", json=BODY)) == (409, "review_taken")
    assert other.post("/v1/review-claims").json()["id"] == second
    assert said(other.post(f"/v1/reviews/{first}/recuse")) == (409, "review_taken")
    assert other.post(f"/v1/reviews/{second}/recuse").json()["state"] == "recused"
    for bad in ("rev_1", "sub_" + "0" * 32, "rev_" + "0" * 32):
        for action in ("claim", "vote", "open", "recuse"):
            body = BODY if action == "vote" else None
            answer = reviewer.post(f"/v1/reviews/{bad}/{action}", json=body)
            assert said(answer) == (404, "not_found"), action
    assert said(scene.author.post(f"/v1/reviews/{second}/claim")) == (403, "scope_missing")
    assert said(scene.lab.post(f"/v1/reviews/{second}/claim")) == (403, "scope_missing")


def test_a_reviewer_sees_before_its_claim_only_that_work_waits(
    db: Session, web: Web, scene: Scene
) -> None:
    reviewer = make_caller(db, web, Part.REVIEWER)
    seen = reviewer.get(f"/v1/reviews/{scene.reviews[0]}").json()
    assert "payload" not in seen
    with database.begin(Scope("stumpwork_reviewer", reviewer.person_id)) as session:
        assert len(session.scalars(select(Review)).all()) == 3
        assert session.scalars(select(Submission)).all() == []
        assert session.scalars(select(Attempt)).all() == []
        assert session.scalars(select(Task)).all() == []


def test_a_stranger_sees_neither_stumps_nor_progress_nor_submissions(
    db: Session, web: Web, scene: Scene
) -> None:
    cast(db, scene.handed, STUMP, STUMP, STUMP, at=datetime.now(UTC))
    db.commit()
    other = make_caller(db, web, Part.LAB)
    for address in (f"{scene.project}/stumps", f"{scene.project}/progress"):
        assert other.get(address).status_code == 404
        assert scene.lab.get(address).status_code == 200
        assert scene.author.get(address).status_code == 403
    for part in (Part.LAB, Part.EXPERT):
        stranger = make_caller(db, web, part)
        assert stranger.get(f"/v1/submissions/sub_{scene.handed.id.hex}").status_code == 404
        assert stranger.get("/v1/submissions").json()["items"] == []


def test_stumps_come_in_pages(db: Session, web: Web) -> None:
    lab = make_caller(db, web, Part.LAB)
    assert lab.organisation_id is not None
    project = make_project(db, lab.organisation_id, reviews_per_submission=1)
    for _ in range(3):
        offer = make_offer(db, make_task(db, project), make_expert(db).id)
        cast(db, hand_in(db, offer=offer), STUMP)
    db.commit()
    address, cursor = f"/v1/projects/prj_{project.id.hex}/stumps", ""
    seen: list[str] = []
    for _ in range(3):
        found = lab.get(f"{address}?limit=1{cursor}").json()
        seen.extend(row["submission_id"] for row in found["items"])
        cursor = f"&cursor={found['next_cursor']}"
    assert (len(set(seen)), found["has_more"]) == (3, False)
    assert seen == sorted(seen, reverse=True)
    bad = lab.get(f"{address}?cursor=abc")
    assert (bad.status_code, bad.json()["code"]) == (400, "bad_cursor")
    shown = progress(db, project.id, at=LATER)
    assert (shown.stumps.part, shown.stumps.whole, shown.tasks_accepted) == (3, 3, 3)


def test_an_author_reads_why_it_was_rejected(db: Session, scene: Scene) -> None:
    cast(db, scene.handed, *[REJECT_STUMP] * 3, at=datetime.now(UTC))
    db.commit()
    seen = scene.author.get(f"/v1/submissions/sub_{scene.handed.id.hex}").json()
    assert (seen["state"], seen["verdict"]["is_accepted"]) == ("rejected", False)
    assert {vote["reason_code"] for vote in seen["votes"]} == {"wrong_answer"}
    assert all(vote["note"] == REASON for vote in seen["votes"])


def test_a_verdict_is_changed_one_version_after_another_and_the_old_words_stay(
    db: Session, scene: Scene
) -> None:
    cast(db, scene.handed, STUMP, STUMP, STUMP)
    with pytest.raises(IntegrityError, match="verdict_version"), db.begin_nested():
        db.execute(text("update market.verdict set is_stump = false"))
    with pytest.raises(DBAPIError), db.begin_nested():
        db.execute(text("delete from market.verdict"))
    db.execute(text("update market.verdict set is_stump = false, version = version + 1"))
    [kept] = db.scalars(select(VerdictChange))
    assert (kept.version, kept.verdict["is_stump"]) == (1, True)
    with pytest.raises(DBAPIError), db.begin_nested():
        db.execute(text("update market.verdict_change set verdict = '{}'"))


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
