"""Reviews, verdicts and stumps over HTTP: who sees what, and what is refused in words."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from market.attempts.models import Attempt
from market.auth import Part
from market.db import Scope, database
from market.http import wire_id
from market.review_plans.actions import set_plan
from market.review_plans.rules import Plan
from market.reviews.actions import claim_review
from market.reviews.models import Review
from market.submissions.actions import save_draft
from market.submissions.models import Submission
from market.tasks.models import Task
from market.verdicts.models import VerdictChange
from market.verdicts.queries import progress
from market.votes.actions import record_vote
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
    REJECT_STUMP,
    STUMP,
    cast,
    hand_in,
    make_reviewer,
    make_senior,
    review_ids,
)
from tests.market.test_console import come_in

Web = TestClient[Any]


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


def test_a_senior_reads_the_other_answers_to_the_task_and_nobody_below_does(
    db: Session, web: Web
) -> None:
    project = make_project(db, reviews_per_submission=2, answers_per_task=3)
    set_plan(db, project.id, Plan(), at=AT)
    task = make_task(db, project)
    first, second, third = (make_offer(db, task, make_expert(db).id) for _ in range(3))
    handed = hand_in(db, offer=first, with_attempt=False, payload={"answer": "Yes."})
    hand_in(db, offer=second, with_attempt=False, payload={"answer": "No."})
    save_draft(db, third.id, expert_id=third.expert_id, payload={"answer": "Perhaps."}, at=AT)
    below = key_for(db, web, make_reviewer(db), Part.REVIEWER)
    senior = key_for(db, web, make_senior(db), Part.REVIEWER)
    one, two = review_ids(db, handed)
    claim_review(db, one, reviewer_id=below.person_id, at=LATER)
    db.commit()
    path = "/v1/reviews/{}".format
    seen = below.get(path(wire_id("rev", one)))
    assert (seen.json()["payload"], seen.json()["beside"]) == ({"answer": "Yes."}, [])
    assert "No." not in seen.text
    record_vote(db, one, reviewer_id=below.person_id, vote=ACCEPT, at=LATER)
    other = make_reviewer(db)
    claim_review(db, two, reviewer_id=other, at=LATER)
    record_vote(db, two, reviewer_id=other, vote=REJECT, at=LATER)
    db.commit()
    case = db.scalars(select(Review.id).where(Review.kind == "adjudication")).one()
    claimed = senior.post(path(wire_id("rev", case)) + "/claim")
    assert claimed.json()["beside"] == [{"answer": "No."}]
    told = senior.get(path(wire_id("rev", case)))
    assert told.json()["beside"] == [{"answer": "No."}]
    assert second.expert_id.hex not in told.text
    come_in(web, senior)
    shown = web.get(f"/console/reviewer/reviews/{wire_id('rev', case)}").text
    assert "Another answer to this task" in shown
    assert "Perhaps." not in shown
