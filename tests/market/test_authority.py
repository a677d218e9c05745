"""Who may accept work: a checklist, people, or both together; and what silence pays."""

from datetime import timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.earnings.actions import accrue_submission
from market.earnings.models import Earning
from market.events import EventRow
from market.review_plans.actions import set_plan
from market.review_plans.models import ReviewDraw
from market.review_plans.rules import (
    Check,
    Plan,
    PlanRefused,
    SampleRule,
    check_plan,
    silence_accepts,
    unmet,
)
from market.reviews.actions import claim_review, open_reviews
from market.submissions.models import Submission
from market.verdicts.models import Verdict
from market.votes.actions import approve_by_silence, record_vote
from market.votes.queries import overdue_submissions
from market.votes.rules import ChecklistUnmet
from tests.factories import AT, key_for, make_caller, make_expert, make_project, make_task
from tests.market.earned import hand_in as hand_in_row
from tests.market.earned import make_active_offer, work_on
from tests.market.reviewed import (
    ACCEPT,
    LATER,
    PART,
    REJECT,
    REWORK,
    cast,
    hand_in_to,
    make_reviewer,
    plan_for,
    review_ids,
)

BOXES = (
    Check(field="poem", kind="lines", number=2),
    Check(field="poem", kind="most_words", number=12),
    Check(field="poem", kind="capitals", text="Orpheus"),
    Check(field="poem", kind="ends", text="."),
)
FLAT = "ORPHEUS walked and ORPHEUS sang,\nand that was all the song."
"""It ticks every box, and nobody would call it a poem."""

LOWER = "Orpheus walked and ORPHEUS sang,\nand that was all the song."
OVERDUE = AT + timedelta(days=30)


@pytest.mark.parametrize(
    ("check", "met", "missed"),
    [
        (Check(field="a", kind="least_words", number=2), "two words", "one"),
        (Check(field="a", kind="most_words", number=2), "two words", "now three words"),
        (Check(field="a", kind="lines", number=2), "one\n\n  two\n", "one"),
        (Check(field="a", kind="contains", text="[x]"), "has [x] in it", "has x in it"),
        (Check(field="a", kind="lacks", text="!"), "calm", "loud!"),
        (Check(field="a", kind="begins", text="Dear"), "  Dear you", "My Dear"),
        (Check(field="a", kind="ends", text="."), "Done.\n", "Done"),
        (Check(field="a", kind="capitals", text="Rilke"), "RILKE, and RILKE", "RILKE, and Rilke"),
    ],
)
def test_a_box_is_ticked_by_the_text_alone(check: Check, met: str, missed: str) -> None:
    assert unmet([check], {"a": met}) == ()
    # What is no text, or is not there, meets nothing, not even a check of what must be missing.
    for payload in ({"a": missed}, {"a": 3}, {"a": None}, {"b": met}):
        assert unmet([check], payload) == (check.told(),)


@pytest.mark.parametrize(
    "plan",
    [
        Plan(authority="checklist"),
        Plan(authority="both"),
        Plan(authority="panel", checks=BOXES),
        Plan(checks=BOXES),
        Plan(authority="both", checks=(Check(field="a", kind="lines"),)),
        Plan(authority="both", checks=(Check(field="a", kind="lines", number=1, text="a"),)),
        Plan(authority="both", checks=(Check(field="a", kind="ends", number=1),)),
    ],
)
def test_a_checklist_without_authority_or_an_authority_without_one_is_refused(plan: Plan) -> None:
    with pytest.raises(PlanRefused) as refused:
        check_plan(plan)
    assert refused.value.field == "checks"


# What becomes of work before anybody looks, when people take it, when they send it back, when they
# refuse it, and when they say nothing.
MATRIX = {
    (None, FLAT): ("accepted", "", "", "", ""),
    (None, LOWER): ("accepted", "", "", "", ""),
    ("checklist", FLAT): ("accepted", "", "", "", ""),
    ("checklist", LOWER): ("waits", "accepted", "rework_requested", "rejected", "waits"),
    ("panel", FLAT): ("waits", "accepted", "rework_requested", "rejected", "waits"),
    ("panel", LOWER): ("waits", "accepted", "rework_requested", "rejected", "waits"),
    ("both", FLAT): ("waits", "accepted", "rework_requested", "rejected", "waits"),
    ("both", LOWER): ("waits", "refused", "rework_requested", "rejected", "waits"),
}


@pytest.mark.parametrize(("authority", "poem"), MATRIX)
def test_who_accepts_is_what_the_project_says(db: Session, authority: Any, poem: str) -> None:
    # A rule that spares everybody: without an authority nobody is asked at all.
    project = plan_for(
        db,
        votes=1,
        rules=(SampleRule(rate=0),),
        control_rate=0,
        authority=authority,
        checks=BOXES if authority in ("checklist", "both") else (),
    )
    first, *then = MATRIX[authority, poem]
    missed = [BOXES[2].told()] if poem == LOWER and authority in ("checklist", "both") else []
    for vote, wanted in zip((ACCEPT, REWORK, REJECT, None), then, strict=True):
        handed = hand_in_to(db, project, with_attempt=False, payload={"poem": poem})
        drawn = db.get_one(ReviewDraw, (handed.id, 1, 1))
        assert (drawn.authority, drawn.unmet) == (authority, missed)
        if first == "accepted":
            assert (handed.state, drawn.votes) == ("accepted", 0)
            basis = "checklist" if authority else "sample"
            assert db.get_one(Verdict, handed.id).basis == basis
            break
        assert (handed.state, drawn.votes, drawn.rate) == ("awaiting_review", 1, 1.0)
        if wanted == "refused":
            reviewer = make_reviewer(db)
            [review] = review_ids(db, handed)
            claim_review(db, review, reviewer_id=reviewer, at=LATER)
            for too_good in (ACCEPT, PART):
                with pytest.raises(ChecklistUnmet) as refused:
                    record_vote(db, review, reviewer_id=reviewer, vote=too_good, at=LATER)
                assert refused.value.unmet == missed
            assert handed.state == "in_review"
        elif vote is None:
            assert approve_by_silence(db, handed.id, at=OVERDUE) is None
            assert (handed.state, db.get(Verdict, handed.id)) == ("awaiting_review", None)
            # People may still come; and what waits is not looked for again every minute.
            assert handed.id not in overdue_submissions(db, at=OVERDUE, limit=1000)
            verdict = cast(db, handed, REJECT, at=OVERDUE)
            assert verdict is not None
            assert not verdict.is_accepted
        else:
            cast(db, handed, vote)
            assert handed.state == wanted


