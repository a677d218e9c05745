"""Policies: what is seeded, what is refused, and that a version never changes."""

from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from market.auth import Part
from market.http import wire_id
from market.policies.models import PolicyDefault, PolicyVersion
from market.policies.rules import PolicyRefused, read_policy
from matching.value import PairParts, pair_value
from tests.factories import Caller, make_caller


@pytest.fixture
def ops(db: Session, web: TestClient[Any]) -> Caller:
    return make_caller(db, web, Part.OPS)


def published(db: Session, name: str) -> PolicyVersion:
    return db.scalars(select(PolicyVersion).where(PolicyVersion.name == name)).one()


def test_two_policies_are_seeded_and_the_balanced_one_is_the_default(db: Session) -> None:
    for name in ("balanced", "interest-only"):
        seeded = published(db, name)
        settings = read_policy(seeded.document)
        assert (seeded.version_no, seeded.digest) == (1, settings.digest())
        assert settings.to_dict() == seeded.document
    assert db.scalar(select(PolicyDefault.policy_id)) == published(db, "balanced").id


def test_under_interest_only_a_pair_is_worth_its_interest_to_the_last_bit(db: Session) -> None:
    policy = read_policy(published(db, "interest-only").document)
    interest = np.random.default_rng(3).random(1000)
    parts = PairParts(
        interest=interest,
        stump=interest / 2,
        worth=interest * 9,
        cost=interest * 1e5,
        affinity=interest,
        learning=interest,
        concentration=interest,
    )
    assert (pair_value(parts, policy.matcher).total == interest).all()


@pytest.mark.parametrize(
    "statement", ["update market.policy set reason = 'x'", "delete from market.policy"]
)
def test_the_database_refuses_to_change_or_remove_a_version(db: Session, statement: str) -> None:
    # Not even the tables' owner may.
    db.execute(text("reset role"))
    with pytest.raises(IntegrityError, match="append-only"):
        db.execute(text(statement))


def test_ops_publish_versions_and_choose_the_default(ops: Caller) -> None:
    body = {"name": "brave", "document": {"exploration": 1.0}, "reason": "Try newcomers."}
    first = ops.post("/v1/policies", json=body)
    assert first.status_code == 201, first.text
    assert first.json()["version_no"] == 1
    assert first.json()["document"]["exploration"] == 1.0
    assert not first.json()["is_default"]
    assert ops.post("/v1/policies", json=body).json()["id"] == first.json()["id"]
    second = ops.post("/v1/policies", json={**body, "document": {"exploration": 0.5}})
    assert second.json()["version_no"] == 2
    # Going back to earlier settings is a version of its own, because it was a decision.
    assert ops.post("/v1/policies", json=body).json()["version_no"] == 3
    chosen = ops.put("/v1/policies/default", json={"policy_id": second.json()["id"]})
    assert chosen.status_code == 200, chosen.text
    assert ops.get("/v1/policies/default").json()["policy_id"] == second.json()["id"]
    listed = ops.get("/v1/policies?name=brave&limit=2").json()
    assert [row["version_no"] for row in listed["items"]] == [3, 2]
    assert [row["is_default"] for row in listed["items"]] == [False, True]
    rest = ops.get(f"/v1/policies?name=brave&limit=2&cursor={listed['next_cursor']}").json()
    assert [row["version_no"] for row in rest["items"]] == [1]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"document": {"weights": {"charm": 1}}}, "policy_refused", "weights.charm"),
        ({"document": {"exploration": 9}}, "policy_refused", "exploration"),
        ({"document": {"randomness": 0}}, "policy_refused", "randomness"),
        ({"document": {"floor": "yes"}}, "policy_refused", "floor"),
        ({"document": {"default_interest": 2}}, "policy_refused", "default_interest"),
        ({"document": {"default_interest": True}}, "policy_refused", "default_interest"),
        ({"document": {"default_interest": "much"}}, "policy_refused", "default_interest"),
        ({"document": {"weights": {"stump": 1e9}}}, "policy_refused", "weights.stump"),
        ({"document": {"weights": 3}}, "policy_refused", "weights"),
        ({"name": "Brave New"}, "policy_name_invalid", "lower-case"),
        ({"name": ""}, "policy_name_invalid", "lower-case"),
        ({"reason": "  "}, "reason_blank", "reason"),
        ({"document": []}, "invalid_body", "object"),
        ({"author": "me"}, "invalid_body", "author"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_with_its_setting(
    ops: Caller, changes: dict[str, Any], code: str, said: str
) -> None:
    body = {"name": "brave", "document": {}, "reason": "Try newcomers.", **changes}
    answer = ops.post("/v1/policies", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert said in answer.json()["detail"]


def test_unknown_policies_and_other_parts_are_refused(
    db: Session, web: TestClient[Any], ops: Caller
) -> None:
    unknown = wire_id("plc", ops.person_id)
    assert ops.get(f"/v1/policies/{unknown}").json()["code"] == "not_found"
    answer = ops.put("/v1/policies/default", json={"policy_id": unknown})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    for part in (Part.LAB, Part.EXPERT, Part.REVIEWER):
        answer = make_caller(db, web, part).get("/v1/policies")
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")


def test_numbers_that_json_can_hold_and_policies_cannot_are_refused() -> None:
    for value in (float("nan"), float("inf"), -0.5):
        with pytest.raises(PolicyRefused):
            read_policy({"default_interest": value})
        with pytest.raises(PolicyRefused):
            read_policy({"open_seat_price": value})
