"""What becomes of sessions by themselves, in the database, and over HTTP."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import Scope, database, new_id
from market.heartbeats.actions import beat
from market.offers.actions import withdraw_offer
from market.offers.models import Offer
from market.states import Machine
from market.submissions.actions import leave_offer, save_draft
from market.submissions.models import Submission
from market.submissions.queries import left_offers
from market.submissions.rules import SUBMISSION
from market.time_entries.actions import confirm_time
from market.work.actions import (
    end_session,
    lose_session,
    pause_session,
    start_session,
)
from market.work.models import TimeEntry, WorkSession
from market.work.queries import figures, stale_sessions
from market.work.rules import (
    LOST_S,
    MAX_PAUSE_S,
    SESSION,
    TIME_ENTRY,
    SessionNotFound,
)
from tests.factories import (
    AT,
    Caller,
    key_for,
    make_expert,
    make_offer,
    make_project,
    make_task,
    pairs_in_database,
)
from tests.market.test_heartbeats import after, work


@pytest.fixture
def offer(db: Session) -> Offer:
    """An accepted offer of four hours at most."""
    return make_offer(db, make_task(db, make_project(db)), make_expert(db).id)


# What becomes of sessions by themselves -----------------------------------------------------------


def test_a_session_without_heartbeats_is_lost_and_paid_to_its_last_proof(
    db: Session, offer: Offer
) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    beat(db, row.id, expert_id=offer.expert_id, seq=1, is_active=True, at=after(45))
    assert stale_sessions(db, at=after(45 + LOST_S), limit=9) == []
    late = after(46 + LOST_S)
    assert stale_sessions(db, at=late, limit=9) == [row.id]
    assert lose_session(db, row.id, at=late)
    assert not lose_session(db, row.id, at=late)
    assert (row.state, row.paid_s, row.stretch_at) == ("aborted", 45, None)


def test_a_pause_that_lasts_too_long_ends_the_session(db: Session, offer: Offer) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    pause_session(db, row.id, expert_id=offer.expert_id, at=after(60))
    assert stale_sessions(db, at=after(60 + MAX_PAUSE_S), limit=9) == []
    assert lose_session(db, row.id, at=after(61 + MAX_PAUSE_S))
    assert (row.state, row.paid_s) == ("ended", 60)


def test_an_offer_whose_expert_left_is_abandoned_and_its_minutes_stay_owed(
    db: Session, offer: Offer
) -> None:
    work(db, offer, 120)
    save_draft(db, offer.id, expert_id=offer.expert_id, payload={"so": "far"}, at=AT)
    assert offer.lease_until is not None
    assert left_offers(db, at=offer.lease_until, limit=9) == []
    late = offer.lease_until + timedelta(minutes=16)
    assert left_offers(db, at=late, limit=9) == [offer.id]
    assert leave_offer(db, offer.id, at=late)
    assert not leave_offer(db, offer.id, at=late)
    assert offer.state == "abandoned"
    assert db.scalars(select(Submission.state)).one() == "timed_out"
    owed = db.scalar(
        text("select data ->> 'owes_time' from market.event where type = 'offer.abandoned'")
    )
    assert owed == "true"


def test_grace_that_is_over_ends_the_work_and_owes_its_minutes(db: Session, offer: Offer) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    for seq in (1, 2, 3, 4):
        at = after(30 * seq)
        beat(db, row.id, expert_id=offer.expert_id, seq=seq, is_active=True, at=at)
    at = AT + timedelta(seconds=130)
    withdraw_offer(db, offer.id, reason="project_ended", grace=timedelta(hours=48), at=at)
    assert offer.state == "grace"
    over = at + timedelta(hours=48)
    assert left_offers(db, at=over - timedelta(seconds=1), limit=9) == []
    assert not leave_offer(db, offer.id, at=over - timedelta(seconds=1))
    assert left_offers(db, at=over, limit=9) == [offer.id]
    assert leave_offer(db, offer.id, at=over)
    assert offer.state == "abandoned"
    told = db.execute(
        text(
            "select s.reason_code, e.data ->> 'owes_time' as owes from market.state_change s"
            " join market.event e on e.id = s.event_id where s.to_state = 'abandoned'"
        )
    ).one()
    assert tuple(told) == ("grace_over", "true")
    assert db.scalars(select(WorkSession.state)).one() == "ended"


def test_recorded_time_is_confirmed_when_two_days_have_passed(db: Session, offer: Offer) -> None:
    work(db, offer, 120)
    later = AT + timedelta(hours=49)
    assert confirm_time(db, recorded_before=AT, at=later, limit=9) == 0
    assert confirm_time(db, recorded_before=AT + timedelta(hours=1), at=later, limit=9) == 1
    assert confirm_time(db, recorded_before=AT + timedelta(hours=1), at=later, limit=9) == 0
    assert db.scalars(select(TimeEntry.state)).one() == "confirmed"


# The database -------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", [SESSION, TIME_ENTRY, SUBMISSION], ids=lambda m: m.name)
def test_the_database_lets_through_what_the_rules_list(db: Session, machine: Machine) -> None:
    assert pairs_in_database(db, machine) == machine.pairs()


def test_a_heartbeat_is_never_changed(db: Session, offer: Offer) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    beat(db, row.id, expert_id=offer.expert_id, seq=1, is_active=True, at=after(30))
    for change in ("update market.heartbeat set seq = 2", "delete from market.heartbeat"):
        with pytest.raises(DBAPIError), db.begin_nested():
            db.execute(text(change))


def test_a_heartbeat_of_someone_at_work_is_one_statement(db: Session, offer: Offer) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    db.flush()
    statements: list[str] = []
    connection = db.connection()

    def note(*given: object) -> None:
        statements.append(str(given[2]))

    event.listen(connection, "before_cursor_execute", note)
    beat(db, row.id, expert_id=offer.expert_id, seq=1, is_active=True, at=after(30))
    event.remove(connection, "before_cursor_execute", note)
    assert len(statements) == 1, statements


# Over HTTP ----------------------------------------------------------------------------------------


class Running(NamedTuple):
    """An expert's caller, and the session that it has open."""

    expert: Caller
    session_id: UUID


