"""Messages to cohorts: counted before they are sent, once to each, as each chose to be told."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.http import wire_id
from market.inbox.actions import preference_of
from market.inbox.models import Letter, Notification
from market.messages.jobs import tell_cohort
from market.messages.models import CohortMessage, MessageCopy
from market.settings import Settings, in_force
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

Web = TestClient[Any]
React = Callable[[], list[str]]
CHEMISTS = 'domains has "chemistry"'


@pytest.fixture(autouse=True)
def _mail(settings: Settings) -> Any:
    in_force.open(msgspec.structs.replace(settings, smtp_host="127.0.0.1"))
    yield
    in_force.open(settings)


def send(caller: Caller, expression: str = CHEMISTS, key: str = "m-1", **given: Any) -> Any:
    body = {"expression": expression, "subject": "New rates", "content": "From Monday.", **given}
    return caller.post("/v1/messages", json=body, headers={"Idempotency-Key": key})


def copies(db: Session) -> set[Any]:
    return set(db.scalars(select(MessageCopy.person_id)))


def test_a_message_reaches_everybody_of_the_segment_once_as_each_chose(
    db: Session, web: Web, react: React
) -> None:
    ops, one, quiet = make_caller(db, web, Part.OPS), make_expert(db), make_expert(db)
    make_expert(db, domains=("law",))
    preference_of(db, quiet.id, at=AT).mails = {"messages": "never"}
    db.flush()
    count = ops.post("/v1/messages:preview", json={"expression": CHEMISTS})
    assert count.json() == {"matching": 2}
    assert copies(db) == set()
    made = send(ops)
    assert made.status_code == 202, made.text
    assert send(ops).json()["id"] == made.json()["id"]
    assert "tell_cohort" in react()
    assert copies(db) == {one.id, quiet.id}
    row = db.scalars(select(CohortMessage)).one()
    tell_cohort(str(row.id))  # A queue may deliver twice.
    assert [letter.person_id for letter in db.scalars(select(Letter))] == [one.id]
    told = db.scalars(select(Notification)).all()
    assert {(note.person_id, note.title) for note in told} == {
        (one.id, "New rates"),
        (quiet.id, "New rates"),
    }
    log = ops.get(f"/v1/messages/{made.json()['id']}").json()
    assert (log["told"], log["mailed"], log["failed"], log["read"]) == (2, 1, 0, 0)
    each = ops.get(f"/v1/messages/{made.json()['id']}/copies").json()
    assert [(row["person_id"], row["mail"], row["letter"]) for row in each] == [
        (wire_id("per", one.id), "now", "waiting"),
        (wire_id("per", quiet.id), "never", None),
    ]
    last = {"after": each[0]["person_id"], "limit": 1}
    assert len(ops.get(f"/v1/messages/{made.json()['id']}/copies", params=last).json()) == 1
    own = key_for(db, web, one.id, Part.EXPERT).get("/v1/notifications").json()["items"]
    assert own[0]["topic"] == "messages"


def test_a_job_that_died_half_way_tells_only_those_who_are_left(
    db: Session, web: Web, react: React
) -> None:
    ops = make_caller(db, web, Part.OPS)
    make_expert(db)
    send(ops)
    react()
    row = db.scalars(select(CohortMessage)).one()
    row.matched = row.finished_at = None
    late = make_expert(db)
    db.flush()
    tell_cohort(str(row.id))
    assert late.id in copies(db)
    assert len(db.scalars(select(Notification)).all()) == 2


def test_a_lab_reaches_its_own_people_only_and_learns_of_no_few(
    db: Session, web: Web, react: React
) -> None:
    lab, other = make_caller(db, web, Part.LAB), make_caller(db, web, Part.LAB)
    make_expert(db)
    assert send(lab).json()["code"] == "nobody_to_tell"
    project = make_project(db, lab.organisation_id)
    mine = make_expert(db)
    make_offer(db, make_task(db, project), mine.id)
    count = lab.post("/v1/messages:preview", json={"expression": CHEMISTS})
    assert count.json() == {"matching": None}
    made = send(lab)
    assert made.status_code == 202, made.text
    react()
    assert copies(db) == {mine.id}
    path = f"/v1/messages/{made.json()['id']}"
    assert lab.get(path).json()["told"] is None
    assert lab.get(f"{path}/copies").status_code == 403
    assert other.get(path).json()["code"] == "not_found"
    assert lab.get("/v1/messages").json()["items"][0]["id"] == made.json()["id"]
    assert other.get("/v1/messages").json()["items"] == []


def test_a_message_without_words_or_key_is_refused(db: Session, web: Web) -> None:
    ops = make_caller(db, web, Part.OPS)
    make_expert(db)
    assert send(ops, subject=" ").json()["code"] == "message_unfit"
    assert send(ops, "nonsense ((").json()["code"] == "expression_invalid"
    body = {"expression": CHEMISTS, "subject": "x", "content": "x"}
    assert ops.post("/v1/messages", json=body).json()["code"] == "idempotency_key_missing"
    assert make_caller(db, web, Part.REVIEWER).get("/v1/messages").status_code == 403