def test_a_share_of_what_a_checklist_accepts_is_shown_to_people(db: Session) -> None:
    project = plan_for(db, votes=1, authority="checklist", checks=BOXES, control_rate=1)
    handed = hand_in_to(db, project, with_attempt=False, payload={"poem": FLAT})
    assert db.get_one(ReviewDraw, (handed.id, 1, 1)).is_control
    assert handed.state == "awaiting_review"
    # Its authority would have taken it, so silence does.
    verdict = approve_by_silence(db, handed.id, at=OVERDUE)
    assert verdict is not None
    assert verdict.basis == "silence"


def test_work_that_no_job_has_drawn_yet_is_judged_by_the_plan_of_the_moment(db: Session) -> None:
    project = plan_for(db, votes=1, authority="panel")
    expert = make_expert(db).id
    found = hand_in_to(db, project, expert=expert, with_attempt=False)
    drawn = db.get_one(ReviewDraw, (found.id, 1, 1))
    assert drawn.authority == "panel"
    made = make_project(db)
    set_plan(db, made.id, Plan(authority="panel"), at=AT)
    offer = make_active_offer(db, made, make_task(db, made), expert)
    waiting = hand_in_row(db, offer)
    assert approve_by_silence(db, waiting.id, at=OVERDUE) is None
    assert waiting.state == "awaiting_review"
    assert silence_accepts(None, ("a lines 1",))


@pytest.mark.parametrize("verdict", ["accepted", "rejected", "partially_accepted"])
def test_a_panel_that_is_silent_costs_its_author_nothing(db: Session, verdict: str) -> None:
    expert = make_expert(db, tier="T1", at=AT - timedelta(days=30))
    project = make_project(
        db, pay_basis="deliverable", deliverable_minor=9_000, rate_minor_per_hour=2_200
    )
    set_plan(db, project.id, Plan(authority="panel"), at=AT)
    offer = make_active_offer(db, project, make_task(db, project), expert.id)
    work_on(db, offer, AT, 3600)
    handed = hand_in_row(db, offer)
    open_reviews(db, handed.id, at=AT)
    assert accrue_submission(db, handed.id, at=AT) == []
    assert approve_by_silence(db, handed.id, at=OVERDUE) is None
    told = select(EventRow.type).where(EventRow.subject_id == handed.id)
    assert "submission.unjudged" in db.scalars(told).all()
    accrue_submission(db, handed.id, at=OVERDUE)
    # What people say in the end moves the work, and takes no pay back.
    for state in ("in_review", verdict):
        handed.state = state
        handed.decided_at = OVERDUE if state == verdict else None
        db.flush()
    accrue_submission(db, handed.id, at=OVERDUE)
    lines = db.scalars(select(Earning).where(Earning.offer_id == offer.id)).all()
    assert [(line.kind, line.pay_minor) for line in lines] == [("deliverable", 9_000)]


def test_a_lab_asks_for_judgement_and_a_reviewer_reads_what_is_missing(
    db: Session, web: TestClient[Any]
) -> None:
    lab = make_caller(db, web, Part.LAB)
    project = make_project(db, organisation_id=lab.organisation_id, reviews_per_submission=1)
    db.commit()
    path = f"/v1/projects/prj_{project.id.hex}/review-plan"
    box = {"field": "poem", "kind": "capitals", "text": "Orpheus"}
    wrong = lab.put(path, json={"authority": "both"})
    assert (wrong.status_code, wrong.json()["code"]) == (422, "plan_refused")
    assert lab.put(path, json={"authority": "both", "checks": [box]}).status_code == 200
    assert lab.get(path).json()["plan"]["authority"] == "both"
    handed = hand_in_to(db, project.id, with_attempt=False, payload={"poem": LOWER})
    [review] = review_ids(db, handed)
    reviewer = make_caller(db, web, Part.REVIEWER)
    db.commit()
    author = key_for(db, web, handed.expert_id, Part.EXPERT)
    [drawn] = author.get(f"/v1/submissions/sub_{handed.id.hex}/draws").json()["items"]
    assert (drawn["authority"], drawn["unmet"]) == ("both", ["poem capitals 'Orpheus'"])
    claim = reviewer.post(f"/v1/reviews/rev_{review.hex}/claim")
    assert claim.status_code == 200
    refused = reviewer.post(f"/v1/reviews/rev_{review.hex}/vote", json={"verdict": "accept"})
    assert (refused.status_code, refused.json()["code"]) == (409, "checklist_unmet")
    assert "poem capitals 'Orpheus'" in refused.json()["detail"]
    assert db.get_one(Submission, handed.id, populate_existing=True).state == "in_review"
    assert db.get(Verdict, handed.id) is None
