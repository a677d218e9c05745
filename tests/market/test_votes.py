"""What votes come to beside yes and no: parts, rework, draws, further levels, seniors, ties."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.testing import TestClient
from sqlalchemy import func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.attempts.models import Attempt
from market.auth import Part
from market.db import new_id
from market.events import Event, EventRow, unfolded
from market.offers.models import Offer
from market.people.actions import claim_identity, sign_up
from market.projects.models import Project
from market.qualifications.actions import (
    begin_qualification,
    grade_qualification,
    invite_to_qualify,
)
from market.review_plans.actions import set_plan
from market.review_plans.models import ReviewDraw
from market.review_plans.rules import (
    FurtherLevel,
    Plan,
    PlanRefused,
    Record,
    SampleRule,
    choose,
)
from market.reviews.actions import claim_next_review, claim_review, open_reviews, requeue_reviews
from market.reviews.jobs import clear_claim, recuse_conflicted
from market.reviews.models import Review
from market.reviews.rules import (
    CLAIM_S,
    RESERVED,
    ConflictOfInterest,
    LevelTooLow,
    QueueEmpty,
    ReviewTaken,
)
from market.submissions.actions import give_back, leave_offer, save_draft, submit_work
from market.submissions.models import Submission
from market.tasks.models import Task, TaskSlot
from market.verdicts.models import Verdict
from market.votes.actions import approve_by_silence, record_vote
from market.votes.queries import votes_below
from market.votes.rules import (
    RejectionUnfounded,
    ReworkRefused,
    Tally,
    Vote,
    VoteUnfit,
    check_vote,
)
from market.work.actions import end_session, start_session
from tests.factories import (
    AT,
    Caller,
    key_for,
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
    RIGHT,
    STUMP,
    cast,
    hand_in,
    make_reviewer,
    review_ids,
)

REMARK = "The third part says what was found and does not show how it was found."
REWORK = Vote("rework", note=REMARK)
PART = Vote("accept_share", share=60, note=REMARK)


def make_senior(db: Session, level: int = 2) -> UUID:
    """Someone who is qualified to review at a level."""
    person = make_reviewer(db)
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


def minute(nth: int) -> datetime:
    """A time for the nth piece of work of one author."""
    return AT + timedelta(minutes=2 * nth)


def states(db: Session, handed: Submission) -> Counter[str]:
    """The states of all reviews of a submission."""
    return Counter(db.scalars(select(Review.state).where(Review.submission_id == handed.id)))


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


@pytest.mark.parametrize(
    ("votes", "share"),
    [
        ((PART, PART, ACCEPT), 60),
        ((PART, REWORK, ACCEPT), 60),
        ((Vote("accept_share", share=20, note=REMARK), REJECT, PART), 20),
        ((PART, ACCEPT, ACCEPT), 100),
    ],
)
def test_what_most_find_too_little_is_taken_in_part(
    db: Session, votes: tuple[Vote, ...], share: int
) -> None:
    handed = hand_in(db, with_attempt=False)
    verdict = cast(db, handed, *votes)
    assert verdict is not None
    assert (verdict.share, verdict.is_accepted) == (share, True)
    assert handed.state == ("accepted" if share == 100 else "partially_accepted")
    assert db.get_one(TaskSlot, handed.slot_id).state == "counted"


shares = st.sampled_from([100, 70, 30, 0])


@given(said=st.lists(shares, min_size=1, max_size=7), rejects=st.integers(0, 7))
def test_what_votes_come_to_is_one_of_four_and_a_part_is_a_part(
    said: list[int], rejects: int
) -> None:
    nothing = said.count(0)
    rejects = min(rejects, nothing)
    whole = len(said)
    found = Tally(whole, whole, rejects, 0, 0, nothing - rejects, tuple(said))
    assert (found.says == "reject") == (2 * rejects > whole)
    if found.says == "accept_share":
        assert 0 < found.share < 100
    if found.says == "accept":
        assert 2 * said.count(100) >= whole
    if found.is_certain(has_claim=False):
        assert found.says in ("accept", "reject")


@given(
    votes=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=5),
    first=st.integers(1, 5),
)
def test_stopping_early_never_changes_what_is_decided(
    votes: list[tuple[bool, bool, bool]], first: int
) -> None:
    def counted(some: list[tuple[bool, bool, bool]]) -> Tally:
        rejects, failed, fair = (sum(one[nth] for one in some) for nth in range(3))
        shares = tuple(0 if one[0] else 100 for one in some)
        return Tally(len(votes), len(some), rejects, failed, fair, 0, shares)

    early, late = counted(votes[:first]), counted(votes)
    if early.is_certain(has_claim=True):
        assert (early.says, early.is_validated, early.is_fair) == (
            late.says,
            late.is_validated,
            late.is_fair,
        )


@pytest.mark.parametrize(
    ("vote", "refusal"),
    [
        (Vote("accept_share", note=REMARK), VoteUnfit),
        (Vote("accept_share", share=0, note=REMARK), VoteUnfit),
        (Vote("accept_share", share=100, note=REMARK), VoteUnfit),
        (Vote("accept", share=50), VoteUnfit),
        (Vote("accept_share", share=50, note="Meh."), VoteUnfit),
        (Vote("rework", note="Again."), VoteUnfit),
        (Vote("accept", criterion="tone"), VoteUnfit),
        (Vote("accept", task_broken=True), VoteUnfit),
        (REJECT, RejectionUnfounded),
    ],
)
def test_a_part_a_rework_and_a_rubric_have_their_own_demands(
    vote: Vote, refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        check_vote(vote, has_attempt=False, criteria=("facts", "proof"))


def test_a_rejection_points_to_a_criterion_of_the_tasks_rubric(db: Session) -> None:
    project = make_project(db, reviews_per_submission=1)
    rubric = {"rubric": {"criteria": [{"id": "facts"}, {"id": "proof"}]}}
    offer = make_offer(db, make_task(db, project, payload=rubric), make_expert(db).id)
    handed = hand_in(db, offer=offer, with_attempt=False)
    with pytest.raises(RejectionUnfounded, match="criterion"), db.begin_nested():
        cast(db, handed, REJECT)
    pointed = Vote("reject", reason_code="wrong_answer", note=REASON, criterion="proof")
    verdict = cast(db, handed, pointed)
    assert verdict is not None
    assert db.scalars(select(Review.criterion)).one() == "proof"


# Draws --------------------------------------------------------------------------------------------


def test_an_author_with_a_record_is_reviewed_by_draw_and_every_draw_can_be_made_again(
    db: Session,
) -> None:
    rule = SampleRule(rate=0.25, min_decided=3, min_accepted=0.4)
    project = plan_for(db, votes=1, rules=(rule,), control_rate=0.1)
    expert = make_expert(db, max_concurrent=100).id
    for nth in range(3):
        handed = hand_in_to(db, project, expert=expert, with_attempt=False, at=minute(nth))
        cast(db, handed, ACCEPT)
    spared = []
    for nth in range(40):
        handed = hand_in_to(db, project, expert=expert, with_attempt=False, at=minute(3 + nth))
        drawn = db.get_one(ReviewDraw, (handed.id, 1, 1))
        assert (drawn.rule, drawn.rate, drawn.plan_version) == (0, 0.25, 1)
        record = Record(drawn.decided, drawn.accepted, drawn.low)
        again = choose(
            Plan(rules=(rule,), control_rate=0.1),
            record,
            submission_id=handed.id,
            round_=1,
            version=1,
        )
        assert (again.is_reviewed, again.draw) == (drawn.votes == 1, drawn.draw)
        if drawn.votes == 0:
            spared.append(handed.id)
            assert handed.state == "accepted"
            verdict = db.get_one(Verdict, handed.id)
            assert (verdict.basis, verdict.votes, verdict.is_stump) == ("sample", 0, False)
        else:
            cast(db, handed, ACCEPT)
    assert 20 <= len(spared) <= 38
    # A claim is always looked at.
    claimed = hand_in_to(db, project, expert=expert, at=minute(50))
    assert db.get_one(ReviewDraw, (claimed.id, 1, 1)).votes == 1


def test_an_author_whose_work_was_rejected_is_reviewed_whole(db: Session) -> None:
    project = plan_for(db, votes=1, rules=(SampleRule(rate=0, min_decided=1, min_accepted=0.2),))
    expert = make_expert(db, max_concurrent=100).id
    handed = hand_in_to(db, project, expert=expert, with_attempt=False, at=minute(0))
    cast(db, handed, REJECT)
    handed = hand_in_to(db, project, expert=expert, with_attempt=False, at=minute(1))
    drawn = db.get_one(ReviewDraw, (handed.id, 1, 1))
    assert (drawn.rule, drawn.votes) == (None, 1)


def test_the_share_that_is_reviewed_at_random_is_the_one_that_was_set() -> None:
    plan = Plan(rules=(SampleRule(rate=0.2),), control_rate=0.1)
    found = [
        choose(plan, Record(0, 0, 0.0), submission_id=new_id(), round_=1, version=1)
        for _ in range(20_000)
    ]
    assert abs(sum(one.is_control for one in found) / 20_000 - 0.1) < 0.01
    assert abs(sum(one.is_reviewed for one in found) / 20_000 - 0.28) < 0.015


def test_a_majority_is_asked_first_and_others_only_when_they_can_change_anything(
    db: Session,
) -> None:
    project = plan_for(db, stop_early=True)
    agreed = hand_in_to(db, project)
    assert len(review_ids(db, agreed)) == 2
    verdict = cast(db, agreed, STUMP, STUMP)
    assert verdict is not None
    assert (verdict.votes, verdict.is_stump) == (2, True)
    apart = hand_in_to(db, project)
    assert cast(db, apart, STUMP, RIGHT) is None
    third = review_ids(db, apart)[2]
    person = make_reviewer(db)
    claim_review(db, third, reviewer_id=person, at=LATER)
    verdict = record_vote(db, third, reviewer_id=person, vote=STUMP, at=LATER)
    assert verdict is not None
    assert (verdict.votes, verdict.is_stump) == (3, True)


def test_validation_is_balanced_by_need(db: Session) -> None:
    handed = [hand_in(db, with_attempt=False) for _ in range(8)]
    people = [make_reviewer(db) for _ in range(6)]
    done: Counter[UUID] = Counter({one.id: 0 for one in handed})
    for nth in range(24):
        found = claim_next_review(db, reviewer_id=people[nth % 6], at=LATER)
        done[found.submission_id] += 1
        assert max(done.values()) - min(done.values()) <= 1
    assert set(done.values()) == {3}


def test_what_silence_would_decide_soon_comes_first(db: Session) -> None:
    hand_in(db, with_attempt=False)
    soon = hand_in(db, with_attempt=False, review_ttl_s=24 * 3600)
    found = claim_next_review(db, reviewer_id=make_reviewer(db), at=LATER)
    assert found.submission_id == soon.id


# Levels and seniors -------------------------------------------------------------------------------


def test_a_further_level_is_blind_until_it_votes_and_then_decides(db: Session) -> None:
    project = plan_for(db, votes=1, further=(FurtherLevel(level=2, rate=1.0, votes=1),))
    handed = hand_in_to(db, project, with_attempt=False)
    assert cast(db, handed, ACCEPT) is None
    assert (handed.state, states(db, handed)) == ("in_review", {"final": 1, "queued": 1})
    above = db.scalars(select(Review).where(Review.level == 2)).one()
    with pytest.raises(LevelTooLow):
        claim_review(db, above.id, reviewer_id=make_reviewer(db), at=LATER)
    with pytest.raises(QueueEmpty):
        claim_next_review(db, reviewer_id=make_reviewer(db), at=LATER)
    senior = make_senior(db)
    row = claim_next_review(db, reviewer_id=senior, at=LATER)
    assert (row.id, votes_below(db, row)) == (above.id, [])
    verdict = record_vote(db, row.id, reviewer_id=senior, vote=REJECT, at=LATER)
    assert verdict is not None
    assert (verdict.is_accepted, verdict.basis) == (False, "votes")
    db.expire_all()
    assert [one.verdict for one in votes_below(db, row)] == ["accept"]
    assert unfolded(db) == []


def disputed(db: Session, *votes: Vote, **plan: Any) -> tuple[Submission, Review]:
    """Work whose votes are split, and the review that is to settle it."""
    project = plan_for(db, votes=len(votes), **plan)
    handed = hand_in_to(db, project, with_attempt=False)
    assert cast(db, handed, *votes) is None
    case = db.scalars(select(Review).where(Review.kind == "adjudication")).one()
    return handed, case


@pytest.mark.parametrize(
    ("says", "submission", "task", "slot"),
    [
        (ACCEPT, "accepted", "accepted", "counted"),
        (REJECT, "rejected", "queued", "open"),
        (
            Vote("reject", reason_code="unclear", note=REASON, task_broken=True),
            "rejected",
            "unresolvable",
            "released",
        ),
        (Vote("accept", task_broken=True), "accepted", "unresolvable", "counted"),
        (PART, "partially_accepted", "accepted", "counted"),
    ],
)
def test_split_votes_go_to_a_senior_who_reads_them_and_decides(
    db: Session, says: Vote, submission: str, task: str, slot: str
) -> None:
    handed, case = disputed(db, ACCEPT, REJECT)
    assert db.get_one(Task, handed.task_id).state == "disputed"
    assert states(db, handed) == {"conflict": 2, "queued": 1}
    with pytest.raises(LevelTooLow):
        claim_review(db, case.id, reviewer_id=make_reviewer(db), at=LATER)
    senior, other = make_senior(db), make_senior(db)
    claim_review(db, case.id, reviewer_id=other, at=LATER)
    over = LATER + timedelta(seconds=CLAIM_S)
    assert requeue_reviews(db, at=over, limit=9) == 1
    db.expire_all()
    row = claim_review(db, case.id, reviewer_id=senior, at=over)
    assert [one.verdict for one in votes_below(db, row)] == ["accept", "reject"]
    assert states(db, handed) == {"adjudicating": 2, "claimed": 1}
    verdict = record_vote(db, case.id, reviewer_id=senior, vote=says, at=over)
    assert verdict is not None
    assert verdict.basis == "adjudication"
    db.expire_all()
    assert states(db, handed) == {"final": 3}
    assert (handed.state, db.get_one(Task, handed.task_id).state) == (submission, task)
    assert db.get_one(TaskSlot, handed.slot_id).state == slot
    assert unfolded(db) == []


def test_a_senior_may_send_work_back_and_silence_ends_a_dispute_for_the_author(
    db: Session,
) -> None:
    handed, case = disputed(db, ACCEPT, REJECT)
    senior = make_senior(db)
    claim_review(db, case.id, reviewer_id=senior, at=LATER)
    assert record_vote(db, case.id, reviewer_id=senior, vote=REWORK, at=LATER) is None
    db.expire_all()
    assert handed.state == "rework_requested"
    waiting = hand_in_to(db, handed.project_id, with_attempt=False)
    assert cast(db, waiting, ACCEPT, REJECT) is None
    verdict = approve_by_silence(db, waiting.id, at=LATER)
    assert verdict is not None
    assert (verdict.is_accepted, verdict.basis) == (True, "silence")
    db.expire_all()
    assert db.get_one(Task, waiting.task_id).state == "accepted"
    assert unfolded(db) == []


def test_a_project_may_send_every_dissent_to_a_senior(db: Session) -> None:
    handed, _ = disputed(db, ACCEPT, ACCEPT, REJECT, adjudicate="splits")
    assert states(db, handed) == {"conflict": 3, "queued": 1}


def test_a_plan_that_names_a_level_twice_is_refused(db: Session) -> None:
    twice = FurtherLevel(level=2, rate=0.5)
    with pytest.raises(PlanRefused):
        plan_for(db, further=(twice, twice))


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


# Over HTTP ----------------------------------------------------------------------------------------


def test_a_lab_sets_its_plan_and_everyone_reads_what_was_drawn(
    db: Session, web: TestClient[Any]
) -> None:
    lab = make_caller(db, web, Part.LAB)
    handed = hand_in(db, reviews=2, with_attempt=False, organisation_id=lab.organisation_id)
    db.commit()
    path = f"/v1/projects/prj_{handed.project_id.hex}/review-plan"
    assert lab.get(path).json()["version"] == 0
    body = {"adjudicate": "splits", "rules": [{"rate": 0.5, "min_decided": 20}]}
    assert lab.put(path, json=body).json()["version"] == 1
    assert lab.get(path).json()["plan"]["rules"][0]["rate"] == 0.5
    level = {"level": 2, "rate": 1}
    wrong = lab.put(path, json={"further": [level, level]})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "plan_refused")
    wrong = lab.put(path, json={"adjudicate": "always"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_body")
    author = key_for(db, web, handed.expert_id, Part.EXPERT)
    for reader in (lab, author):
        [drawn] = reader.get(f"/v1/submissions/sub_{handed.id.hex}/draws").json()["items"]
        assert (drawn["level"], drawn["votes"], drawn["plan_version"]) == (1, 2, 0)


def reviewer_with(db: Session, web: TestClient[Any], ops: Caller, level: int) -> Caller:
    """A reviewer who was asked, tested and graded over HTTP."""
    person = make_caller(db, web, Part.REVIEWER)
    body = {"person_id": f"per_{person.person_id.hex}", "review_level": level}
    asked = ops.post("/v1/qualifications", json=body)
    assert asked.status_code == 201, asked.text
    address = f"/v1/qualifications/{asked.json()['id']}"
    assert person.post(f"{address}/begin").json()["state"] == "in_progress"
    graded = ops.post(f"{address}/transitions", json={"action": "grade", "score": 88})
    assert graded.json()["state"] == "granted"
    return person


def test_refusals_of_levels_ties_and_rework_are_told_in_words(
    db: Session, web: TestClient[Any]
) -> None:
    ops = make_caller(db, web, Part.OPS)
    began = datetime.now(UTC) - timedelta(hours=1)
    handed = hand_in(db, reviews=2, with_attempt=False, at=began, cap_s=600)
    set_plan(db, handed.project_id, Plan(), at=AT)
    late = hand_in_to(db, handed.project_id, with_attempt=False, at=began)
    db.commit()
    first, second = (f"rev_{one.hex}" for one in review_ids(db, late))
    people = [make_caller(db, web, Part.REVIEWER) for _ in range(3)]
    told = people[2].post("/v1/me/identity-claims", json={"kind": "device", "value": "d"})
    assert told.status_code == 201
    ops.post(
        f"/v1/people/per_{late.expert_id.hex}/identity-claims",
        json={"kind": "device", "value": "D"},
    )
    refused = people[2].post(f"/v1/reviews/{first}/claim")
    assert (refused.status_code, refused.json()["code"]) == (403, "conflict_of_interest")
    assert late.expert_id.hex not in refused.text
    blank = people[2].post("/v1/me/identity-claims", json={"kind": "device", "value": " "})
    assert (blank.status_code, blank.json()["code"]) == (422, "claim_invalid")
    assert {one["kind"] for one in people[2].get("/v1/me/identity-claims").json()["items"]} == {
        "email",
        "device",
    }
    people[0].post(f"/v1/reviews/{first}/claim")
    body = {"verdict": "rework", "note": REMARK}
    refused = people[0].post(f"/v1/reviews/{first}/vote", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "rework_refused")
    people[0].post(f"/v1/reviews/{first}/vote", json={"verdict": "accept"})
    people[1].post(f"/v1/reviews/{second}/claim")
    rejected = {"verdict": "reject", "reason_code": "unclear", "note": REASON}
    people[1].post(f"/v1/reviews/{second}/vote", json=rejected)
    case = f"rev_{review_ids(db, late)[2].hex}"
    fresh = make_caller(db, web, Part.REVIEWER)
    refused = fresh.post(f"/v1/reviews/{case}/claim")
    assert (refused.status_code, refused.json()["code"]) == (403, "level_too_low")
    senior = reviewer_with(db, web, ops, 2)
    assert senior.post(f"/v1/reviews/{case}/claim").status_code == 200
    below = senior.get(f"/v1/reviews/{case}/votes-below").json()["items"]
    assert [one["verdict"] for one in below] == ["accept", "reject"]
    assert people[0].get(f"/v1/reviews/{case}/votes-below").status_code == 404
    done = senior.post(f"/v1/reviews/{case}/vote", json={"verdict": "accept"}).json()
    assert done["verdict"]["basis"] == "adjudication"


def test_whoever_stops_working_is_told_of_every_move(db: Session) -> None:
    handed, offer, _ = rework_asked(db)
    started = start_session(db, offer.id, expert_id=offer.expert_id, at=LATER)
    end_session(db, started.id, expert_id=offer.expert_id, at=LATER)
    told = set(db.scalars(select(EventRow.type).where(EventRow.subject_id == handed.id)))
    assert {Event.SUBMISSION_SUBMITTED, Event.SUBMISSION_REWORK_REQUESTED} <= told
