"""Webhooks out: what travels, who hears of what, and what endpoints are."""

import base64
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from litestar.testing import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session
from standardwebhooks import Webhook
from standardwebhooks.exceptions import WebhookVerificationError

from market.auth import Part
from market.db import new_id, now
from market.deliveries.rules import (
    MAX_ENDPOINTS,
)
from market.events import Event, emit
from market.feeds import publish
from market.settings import Settings, in_force
from tests.factories import Caller, make_caller, make_project
from tests.market.receiver import Receiver
from tests.market.webhooks import carry_all, happen, log, subscribe, tries

Web = TestClient[Any]


@pytest.fixture
def lab(web: Web, db: Session) -> Caller:
    made = make_caller(db, web, Part.LAB)
    # That it joined is told already.
    publish(db, at=now())
    return made


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
