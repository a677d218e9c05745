"""Previews: a past stretch under another policy, searches for one, and what runs' prices say."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from market.http import wire_id
from market.policies.actions import publish_policy
from market.runs.actions import request_run
from market.runs.jobs import run_matching
from tests.factories import AT, Caller, make_caller, make_expert, make_project, make_task

React = Callable[[], list[str]]


@pytest.fixture
def ops(db: Session, web: TestClient[Any]) -> Caller:
    return make_caller(db, web, Part.OPS)


def stretch(**more: Any) -> dict[str, Any]:
    at = datetime.now(UTC)
    return {
        "since": (at - timedelta(days=7)).isoformat(),
        "until": (at + timedelta(hours=1)).isoformat(),
        **more,
    }


def drawn_run(db: Session, **policy: Any) -> str:
    """A run drawn by lot over a small market; its id."""
    project = make_project(db)
    for _ in range(5):
        make_expert(db, max_concurrent=2)
        make_task(db, project)
    made = publish_policy(
        db,
        name="drawn",
        document={"randomness": 0.6, **policy},
        reason="A test.",
        author_id=None,
        at=AT,
    )
    found, _ = request_run(db, policy_id=made.id, seed=3, at=datetime.now(UTC))
    db.commit()
    run_matching(str(found.id))
    return wire_id("mrn", found.id)


def published(ops: Caller, document: dict[str, Any]) -> str:
    body = {"name": "tried", "document": document, "reason": "A trial."}
    made: str = ops.post("/v1/policies", json=body).json()["id"]
    return made


def test_a_stretch_without_runs_is_refused_in_words(ops: Caller) -> None:
    policy = published(ops, {})
    answer = ops.post("/v1/policy-previews", json=stretch(policy_id=policy))
    assert (answer.status_code, answer.json()["code"]) == (422, "stretch_empty"), answer.text
    assert "nothing to replay" in answer.json()["detail"]
    backwards = stretch(policy_id=policy)
    backwards["until"] = backwards["since"]
    assert ops.post("/v1/policy-previews", json=backwards).json()["code"] == "stretch_invalid"
    for changes, said in (
        ({"goal_fill": 1.5}, "goal_fill"),
        ({"goal_fill": 0.9, "evaluations": 0}, "evaluations"),
        ({"goal_fill": 0.9, "knobs": ["weights.charm"]}, "weights.charm"),
    ):
        answer = ops.post("/v1/policy-searches", json=stretch(**changes))
        assert (answer.status_code, answer.json()["code"]) == (422, "goal_invalid"), answer.text
        assert said in answer.json()["detail"]
    unknown = wire_id("pvw", ops.person_id)
    assert ops.get(f"/v1/policy-previews/{unknown}").json()["code"] == "not_found"


def test_a_past_run_is_replayed_a_policy_found_and_its_prices_read(
    db: Session, ops: Caller, react: React
) -> None:
    run = drawn_run(db)
    react()
    # Interest was never stated, so that its default moves every pair alike.
    policy = published(ops, {"weights": {"stump": 2.0}, "default_interest": 0.5})
    asked = ops.post("/v1/policy-previews", json=stretch(policy_id=policy))
    assert asked.status_code == 202, asked.text
    assert "preview_policy" in react()
    operation = ops.get(asked.headers["location"]).json()
    assert (operation["kind"], operation["state"]) == ("policy_preview", "succeeded"), operation
    told = ops.get(f"/v1/policy-previews/{asked.json()['id']}").json()["result"]
    assert (told["runs"], told["runs_left_out"], told["seats"]) == (1, 0, 5)
    fill = next(one for one in told["figures"] if one["name"] == "fill")
    assert fill["candidate"]["value"] == pytest.approx(1.0)
    assert fill["today"]["low"] <= fill["today"]["value"] <= 1.0
    names = {(one["kind"], one["name"]) for one in told["figures"]}
    assert {("planned", "top_10_share"), ("realised", "stumps"), ("realised", "cost")} <= names
    # Five seats hold too little to say what would have come of it, and the answer says so.
    assert "too few to tell" in told["refusal"] or "never tried" in told["refusal"]
    assert told["refusal"] in told["sentence"]
    assert told["domains"][0]["domain"] == "chemistry"
    assert told["gain_count"] + told["lose_count"] >= len(told["gain"])
    wanted = stretch(goal_fill=0.95, domain="chemistry", evaluations=15)
    search = ops.post("/v1/policy-searches", json=wanted).json()
    react()
    found = ops.get(f"/v1/policy-previews/{search['id']}").json()["result"]
    assert found["reached"]
    assert found["evaluations"] <= 15
    assert any(choice["meets"] for choice in found["choices"])
    listed = ops.get("/v1/policy-previews").json()["items"]
    assert [row["kind"] for row in listed] == ["search", "preview"]
    signals = ops.get(f"/v1/matching-runs/{run}/signals").json()
    assert signals["skills"][0]["domain"] == "chemistry"
    assert signals["skills"][0]["candidates"] == 5
    assert not signals["budgets"][0]["binds"]


def test_a_policy_that_leaves_every_recorded_pair_worthless_is_answered_in_words(
    db: Session, ops: Caller, react: React
) -> None:
    drawn_run(db)
    react()
    # Interest counts alone, and nobody stated any.
    nothing = dict.fromkeys(
        ("stump", "quality", "affinity", "learning", "cost", "concentration", "urgency"), 0.0
    )
    policy = published(ops, {"weights": {**nothing, "interest": 1.0}})
    asked = ops.post("/v1/policy-previews", json=stretch(policy_id=policy))
    react()
    operation = ops.get(asked.headers["location"]).json()
    assert operation["state"] == "failed"
    assert operation["problem"]["code"] == "policy_worthless"
    assert "is worth anything under this policy" in operation["problem"]["detail"]


def test_a_change_of_rank_between_two_runs_is_explained_by_what_moved(
    db: Session, ops: Caller, react: React
) -> None:
    first = drawn_run(db)
    react()
    offers = ops.get(f"/v1/matching-runs/{first}/offers").json()["items"]
    other, _ = request_run(db, seed=4, at=datetime.now(UTC))
    query = f"other={first}&task={offers[0]['task_id']}&expert={offers[0]['expert_id']}"
    same = ops.get(f"/v1/matching-runs/{first}/rank-change?{query}").json()
    assert same["rank_before"] == same["rank_after"]
    assert "nothing about it changed" in same["sentence"]
    run = wire_id("mrn", other.id)
    early = ops.get(f"/v1/matching-runs/{run}/rank-change?{query}")
    assert early.json()["code"] == "run_not_over"
    unknown = query.replace(offers[0]["expert_id"], wire_id("per", ops.person_id))
    answer = ops.get(f"/v1/matching-runs/{first}/rank-change?{unknown}")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
