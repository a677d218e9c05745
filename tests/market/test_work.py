"""From an accepted offer to a submission: sessions, drafts, handing in, giving back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import Scope, database, new_id
from market.errors import MarketError
from market.events import Event, EventRow
from market.offers.models import Offer
from market.offers.rules import LeaseLost, OfferNotFound
from market.states import StateConflict
from market.submissions.actions import save_draft, submit_work
from market.submissions.models import Submission
from market.submissions.rules import (
    MAX_PAYLOAD_BYTES,
    AlreadySubmitted,
    NoSessionTime,
    PayloadEmpty,
    PayloadTooLarge,
)
from market.tasks.models import Task, TaskSlot
from market.work.actions import end_session, start_session
from market.work.models import TimeEntry, WorkSession
from market.work.rules import SessionAlreadyOpen
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
from tests.races import at_once

Web = TestClient[Any]


def after(seconds: float) -> datetime:
    """A moment of the test's day."""
    return AT + timedelta(seconds=seconds)


@pytest.fixture
def offer(db: Session) -> Offer:
    """An accepted offer."""
    return make_offer(db, make_task(db, make_project(db)), make_expert(db).id)


def recent_offer(db: Session, *, worked_s: int = 60, **project: Any) -> Offer:
    """An offer accepted a moment ago, with some recorded time on it."""
    at = datetime.now(UTC) - timedelta(seconds=worked_s + 5)
    task = make_task(db, make_project(db, at=at, **project), at=at)
    offer = make_offer(db, task, make_expert(db, at=at).id, at=at)
    if worked_s:
        row = start_session(db, offer.id, expert_id=offer.expert_id, at=at)
        ends = at + timedelta(seconds=worked_s)
        end_session(db, row.id, expert_id=offer.expert_id, at=ends)
    db.commit()
    return offer


def path_of(offer: Offer) -> str:
    """Where an offer stands on the wire."""
    return f"/v1/offers/ofr_{offer.id.hex}"


# The actions --------------------------------------------------------------------------------------


def test_handing_in_ends_the_session_and_moves_offer_slot_and_task(
    db: Session, offer: Offer
) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    assert offer.state == "active"
    handed = submit_work(
        db, offer.id, expert_id=offer.expert_id, payload={"answer": 42}, at=after(80)
    )
    assert (handed.state, handed.payload, handed.submitted_at) == (
        "awaiting_review",
        {"answer": 42},
        after(80),
    )
    assert (row.state, row.paid_s) == ("ended", 80)
    assert offer.state == "completed"
    assert db.get_one(TaskSlot, offer.slot_id).state == "submitted"
    assert db.get_one(Task, offer.task_id).state == "in_review"
    told = db.scalars(select(EventRow).where(EventRow.subject_id == handed.id)).one()
    assert (told.type, told.person_id) == (Event.SUBMISSION_SUBMITTED, offer.expert_id)


def test_a_task_with_more_seats_waits_for_all_its_answers(db: Session) -> None:
    task = make_task(db, make_project(db), slots=2)
    for nth in range(2):
        offer = make_offer(db, task, make_expert(db).id)
        start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
        submit_work(db, offer.id, expert_id=offer.expert_id, payload={"n": nth}, at=after(60))
        assert task.state == ("active", "in_review")[nth]


def test_nothing_is_handed_in_without_recorded_time(db: Session, offer: Offer) -> None:
    expert_id = offer.expert_id
    with pytest.raises(NoSessionTime):
        submit_work(db, offer.id, expert_id=expert_id, payload={"a": 1}, at=AT)
    start_session(db, offer.id, expert_id=expert_id, at=AT)
    with pytest.raises(NoSessionTime):
        submit_work(db, offer.id, expert_id=expert_id, payload={"a": 1}, at=after(0.5))


def test_an_offer_takes_one_submission_and_no_session_after_it(db: Session, offer: Offer) -> None:
    expert_id = offer.expert_id
    start_session(db, offer.id, expert_id=expert_id, at=AT)
    submit_work(db, offer.id, expert_id=expert_id, payload={"a": 1}, at=after(60))
    with pytest.raises(AlreadySubmitted):
        submit_work(db, offer.id, expert_id=expert_id, payload={"a": 2}, at=after(61))
    with pytest.raises(AlreadySubmitted):
        save_draft(db, offer.id, expert_id=expert_id, payload={"a": 3}, at=after(62))
    with pytest.raises(StateConflict):
        start_session(db, offer.id, expert_id=expert_id, at=after(70))
    assert db.scalars(select(Submission.payload)).one() == {"a": 1}


