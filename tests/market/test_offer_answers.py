"""Offers over HTTP: what an expert sees and answers, and what it is told of the reasons."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import new_id
from market.experts.actions import create_profile
from market.experts.models import Expert
from market.experts.rules import Claim, Profile
from market.http import wire_id
from market.offers.actions import accept_offer, expire_offer
from market.offers.models import Offer
from market.projects.models import Project
from market.seats.actions import activate_offer
from market.tasks.models import Task
from tests.factories import AT, Caller, make_caller, make_project, make_task
from tests.market.running import make_offers


@dataclass
class Answering:
    """An expert with a key, and an offer that waits for it."""

    me: Caller
    offer: Offer
    address: str
    task: Task


@pytest.fixture
def answering(db: Session, web: TestClient[Any]) -> Answering:
    me = make_caller(db, web, Part.EXPERT)
    create_profile(db, me.person_id, Profile(claims=(Claim("chemistry"),)), at=AT)
    project = make_project(db, rate_minor_per_hour=9500)
    task = make_task(db, project, payload={"instructions": "Stump it."})
    [offer] = make_offers(db)
    db.commit()
    return Answering(me, offer, f"/v1/offers/{wire_id('ofr', offer.id)}", task)


def test_an_expert_reads_all_terms_before_it_accepts(answering: Answering) -> None:
    [listed] = answering.me.get("/v1/offers?state=pending").json()["items"]
    assert listed["id"] == wire_id("ofr", answering.offer.id)
    read = answering.me.get(answering.address)
    assert (read.status_code, read.headers["etag"]) == (200, '"1"')
    body = read.json()
    terms = body["terms"]
    assert terms["rate_per_hour"] == {"amount_minor": 9500, "currency": "USD"}
    assert terms["expected_pay"] == {"amount_minor": 4750, "currency": "USD"}
    assert terms["expected_week_pay"] == terms["expected_pay"]
    assert (terms["expected_minutes"], terms["cap_minutes"]) == (30, 240)
    assert (terms["review_within_hours"], terms["open_seats"]) == (168, 1)
    assert body["task"]["instructions"] == "Stump it."
    assert body["terms_digest"] == answering.offer.terms_digest


def test_accepting_needs_the_version_that_was_read_and_may_be_repeated(
    answering: Answering,
) -> None:
    me, accept = answering.me, f"{answering.address}/accept"

    def answer(**headers: str) -> tuple[int, str]:
        got = me.post(accept, headers=headers)
        return got.status_code, got.json().get("code") or got.json()["state"]

    assert answer() == (428, "version_missing")
    assert answer(**{"If-Match": '"9"'}) == (412, "version_conflict")
    assert answer(**{"If-Match": '"1"'}) == (200, "accepted")
    assert answer(**{"If-Match": '"1"'}) == (200, "accepted")
    assert answer() == (200, "accepted")
    refused = me.post(f"{answering.address}/decline", json={"reason": "no_time"})
    assert (refused.status_code, refused.json()["code"]) == (409, "state_conflict")
    assert refused.json()["allowed"] == ["activate", "release"]


def test_an_expert_declines_or_gives_back_with_a_reason(db: Session, answering: Answering) -> None:
    me, moves = answering.me, f"{answering.address}/transitions"
    for address, body in (
        (f"{answering.address}/decline", {"reason": "boring"}),
        (moves, {"action": "decline"}),
        (moves, {"action": "release", "reason_code": "boring"}),
    ):
        answer = me.post(address, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "answer_reason_unknown")
        assert "no_time" in answer.json()["known"]
    for body in ({"action": "explode"}, {"action": "decline", "note": "x" * 2001}, {}):
        assert me.post(moves, json=body).json()["code"] == "invalid_body"
    accepted = me.post(moves, json={"action": "accept"}, headers={"If-Match": '"1"'})
    assert accepted.json()["state"] == "accepted"
    given = me.post(moves, json={"action": "release", "reason_code": "no_time"})
    assert (given.status_code, given.json()["state"]) == (200, "released")
    # What was given back does not come again.
    assert make_offers(db) == []
    assert me.get("/v1/offers?state=pending").json()["items"] == []


def test_work_under_way_is_given_back_where_its_minutes_are_counted(
    db: Session, answering: Answering
) -> None:
    me, offer, at = answering.me, answering.offer, datetime.now(UTC)
    accept_offer(db, offer.id, expert_id=me.person_id, at=at)
    activate_offer(db, offer.id, expert_id=me.person_id, at=at)
    db.commit()
    body = {"action": "release", "reason_code": "no_time"}
    answer = me.post(f"{answering.address}/transitions", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "state_conflict")


def test_anothers_offer_is_not_there(
    db: Session, web: TestClient[Any], answering: Answering
) -> None:
    other = make_caller(db, web, Part.EXPERT)
    unknown = f"/v1/offers/{wire_id('ofr', new_id())}"
    for address in (answering.address, unknown, "/v1/offers/ofr_1"):
        for got in (
            other.get(address),
            other.get(f"{address}/explanation"),
            other.post(f"{address}/accept", headers={"If-Match": '"1"'}),
            other.post(f"{address}/decline", json={"reason": "no_time"}),
        ):
            assert (got.status_code, got.json()["code"]) == (404, "not_found")
    assert other.get("/v1/offers").json()["items"] == []
    lab = make_caller(db, web, Part.LAB)
    assert lab.get("/v1/offers").json()["code"] == "scope_missing"
    ops = make_caller(db, web, Part.OPS)
    assert len(ops.get("/v1/offers").json()["items"]) == 1
    assert ops.post(f"{answering.address}/accept").json()["code"] == "scope_missing"


def test_an_expert_learns_its_own_part_of_the_reason_and_ops_the_prices(
    db: Session, web: TestClient[Any], answering: Answering
) -> None:
    mine = answering.me.get(f"{answering.address}/explanation").json()
    assert (mine["task_price"], mine["expert_price"]) == (None, None)
    assert mine["value"] == pytest.approx(sum(part["weighed"] for part in mine["parts"]))
    assert {"stump", "interest", "affinity"} <= {part["name"] for part in mine["parts"]}
    assert mine["sentence"].startswith("Chosen for stump")
    theirs = make_caller(db, web, Part.OPS).get(f"{answering.address}/explanation").json()
    assert isinstance(theirs["task_price"], float)
    assert isinstance(theirs["expert_price"], float)


def test_late_closed_and_barred_are_told_apart(
    db: Session, web: TestClient[Any], answering: Answering
) -> None:
    del web
    offer, me = answering.offer, answering.me

    def accept() -> tuple[int, str]:
        got = me.post(f"{answering.address}/accept", headers={"If-Match": "*"})
        return got.status_code, got.json()["code"]

    project, expert = db.get_one(Project, offer.project_id), db.get_one(Expert, me.person_id)
    project.state = "paused"
    db.commit()
    assert accept() == (409, "project_not_live")
    project.state = "live"
    db.commit()
    for state in ("watched", "limited", "suspended"):
        expert.state = state
        db.flush()
    db.commit()
    assert accept() == (409, "not_eligible")
    expert.state = "good"
    answering.task.state = "cancelled"
    db.commit()
    assert accept() == (409, "overlap_full")
    db.execute(text("update market.offer set expires_at = created_at + interval '1 microsecond'"))
    db.commit()
    assert accept() == (409, "offer_expired")
    expire_offer(db, offer.id, at=datetime.now(UTC))
    db.commit()
    assert accept() == (409, "offer_expired")
    assert me.get(answering.address).json()["task"] is None
