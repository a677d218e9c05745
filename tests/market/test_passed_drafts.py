"""Drafts of work that went back, and who reads them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.offers.actions import accept_offer
from market.offers.models import Offer
from market.projects.models import Project
from market.submissions.actions import give_back, leave_offer, save_draft
from market.submissions.models import Submission
from market.submissions.queries import passed_draft
from market.submissions.rules import LEASE_GRACE
from market.tasks.models import Task
from market.work.actions import end_session, start_session
from tests.factories import AT, key_for, make_expert, make_offer, make_project, make_task
from tests.market.reviewed import LATER, REWORK, cast, hand_in_to, plan_for
from tests.market.test_console import send, token, visit, visit_as

Web = TestClient[Any]
DRAFT = {"answer": "Half of it.", "reasoning": "As far as I came.", "unit": "mole"}


def path_of(offer: Offer) -> str:
    """Where an offer stands on the wire."""
    return f"/v1/offers/ofr_{offer.id.hex}"


def taken(db: Session, task: Task, at: datetime = AT) -> Offer:
    """The first open seat of a task, for someone who has not been there."""
    return make_offer(db, task, make_expert(db, at=at).id, at=at)


def left(db: Session, offer: Offer, payload: dict[str, Any], at: datetime = AT) -> None:
    """A draft is kept, and its work given back."""
    save_draft(db, offer.id, expert_id=offer.expert_id, payload=payload, at=at)
    give_back(db, offer.id, expert_id=offer.expert_id, reason="no_time", at=at)


@pytest.mark.parametrize(("then", "now"), [(True, True), (False, True), (True, False)])
def test_a_draft_that_was_left_is_read_by_the_next_where_both_its_terms_and_the_project_say_so(
    db: Session, web: Web, then: bool, now: bool
) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    project = make_project(db, at=at, passes_drafts=then)
    task = make_task(db, project, at=at)
    first = taken(db, task, at)
    db.commit()
    author = key_for(db, web, first.expert_id, Part.EXPERT)
    assert author.get(path_of(first)).json()["terms"]["passes_drafts"] is then
    kept = author.put(f"{path_of(first)}/draft", json={"payload": DRAFT})
    assert kept.status_code == 200, kept.text
    released = author.post(f"{path_of(first)}/release", json={"reason": "no_time"})
    assert released.status_code == 200, released.text
    # What the project says by now is not what the author agreed to.
    project.passes_drafts = now
    following = make_offer(db, task, make_expert(db, at=at).id, accepted=False, at=at)
    reader = key_for(db, web, following.expert_id, Part.EXPERT)
    there = f"{path_of(following)}/passed-draft"
    assert reader.get(there).json() == {"payload": None}
    accept_offer(db, following.id, expert_id=following.expert_id, at=at)
    db.commit()
    assert reader.get(there).json() == {"payload": DRAFT if then and now else None}
    assert author.get(there).status_code == 404
    assert author.get(f"{path_of(first)}/passed-draft").json() == {"payload": None}


def test_what_was_left_of_one_seat_is_not_read_from_another(db: Session) -> None:
    task = make_task(db, make_project(db, passes_drafts=True), slots=2)
    first, peer = taken(db, task), taken(db, task)
    left(db, first, {"answer": "Of the first seat."})
    save_draft(db, peer.id, expert_id=peer.expert_id, payload={"answer": "A peer's."}, at=AT)
    assert passed_draft(db, peer) is None
    second = taken(db, task)
    assert second.slot_id == first.slot_id
    assert passed_draft(db, second) == {"answer": "Of the first seat."}
    # A draft of nothing but blanks takes the place of none.
    left(db, second, {"answer": "  ", "reasoning": "", "sources": []})
    third = taken(db, task)
    assert passed_draft(db, third) == {"answer": "Of the first seat."}
    # And work of which nothing more was heard leaves its draft as well.
    row = start_session(db, peer.id, expert_id=peer.expert_id, at=AT)
    end_session(db, row.id, expert_id=peer.expert_id, at=AT + timedelta(seconds=60))
    assert peer.lease_until is not None
    over = peer.lease_until + LEASE_GRACE + timedelta(seconds=1)
    assert leave_offer(db, peer.id, at=over)
    fourth = taken(db, task, over)
    assert fourth.slot_id == peer.slot_id
    assert passed_draft(db, fourth) == {"answer": "A peer's."}
    assert passed_draft(db, third) == {"answer": "Of the first seat."}


def test_work_that_was_handed_in_and_sent_back_is_no_draft(db: Session) -> None:
    project = plan_for(db, votes=1)
    db.get_one(Project, project).passes_drafts = True
    handed = hand_in_to(db, project, with_attempt=False)
    cast(db, handed, REWORK)
    give_back(db, handed.offer_id, expert_id=handed.expert_id, reason="no_time", at=LATER)
    following = taken(db, db.get_one(Task, handed.task_id), LATER)
    assert (following.slot_id, handed.state) == (handed.slot_id, "returned")
    assert following.terms["passes_drafts"]
    assert passed_draft(db, following) is None


def test_an_expert_begins_from_what_was_left_with_one_button(web: Web, db: Session) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    lab = visit(web, db, Part.LAB)
    assert lab.organisation_id is not None
    project = make_project(db, lab.organisation_id, at=at)
    task = make_task(db, project, at=at)
    db.commit()
    base = f"/console/lab/projects/prj_{project.id.hex}"
    assert "is seen by nobody else" in web.get(base).text
    csrf = token(web, f"{base}/setup")
    terms = {"name": "project", "brief": "Find it.", "domains": "chemistry"}
    set_so = send(web, f"{base}/setup", csrf, passes_drafts="yes", **terms)
    assert set_so.status_code == 303, set_so.text
    db.refresh(project)
    assert project.passes_drafts
    assert "is read by the next one" in web.get(base).text

    first = taken(db, task, at)
    left(db, first, DRAFT, at)
    following = make_offer(db, task, make_expert(db, at=at).id, accepted=False, at=at)
    db.commit()
    visit_as(web, db, following.expert_id)
    here = f"/console/expert/offers/ofr_{following.id.hex}"
    before = web.get(here).text
    assert "whoever does it next reads your draft" in before
    assert DRAFT["answer"] not in before
    accept_offer(db, following.id, expert_id=following.expert_id, at=at)
    db.commit()
    shown = web.get(here).text
    assert "What was left of it" in shown
    assert shown.count(DRAFT["answer"]) == 1
    csrf = token(web, here)
    assert send(web, f"{here}/begin", csrf).headers["location"] == f"{here}?said=begun"
    begun = web.get(here).text
    assert begun.count(DRAFT["answer"]) == begun.count(DRAFT["reasoning"]) == 2
    assert "Begin from this" not in begun
    mine = save_draft(
        db, following.id, expert_id=following.expert_id, payload={"answer": "Better."}, at=at
    )
    # From a window that stood open: what was written since stays.
    send(web, f"{here}/begin", csrf)
    db.refresh(mine)
    assert mine.payload == {"answer": "Better."}
    project.passes_drafts = False
    db.commit()
    assert send(web, f"{here}/begin", csrf).status_code == 404
    assert "What was left of it" not in web.get(here).text
    drafts = db.scalars(select(Submission.state).where(Submission.task_id == task.id)).all()
    assert sorted(drafts) == ["draft", "returned"]
    assert db.get_one(Project, project.id).version == 2