def test_a_draft_is_replaced_and_becomes_the_submission(db: Session, offer: Offer) -> None:
    expert_id = offer.expert_id
    start_session(db, offer.id, expert_id=expert_id, at=AT)
    first = save_draft(db, offer.id, expert_id=expert_id, payload={"a": 1}, at=after(1))
    second = save_draft(db, offer.id, expert_id=expert_id, payload={"a": 2}, at=after(2))
    assert first.id == second.id
    assert (second.payload, second.version) == ({"a": 2}, 2)
    handed = submit_work(db, offer.id, expert_id=expert_id, payload={"a": 3}, at=after(60))
    assert (handed.id, handed.payload) == (first.id, {"a": 3})


@pytest.mark.parametrize(
    ("payload", "refusal"),
    [({}, PayloadEmpty), ({"text": "x" * MAX_PAYLOAD_BYTES}, PayloadTooLarge)],
)
def test_a_payload_that_does_not_fit_is_refused(
    db: Session, offer: Offer, payload: dict[str, Any], refusal: type[MarketError]
) -> None:
    start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    with pytest.raises(refusal):
        submit_work(db, offer.id, expert_id=offer.expert_id, payload=payload, at=after(60))


def test_nobody_works_on_anothers_offer(db: Session, offer: Offer) -> None:
    stranger = make_expert(db).id
    with pytest.raises(OfferNotFound):
        start_session(db, offer.id, expert_id=stranger, at=AT)
    with pytest.raises(OfferNotFound):
        save_draft(db, offer.id, expert_id=stranger, payload={"a": 1}, at=AT)
    with pytest.raises(OfferNotFound):
        submit_work(db, offer.id, expert_id=stranger, payload={"a": 1}, at=AT)


def test_work_ends_with_its_lease(db: Session, offer: Offer) -> None:
    assert offer.lease_until is not None
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    end_session(db, row.id, expert_id=offer.expert_id, at=after(60))
    with pytest.raises(LeaseLost):
        start_session(db, offer.id, expert_id=offer.expert_id, at=offer.lease_until)


def test_an_offer_that_was_not_accepted_is_not_worked_on(db: Session) -> None:
    task = make_task(db, make_project(db))
    offer = make_offer(db, task, make_expert(db).id, accepted=False)
    with pytest.raises(StateConflict):
        start_session(db, offer.id, expert_id=offer.expert_id, at=AT)


def test_a_connection_that_has_started_many_sessions_starts_another(
    db: Session, offer: Offer
) -> None:
    # The driver prepares what it sends often, and PostgreSQL then plans without the values.
    for nth in range(20):
        row = start_session(db, offer.id, expert_id=offer.expert_id, at=after(100 * nth))
        end_session(db, row.id, expert_id=offer.expert_id, at=after(100 * nth + 50))


# Over HTTP ----------------------------------------------------------------------------------------