@pytest.fixture
def running(db: Session, web: TestClient[Any], offer: Offer) -> Running:
    """An expert's caller and its session, begun a minute ago."""
    began = datetime.now(UTC) - timedelta(seconds=60)
    offer.lease_until = began + timedelta(days=1)
    db.flush()
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=began)
    db.commit()
    return Running(key_for(db, web, offer.expert_id, Part.EXPERT), row.id)


def test_an_expert_sees_its_seconds_with_each_heartbeat(running: Running) -> None:
    expert, session_id = running
    path = f"/v1/sessions/ses_{session_id.hex}"
    answer = expert.post(f"{path}/heartbeats", json={"seq": 1, "is_active": True})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["is_counted"]
    assert 60 <= body["paid_s"] <= 75
    again = expert.post(f"{path}/heartbeats", json={"seq": 1, "is_active": True}).json()
    assert (again["is_counted"], again["paid_s"]) == (False, body["paid_s"])
    seen = expert.get(path).json()
    assert (seen["state"], seen["last_seq"], seen["paid_s"]) == ("running", 1, body["paid_s"])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"seq": 0, "is_active": True}, 422, "invalid_body"),
        ({"seq": 2**60, "is_active": True}, 422, "invalid_body"),
        ({"seq": "one", "is_active": True}, 422, "invalid_body"),
        ({"seq": 1}, 422, "invalid_body"),
        ({"seq": 1, "is_active": "yes"}, 422, "invalid_body"),
        ({"seq": 1, "is_active": True, "paid_s": 9999}, 422, "invalid_body"),
        (
            {"seq": 1, "is_active": True, "sent_at": "2099-01-01T00:00:00Z"},
            422,
            "from_the_future",
        ),
        ({"seq": 1, "is_active": True, "sent_at": "2026-01-01T00:00:00"}, 422, "invalid_body"),
    ],
)
def test_a_heartbeat_that_does_not_fit_is_refused_in_words(
    running: Running, body: dict[str, object], status: int, code: str
) -> None:
    expert, session_id = running
    answer = expert.post(f"/v1/sessions/ses_{session_id.hex}/heartbeats", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_nobody_beats_for_another(db: Session, web: TestClient[Any], running: Running) -> None:
    _, session_id = running
    stranger = key_for(db, web, make_expert(db).id, Part.EXPERT)
    path = f"/v1/sessions/ses_{session_id.hex}"
    for action in ("heartbeats", "pause", "resume", "stop"):
        body = {"seq": 1, "is_active": True} if action == "heartbeats" else None
        answer = stranger.post(f"{path}/{action}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), action
    assert stranger.get(path).status_code == 404
    for bad in ("ses_1", "ofr_" + session_id.hex, "ses_" + "0" * 32):
        answer = stranger.post(f"/v1/sessions/{bad}/heartbeats", json={"seq": 1, "is_active": True})
        assert answer.status_code == 404


def test_pausing_resuming_and_stopping_over_http(running: Running) -> None:
    expert, session_id = running
    path = f"/v1/sessions/ses_{session_id.hex}"
    states = []
    for action in ("pause", "pause", "resume", "resume", "stop", "stop"):
        answer = expert.post(f"{path}/{action}")
        assert answer.status_code == 200, answer.text
        states.append(answer.json()["state"])
    assert states == ["paused", "paused", "running", "running", "ended", "ended"]
    for action in ("pause", "resume"):
        answer = expert.post(f"{path}/{action}")
        assert (answer.status_code, answer.json()["code"]) == (409, "session_not_open")


def test_an_expert_writes_under_its_own_row_security_only(db: Session, running: Running) -> None:
    _, session_id = running
    expert_id = db.scalars(select(WorkSession.expert_id)).one()
    with database.begin(Scope("stumpwork_expert", new_id())) as session:
        assert session.scalars(select(WorkSession)).all() == []
        with pytest.raises(SessionNotFound):
            beat(session, session_id, expert_id=expert_id, seq=1, is_active=True, at=AT)
    with database.begin(Scope("stumpwork_lab", new_id())) as session:
        assert session.scalars(select(TimeEntry)).all() == []


def test_what_a_session_shows_live_is_what_it_records(db: Session, offer: Offer) -> None:
    row = start_session(db, offer.id, expert_id=offer.expert_id, at=AT)
    for seq in range(1, 10):
        beat(db, row.id, expert_id=offer.expert_id, seq=seq, is_active=True, at=after(seq * 40))
    db.refresh(row)
    live = figures(row)
    end_session(db, row.id, expert_id=offer.expert_id, at=after(360))
    assert (row.paid_s, row.capped_s, row.cap_left_s) == (
        live.paid_s,
        live.capped_s,
        live.cap_left_s,
    )
    assert live.paid_s == 360
