"""Accepted work is delivered by a snapshot, once; and recalled, and accepted again."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.events import Event, EventRow, StateChange
from market.moves import unfolded
from market.projects.models import Project
from market.snapshots.actions import take_snapshot
from market.snapshots.rules import NothingToDeliver
from market.states import StateConflict
from market.submissions.models import Submission
from market.tasks.actions import move_task
from market.tasks.models import Task
from tests.factories import AT, make_caller, make_expert, make_offer, make_project, make_task
from tests.market.reviewed import LATER, REJECT_STUMP, STUMP, cast, hand_in

SOON = AT + timedelta(hours=2)


def accepted(db: Session, organisation_id: UUID | None = None) -> Submission:
    """A stump that was accepted, and with it its task."""
    made = make_project(db, organisation_id, reviews_per_submission=1)
    offer = make_offer(db, make_task(db, made), make_expert(db).id)
    handed = hand_in(db, offer=offer)
    cast(db, handed, STUMP)
    return handed


def test_a_snapshot_delivers_what_was_accepted_and_nothing_twice(db: Session) -> None:
    handed = accepted(db)
    project = db.get_one(Project, handed.project_id)
    other = make_offer(db, make_task(db, project), make_expert(db).id)
    cast(db, hand_in(db, offer=other), REJECT_STUMP)
    made = take_snapshot(db, project.id, at=SOON)
    assert (made.number, made.tasks, made.answers) == (1, 1, 1)
    db.expire_all()
    assert db.get_one(Task, handed.task_id).state == "delivered"
    assert db.get_one(Task, other.task_id).state == "queued"
    moves = select(StateChange.action).where(StateChange.subject_id == handed.task_id)
    assert list(db.scalars(moves.order_by(StateChange.id)))[-1] == "deliver"
    assert unfolded(db) == []
    told = db.scalars(select(EventRow).where(EventRow.type == Event.SNAPSHOT_TAKEN)).one()
    assert told.organisation_id == project.organisation_id
    with pytest.raises(NothingToDeliver):
        take_snapshot(db, project.id, at=SOON)


def test_a_delivered_task_is_recalled_and_confirmed_but_not_while_an_answer_is_out(
    db: Session,
) -> None:
    handed = accepted(db)
    take_snapshot(db, handed.project_id, at=SOON)
    db.expire_all()
    assert move_task(db, handed.task_id, "recall", at=SOON).state == "in_review"
    assert move_task(db, handed.task_id, "confirm", at=SOON).state == "accepted"
    assert take_snapshot(db, handed.project_id, at=SOON).number == 2
    waiting = hand_in(db, reviews=1)
    with pytest.raises(StateConflict):
        move_task(db, waiting.task_id, "confirm", at=LATER)


def test_a_lab_takes_its_answers_away_over_http(db: Session, web: TestClient[Any]) -> None:
    lab, other = make_caller(db, web, Part.LAB), make_caller(db, web, Part.LAB)
    handed = accepted(db, lab.organisation_id)
    db.commit()
    url = f"/v1/projects/prj_{handed.project_id.hex}/snapshots"
    assert other.post(url, json={}).status_code == 404
    made = lab.post(url, json={})
    assert (made.status_code, made.json()["tasks"]) == (201, 1), made.text
    again = lab.post(url, json={})
    assert (again.status_code, again.json()["code"]) == (409, "nothing_to_deliver")
    assert lab.get(url).json()["items"] == [made.json()]
    answers = f"/v1/snapshots/{made.json()['id']}/answers"
    (answer,) = lab.get(answers).json()["items"]
    assert (answer["submission_id"], answer["state"]) == (f"sub_{handed.id.hex}", "accepted")
    assert (answer["share"], answer["is_stump"], answer["payload"]) == (
        100,
        True,
        {"why": "it adds"},
    )
    assert answer["threads"] == []
    said = {"subject": answer["submission_id"], "content": "Why?", "pin": {"field": "/why"}}
    thread = lab.post("/v1/threads", json=said).json()
    (answer,) = lab.get(answers).json()["items"]
    assert (answer["threads"], thread["quote"]) == ([thread], "it adds")
    assert other.get(answers).status_code == 404