def test_a_session_a_draft_and_a_submission_over_http(db: Session, web: Web) -> None:
    offer = recent_offer(db)
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    path = path_of(offer)
    begun = expert.post(f"{path}/sessions")
    assert begun.status_code == 201, begun.text
    assert begun.json()["state"] == "running"
    # What the first session used of the cap is gone from the second.
    assert begun.json()["cap_left_s"] == offer.terms["cap_s"] - 60
    draft = expert.put(f"{path}/draft", json={"payload": {"so": "far"}})
    assert (draft.status_code, draft.json()["state"]) == (200, "draft")
    handed = expert.post(f"{path}/submission", json={"payload": {"done": True}})
    assert handed.status_code == 201, handed.text
    assert handed.json()["state"] == "awaiting_review"
    seen = expert.get(f"/v1/submissions/{handed.json()['id']}").json()
    assert (seen["payload"], seen["verdict"], seen["votes"]) == ({"done": True}, None, [])
    time = expert.get(f"{path}/time").json()
    assert time["paid_s"] >= 60
    assert time["items"][0]["state"] == "recorded"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"payload": {}}, 422, "payload_empty"),
        ({"payload": [1]}, 422, "invalid_body"),
        ({}, 422, "invalid_body"),
        ({"payload": {"a": 1}, "attempt_id": "att_1"}, 404, "not_found"),
        ({"payload": {"a": 1}, "attempt_id": "sub_" + "0" * 32}, 404, "not_found"),
        ({"payload": {"a": 1}, "attempt_id": "att_" + "0" * 32}, 404, "not_found"),
        ({"payload": {"a": "\x00"}}, 422, "value_unstorable"),
        ({"payload": {"a": "x" * MAX_PAYLOAD_BYTES}}, 413, "payload_too_large"),
        ({"payload": {"a": 1}, "paid_s": 3600}, 422, "invalid_body"),
    ],
)
def test_a_submission_that_does_not_fit_is_refused_in_words(
    db: Session, web: Web, body: dict[str, Any], status: int, code: str
) -> None:
    offer = recent_offer(db)
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    answer = expert.post(f"{path_of(offer)}/submission", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert offer.state == "active"


def test_handing_in_twice_or_without_time_is_refused_in_words(db: Session, web: Web) -> None:
    idle = recent_offer(db, worked_s=0)
    expert = key_for(db, web, idle.expert_id, Part.EXPERT)
    answer = expert.post(f"{path_of(idle)}/submission", json={"payload": {"a": 1}})
    assert (answer.status_code, answer.json()["code"]) == (409, "no_session_time")
    offer = recent_offer(db)
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    wanted = {"json": {"payload": {"a": 1}}, "headers": {"Idempotency-Key": "once"}}
    first = expert.post(f"{path_of(offer)}/submission", **wanted)
    repeat = expert.post(f"{path_of(offer)}/submission", **wanted)
    assert (first.status_code, repeat.json()) == (201, first.json())
    again = expert.post(f"{path_of(offer)}/submission", json={"payload": {"a": 2}})
    assert (again.status_code, again.json()["code"]) == (409, "already_submitted")


def test_a_second_session_is_refused_in_words(db: Session, web: Web) -> None:
    offer = recent_offer(db)
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    assert expert.post(f"{path_of(offer)}/sessions").status_code == 201
    answer = expert.post(f"{path_of(offer)}/sessions")
    assert (answer.status_code, answer.json()["code"]) == (409, "session_already_open")


@pytest.mark.parametrize("bad", ["ofr_1", "prj_" + "0" * 32, "ofr_" + "0" * 32, "ofr_zz"])
def test_an_offer_that_is_not_there_is_not_found(db: Session, web: Web, bad: str) -> None:
    expert = make_caller(db, web, Part.EXPERT)
    calls: list[Callable[[], Any]] = [
        lambda: expert.post(f"/v1/offers/{bad}/sessions"),
        lambda: expert.put(f"/v1/offers/{bad}/draft", json={"payload": {"a": 1}}),
        lambda: expert.post(f"/v1/offers/{bad}/submission", json={"payload": {"a": 1}}),
        lambda: expert.post(f"/v1/offers/{bad}/release", json={"reason": "no_time"}),
        lambda: expert.get(f"/v1/submissions/{bad}"),
    ]
    for call in calls:
        answer = call()
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), answer.text


def test_who_has_no_part_in_the_work_is_refused(db: Session, web: Web) -> None:
    offer = recent_offer(db)
    stranger = make_caller(db, web, Part.EXPERT)
    lab = make_caller(db, web, Part.LAB)
    assert stranger.post(f"{path_of(offer)}/sessions").status_code == 404
    assert lab.post(f"{path_of(offer)}/sessions").json()["code"] == "scope_missing"
    assert web.post(f"{path_of(offer)}/sessions").status_code == 401
    for caller in (stranger, lab):
        assert caller.get("/v1/sessions").json()["items"] == []
        assert caller.get("/v1/submissions").json()["items"] == []
        assert caller.get(f"{path_of(offer)}/time").json()["items"] == []


def test_a_lab_sees_sessions_and_submissions_but_no_draft(db: Session, web: Web) -> None:
    lab = make_caller(db, web, Part.LAB)
    assert lab.organisation_id is not None
    offer = recent_offer(db, organisation_id=lab.organisation_id)
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    expert.put(f"{path_of(offer)}/draft", json={"payload": {"so": "far"}})
    assert lab.get("/v1/submissions").json()["items"] == []
    handed = expert.post(f"{path_of(offer)}/submission", json={"payload": {"done": True}}).json()
    listed = lab.get("/v1/submissions?state=awaiting_review").json()["items"]
    assert [row["id"] for row in listed] == [handed["id"]]
    assert lab.get(f"/v1/submissions/{handed['id']}").json()["payload"] == {"done": True}
    assert len(lab.get("/v1/sessions").json()["items"]) == 1
    assert lab.get(f"{path_of(offer)}/time").json()["paid_s"] == 60


