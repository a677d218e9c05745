"""Webhooks out: signed, sent until they arrive, given up by rule, and never sent where they must
not go.
"""

import base64
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session
from standardwebhooks import Webhook
from standardwebhooks.exceptions import WebhookVerificationError

from market.auth import Part
from market.courier import Senders, make_deliveries
from market.db import PLATFORM, database, new_id, now
from market.deliveries.actions import Wish, create_endpoint, fan_out
from market.deliveries.models import WebhookAttempt, WebhookDelivery, WebhookEndpoint
from market.deliveries.rules import (
    MAX_ENDPOINTS,
    SCHEDULE,
    Outcome,
    SignatureKind,
    next_wait,
    read_retry_after,
    slow_down,
)
from market.events import Event, EventRow, emit, unfolded
from market.feeds import Feed, FeedKind, publish
from market.letters.actions import Letter, Result, record_result, reserve_deliveries
from market.letters.jobs import carry_letter
from market.settings import Settings, in_force
from tests.conftest import SECRET
from tests.factories import AT, Caller, make_caller, make_project
from tests.market.receiver import Receiver, eventually, receiving
from tests.market.test_embedded import environment

Web = TestClient[Any]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def lab(web: Web, db: Session) -> Caller:
    made = make_caller(db, web, Part.LAB)
    # That it joined is told already.
    publish(db, at=now())
    return made


def happen(lab: Caller, *events: Event, subject: UUID | None = None, **data: object) -> None:
    """Events of a lab's, published."""
    with database.begin(PLATFORM) as session:
        for event in events or (Event.PROJECT_CHANGED,):
            emit(
                session,
                event,
                subject or new_id(),
                at=AT,
                organisation_id=lab.organisation_id,
                data=data,
            )
    with database.begin(PLATFORM) as session:
        while publish(session, at=now()):
            pass


def subscribe(lab: Caller, url: str, **given: object) -> dict[str, Any]:
    answer = lab.post("/v1/webhook-endpoints", json={"url": url, **given})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def carry_all(at: datetime | None = None) -> int:
    """Send everything that is due, in this thread."""
    make_deliveries()
    count = 0
    while True:
        with database.begin(PLATFORM) as session:
            letters = reserve_deliveries(session, limit=50, is_slow=False, at=at or now())
            letters += reserve_deliveries(session, limit=50, is_slow=True, at=at or now())
        if not letters:
            return count
        for letter in letters:
            carry_letter(letter, timeout_s=20.0)
        count += len(letters)


