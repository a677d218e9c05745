"""Review plans: what is drawn, further levels, seniors, and how a lab sets them."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import new_id
from market.moves import unfolded
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
from market.reviews.actions import claim_next_review, claim_review, requeue_reviews
from market.reviews.models import Review
from market.reviews.rules import (
    CLAIM_S,
    LevelTooLow,
    QueueEmpty,
)
from market.submissions.models import Submission
from market.tasks.models import Task, TaskSlot
from market.verdicts.models import Verdict
from market.votes.actions import approve_by_silence, record_vote
from market.votes.queries import votes_below
from market.votes.rules import (
    Vote,
)
from tests.factories import (
    AT,
    Caller,
    key_for,
    make_caller,
    make_expert,
)
from tests.market.reviewed import (
    ACCEPT,
    LATER,
    PART,
    REASON,
    REJECT,
    REMARK,
    REWORK,
    RIGHT,
    STUMP,
    cast,
    hand_in,
    hand_in_to,
    make_reviewer,
    make_senior,
    minute,
    plan_for,
    review_ids,
    states,
)

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
