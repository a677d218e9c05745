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
from tests.factories import Caller, make_caller, make_project
from tests.market.test_verdicts import statements_of


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
    chosen = ops.put(
        "/v1/policies/default", json={"policy_id": second.json()["id"]}, headers={"If-Match": '"1"'}
    )
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
    answer = ops.put(
        "/v1/policies/default", json={"policy_id": unknown}, headers={"If-Match": '"1"'}
    )
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


def propose(ops: Caller, document: dict[str, Any], *, name: str = "tuned", base: str = "") -> Any:
    """A version of a policy, as its author's own answer."""
    answer = ops.post(
        "/v1/policies",
        json={"name": name, "document": document, "reason": "A trial."},
        headers={"If-Match": base} if base else {},
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


BALANCED = {"default_interest": 0.25, "perturbation": 0.5}
"""What the seeded default says beside the matcher's own defaults."""


def test_a_policy_under_which_every_pair_is_worthless_is_refused_in_words(ops: Caller) -> None:
    nothing = dict.fromkeys(
        ("stump", "quality", "interest", "affinity", "learning", "urgency"), 0.0
    )
    body = {"name": "void", "document": {"weights": {**nothing, "cost": 5}}, "reason": "None."}
    answer = ops.post("/v1/policies", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "policy_worthless"), answer.text
    assert "every pair is worth nothing" in answer.json()["detail"]


def test_two_people_who_edit_one_policy_do_not_undo_each_other(
    db: Session, web: TestClient[Any], ops: Caller
) -> None:
    second = make_caller(db, web, Part.OPS)
    assert propose(ops, {"exploration": 0.1}, base='"0"')["version_no"] == 1
    assert propose(ops, {"exploration": 0.2}, base='"1"')["version_no"] == 2
    body = {"name": "tuned", "document": {"exploration": 0.3}, "reason": "Mine."}
    for base in ('"1"', '"0"', '"first"'):
        late = second.post("/v1/policies", json=body, headers={"If-Match": base})
        assert (late.status_code, late.json()["code"]) == (412, "version_conflict"), late.text
        assert "version 2" in late.json()["detail"]
    chosen = {"policy_id": propose(ops, {"exploration": 0.2})["id"]}
    assert ops.put("/v1/policies/default", json=chosen).json()["code"] == "version_missing"
    headers = {"If-Match": '"1"'}
    assert ops.put("/v1/policies/default", json=chosen, headers=headers).status_code == 200
    late = second.put("/v1/policies/default", json=chosen, headers=headers)
    assert (late.status_code, late.json()["code"]) == (412, "version_conflict")


def test_a_page_of_policies_takes_as_many_statements_as_one_of_them(
    db: Session, ops: Caller
) -> None:
    propose(ops, {"exploration": 0.1})

    def listing() -> None:
        assert ops.get("/v1/policies?name=tuned").status_code == 200

    one = statements_of(db, listing)
    for number in range(2, 6):
        propose(ops, {"exploration": number / 10})
    assert len(ops.get("/v1/policies?name=tuned").json()["items"]) == 5
    assert statements_of(db, listing) == one


def test_a_difference_is_told_in_words_and_large_ones_need_a_second_person(
    db: Session, web: TestClient[Any], ops: Caller
) -> None:
    bold = propose(ops, {**BALANCED, "weights": {"stump": 0.1, "cost": 0.5}})
    told = ops.get(f"/v1/policies/{bold['id']}/diff").json()
    said = {one["setting"]: one["sentence"] for one in told["differences"]}
    assert said.keys() == {"weights.stump", "weights.cost"}
    assert "Stump counts 10 times less, from 1 to 0.1" in said["weights.stump"]
    assert "Cost counts now, 0.5 units of value for each hundred minor" in said["weights.cost"]
    assert "of the weight moves" in told["large"][0]
    assert bold["approval_wanted"] == told["large"]
    chosen, headers = {"policy_id": bold["id"]}, {"If-Match": '"1"'}
    answer = ops.put("/v1/policies/default", json=chosen, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (409, "approval_missing"), answer.text
    own = ops.post(f"/v1/policies/{bold['id']}/approval", json={"note": "Fine."})
    assert (own.status_code, own.json()["code"]) == (403, "approval_by_author")
    second = make_caller(db, web, Part.OPS)
    blank = second.post(f"/v1/policies/{bold['id']}/approval", json={"note": " "})
    assert blank.json()["code"] == "reason_blank"
    given = second.post(f"/v1/policies/{bold['id']}/approval", json={"note": "Seen its preview."})
    assert given.status_code == 200, given.text
    assert given.json()["approval_wanted"] == []
    assert given.json()["approved_by"] == wire_id("per", second.person_id)
    assert ops.put("/v1/policies/default", json=chosen, headers=headers).status_code == 200
    small = propose(ops, {**BALANCED, "weights": {"stump": 0.12, "cost": 0.5}})
    assert small["approval_wanted"] == []


def test_the_default_and_a_project_return_in_one_step(db: Session, ops: Caller) -> None:
    first = ops.get("/v1/policies/default").json()["policy_id"]
    assert ops.post("/v1/policies/default/return").json()["code"] == "nothing_to_return_to"
    near = propose(ops, {**BALANCED, "weights": {"urgency": 0.2}})
    chosen = {"policy_id": near["id"], "reason": "Chemistry waits."}
    ops.put("/v1/policies/default", json=chosen, headers={"If-Match": '"1"'})
    back = ops.post("/v1/policies/default/return").json()
    assert (back["policy_id"], back["how"]) == (first, "returned")
    assert ops.post("/v1/policies/default/return").json()["policy_id"] == near["id"]
    ops.post("/v1/policies/default/return")
    project = f"/v1/projects/{wire_id('prj', make_project(db).id)}/policy"
    db.commit()
    answer = ops.get(project)
    assert (answer.json()["policy_id"], answer.json()["is_own"]) == (first, False)
    tag = {"If-Match": answer.headers["etag"]}
    put = ops.put(project, json={"policy_id": near["id"]}, headers=tag)
    assert put.json() == {**answer.json(), "policy_id": near["id"], "is_own": True}, put.text
    assert ops.put(project, json={"policy_id": None}, headers=tag).status_code == 412
    assert ops.post(f"{project}/return").json()["policy_id"] is None
    assert ops.get(project).json()["policy_id"] == first
    uses = ops.get("/v1/policies/uses?limit=10").json()["items"]
    assert [use["how"] for use in uses] == ["returned", "returned", "returned", "chosen"]
    assert uses[-1]["reason"] == "Chemistry waits."
    own = ops.get(f"/v1/policies/uses?project={project.split('/')[3]}").json()["items"]
    assert [use["how"] for use in own] == ["returned", "chosen"]


def test_every_setting_is_listed_with_its_unit_and_the_bounds_that_are_kept(ops: Caller) -> None:
    listed = ops.get("/v1/policies/settings").json()["items"]
    assert len(listed) == 18
    for one in listed:
        assert one["low"] <= one["default"] <= one["high"], one
        head, _, part = one["name"].partition(".")
        if one["name"] == "floor":
            continue
        for amount in (one["low"] - 0.1, one["high"] * 1.01):
            document = {head: {part: amount}} if part else {head: amount}
            with pytest.raises(PolicyRefused):
                read_policy(document)