def log(lab: Caller, made: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    answer = lab.get(f"/v1/webhook-endpoints/{made['id']}/deliveries{query}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def tries(lab: Caller, delivery: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lab.get(f"/v1/webhook-deliveries/{delivery['id']}").json()[
        "tries"
    ]
    return found


# What travels -------------------------------------------------------------------------------------


def test_what_happens_arrives_signed_as_the_standard_says(lab: Caller, receiver: Receiver) -> None:
    made = subscribe(lab, receiver.url(), data="full")
    happen(lab, Event.BUDGET_ALLOCATED, amount_minor=5)
    assert carry_all() == 1
    (message,) = receiver.got
    told = Webhook(made["secret"]).verify(message.body, message.headers)
    assert told["type"] == "budget.allocated"
    assert told["data"] == {"amount_minor": 5}
    assert message.headers["webhook-id"] == told["id"]
    assert told["seq"] == lab.get("/v1/events").json()["items"][0]["seq"]
    with pytest.raises(WebhookVerificationError):
        Webhook(made["secret"]).verify(message.body + b" ", message.headers)
    (delivery,) = log(lab, made)
    assert (delivery["state"], delivery["attempts"]) == ("delivered", 1)
    (attempt,) = tries(lab, delivery)
    assert (attempt["outcome"], attempt["status"]) == ("delivered", 204)


def test_with_a_key_pair_the_public_half_checks_and_no_secret_is_shown(
    lab: Caller, receiver: Receiver
) -> None:
    made = subscribe(lab, receiver.url(), signature="v1a")
    assert made["secret"] is None
    happen(lab)
    carry_all()
    (message,) = receiver.got
    version, _, signature = message.headers["webhook-signature"].partition(",")
    assert version == "v1a"
    (public,) = made["public_keys"]
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
    head = f"{message.headers['webhook-id']}.{message.headers['webhook-timestamp']}."
    # It raises when the signature is of anything else.
    key.verify(base64.b64decode(signature), head.encode() + message.body)


def test_a_secret_is_shown_once_kept_sealed_and_rotated_with_two_signatures(
    lab: Caller, receiver: Receiver, db: Session
) -> None:
    made = subscribe(lab, receiver.url())
    path = f"/v1/webhook-endpoints/{made['id']}"
    assert "secret" not in lab.get(path).json()
    sealed = db.scalars(text("select sealed from market.webhook_key")).one()
    raw = base64.b64decode(made["secret"].removeprefix("whsec_"))
    assert len(raw) == 32
    assert raw not in bytes(sealed)
    assert made["secret"].encode() not in bytes(sealed)
    rotated = lab.post(f"{path}/keys", json={"overlap_hours": 2}).json()
    happen(lab)
    carry_all()
    both = receiver.got[0]
    assert len(both.headers["webhook-signature"].split(" ")) == 2
    for secret in (made["secret"], rotated["secret"]):
        Webhook(secret).verify(both.body, both.headers)
    db.execute(text("update market.webhook_key set retires_at = now() where retires_at > now()"))
    happen(lab)
    carry_all()
    Webhook(rotated["secret"]).verify(receiver.got[1].body, receiver.got[1].headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(made["secret"]).verify(receiver.got[1].body, receiver.got[1].headers)
    refused = lab.post(f"{path}/keys", json={"overlap_hours": 169})
    assert (refused.status_code, refused.json()["code"]) == (422, "overlap_invalid")


def test_an_endpoint_hears_its_types_and_projects_only(
    lab: Caller, receiver: Receiver, db: Session
) -> None:
    mine, other = (make_project(db, lab.organisation_id) for _ in range(2))
    publish(db, at=now())
    subscribe(lab, receiver.url("/types"), types=["project.paused"])
    subscribe(lab, receiver.url("/project"), project_ids=[f"prj_{mine.id.hex}"])
    subscribe(lab, receiver.url("/all"))
    for project in (mine, other):
        happen(lab, Event.PROJECT_PAUSED, Event.PROJECT_LIVE, subject=project.id)
    happen(lab, Event.FUNDING_REQUESTED)
    carry_all()
    assert [one.told["type"] for one in receiver.at("/types")] == ["project.paused"] * 2
    assert {one.told["resource"]["id"] for one in receiver.at("/project")} == {f"prj_{mine.id.hex}"}
    assert len(receiver.at("/all")) == 5


def test_a_body_too_long_in_full_is_sent_thin(lab: Caller, receiver: Receiver) -> None:
    subscribe(lab, receiver.url(), data="full")
    happen(lab, Event.PROJECT_CHANGED, words="x" * 30_000)
    carry_all()
    (message,) = receiver.got
    assert len(message.body) < 20_000
    assert message.told["data"] == {}


# What follows from an answer ----------------------------------------------------------------------


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


def test_no_address_inside_the_house_is_accepted_or_sent_to(
    lab: Caller, receiver: Receiver, settings: Settings
) -> None:
    made = subscribe(lab, receiver.url())
    happen(lab)
    in_force.open(msgspec.structs.replace(settings, allow_private_targets=False))
    try:
        for url in (
            receiver.url(),
            "http://localhost/hook",
            "https://10.1.2.3/hook",
            "https://[::ffff:127.0.0.1]/hook",
            "https://169.254.169.254/latest",
            "ftp://example.com/",
            "https://user:word@example.com/",
        ):
            refused = lab.post("/v1/webhook-endpoints", json={"url": url})
            assert (refused.status_code, refused.json()["code"]) == (422, "address_refused"), url
        refused = lab.post("/v1/webhook-endpoints", json={"url": "http://8.8.8.8/hook"})
        assert (refused.status_code, refused.json()["code"]) == (422, "endpoint_url_invalid")
        # What was let in while it was allowed is checked again when it is sent.
        carry_all()
    finally:
        in_force.open(settings)
    assert receiver.got == []
    (delivery,) = log(lab, made)
    assert delivery["state"] == "retrying"
    assert "not a public address" in tries(lab, delivery)[0]["error"]


# By hand ------------------------------------------------------------------------------------------


def test_a_message_and_a_range_can_be_sent_once_more(lab: Caller, receiver: Receiver) -> None:
    made = subscribe(lab, receiver.url("/hook"), types=["project.changed", "project.live"])
    path = f"/v1/webhook-endpoints/{made['id']}"
    happen(lab, Event.PROJECT_CHANGED, Event.PROJECT_PAUSED, Event.PROJECT_LIVE)
    carry_all()
    first, last = (one.seq for one in receiver.got)
    newest = log(lab, made)[0]
    again = lab.post(f"/v1/webhook-deliveries/{newest['id']}/replays")
    assert again.status_code == 201, again.text
    assert again.json()["replay_of"] == newest["id"]
    waiting = lab.post(f"/v1/webhook-deliveries/{again.json()['id']}/replays")
    assert (waiting.status_code, waiting.json()["code"]) == (409, "delivery_open")
    carry_all()
    assert [one.headers["webhook-id"] for one in receiver.got[1:]] == [newest["webhook_id"]] * 2
    answer = lab.post(f"{path}/replays", json={"from_seq": first, "to_seq": last})
    assert answer.json() == {"deliveries": 2}
    # Asked for twice, what already waits is left alone.
    answer = lab.post(f"{path}/replays", json={"from_seq": first, "to_seq": last})
    assert answer.json() == {"deliveries": 0}
    assert carry_all() == 2
    assert [one.seq for one in receiver.got] == [first, last, last, first, last]
    for body in ({"from_seq": 3, "to_seq": 2}, {"from_seq": 1, "to_seq": 999}):
        refused = lab.post(f"{path}/replays", json=body)
        assert (refused.status_code, refused.json()["code"]) == (422, "replay_range_invalid")
    assert [one["state"] for one in log(lab, made, "?state=replayed")] == ["replayed"] * 3


def test_a_ping_says_what_the_receiver_answers_and_is_not_repeated(
    lab: Caller, receiver: Receiver
) -> None:
    made = subscribe(lab, receiver.url("/hook"))
    path = f"/v1/webhook-endpoints/{made['id']}"
    receiver.answers["/hook"] = (500, {})
    ping = lab.post(f"{path}/pings")
    assert ping.status_code == 201, ping.text
    carry_all()
    assert carry_all(now() + timedelta(days=1)) == 0
    (message,) = receiver.got
    assert Webhook(made["secret"]).verify(message.body, message.headers)["type"] == "webhook.ping"
    (attempt,) = tries(lab, ping.json())
    assert (attempt["status"], attempt["reply"]) == (500, "thank you")


def test_a_disabled_endpoint_is_enabled_from_now_on_and_catches_up_by_hand(
    lab: Caller, receiver: Receiver
) -> None:
    made = subscribe(lab, receiver.url())
    path = f"/v1/webhook-endpoints/{made['id']}"
    assert lab.post(f"{path}/transitions", json={"action": "disable"}).status_code == 200
    for what in ("pings", "replays"):
        refused = lab.post(
            f"{path}/{what}", json={"from_seq": 1, "to_seq": 1} if what == "replays" else None
        )
        assert (refused.status_code, refused.json()["code"]) == (409, "endpoint_disabled")
    happen(lab)
    assert carry_all() == 0
    enabled = lab.post(f"{path}/transitions", json={"action": "enable"}).json()
    assert enabled["state"] == "active"
    assert carry_all() == 0
    seq = enabled["told_seq"]
    missed = lab.post(f"{path}/replays", json={"from_seq": seq, "to_seq": seq})
    assert missed.json() == {"deliveries": 1}
    assert carry_all() == 1
    assert receiver.got[0].seq == seq


def test_an_endpoint_is_changed_by_version_taken_away_and_nobody_elses(
    web: Web, db: Session, lab: Caller, receiver: Receiver
) -> None:
    made = subscribe(lab, receiver.url("/old"), types=["project.live"])
    path = f"/v1/webhook-endpoints/{made['id']}"
    assert lab.patch(path, json={"types": []}).status_code == 428
    changed = lab.patch(
        path, json={"url": receiver.url("/new"), "types": []}, headers={"If-Match": '"1"'}
    )
    assert changed.status_code == 200, changed.text
    assert (changed.json()["types"], changed.json()["version"]) == ([], 2)
    stranger = make_caller(db, web, Part.LAB)
    happen(lab)
    carry_all()
    assert [one.path for one in receiver.got] == ["/new"]
    delivery = log(lab, made)[0]["id"]
    for address in (path, f"{path}/deliveries", f"/v1/webhook-deliveries/{delivery}"):
        assert stranger.get(address).status_code == 404, address
    assert stranger.post(f"/v1/webhook-deliveries/{delivery}/replays").status_code == 404
    assert lab.request("DELETE", path).status_code == 200
    assert lab.get(path).status_code == 404
    assert lab.get("/v1/webhook-endpoints").json()["items"] == []
    assert db.scalar(text("select count(*) from market.webhook_key")) == 0


def test_experts_and_ops_hear_of_their_own(web: Web, db: Session, receiver: Receiver) -> None:
    expert, ops = make_caller(db, web, Part.EXPERT), make_caller(db, web, Part.OPS)
    publish(db, at=now())
    subscribe(expert, receiver.url("/expert"))
    subscribe(ops, receiver.url("/ops"), types=["offer.created"])
    for person in (expert.person_id, new_id()):
        emit(db, Event.OFFER_CREATED, new_id(), at=now(), person_id=person)
    publish(db, at=now())
    carry_all()
    assert len(receiver.at("/expert")) == 1
    assert len(receiver.at("/ops")) == 2


def test_there_are_only_so_many_endpoints(lab: Caller, receiver: Receiver) -> None:
    for _ in range(MAX_ENDPOINTS):
        subscribe(lab, receiver.url())
    refused = lab.post("/v1/webhook-endpoints", json={"url": receiver.url()})
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_endpoints")
    unknown = lab.post(
        "/v1/webhook-endpoints", json={"url": receiver.url(), "types": ["offer.eaten"]}
    )
    assert unknown.json()["code"] == "event_type_unknown"


# Several senders ----------------------------------------------------------------------------------


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
