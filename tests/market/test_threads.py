"""Threads: pinned to a place, read by side and not by name, resolved, reopened, exported."""

from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.auth import Part
from market.events import EventRow
from market.http import wire_id
from market.moves import unfolded
from market.reviews.actions import claim_review
from market.reviews.models import Review
from market.submissions.models import Submission
from market.tasks.models import Task
from market.votes.actions import record_vote
from tests.factories import Caller, key_for, make_caller, make_expert
from tests.market.reviewed import ACCEPT, LATER, cast, hand_in, make_reviewer, review_ids

Web = TestClient[Any]


def lab_of(db: Session, web: Web, handed: Submission) -> Caller:
    """Somebody of the lab whose task it is."""
    stranger = make_caller(db, web, Part.LAB)
    db.execute(
        text("update market.membership set organisation_id = :lab where person_id = :id"),
        {"lab": handed.organisation_id, "id": stranger.person_id},
    )
    return stranger


def reviewers(db: Session, web: Web, handed: Submission, number: int = 2) -> list[Caller]:
    """Reviewers who hold a review each."""
    callers = []
    for review_id in review_ids(db, handed)[:number]:
        person = make_reviewer(db)
        claim_review(db, review_id, reviewer_id=person, at=LATER)
        callers.append(key_for(db, web, person, Part.REVIEWER))
    return callers


