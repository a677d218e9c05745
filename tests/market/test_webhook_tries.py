"""Webhooks that do not arrive at once: tried again by a schedule, given up by rule, sent once."""

import itertools
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.auth import Part
from market.courier import Senders, make_deliveries
from market.db import PLATFORM, database, new_id, now
from market.deliveries.actions import Wish, create_endpoint, fan_out
from market.deliveries.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from market.deliveries.rules import (
    SCHEDULE,
    Outcome,
    SignatureKind,
    next_wait,
    read_retry_after,
    slow_down,
)
from market.events import Event, EventRow, emit
from market.feeds import Feed, FeedKind, publish
from market.letters.actions import Letter, Result, record_result, reserve_deliveries
from market.moves import unfolded
from market.settings import Settings, in_force
from tests.conftest import SECRET
from tests.factories import AT, Caller, make_caller
from tests.market.receiver import Receiver, eventually
from tests.market.test_embedded import environment
from tests.market.webhooks import carry_all, happen, log, subscribe, tries

Web = TestClient[Any]


@pytest.fixture
def lab(web: Web, db: Session) -> Caller:
    made = make_caller(db, web, Part.LAB)
    # That it joined is told already.
    publish(db, at=now())
    return made


def test_the_schedule_is_ten_attempts_over_three_days_with_a_little_chance() -> None:
    waits = [next_wait(n, 0.5, retry_after=None) for n in range(1, 11)]
    assert waits[-1] is None
    seconds = [int(wait.total_seconds()) for wait in waits if wait is not None]
    assert seconds == [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert len(SCHEDULE) == 10
    for spread in (0.0, 0.999):
        wait = next_wait(2, spread, retry_after=None)
        assert wait is not None
        assert 270 <= wait.total_seconds() <= 330
    assert next_wait(1, 0.5, retry_after=timedelta(hours=1)) == timedelta(hours=1)
    assert [slow_down(n, None).total_seconds() for n in (0, 1, 9)] == [5, 10, 300]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120),
        ("Sun, 01 Mar 2026 12:01:00 GMT", 60),
        ("Sun, 01 Mar 2020 12:01:00 GMT", 0),
        ("999999999999", 86400),
        ("soon", None),
        ("", None),
    ],
)
def test_a_wait_that_a_receiver_asks_for_is_read_in_both_forms(
    said: str, seconds: int | None
) -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    wait = read_retry_after({"retry-AFTER": said}, at=at)
    assert (None if wait is None else wait.total_seconds()) == seconds


@pytest.mark.parametrize("status", [301, 307, 400, 404, 429, 500, 502, 504])
def test_anything_but_success_is_tried_again_later_and_redirects_are_not_followed(
    lab: Caller, receiver: Receiver, status: int
) -> None:
    made = subscribe(lab, receiver.url("/hook"))
    receiver.answers["/hook"] = (status, {"Location": receiver.url("/elsewhere")})
    happen(lab)
    assert carry_all() == 1
    assert receiver.at("/elsewhere") == []
    (delivery,) = log(lab, made)
    assert (delivery["state"], delivery["attempts"]) == ("retrying", 1)
    wait = datetime.fromisoformat(delivery["due_at"]) - now()
    assert timedelta(seconds=3) < wait < timedelta(seconds=6)
    receiver.answers["/hook"] = (200, {})
    assert carry_all(now() + timedelta(seconds=10)) == 1
    assert [one.headers["webhook-id"] for one in receiver.at("/hook")] == [
        delivery["webhook_id"]
    ] * 2
    (delivery,) = log(lab, made)
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 2)
    assert [one["status"] for one in tries(lab, delivery)] == [status, 200]


def test_a_receiver_that_asks_for_less_is_left_alone_for_so_long(
    lab: Caller, receiver: Receiver
) -> None:
    subscribe(lab, receiver.url("/hook"))
    receiver.answers["/hook"] = (429, {"Retry-After": "600"})
    happen(lab)
    carry_all()
    happen(lab)
    happen(lab)
    assert carry_all(now() + timedelta(seconds=590)) == 0
    receiver.answers["/hook"] = (200, {})
    assert carry_all(now() + timedelta(seconds=610)) == 3


