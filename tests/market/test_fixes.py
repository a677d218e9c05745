"""Fixes: a reviewer's version beside its author's, which of several stands, whose part it is."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.appeals.actions import assign_appeal, decide_appeal, file_appeal, miss_appeal
from market.appeals.models import Appeal
from market.appeals.rules import (
    DECIDED_WITHIN,
    AlreadyAppealed,
    DeciderInvolved,
    NothingToAppeal,
)
from market.auth import Part
from market.db import new_id
from market.earnings.actions import accrue_submission
from market.events import Event, EventRow
from market.fixes.models import SubmissionFix
from market.fixes.queries import changes_of, fix_to_tell, fixes_on, standing_fix
from market.fixes.rules import FixUnfit, Proposed, measure, standing_of
from market.impact.actions import credit_item
from market.impact.jobs import measure_impact
from market.impact.models import ItemCredit
from market.lifts.models import LiftBatch, LiftItem, LiftStudy
from market.lifts.queries import delivered, items_of
from market.lifts.routes import item_out
from market.moves import unfolded
from market.reactions import REACTIONS
from market.records.queries import lines_of
from market.review_plans.rules import FurtherLevel
from market.reviews.actions import claim_review, open_reviews
from market.reviews.models import Review
from market.reviews.rules import AlreadyReviewing
from market.snapshots.actions import take_snapshot
from market.snapshots.models import SnapshotAnswer
from market.snapshots.queries import answers_of
from market.submissions.actions import submit_work
from market.submissions.models import Submission
from market.votes.actions import approve_by_silence, record_vote
from market.votes.queries import votes_below
from market.votes.rules import Vote, VoteUnfit
from market.work.actions import start_session
from tests.factories import key_for, make_caller
from tests.market.reviewed import (
    ACCEPT,
    LATER,
    PART,
    REWORK,
    cast,
    hand_in,
    hand_in_to,
    make_reviewer,
    make_senior,
    minute,
    plan_for,
    review_ids,
)
from tests.market.test_console import come_in, token

Web = TestClient[Any]
WORK = {"answer": "Water boils at 90 degrees at sea level.", "source": "A table."}
FIXED = {**WORK, "answer": "Water boils at 100 degrees at sea level."}
FURTHER = {**FIXED, "source": "A printed steam table."}
NOTE = "At sea level water boils at 100 degrees; 90 is right for a high mountain only."
WHY = "The author's figure is the one that the brief asks for, read for the mountain."
FIX = Vote("accept", note=NOTE, fix=FIXED, seconds=300)
FIX_MORE = Vote("accept", note=NOTE, fix=FURTHER)
SHARE = 1 / 12


def fixed(db: Session, **given: Any) -> tuple[Submission, SubmissionFix]:
    """Work that one reviewer fixed and accepted."""
    handed = hand_in(db, reviews=1, with_attempt=False, payload=WORK, **given)
    cast(db, handed, FIX)
    fix = standing_fix(db, handed.id)
    assert fix is not None
    return handed, fix


words = st.lists(st.sampled_from("abcde"), max_size=8).map(" ".join)


@given(
    work=st.dictionaries(st.sampled_from("xyz"), words, max_size=3),
    after=st.dictionaries(st.sampled_from("xyz"), words, max_size=3),
)
def test_a_part_is_a_share_and_the_same_way_round(
    work: dict[str, str], after: dict[str, str]
) -> None:
    there, back = measure(work, after), measure(after, work)
    assert 0 <= there.edited_share <= 1
    assert there.edited_share == back.edited_share
    assert (there.distance == 0) == (not there.fields)
    for one in there.fields:
        assert (one.before, one.after) == (work.get(one.name, ""), after.get(one.name, ""))


def test_many_fields_are_compared_at_the_cost_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("market.fixes.rules.MOST_CELLS", 50)
    work, after = (dict.fromkeys("xyz", words) for words in ("a b c d e", "e d c b a"))
    found = measure(work, after)
    assert [one.edit.is_exact for one in found.fields] == [True, True, False]
    assert sum(one.edit.cells for one in found.fields) == 50
    assert found.distance <= 15


@pytest.mark.parametrize(
    ("before", "after", "distance"),
    [
        ("def f():\n  return 1\n", "def f():\n    return 1\n", 1),
        ("one two three four", "one two\n\nthree four", 1),
        ("one two  \nthree\n", "one two\nthree", 0),
        ("cafe\u0301 au lait", "caf\u00e9 au lait", 0),
    ],
)
def test_blanks_alone_are_a_fix_where_somebody_sees_them(
    before: str, after: str, distance: int
) -> None:
    found = measure({"code": before}, {"code": after})
    assert found.distance == distance
    assert len(found.fields) == distance
    for one in found.fields:
        assert "".join(part.draft for part in one.stretches) == before.strip()
        assert "".join(part.text for part in one.stretches) == after.strip()
        assert [part.is_kept for part in one.stretches] == [True, False, True]


def test_a_batch_to_train_on_carries_the_fix_that_stood_when_it_was_dealt(db: Session) -> None:
    handed, fix = fixed(db)
    ((which, expert_id, domain, fix_id),) = delivered(db, handed.project_id, again=False, limit=5)
    assert (which, fix_id) == (handed.id, fix.id)
    study = LiftStudy(
        organisation_id=handed.organisation_id,
        project_id=handed.project_id,
        metric="accuracy",
        is_higher_better=True,
        seed=1,
        batches=4,
        items=1,
        drawn_at=LATER,
        drawn_by=new_id(),
    )
    db.add(study)
    db.flush()
    batch = LiftBatch(organisation_id=handed.organisation_id, study_id=study.id, number=1, items=1)
    db.add(batch)
    db.flush()
    dealt = LiftItem(
        organisation_id=handed.organisation_id,
        batch_id=batch.id,
        study_id=study.id,
        submission_id=which,
        expert_id=expert_id,
        domain=domain,
        fix_id=fix_id,
    )
    db.add(dealt)
    db.flush()
    (item,) = db.execute(items_of(batch.id)).all()
    assert item_out(*item).payload == FIXED


def test_a_fix_stands_only_with_more_than_half_of_those_who_accepted() -> None:
    near, far = Proposed(UUID(int=1), 1), Proposed(UUID(int=2), 5)
    assert standing_of([far, near], 3) == near.id
    assert standing_of([near], 2) is None
    assert standing_of([near], 1) == near.id
    assert standing_of([], 0) is None


def test_fix_and_accept_keeps_both_versions_and_parts_the_credit_by_the_diff(db: Session) -> None:
    handed, fix = fixed(db)
    assert (handed.state, handed.payload, fix.payload) == ("accepted", WORK, FIXED)
    assert (fix.author_words, fix.distance) == (12, 1)
    assert fix.edited_share == pytest.approx(SHARE)
    review = db.get_one(Review, fix.review_id)
    assert (fix.author_id, fix.corrector_id) == (handed.expert_id, review.reviewer_id)
    (change,) = changes_of(fix, handed)
    changed = [(one.draft, one.text) for one in change.stretches if not one.is_kept]
    assert (change.name, changed) == ("answer", [("90", "100")])
    # All of the pay, and the part of the credit that the words left have.
    assert sum(one.pay_minor for one in accrue_submission(db, handed.id, at=LATER)) > 0
    own = hand_in(db, reviews=1, with_attempt=False, payload=WORK)
    cast(db, own, ACCEPT)
    for one in (own, handed):
        assert credit_item(db, one.id, at=LATER)
    whole, parted = (db.get_one(ItemCredit, one.id) for one in (own, handed))
    assert parted.credit == pytest.approx(whole.credit * (1 - SHARE))
    assert parted.edited_share == pytest.approx(SHARE)
    told = db.scalars(select(EventRow).where(EventRow.type == Event.FIX_STOOD)).one()
    assert (told.subject_id, told.person_id) == (handed.id, handed.expert_id)
    assert unfolded(db) == []


@pytest.mark.parametrize(
    ("votes", "stands"),
    [
        ((FIX_MORE, FIX, ACCEPT), FIXED),
        ((FIX, ACCEPT, ACCEPT), None),
        ((FIX, FIX_MORE, PART), FIXED),
        ((FIX, PART, PART), None),
        ((FIX, REWORK, REWORK), None),
    ],
)
def test_the_fix_that_changes_least_stands_where_most_who_accept_fixed(
    db: Session, votes: tuple[Vote, ...], stands: dict[str, str] | None
) -> None:
    handed = hand_in(db, with_attempt=False, payload=WORK)
    cast(db, handed, *votes)
    fix = standing_fix(db, handed.id)
    assert (fix and fix.payload) == stands
    told = fix_to_tell(db, handed.id)
    assert told is not None
    assert told.payload == (stands or FIXED)
    assert handed.payload == WORK
    assert "proposed" not in [one.state for one in fixes_on(db, handed.id)]
    assert unfolded(db) == []


def test_an_author_reads_of_a_fix_in_its_record_with_the_verdict_and_not_before(
    db: Session,
) -> None:
    def told(handed: Submission) -> list[str]:
        lines = [json.loads(one) for one in lines_of(db, handed.expert_id, at=LATER)]
        assert not any("corrector_id" in one for one in map(str, lines))
        return [str(one["kind"]) for one in lines if "fix" in str(one.get("kind"))]

    sent_back = hand_in(db, with_attempt=False, payload=WORK)
    cast(db, sent_back, FIX, REWORK, REWORK)
    assert told(sent_back) == []
    handed, _ = fixed(db)
    assert told(handed) == ["fix_of_own_work"]


def test_silence_leaves_the_authors_own_words(db: Session) -> None:
    handed = hand_in(db, with_attempt=False, payload=WORK)
    cast(db, handed, FIX)
    assert approve_by_silence(db, handed.id, at=LATER + timedelta(days=30)) is not None
    assert [one.state for one in fixes_on(db, handed.id)] == ["passed_over"]


def test_a_further_level_judges_the_authors_words_and_its_own_fix_stands(db: Session) -> None:
    project = plan_for(db, votes=1, further=(FurtherLevel(level=2, rate=1.0, votes=1),))
    as_it_is = hand_in_to(db, project, with_attempt=False, payload=WORK)
    mended = hand_in_to(db, project, with_attempt=False, payload=WORK, at=minute(1))
    for handed, vote in ((as_it_is, ACCEPT), (mended, FIX_MORE)):
        assert cast(db, handed, FIX) is None
        (below,) = fixes_on(db, handed.id)
        above = db.scalars(
            select(Review).where(Review.submission_id == handed.id, Review.level == 2)
        ).one()
        make_senior(db, person=below.corrector_id)
        with pytest.raises(AlreadyReviewing), db.begin_nested():
            claim_review(db, above.id, reviewer_id=below.corrector_id, at=LATER)
        senior = make_senior(db)
        claim_review(db, above.id, reviewer_id=senior, at=LATER)
        assert votes_below(db, above) == []
        assert record_vote(db, above.id, reviewer_id=senior, vote=vote, at=LATER) is not None
        db.expire_all()
        assert below.state == "passed_over"
    fix = standing_fix(db, mended.id)
    assert standing_fix(db, as_it_is.id) is None
    assert fix is not None
    assert fix.payload == FURTHER


def test_a_fix_that_is_none_or_another_work_is_refused(db: Session) -> None:
    handed = hand_in(db, reviews=1, with_attempt=False, payload=WORK)
    (review_id,) = review_ids(db, handed)
    reviewer = make_reviewer(db)
    claim_review(db, review_id, reviewer_id=reviewer, at=LATER)
    spaced = {**WORK, "answer": f" {WORK['answer']}  "}
    for payload in (spaced, {"answer": "Another answer altogether, by someone else entirely."}):
        vote = Vote("accept", note=NOTE, fix=payload)
        with pytest.raises(FixUnfit), db.begin_nested():
            record_vote(db, review_id, reviewer_id=reviewer, vote=vote, at=LATER)
    for vote in (Vote("accept", fix=FIXED), Vote("accept_share", share=60, note=NOTE, fix=FIXED)):
        with pytest.raises(VoteUnfit):
            record_vote(db, review_id, reviewer_id=reviewer, vote=vote, at=LATER)
    huge = {**WORK, "answer": "a" * 2**21}
    with pytest.raises(FixUnfit):
        record_vote(
            db,
            review_id,
            reviewer_id=reviewer,
            vote=Vote("accept", note=NOTE, fix=huge),
            at=LATER,
        )


def test_nobody_fixes_work_of_its_own_and_one_fix_stands_whatever_the_application_does(
    db: Session,
) -> None:
    _, fix = fixed(db)
    with pytest.raises(IntegrityError, match="ck_submission_fix_corrector"), db.begin_nested():
        db.execute(text("update market.submission_fix set corrector_id = author_id"))
    with pytest.raises(IntegrityError, match="ck_submission_fix_edited_share"), db.begin_nested():
        db.execute(text("update market.submission_fix set edited_share = 0.6"))
    assert fix.state == "standing"


def test_an_author_wins_against_a_fix_and_its_own_words_are_delivered(db: Session) -> None:
    handed, fix = fixed(db)
    with pytest.raises(NothingToAppeal):
        file_appeal(db, "fix", fix.id, person_id=fix.corrector_id, note=WHY, at=LATER)
    appeal = file_appeal(db, "fix", fix.id, person_id=handed.expert_id, note=WHY, at=LATER)
    with pytest.raises(DeciderInvolved):
        assign_appeal(db, appeal.id, decider_id=fix.corrector_id, at=LATER)
    ops = make_reviewer(db)
    assign_appeal(db, appeal.id, decider_id=ops, at=LATER)
    decide_appeal(db, appeal.id, "overturn", decider_id=ops, decision=WHY, at=LATER)
    assert (fix.state, standing_fix(db, handed.id)) == ("withdrawn", None)
    told = db.scalars(select(EventRow).where(EventRow.type == Event.FIX_WITHDRAWN)).one()
    assert measure_impact in REACTIONS[Event.FIX_WITHDRAWN]
    # What follows from it gives the author all of the credit.
    assert credit_item(db, told.subject_id, at=LATER)
    assert db.get_one(ItemCredit, handed.id).edited_share == 0
    take_snapshot(db, handed.project_id, at=LATER)
    (answer,) = db.scalars(select(SnapshotAnswer))
    assert answer.fix_id is None
    with pytest.raises(AlreadyAppealed):
        file_appeal(db, "fix", fix.id, person_id=handed.expert_id, note=WHY, at=LATER)


@pytest.mark.parametrize("outcome", ["uphold", "miss_deadline"])
def test_a_fix_stays_when_it_is_upheld_and_falls_to_silence(db: Session, outcome: str) -> None:
    handed, fix = fixed(db)
    appeal = file_appeal(db, "fix", fix.id, person_id=handed.expert_id, note=WHY, at=LATER)
    if outcome == "uphold":
        ops = make_reviewer(db)
        assign_appeal(db, appeal.id, decider_id=ops, at=LATER)
        decide_appeal(db, appeal.id, outcome, decider_id=ops, decision=WHY, at=LATER)
    else:
        assert miss_appeal(db, appeal.id, at=LATER + DECIDED_WITHIN)
    assert fix.state == ("standing" if outcome == "uphold" else "withdrawn")
    assert unfolded(db) == []


def test_a_fix_over_http_tells_each_side_what_it_may_know(db: Session, web: Web) -> None:
    lab = make_caller(db, web, Part.LAB)
    began = datetime.now(UTC) - timedelta(hours=1)
    handed = hand_in(
        db,
        at=began,
        reviews=1,
        with_attempt=False,
        payload=WORK,
        organisation_id=lab.organisation_id,
    )
    reviewer = key_for(db, web, make_reviewer(db), Part.REVIEWER)
    (review_id,) = review_ids(db, handed)
    db.commit()
    author = key_for(db, web, handed.expert_id, Part.EXPERT)
    base, path = f"/v1/reviews/rev_{review_id.hex}", f"/v1/submissions/sub_{handed.id.hex}"
    assert author.get(f"{path}/fix").json()["code"] == "not_found"
    reviewer.post(f"{base}/claim")
    other = reviewer.post(
        f"{base}/vote", json={"verdict": "accept", "note": NOTE, "fix": {"answer": "Else."}}
    )
    assert (other.status_code, other.json()["code"]) == (422, "fix_unfit")
    deep = f'{{"verdict": "accept", "fix": {{"answer": {"[" * 5000}{"]" * 5000}}}}}'
    nested = reviewer.post(
        f"{base}/vote", content=deep, headers={"Content-Type": "application/json"}
    )
    assert (nested.status_code, nested.json()["code"]) == (400, "malformed_body")
    given = {"verdict": "accept", "note": NOTE, "fix": FIXED}
    assert reviewer.post(f"{base}/vote", json=given).json()["state"] == "decided"
    seen, told = author.get(f"{path}/fix").json(), lab.get(f"{path}/fix").json()
    assert (seen["payload"], seen["note"], seen["corrector_id"]) == (FIXED, NOTE, None)
    assert told["corrector_id"] == f"per_{reviewer.person_id.hex}"
    assert told["author_id"] == f"per_{handed.expert_id.hex}"
    assert [one["name"] for one in told["fields"]] == ["answer"]
    assert told["author_share"] == pytest.approx(1 - SHARE)
    whole = lab.get(path).json()
    assert (whole["payload"], whole["fix"]["id"]) == (WORK, told["id"])
    listed = lab.get(f"/v1/projects/prj_{handed.project_id.hex}/fixes").json()["items"]
    assert [one["id"] for one in listed] == [told["id"]]
    assert make_caller(db, web, Part.LAB).get(f"{path}/fix").status_code == 404
    shot = lab.post(f"/v1/projects/prj_{handed.project_id.hex}/snapshots").json()
    (answer,) = lab.get(f"/v1/snapshots/{shot['id']}/answers").json()["items"]
    assert (answer["payload"], answer["fix"]["id"]) == (FIXED, told["id"])
    assert answer["author_id"] == told["author_id"]
    assert answer["reviewer_ids"] == [told["corrector_id"]] == [answer["fix"]["corrector_id"]]
    assert credit_item(db, handed.id, at=datetime.now(UTC))
    db.commit()
    (part,) = reviewer.get("/v1/impact/corrected").json()
    assert (part["submission_id"], part["edited_share"]) == (told["submission_id"], SHARE)
    assert part["credit"] > 0
    assert lab.get("/v1/impact/corrected").status_code == 403
    filed = author.post("/v1/appeals", json={"subject": seen["id"], "note": WHY})
    assert (filed.status_code, filed.json()["subject"]) == (201, seen["id"])


def test_a_reviewer_fixes_in_a_form_and_its_author_reads_the_diff_and_appeals(
    db: Session, web: Web
) -> None:
    began = datetime.now(UTC) - timedelta(hours=1)
    work = {**WORK, "figures": [90]}
    handed = hand_in(db, at=began, reviews=1, with_attempt=False, payload=work)
    reviewer = key_for(db, web, make_reviewer(db), Part.REVIEWER)
    author = key_for(db, web, handed.expert_id, Part.EXPERT)
    (review_id,) = review_ids(db, handed)
    claim_review(db, review_id, reviewer_id=reviewer.person_id, at=datetime.now(UTC))
    db.commit()
    come_in(web, reviewer)
    page = f"/console/reviewer/reviews/rev_{review_id.hex}"
    form = {"csrf": token(web, page), "verdict": "fix", "note": NOTE}
    form |= {f"fix:{name}": text for name, text in FIXED.items()}
    wrong = web.post(f"{page}/vote", data={**form, "fix:figures": "[100"})
    assert (wrong.status_code, "must be JSON" in wrong.text) == (422, True)
    done = web.post(f"{page}/vote", data={**form, "fix:figures": "[100]"}, follow_redirects=False)
    assert done.status_code == 303
    assert "<del>90</del><ins>100</ins>" in web.get(page).text
    fix = standing_fix(db, handed.id)
    assert fix is not None
    assert fix.payload == {**FIXED, "figures": [100]}
    come_in(web, author)
    mine = f"/console/expert/submissions/sub_{handed.id.hex}"
    assert "<del>90</del><ins>100</ins>" in web.get(mine).text
    appeal = {"csrf": token(web, mine), "note": WHY}
    assert web.post(f"{mine}/fix/appeal", data=appeal, follow_redirects=False).status_code == 303
    assert db.scalars(select(Appeal.subject_id)).one() == fix.id
    assert "Appeal against the fix" not in web.get(mine).text


def test_author_reviewers_and_corrector_are_kept_apart_through_three_rounds(db: Session) -> None:
    handed = hand_in(db, reviews=1, with_attempt=False, payload=WORK)
    for turn, vote in enumerate((REWORK, REWORK, FIX)):
        at = LATER + turn * timedelta(days=2)
        if turn:
            begun = at - timedelta(hours=1)
            start_session(db, handed.offer_id, expert_id=handed.expert_id, at=begun)
            ends = begun + timedelta(minutes=1)
            submit_work(
                db, handed.offer_id, expert_id=handed.expert_id, payload=dict(WORK), at=ends
            )
            open_reviews(db, handed.id, at=ends)
        waiting = select(Review.id).where(
            Review.submission_id == handed.id, Review.state == "queued"
        )
        reviewer = make_reviewer(db)
        review_id = db.scalars(waiting).one()
        # After the time that is kept for whoever sent it back, as here each time, anybody may.
        db.execute(text("update market.review set reserved_for = null"))
        claim_review(db, review_id, reviewer_id=reviewer, at=at)
        record_vote(db, review_id, reviewer_id=reviewer, vote=vote, at=at)
        db.expire_all()
    fix = standing_fix(db, handed.id)
    assert fix is not None
    assert (handed.round, fix.round, fix.author_id) == (3, 3, handed.expert_id)
    made = take_snapshot(db, handed.project_id, at=LATER + timedelta(days=10))
    ((work, _, _, with_it, reviewers),) = db.execute(answers_of(made.id))
    assert with_it is not None
    assert (work.expert_id, with_it.corrector_id) == (fix.author_id, reviewers[-1])
    assert len(set(reviewers)) == 3
    assert work.expert_id not in reviewers
