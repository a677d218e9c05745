"""The console's daily work by its forms: a lab sets up, an expert works, reviewers decide."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from litestar.testing import TestClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from market.attempts.actions import Answer, record_answer
from market.attempts.models import Attempt
from market.auth import Part
from market.console import words
from market.db import new_id
from market.deliveries.models import WebhookEndpoint
from market.events import Event, EventRow, emit
from market.fundings.models import Funding
from market.inbox.models import Notification
from market.inbox.rules import NOTICES
from market.projects.models import Project
from market.projects.queries import budget
from market.reviews.actions import open_reviews
from market.reviews.models import Review
from market.submissions.models import Submission
from market.tasks.models import Task
from market.work.models import WorkSession
from tests.factories import (
    give_money,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)
from tests.market.reviewed import REASON, REJECT_STUMP, cast, hand_in, make_decided
from tests.market.test_console import check_guards, come_in, send, token, visit, visit_as

Web = TestClient[Any]
RUBRIC = {"rubric": {"criteria": [{"id": "facts", "points": 3}, {"id": "proof", "points": 1}]}}
ROWS = (
    '{"external_id": "chem-1", "domain": "chemistry", "payload": {"instructions": "Why?"},'
    ' "expected_s": 1800}\n'
    '{"external_id": "", "domain": "chemistry", "payload": {}}\n'
)


def test_a_lab_drafts_fills_funds_and_launches_its_first_project(web: Web, db: Session) -> None:
    lab = visit(web, db, Part.LAB)
    assert lab.organisation_id is not None
    assert "Begin the first one" in web.get("/console/lab").text
    csrf = token(web, "/console/lab/projects/new")
    refused = send(web, "/console/lab/projects/new", csrf, name="First", rate="1.234", brief="Kept")
    assert refused.status_code == 422
    assert "the rate is an amount" in refused.text.lower()
    assert "Kept" in refused.text
    fields = {
        "name": "First",
        "brief": "Find it.",
        "domains": "chemistry",
        "rate": "150",
        "currency": "USD",
        "cap_minutes": "60",
    }
    made = send(web, "/console/lab/projects/new", csrf, once="a1", **fields)
    again = send(web, "/console/lab/projects/new", csrf, once="a1", **fields)
    assert made.headers["location"] == again.headers["location"]
    assert db.scalar(select(func.count()).select_from(Project)) == 1
    here = made.headers["location"].partition("?")[0]
    base = here.removesuffix("/setup")
    page = web.get(made.headers["location"]).text
    assert "It still needs a target model; a budget with money free." in page
    refused = send(web, f"{base}/launch", csrf, reason="first project")
    assert refused.status_code == 409
    assert "still needs" in refused.text
    address = "http://127.0.0.1:9/v1"
    answer = send(web, f"{base}/model", csrf, model="frontier-1", base_url="ftp://x", once="m0")
    assert answer.status_code == 422
    answer = send(web, f"{base}/model", csrf, model="frontier-1", base_url=address, once="m1")
    assert answer.headers["location"] == f"{here}?said=model"
    sent = web.post(
        f"{base}/tasks",
        data={"csrf": csrf, "once": "t1"},
        files={"file": ("tasks.jsonl", ROWS.encode(), "application/x-ndjson")},
        follow_redirects=False,
    )
    assert sent.status_code == 303, sent.text
    page = web.get(sent.headers["location"]).text
    assert "1 of 2 rows became tasks" in page
    assert "/external_id" in page
    wrong = web.post(
        f"{base}/tasks", data={"csrf": csrf}, files={"file": ("tasks.txt", b"x", "text/plain")}
    )
    assert wrong.status_code == 422
    give_money(db, lab.organisation_id, 500_000)
    short = send(web, f"{base}/give", csrf, amount="9000.00", once="b0")
    assert short.status_code == 409
    for _ in range(2):
        answer = send(web, f"{base}/give", csrf, amount="2000.00", once="b1")
        assert answer.headers["location"] == f"{here}?said=budgeted"
    project = db.scalars(select(Project)).one()
    db.refresh(project)
    assert budget(db, project).funded_minor == 200_000
    page = web.get(here).text.replace("\u00a0", " ")
    assert "75.00 USD to experts, 15.00 USD fee" in page
    answer = send(web, f"{base}/launch", csrf, reason="first project", once="l1")
    assert answer.headers["location"] == f"{base}?said=launched"
    db.refresh(project)
    assert project.state == "live"
    assert 'value="pause"' in web.get(base).text
    assert send(web, f"{base}/move", csrf, action="pause", once="p1").status_code == 303
    db.refresh(project)
    assert project.state == "paused"
    for path in (here, base, f"{base}/stumps", sent.headers["location"]):
        check_guards(web.get(path))


def test_an_expert_asks_the_model_hands_in_reads_the_verdict_and_appeals(
    web: Web, db: Session
) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=10)
    project = make_project(db, at=at, reviews_per_submission=1)
    payload = {
        "instructions": "Ask it.",
        "rubric": {"criteria": [{"id": "true", "description": "It is true."}]},
        "unit": "metre",
    }
    expert = make_expert(db, at=at)
    offer = make_offer(db, make_task(db, project, at=at, payload=payload), expert.id, at=at)
    visit_as(web, db, expert.id)
    here = f"/console/expert/offers/ofr_{offer.id.hex}"
    page = web.get(here)
    check_guards(page)
    assert "It is true." in page.text
    assert "metre" in page.text
    csrf = token(web, here)
    asked = {"prompt": "2 + 2?", "reference": "4"}
    refused = send(web, f"{here}/attempts", csrf, **asked)
    assert refused.status_code == 409
    assert "start a work session" in refused.text.lower()
    assert send(web, f"{here}/start", csrf).headers["location"] == f"{here}?said=started"
    for _ in range(2):
        answer = send(web, f"{here}/attempts", csrf, once="q1", **asked)
        assert answer.headers["location"] == f"{here}?said=asked#attempts"
    attempt = db.scalars(select(Attempt)).one()
    said = Answer("Answer: 5", 200, 12, b"{}", b'{"a": 5}', 3, 3, "stop", "m-1")
    attempt.state = "sent"
    record_answer(db, attempt.id, 0, said, at=datetime.now(UTC))
    db.commit()
    assert "Answer: 5" in web.get(here).text
    claim = f"/console/expert/attempts/att_{attempt.id.hex}/claim"
    assert send(web, claim, csrf, claims="yes").headers["location"] == f"{here}?said=claimed"
    assert "1 of 1 answers differ" in web.get(here).text
    check_guards(web.get(claim.removesuffix("/claim")))
    answer = send(web, f"{here}/draft", csrf, answer="It adds wrongly.")
    assert answer.headers["location"] == f"{here}?said=draft"
    assert "It adds wrongly." in web.get(here).text
    minute = timedelta(minutes=1)
    db.execute(
        update(WorkSession).values(
            started_at=WorkSession.started_at - minute, stretch_at=WorkSession.stretch_at - minute
        )
    )
    db.commit()
    wire = f"att_{attempt.id.hex}"
    answer = send(web, f"{here}/submission", csrf, answer="It adds wrongly.", attempt=wire)
    assert answer.status_code == 303, answer.text
    sent = answer.headers["location"].partition("?")[0]
    assert "Not decided yet" in web.get(sent).text
    handed = db.scalars(select(Submission)).one()
    open_reviews(db, handed.id, at=datetime.now(UTC))
    cast(db, handed, replace(REJECT_STUMP, criterion="true"), at=datetime.now(UTC))
    db.commit()
    seen = web.get(sent).text
    assert "Wrong answer" in seen
    assert REASON.strip() in seen
    refused = send(web, f"{sent}/appeal", csrf, note="No.")
    assert refused.status_code == 422
    note = "The reference is the textbook's, and the model's answer is not it."
    answer = send(web, f"{sent}/appeal", csrf, note=note, evidence="page 12")
    assert answer.headers["location"] == f"{sent}?said=appealed"
    assert note in web.get(sent).text.replace("&#39;", "'")
    check_guards(web.get(sent))


def test_work_that_three_people_review_waits_once_for_each_of_them(web: Web, db: Session) -> None:
    hand_in(db, reviews=3)
    visit(web, db, Part.REVIEWER)
    queue = web.get("/console/reviewer").text
    assert queue.count("/claim") == 1
    assert 'Waiting <span class="soft">1</span>' in queue


def test_a_reviewer_takes_reads_blind_votes_with_a_reason_and_sees_it_kept(
    web: Web, db: Session
) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)
    handed = hand_in(db, reviews=1, at=at)
    review = db.scalars(select(Review)).one()
    visit(web, db, Part.REVIEWER)
    queue = web.get("/console/reviewer")
    check_guards(queue)
    assert "A claimed stump" in queue.text
    assert words.domain(db.scalars(select(Task.domain)).one()) in queue.text
    here = f"/console/reviewer/reviews/rev_{review.id.hex}"
    assert "2 + 2?" not in web.get(here).text
    csrf = token(web, "/console/reviewer")
    answer = send(web, "/console/reviewer/next", csrf)
    assert answer.headers["location"] == f"{here}?said=taken"
    page = web.get(here).text
    assert "2 + 2?" in page
    assert handed.expert_id.hex not in page
    vote = {"verdict": "reject", "model_failed": "yes", "attempt_fair": "no"}
    refused = send(web, f"{here}/vote", csrf, note="Kept words.", **vote)
    assert refused.status_code == 422
    assert "Kept words." in refused.text
    answer = send(web, f"{here}/vote", csrf, note=REASON, reason_code="wrong_answer", **vote)
    assert answer.headers["location"] == "/console/reviewer?said=voted"
    db.refresh(review)
    assert (review.verdict, review.reason_code, review.attempt_fair) == (
        "reject",
        "wrong_answer",
        False,
    )
    assert "Wrong answer" in web.get("/console/reviewer").text
    assert REASON.strip() in web.get(here).text
    visit(web, db, Part.REVIEWER)
    assert web.get(here).status_code == 404


def test_an_expert_makes_a_profile_and_is_told_in_words_what_does_not_fit(
    web: Web, db: Session
) -> None:
    visit(web, db, Part.EXPERT)
    assert "say what you know" in web.get("/console/expert").text
    csrf = token(web, "/console/expert/profile")
    refused = send(web, "/console/expert/profile", csrf, domains="chemistry.organic twelve")
    assert refused.status_code == 422
    assert "chemistry.organic 12" in refused.text
    fields = {
        "domains": "chemistry.organic 12\nlaw",
        "degrees": "chemistry.organic doctorate ethz.ch\nlaw master",
        "licences": "medicine.us-ny",
        "weekly_hours": "15",
        "timezone": "Asia/Tokyo",
    }
    answer = send(web, "/console/expert/profile", csrf, headline="Chemist", **fields)
    assert answer.headers["location"] == "/console/expert/profile?said=saved"
    page = web.get("/console/expert/profile").text
    assert "chemistry.organic 12" in page
    assert 'value="15"' in page
    assert "chemistry.organic doctorate ethz.ch\nlaw master" in page
    assert 'value="medicine.us-ny"' in page
    refused = send(web, "/console/expert/profile", csrf, degrees="a doctorate of law at home")
    assert "is no degree" in refused.text
    send(web, "/console/expert/profile", csrf, headline="Chemist", domains="law", country="fr")
    page = web.get("/console/expert/profile").text
    assert "Chemistry: organic" not in page
    assert 'value="FR"' in page


def test_a_lab_makes_an_endpoint_sees_its_secret_once_tests_and_removes_it(
    web: Web, db: Session
) -> None:
    visit(web, db, Part.LAB)
    home = "/console/lab/webhooks"
    csrf = token(web, home)
    refused = send(web, home, csrf, url="not an address")
    assert refused.status_code in (400, 422)
    made = send(web, home, csrf, url="http://127.0.0.1:9/hook", **{"verdict.recorded": "yes"})
    assert made.status_code == 200
    check_guards(made)
    assert "whsec_" in made.text
    row = db.scalars(select(WebhookEndpoint)).one()
    assert row.types == ["verdict.recorded"]
    here = f"{home}/whe_{row.id.hex}"
    assert "whsec_" not in web.get(here).text
    assert send(web, f"{here}/move", csrf, action="ping").headers["location"].endswith("pinged")
    message = re.search(rf'href="({here}/messages/[^"]+)"', web.get(here).text)
    assert message is not None
    check_guards(web.get(message[1]))
    for action, state in (("disable", "disabled"), ("enable", "active")):
        send(web, f"{here}/move", csrf, action=action)
        db.refresh(row)
        assert row.state == state
    assert send(web, f"{here}/move", csrf, action="explode").status_code == 422
    send(web, f"{here}/move", csrf, action="remove")
    assert web.get(here).status_code == 404


def test_a_lab_pays_in_once_however_often_the_form_is_sent(web: Web, db: Session) -> None:
    visit(web, db, Part.LAB)
    csrf = token(web, "/console/lab/money")
    for amount in ("", "-5", "nan", "1e400"):
        refused = send(
            web, "/console/lab/fundings", csrf, amount=amount, payment_method="pm_card_visa"
        )
        assert refused.status_code == 422
    for _ in range(3):
        answer = send(
            web,
            "/console/lab/fundings",
            csrf,
            amount="5,000.00",
            payment_method="pm_card_visa",
            once="f1",
        )
        assert answer.headers["location"] == "/console/lab/money?said=funding", answer.text
    funding = db.scalars(select(Funding)).one()
    assert funding.amount_minor == 500_000


def tell(db: Session, person_id: UUID, event_type: str) -> Notification:
    """One thing that somebody was told just now."""
    at = datetime.now(UTC)
    emit(db, Event(event_type), new_id(), at=at, person_id=person_id)
    db.flush()
    row = db.scalars(select(EventRow).order_by(EventRow.id.desc()).limit(1)).one()
    made = Notification(
        person_id=person_id,
        event_id=row.id,
        event_type=event_type,
        subject_id=row.subject_id,
        topic=NOTICES[event_type].topic,
        title=NOTICES[event_type].title,
        content=NOTICES[event_type].text,
        mail="never",
        created_at=at,
    )
    db.add(made)
    db.commit()
    return made


def test_experts_read_how_much_a_lab_rejects_once_it_says_something(web: Web, db: Session) -> None:
    at = datetime.now(UTC) - timedelta(minutes=1)
    project = make_project(db, at=at)
    author = make_expert(db, at=at).id
    make_decided(db, project, author, *[False] * 2, *[True] * 17, at=at)
    expert = make_expert(db, at=at)
    waiting = make_offer(db, make_task(db, project, at=at), expert.id, at=at, accepted=False)
    caller = visit_as(web, db, expert.id)
    path = f"/v1/offers/ofr_{waiting.id.hex}/rejections"
    assert caller.get(path).json()["rejected"] is None
    assert "told from 20 decided works on" in web.get("/console/expert").text
    # Another lab's work does not count, one more of this lab's does.
    make_decided(db, make_project(db, at=at), author, False, at=at)
    assert caller.get(path).json()["rejected"] is None
    make_decided(db, project, author, True, at=at)
    db.commit()
    told = caller.get(path).json()
    assert (told["rejected"]["part"], told["rejected"]["whole"]) == (2, 20)
    assert told["told"] == "Of 20 works decided last for this lab, 2 were rejected (10.0 %)"
    assert told["told"] in web.get("/console/expert").text
    assert make_caller(db, web, Part.EXPERT).get(path).status_code == 404


def test_the_inbox_tells_its_owner_alone_and_counts_down_as_it_is_read(
    web: Web, db: Session
) -> None:
    caller = visit(web, db, Part.EXPERT)
    note = tell(db, caller.person_id, "offer.created")
    page = web.get("/console/expert").text
    assert '<span class="badge">1' in page
    csrf = token(web, "/console/inbox")
    answer = send(web, "/console/inbox/read", csrf, id=f"ntf_{note.id.hex}")
    assert answer.headers["location"].startswith("/console/expert/offers/ofr_")
    assert '<span class="badge">' not in web.get("/console/inbox").text
    tell(db, caller.person_id, "payout.paid")
    other = make_caller(db, web, Part.EXPERT)
    come_in(web, other)
    assert "You were paid" not in web.get("/console/inbox").text
    theirs = token(web, "/console/inbox")
    send(web, "/console/inbox/read", theirs)
    unread = select(func.count()).select_from(Notification).where(Notification.read_at.is_(None))
    assert db.scalar(unread) == 1


def test_an_unknown_type_of_event_opens_no_stream(web: Web, db: Session) -> None:
    visit(web, db, Part.LAB)
    answer: httpx.Response = web.get("/console/stream?types=nothing.happened")
    assert answer.status_code == 422
    check_guards(answer)


def test_a_part_is_ticked_by_criteria_whose_points_its_author_read_before(
    web: Web, db: Session
) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)
    project = make_project(db, reviews_per_submission=1, at=at)
    task = make_task(db, project, payload=RUBRIC, at=at)
    author = make_expert(db, at=at)
    offer = make_offer(db, task, author.id, at=at)
    visit_as(web, db, author.id)
    bench = web.get(f"/console/expert/offers/ofr_{offer.id.hex}").text
    assert "3 points" in bench
    assert "counts by the points of what holds" in bench
    hand_in(db, offer=offer, with_attempt=False, at=at)
    review = db.scalars(select(Review)).one()
    visit(web, db, Part.REVIEWER)
    here, csrf = f"/console/reviewer/reviews/rev_{review.id.hex}", token(web, "/console/reviewer")
    send(web, "/console/reviewer/next", csrf)
    assert "What holds, for a part" in web.get(here).text
    part = {"verdict": "accept_share", "by_points": "yes", "note": REASON}
    assert send(web, f"{here}/vote", csrf, **part).status_code == 422
    answer = send(web, f"{here}/vote", csrf, **part, **{"met:facts": "yes"})
    assert answer.headers["location"] == "/console/reviewer?said=voted"
    db.refresh(review)
    assert (review.share, review.met) == (75, ["facts"])
    visit_as(web, db, author.id)
    sent = web.get(f"/console/expert/submissions/sub_{review.submission_id.hex}").text
    assert "75 % of it: facts holds" in " ".join(sent.split())