def test_giving_a_task_back_keeps_its_minutes_owed(db: Session, web: Web) -> None:
    offer = recent_offer(db)
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    expert.put(f"{path_of(offer)}/draft", json={"payload": {"so": "far"}})
    bad = expert.post(f"{path_of(offer)}/release", json={"reason": "because"})
    assert bad.status_code == 422, bad.text
    answer = expert.post(f"{path_of(offer)}/release", json={"reason": "outside_expertise"})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {
        "offer_id": path_of(offer)[11:],
        "state": "released",
        "owes_time": True,
    }
    db.expire_all()
    assert db.get_one(TaskSlot, offer.slot_id).state == "open"
    assert db.scalars(select(Submission.state)).one() == "returned"
    untouched = recent_offer(db, worked_s=0)
    expert = key_for(db, web, untouched.expert_id, Part.EXPERT)
    answer = expert.post(f"{path_of(untouched)}/release", json={"reason": "no_time"})
    assert answer.json()["owes_time"] is False


def test_time_is_confirmed_and_taken_out_by_its_expert_alone(db: Session, web: Web) -> None:
    lab = make_caller(db, web, Part.LAB)
    offer = recent_offer(db, organisation_id=lab.organisation_id)
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    entry = expert.get(f"{path_of(offer)}/time").json()["items"][0]["id"]
    path = f"/v1/time-entries/{entry}/transitions"

    def move(caller: Caller, action: str) -> tuple[int, str]:
        answer = caller.post(path, json={"action": action})
        body = answer.json()
        return answer.status_code, body.get("code") or body["state"]

    assert move(lab, "confirm") == (403, "scope_missing")
    assert move(expert, "dispute") == (422, "invalid_body")
    assert move(expert, "confirm") == (200, "confirmed")
    assert move(make_caller(db, web, Part.EXPERT), "confirm") == (404, "not_found")
    assert move(expert, "void") == (200, "voided")
    assert expert.get(f"{path_of(offer)}/time").json()["items"] == []


def test_time_that_was_handed_in_on_is_not_voided(db: Session, web: Web) -> None:
    offer = recent_offer(db)
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    entry = expert.get(f"{path_of(offer)}/time").json()["items"][0]["id"]
    expert.post(f"{path_of(offer)}/submission", json={"payload": {"a": 1}})
    answer = expert.post(f"/v1/time-entries/{entry}/transitions", json={"action": "void"})
    assert (answer.status_code, answer.json()["code"]) == (409, "time_handed_in")


# Row security and races ---------------------------------------------------------------------------


def test_row_security_hides_other_peoples_work(db: Session) -> None:
    offer = recent_offer(db)
    expert_id = offer.expert_id
    with database.begin(Scope("stumpwork_expert", expert_id)) as session:
        assert len(session.scalars(select(WorkSession)).all()) == 1
        assert len(session.scalars(select(TimeEntry)).all()) == 1
    for scope in (
        Scope("stumpwork_expert", new_id()),
        Scope("stumpwork_lab", new_id()),
        Scope("stumpwork_expert", None),
    ):
        with database.begin(scope) as session:
            assert session.scalars(select(WorkSession)).all() == []
            assert session.scalars(select(TimeEntry)).all() == []


@pytest.mark.usefixtures("committed")
def test_of_two_sessions_started_at_once_one_runs() -> None:
    with database.begin() as session:
        expert = make_expert(session).id
        offers = [
            make_offer(session, make_task(session, make_project(session)), expert).id
            for _ in range(4)
        ]

    def start(offer_id: UUID) -> UUID:
        with database.begin() as session:
            return start_session(session, offer_id, expert_id=expert, at=AT).id

    found = at_once([partial(start, one) for one in (*offers, *offers)])
    assert sum(isinstance(one, UUID) for one in found) == 1
    assert sum(isinstance(one, SessionAlreadyOpen) for one in found) == 7
    with database.begin() as session:
        assert len(session.scalars(select(WorkSession)).all()) == 1


@pytest.mark.usefixtures("committed")
def test_of_two_submissions_at_once_one_counts() -> None:
    with database.begin() as session:
        task = make_task(session, make_project(session))
        offer = make_offer(session, task, make_expert(session).id)
        start_session(session, offer.id, expert_id=offer.expert_id, at=AT)
        offer_id, expert_id = offer.id, offer.expert_id

    def hand_in(text: str) -> UUID:
        with database.begin() as session:
            return submit_work(
                session, offer_id, expert_id=expert_id, payload={"by": text}, at=after(60)
            ).id

    found = at_once([partial(hand_in, "one"), partial(hand_in, "two")])
    assert sum(isinstance(one, UUID) for one in found) == 1
    assert sum(isinstance(one, AlreadySubmitted) for one in found) == 1