def test_an_endpoint_that_is_gone_is_disabled_at_once_and_says_so(
    lab: Caller, receiver: Receiver
) -> None:
    made = subscribe(lab, receiver.url("/hook"))
    receiver.answers["/hook"] = (410, {})
    happen(lab)
    happen(lab)
    carry_all()
    assert len(receiver.got) <= 2
    found = lab.get(f"/v1/webhook-endpoints/{made['id']}").json()
    assert (found["state"], found["disabled_reason"]) == ("disabled", "gone")
    assert {one["state"] for one in log(lab, made)} == {"exhausted"}
    happen(lab)
    assert carry_all() == 0
    types = [one["type"] for one in lab.get("/v1/events").json()["items"]]
    assert "webhook_endpoint.disabled" in types


def test_after_three_days_of_failures_an_owner_is_warned_and_after_five_it_ends(
    db: Session, lab: Caller
) -> None:
    assert lab.organisation_id is not None
    owner, _ = create_endpoint(
        db,
        Feed(lab.organisation_id, FeedKind.ORGANISATION),
        Wish("http://127.0.0.1:9/"),
        signature=SignatureKind.HMAC,
        created_by=lab.person_id,
        at=AT,
    )
    failed = Result(Outcome.FAILED, error="no answer")

    def fail(at: datetime) -> str:
        happen(lab)
        fan_out(db, owner.id, at=at)
        letter = one_letter(db, at)
        record_result(db, letter.delivery_id, letter.number, failed, spread=0.5, at=at)
        return owner.state

    assert fail(AT) == "active"
    assert fail(AT + timedelta(days=2, hours=23)) == "active"
    assert fail(AT + timedelta(days=3)) == "failing"
    # One success, and the days are counted afresh.
    letter = one_letter(db, AT + timedelta(days=4))
    record_result(
        db,
        letter.delivery_id,
        letter.number,
        Result(Outcome.DELIVERED, status=200),
        spread=0.5,
        at=AT + timedelta(days=4),
    )
    assert owner.state == "active"
    assert fail(AT + timedelta(days=5)) == "active"
    assert fail(AT + timedelta(days=9)) == "failing"
    assert fail(AT + timedelta(days=10)) == "disabled"
    told = db.scalars(
        select(EventRow.type).where(EventRow.subject_id == owner.id).order_by(EventRow.position)
    ).all()
    assert told == [
        "webhook_endpoint.failing",
        "webhook_endpoint.failing",
        "webhook_endpoint.disabled",
    ]
    assert unfolded(db) == []


def one_letter(db: Session, at: datetime) -> Letter:
    """One message of those that are due, its endpoint not left alone."""
    (letter,) = reserve_deliveries(db, limit=1, is_slow=False, at=at) or reserve_deliveries(
        db, limit=1, is_slow=True, at=at
    )
    return letter


def test_a_message_is_given_up_after_its_tenth_attempt(db: Session, lab: Caller) -> None:
    made = subscribe(lab, "http://127.0.0.1:9/")
    happen(lab)
    make_deliveries()
    at = now()
    for number in itertools.count(1):
        letters = reserve_deliveries(db, limit=1, is_slow=number > 1, at=at)
        if not letters:
            break
        result = Result(Outcome.FAILED, error="no answer")
        record_result(db, letters[0].delivery_id, letters[0].number, result, spread=0.5, at=at)
        at += timedelta(hours=25)
        # Its endpoint may have been disabled by now, which is another rule.
        db.execute(text("update market.webhook_endpoint set failing_since = :at"), {"at": at})
        db.expire_all()
    (delivery,) = log(lab, made)
    assert (delivery["state"], delivery["attempts"]) == ("exhausted", 10)


def test_a_lost_sender_is_followed_by_another_and_its_late_word_still_counts(
    db: Session, lab: Caller
) -> None:
    subscribe(lab, "http://127.0.0.1:9/")
    happen(lab)
    make_deliveries()
    at = now()
    (lost,) = reserve_deliveries(db, limit=5, is_slow=False, at=at)
    assert reserve_deliveries(db, limit=5, is_slow=False, at=at + timedelta(seconds=59)) == []
    (next_one,) = reserve_deliveries(db, limit=5, is_slow=False, at=at + timedelta(seconds=61))
    assert (lost.number, next_one.number) == (1, 2)
    assert lost.message_id == next_one.message_id
    # The lost one's failure changes nothing: somebody else is at it.
    record_result(db, lost.delivery_id, 1, Result(Outcome.FAILED, error="late"), spread=0.5, at=at)
    found = db.get_one(WebhookDelivery, lost.delivery_id)
    assert (found.state, found.failures) == ("pending", 0)
    record_result(db, lost.delivery_id, 2, Result(Outcome.DELIVERED, status=200), spread=0.5, at=at)
    assert found.state == "delivered"
    outcomes = db.scalars(select(WebhookAttempt.outcome).order_by(WebhookAttempt.number)).all()
    assert outcomes == ["failed", "delivered"]