def ask(caller: Caller, subject: str, **given: Any) -> dict[str, Any]:
    body = {"subject": subject, "content": "Why is this so?", **given}
    answer = caller.post("/v1/threads", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def told(db: Session, kind: str) -> set[object]:
    """Whom an event was told to: people, and labs."""
    rows = db.scalars(select(EventRow).where(EventRow.type == kind))
    return {row.person_id or row.organisation_id for row in rows}


def test_a_thread_is_read_by_every_side_and_by_no_name(db: Session, web: Web) -> None:
    handed = hand_in(db, with_attempt=False)
    author = key_for(db, web, handed.expert_id, Part.EXPERT)
    (first,) = reviewers(db, web, handed, 1)
    lab, ops = lab_of(db, web, handed), make_caller(db, web, Part.OPS)
    made = ask(first, wire_id("sub", handed.id), pin={"field": "/a"})
    assert told(db, "thread.opened") == {handed.expert_id, handed.organisation_id}
    for caller in (author, lab):
        seen = caller.get(f"/v1/threads/{made['id']}").json()
        (said,) = seen["remarks"]
        assert (said["side"], said["person_id"], said["is_own"]) == ("reviewer", None, False)
        assert first.person_id.hex not in caller.get(f"/v1/threads/{made['id']}").text
    named = ops.get(f"/v1/threads/{made['id']}").json()["remarks"][0]["person_id"]
    assert named == wire_id("per", first.person_id)
    answered = author.post(f"/v1/threads/{made['id']}/remarks", json={"content": "Because."})
    assert answered.json()["remarks"][1]["is_own"]
    assert first.person_id in told(db, "thread.answered")
    assert unfolded(db) == []


def test_a_thread_is_resolved_and_opened_again_with_its_history(db: Session, web: Web) -> None:
    handed = hand_in(db, with_attempt=False)
    author, lab = key_for(db, web, handed.expert_id, Part.EXPERT), lab_of(db, web, handed)
    made = ask(lab, wire_id("sub", handed.id))
    path = f"/v1/threads/{made['id']}/transitions"
    for action, state in (("resolve", "resolved"), ("resolve", "resolved"), ("reopen", "open")):
        moved = author.post(path, json={"action": action})
        assert (moved.status_code, moved.json()["state"]) == (200, state)
    assert told(db, "thread.resolved") == {handed.organisation_id}
    assert unfolded(db) == []
    listed = lab.get("/v1/threads", params={"subject": wire_id("sub", handed.id), "state": "open"})
    assert [row["id"] for row in listed.json()["items"]] == [made["id"]]


def test_what_a_reviewer_says_is_kept_from_those_who_have_not_voted(db: Session, web: Web) -> None:
    handed = hand_in(db, with_attempt=False)
    first, second = reviewers(db, web, handed)
    made = ask(first, wire_id("sub", handed.id), sides=["reviewer"])
    assert second.get(f"/v1/threads/{made['id']}").status_code == 404
    assert second.person_id not in told(db, "thread.opened")
    lab = lab_of(db, web, handed)
    open_one = ask(lab, wire_id("sub", handed.id))
    first.post(f"/v1/threads/{open_one['id']}/remarks", json={"content": "I would reject it."})
    seen = second.get(f"/v1/threads/{open_one['id']}").json()
    assert [one["side"] for one in seen["remarks"]] == ["lab"]
    record_vote(db, review_ids(db, handed)[1], reviewer_id=second.person_id, vote=ACCEPT, at=LATER)
    assert second.get(f"/v1/threads/{made['id']}").status_code == 200
    assert len(second.get(f"/v1/threads/{open_one['id']}").json()["remarks"]) == 2


def test_nobody_reads_or_opens_a_thread_on_what_is_not_its_to_see(db: Session, web: Web) -> None:
    handed = hand_in(db, with_attempt=False)
    made = ask(lab_of(db, web, handed), wire_id("sub", handed.id), sides=["lab"])
    author = key_for(db, web, handed.expert_id, Part.EXPERT)
    strangers = [make_caller(db, web, part) for part in (Part.LAB, Part.REVIEWER)]
    strangers.append(key_for(db, web, make_expert(db).id, Part.EXPERT))
    for caller in (author, *strangers):
        assert caller.get(f"/v1/threads/{made['id']}").status_code == 404
        said = caller.post(f"/v1/threads/{made['id']}/remarks", json={"content": "x"})
        assert said.json()["code"] == "not_found"
    for caller in strangers:
        body = {"subject": wire_id("sub", handed.id), "content": "x"}
        assert caller.post("/v1/threads", json=body).status_code == 404
    assert author.post("/v1/threads", json={"subject": "ofr_1", "content": "x"}).status_code == 404


def test_an_expert_asks_about_a_task_and_the_lab_answers_all_who_have_it(
    db: Session, web: Web
) -> None:
    handed = hand_in(db, with_attempt=False)
    task = db.get_one(Task, handed.task_id)
    author, lab = key_for(db, web, handed.expert_id, Part.EXPERT), lab_of(db, web, handed)
    private = ask(author, wire_id("tsk", task.id))
    assert "reviewer" not in private["sides"]
    public = ask(lab, wire_id("tsk", task.id))
    seen = author.get("/v1/threads", params={"subject": wire_id("tsk", task.id)}).json()["items"]
    assert {row["id"] for row in seen} == {private["id"], public["id"]}


@pytest.mark.parametrize(
    "pin",
    [
        {"field": "a"},
        {"field": "/nothing"},
        {"field": "/a", "start": 0, "end": 1},
        {"start": 1},
        {"criterion": "style"},
        {"field": "/why", "start": 3, "end": 99},
        {"field": "/why", "start": 5, "end": 5},
    ],
)
def test_a_pin_on_nothing_is_refused_in_words(db: Session, web: Web, pin: Any) -> None:
    handed = hand_in(db, with_attempt=False)
    handed.payload = {"a": 1, "why": "it adds"}
    db.flush()
    lab = lab_of(db, web, handed)
    body = {"subject": wire_id("sub", handed.id), "content": "x", "pin": pin}
    refused = lab.post("/v1/threads", json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "pin_unfit")
    empty = lab.post("/v1/threads", json={"subject": wire_id("sub", handed.id), "content": "  "})
    assert (empty.status_code, empty.json()["code"]) == (422, "remark_unfit")


def test_a_span_keeps_what_stood_there_and_a_criterion_is_one_of_the_rubric(
    db: Session, web: Web
) -> None:
    handed = hand_in(db, with_attempt=False)
    handed.payload = {"why": "it adds"}
    task = db.get_one(Task, handed.task_id)
    task.payload = {**task.payload, "rubric": {"criteria": [{"id": "style"}]}}
    db.flush()
    lab, subject = lab_of(db, web, handed), wire_id("sub", handed.id)
    span = ask(lab, subject, pin={"field": "/why", "start": 3, "end": 7})
    assert (span["quote"], span["start"], span["end"]) == ("adds", 3, 7)
    handed.payload = {"why": "changed"}
    db.flush()
    assert lab.get(f"/v1/threads/{span['id']}").json()["quote"] == "adds"
    assert ask(lab, subject, pin={"criterion": "style"})["criterion"] == "style"
    whole = lab.get(f"/v1/submissions/{subject}").json()
    assert [one["criterion"] for one in whole["threads"]] == [None, "style"]


def test_a_thread_on_a_vote_is_its_authors_once_it_is_decided(db: Session, web: Web) -> None:
    handed = hand_in(db, with_attempt=False, reviews=1)
    author = key_for(db, web, handed.expert_id, Part.EXPERT)
    (review_id,) = review_ids(db, handed)
    body = {"subject": wire_id("rev", review_id), "content": "On what ground?"}
    assert author.post("/v1/threads", json=body).status_code == 404
    cast(db, handed, ACCEPT)
    made = ask(author, wire_id("rev", review_id), pin={"field": "/verdict"})
    assert made["quote"] == "accept"
    reviewer = db.get_one(Review, review_id).reviewer_id
    assert reviewer in told(db, "thread.opened")


def test_a_full_thread_takes_no_further_remark(db: Session, web: Web) -> None:
    handed = hand_in(db, with_attempt=False)
    lab = lab_of(db, web, handed)
    made = ask(lab, wire_id("sub", handed.id))
    db.execute(
        text(
            "insert into market.remark (id, thread_id, number, person_id, side, content, at)"
            " select gen_random_uuid(), id, 500, opened_by, 'lab', 'x', opened_at"
            " from market.thread"
        )
    )
    refused = lab.post(f"/v1/threads/{made['id']}/remarks", json={"content": "x"})
    assert (refused.status_code, refused.json()["code"]) == (409, "thread_full")


def test_the_pages_of_a_submission_carry_its_threads(db: Session, web: Web) -> None:
    handed = hand_in(db, with_attempt=False)
    author = key_for(db, web, handed.expert_id, Part.EXPERT)
    (reviewer,) = reviewers(db, web, handed, 1)
    lab = lab_of(db, web, handed)
    subject = wire_id("sub", handed.id)
    review = db.scalars(select(Review).where(Review.reviewer_id == reviewer.person_id)).one()
    pages = {
        reviewer: f"/console/reviewer/reviews/{wire_id('rev', review.id)}",
        author: f"/console/expert/submissions/{subject}",
        lab: f"/console/lab/submissions/{subject}",
    }
    for nth, (caller, path) in enumerate(pages.items()):
        web.cookies.clear()
        web.post("/console/enter", data={"key": caller.key}, follow_redirects=False)
        page = web.get(path).text
        assert page.count("<article>") == nth
        csrf = page.split('name="csrf" value="', 1)[1].split('"', 1)[0]
        form = {"csrf": csrf, "once": f"word{nth}", "subject": subject, "content": f"Word {nth}"}
        sent = web.post("/console/threads", data={**form, "field": "/a"}, follow_redirects=False)
        assert sent.status_code == 303
        assert sent.headers["location"] == f"{path}?said=thread-opened"
        thread = lab.get("/v1/threads").json()["items"][0]["id"]
        to = web.get(f"/console/threads/{thread}", follow_redirects=False)
        assert to.headers["location"] == path
        web.post(f"/console/threads/{thread}/resolve", data=form, follow_redirects=False)
        assert lab.get(f"/v1/threads/{thread}").json()["state"] == "resolved"