def test_two_senders_never_send_one_message_twice_and_a_slow_one_holds_nobody_up(
    committed: str, settings: Settings, receiver: Receiver
) -> None:
    in_force.open(msgspec.structs.replace(settings, database_url=committed))
    receiver.delays_s["/slow"] = 1.5
    lab = new_id()
    with database.begin(PLATFORM) as session:
        for path in ("/slow", "/quick"):
            create_endpoint(
                session,
                Feed(lab, FeedKind.ORGANISATION),
                Wish(receiver.url(path)),
                signature=SignatureKind.HMAC,
                created_by=lab,
                at=now(),
            )
        for _ in range(60):
            emit(session, Event.PROJECT_CHANGED, new_id(), at=now(), organisation_id=lab)
    with database.begin(PLATFORM) as session:
        publish(session, at=now())
    senders = [Senders(threads=8, slow_threads=4) for _ in range(2)]
    make_deliveries()
    began = now()
    while len(receiver.at("/quick")) < 60:
        assert now() - began < timedelta(seconds=20)
        for sender in senders:
            sender.send_due()
        senders[0].done.wait(0.01)
        senders[0].done.clear()
    quick = [one.seq for one in receiver.at("/quick")]
    assert sorted(quick) == list(range(1, 61))
    # At most four at once, however many senders there are.
    assert len(receiver.at("/slow")) <= 4 * (1 + int((now() - began).total_seconds() / 1.5))
    for sender in senders:
        sender.close()
    slow = [one.seq for one in receiver.at("/slow")]
    assert len(slow) == len(set(slow))
    with database.begin(PLATFORM) as session:
        owners = session.scalars(select(WebhookEndpoint)).all()
        assert {one.told_seq for one in owners} == {60}
        assert unfolded(session) == []
    in_force.open(settings)


def test_of_two_couriers_one_is_killed_and_every_event_arrives(
    committed: str, receiver: Receiver
) -> None:
    lab = new_id()
    with database.begin(PLATFORM) as session:
        create_endpoint(
            session,
            Feed(lab, FeedKind.ORGANISATION),
            Wish(receiver.url()),
            signature=SignatureKind.HMAC,
            created_by=lab,
            at=now(),
        )
        for _ in range(120):
            emit(session, Event.PROJECT_CHANGED, new_id(), at=now(), organisation_id=lab)
    with database.begin(PLATFORM) as session:
        publish(session, at=now())
    receiver.delays_s["/"] = 0.02
    couriers = [
        subprocess.Popen(
            [sys.executable, "-m", "market.courier"],
            env=environment(
                STUMPWORK_DATABASE_URL=committed,
                STUMPWORK_SECRET_KEY=SECRET,
                STUMPWORK_ALLOW_PRIVATE_TARGETS="true",
                STUMPWORK_LOG_LEVEL="WARNING",
            ),
        )
        for _ in range(2)
    ]
    try:
        assert eventually(lambda: len(receiver.at("/")) > 10)
        couriers[0].kill()
        couriers[0].wait()
        # What the dead one held is taken up when its lease ends; here, at once.
        time.sleep(0.5)
        with database.begin(PLATFORM) as session:
            session.execute(
                text(
                    "update market.webhook_delivery set leased_until = now() - interval '1 s'"
                    " where state in ('pending', 'retrying') and leased_until < now()"
                    " + interval '59.8 s'"
                )
            )
        assert eventually(lambda: len({one.seq for one in receiver.at("/")}) == 120)
    finally:
        for courier in couriers:
            courier.terminate()
        for courier in couriers:
            courier.wait(timeout=120)
    assert couriers[1].returncode == 0
    # A message is sent twice only where its sender died between sending and saying so.
    assert len(receiver.at("/")) <= 120 + 4
    with database.begin(PLATFORM) as session:
        states = session.scalars(select(WebhookDelivery.state).distinct()).all()
        assert states == ["delivered"]
        assert unfolded(session) == []
