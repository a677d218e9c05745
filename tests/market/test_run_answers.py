"""Matching runs over HTTP, explained, checked and repeated."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import new_id
from market.experts.models import Expert
from market.explanations.queries import recorded
from market.http import wire_id
from market.operations import open_operation
from market.policies.actions import publish_policy
from market.policies.rules import read_policy
from market.runs.actions import request_run
from market.tasks.models import Interest
from matching.assign import assign
from matching.verify import verify
from tests.factories import (
    AT,
    Caller,
    make_caller,
    make_expert,
    make_project,
    make_task,
)
from tests.market.running import offers_of, policy_named, run_now


def test_a_run_is_asked_for_followed_and_read_over_http(
    db: Session, web: TestClient[Any], react: Callable[[], list[str]]
) -> None:
    ops = make_caller(db, web, Part.OPS)
    project = make_project(db)
    expert = make_expert(db, domains=("chemistry",))
    make_expert(db, domains=("law",))
    taken, left = make_task(db, project), make_task(db, project, domain="physics")
    db.commit()
    asked = ops.post(
        "/v1/matching-runs", json={"project_id": wire_id("prj", project.id), "seed": 7}
    )
    assert asked.status_code == 202, asked.text
    address = asked.headers["location"]
    assert address == f"/v1/operations/{asked.json()['operation_id']}"
    assert ops.get(address).json()["state"] == "pending"
    assert "run_matching" in react()
    operation = ops.get(address).json()
    assert (operation["state"], operation["kind"]) == ("succeeded", "matching_run")
    assert operation["result"]["offers"] == 1
    run_id = asked.json()["id"]
    assert operation["subject_id"] == run_id
    told = ops.get(f"/v1/matching-runs/{run_id}").json()
    assert (told["state"], told["seed"], told["gap"], told["open_seats"]) == (
        "succeeded",
        "7",
        0,
        1,
    )
    assert set(told["seconds"]) == {"read", "weigh", "solve", "verify", "record"}
    [offer] = ops.get(f"/v1/matching-runs/{run_id}/offers").json()["items"]
    assert offer["expert_id"] == wire_id("per", expert.id)
    [seat] = ops.get(f"/v1/matching-runs/{run_id}/open-seats").json()["items"]
    assert (seat["task_id"], seat["rule"]) == (wire_id("tsk", left.id), "no eligible expert")
    listed = ops.get(f"/v1/matching-runs?project={wire_id('prj', project.id)}&state=succeeded")
    assert [row["id"] for row in listed.json()["items"]] == [run_id]
    cancelled = ops.post(f"{address}/cancel")
    assert (cancelled.status_code, cancelled.json()["code"]) == (409, "state_conflict")
    why = explanation(ops, run_id, taken.id, expert.id)
    assert (why["chosen"], why["rule"], why["conditions"]) == (True, "chosen", [])
    assert why["value"] == pytest.approx(sum(part["weighed"] for part in why["parts"]))
    why = explanation(ops, run_id, left.id, expert.id)
    assert (why["chosen"], why["rule"], why["value"]) == (False, "not eligible", None)
    assert "none of the expert's domains meets the task's" in why["conditions"]


def explanation(ops: Caller, run_id: str, task_id: UUID, expert_id: UUID) -> dict[str, Any]:
    """Why a run put an expert on a task, or did not, as ops reads it."""
    answer = ops.get(
        f"/v1/matching-runs/{run_id}/explanations"
        f"?task={wire_id('tsk', task_id)}&expert={wire_id('per', expert_id)}"
    )
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_who_was_outbid_learns_by_how_much(db: Session, web: TestClient[Any]) -> None:
    ops = make_caller(db, web, Part.OPS)
    project = make_project(db)
    keen, cool = make_expert(db), make_expert(db)
    task = make_task(db, project)
    for expert, value in ((keen, 0.9), (cool, 0.2)):
        db.add(
            Interest(
                expert_id=expert.id,
                task_id=task.id,
                organisation_id=project.organisation_id,
                project_id=project.id,
                value=value,
                stated_at=AT,
            )
        )
    db.flush()
    ended = run_now(db, policy_id=policy_named(db, "interest-only"))
    run_id = wire_id("mrn", ended.id)
    won, lost = (explanation(ops, run_id, task.id, who.id) for who in (keen, cool))
    assert (won["chosen"], won["value"]) == (True, 0.9)
    assert won["margin"] >= 0
    assert (lost["chosen"], lost["value"]) == (False, 0.2)
    assert lost["margin"] <= 0
    assert lost["sentence"].startswith("Not chosen")
    assert str(task.id) not in lost["sentence"]
    assert [part["name"] for part in lost["parts"]] == ["interest"]


def test_a_run_is_repeated_bit_by_bit_from_what_it_kept(
    db: Session, web: TestClient[Any], react: Callable[[], list[str]]
) -> None:
    ops = make_caller(db, web, Part.OPS)
    project = make_project(db)
    for _ in range(4):
        make_expert(db, max_concurrent=2)
        make_task(db, project, slots=2)
    made = publish_policy(
        db, name="drawn", document={"randomness": 0.7}, reason="A test.", author_id=None, at=AT
    )
    ended = run_now(db, policy_id=made.id, seed=4)
    address = f"/v1/matching-runs/{wire_id('mrn', ended.id)}"
    asked = ops.post(f"{address}/checks")
    assert asked.status_code == 202, asked.text
    assert "check_run" in react()
    operation = ops.get(asked.headers["location"]).json()
    assert (operation["state"], operation["kind"]) == ("succeeded", "run_check")
    result = operation["result"]
    assert (result["identical"], result["faults"]) == (True, [])
    assert result["answer_digest"] == ops.get(address).json()["answer_digest"]
    # A later run begins with its prices, and is repeated from them.
    assert ended.warm_run_id is None
    for _ in range(2):
        make_task(db, project, slots=2)
    later = run_now(db, policy_id=made.id, project_id=project.id, seed=5)
    kept = recorded(db, later.id)
    assert kept.start is not None
    assert kept.start.budget.tolist() == recorded(db, ended.id).assignment.prices.budget.tolist()
    told = f"/v1/matching-runs/{wire_id('mrn', later.id)}"
    assert ops.get(told).json()["warm_run_id"] == wire_id("mrn", ended.id)
    asked = ops.post(f"{told}/checks")
    react()
    assert ops.get(asked.headers["location"]).json()["result"]["identical"] is True
    # What was kept and is not what was answered shows.
    ended.answer_digest = "0" * 64
    db.commit()
    asked = ops.post(f"{address}/checks")
    react()
    assert ops.get(asked.headers["location"]).json()["result"]["identical"] is False
    pending, _ = request_run(db, at=datetime.now(UTC))
    db.commit()
    refused = ops.post(f"/v1/matching-runs/{wire_id('mrn', pending.id)}/checks")
    assert refused.json()["code"] == "run_not_over"


def test_open_seats_and_idle_experts_are_explained(db: Session, web: TestClient[Any]) -> None:
    ops = make_caller(db, web, Part.OPS)
    project = make_project(db, budget_minor=13_000, rate_minor_per_hour=10_000, cap_s=3600)
    for _ in range(2):
        make_expert(db, max_concurrent=1)
    first, second = make_task(db, project, value_weight=2.0), make_task(db, project)
    ended = run_now(db)
    address = f"/v1/matching-runs/{wire_id('mrn', ended.id)}/explanations"
    [offer] = offers_of(db, ended)
    assert offer.task_id == first.id
    told = ops.get(f"{address}/open-seat?task={wire_id('tsk', second.id)}").json()
    assert (told["seats"], told["seats_in_all"], told["candidates"]) == (1, 1, 2)
    assert told["sentence"].startswith("1 seat stays open of 1: ")
    filled = ops.get(f"{address}/open-seat?task={wire_id('tsk', first.id)}").json()
    assert (filled["seats"], filled["sentence"]) == (0, "No seat of 1 stays open.")
    idle = next(one for one in db.scalars(select(Expert.id)).all() if one != offer.expert_id)
    told = ops.get(f"{address}/expert?expert={wire_id('per', idle)}").json()
    assert (told["seats"], told["seats_in_all"]) == (1, 1)
    assert told["sentence"].startswith("1 of 1 seats stay free")
    busy = ops.get(f"{address}/expert?expert={wire_id('per', offer.expert_id)}").json()
    assert busy["sentence"] == "All 1 seats are used."
    for missing in (
        f"open-seat?task={wire_id('tsk', new_id())}",
        f"expert?expert={wire_id('per', new_id())}",
    ):
        assert ops.get(f"{address}/{missing}").status_code == 404
    left_out = ops.get(f"{address}/open-seat")
    assert (left_out.status_code, left_out.json()["code"]) == (400, "invalid_parameter")
    assert left_out.json()["errors"] == [{"parameter": "task", "detail": "it has to be given"}]


def test_bad_questions_about_runs_are_refused(db: Session, web: TestClient[Any]) -> None:
    ops, lab = make_caller(db, web, Part.OPS), make_caller(db, web, Part.LAB)
    paused = make_project(db, state="paused")
    nobody = new_id()
    db.commit()

    def asked(**body: Any) -> tuple[int, str]:
        answer = ops.post("/v1/matching-runs", json=body)
        return answer.status_code, answer.json()["code"]

    assert asked(project_id=wire_id("prj", nobody)) == (404, "not_found")
    assert asked(project_id="prj_1") == (404, "not_found")
    assert asked(project_id=wire_id("prj", paused.id)) == (409, "project_not_live")
    assert asked(policy_id=wire_id("plc", nobody)) == (404, "not_found")
    assert asked(seed=-1) == (422, "seed_out_of_range")
    assert asked(seed=2**63) == (422, "seed_out_of_range")
    assert asked(seed="x") == (422, "invalid_body")
    assert asked(speed=1) == (422, "invalid_body")
    made = ops.post("/v1/matching-runs", json={}).json()
    run = f"/v1/matching-runs/{made['id']}"
    pair = f"task={wire_id('tsk', nobody)}&expert={wire_id('per', nobody)}"
    for address, code in (
        (f"/v1/matching-runs/{wire_id('mrn', nobody)}", "not_found"),
        (f"/v1/matching-runs/{wire_id('mrn', nobody)}/offers", "not_found"),
        (f"/v1/matching-runs/{wire_id('mrn', nobody)}/open-seats", "not_found"),
        (f"/v1/matching-runs/{made['policy_id']}", "not_found"),
        (f"{run}/explanations?{pair}", "run_not_over"),
        (f"{run}/explanations?task=tsk_1&expert={wire_id('per', nobody)}", "not_found"),
        (f"/v1/operations/{wire_id('opn', nobody)}", "not_found"),
        (f"{run}?sort=up", "unknown_parameter"),
        (f"{run}/offers?cursor=zzz", "bad_cursor"),
    ):
        answer = ops.get(address)
        assert (answer.json()["code"], answer.status_code // 100) == (code, 4), answer.text
    assert lab.get(run).json()["code"] == "scope_missing"
    assert lab.post("/v1/matching-runs", json={}).json()["code"] == "scope_missing"
    # A run over all projects is no lab's, and so its operation is not there for a lab.
    assert lab.get(f"/v1/operations/{made['operation_id']}").json()["code"] == "not_found"
    stopped = ops.post(f"/v1/operations/{made['operation_id']}/cancel")
    assert (stopped.status_code, stopped.json()["state"]) == (200, "cancelled")
    assert ops.get(run).json()["state"] == "cancelled"
    other = open_operation(db, "payout_run", nobody, at=AT, organisation_id=None)
    db.commit()
    answer = ops.post(f"/v1/operations/{wire_id('opn', other.id)}/cancel")
    assert (answer.status_code, answer.json()["code"]) == (409, "operation_not_cancellable")


@pytest.mark.parametrize(
    "document",
    [
        {"newcomer_share": 0.5, "share_cap": 0.3, "open_seat_price": 0.1},
        {"randomness": 0.6, "weights": {"interest": 1.0}},
        {"floor": True},
    ],
)
def test_what_a_run_kept_is_enough_to_check_it_and_to_run_it_again(
    db: Session, document: dict[str, Any]
) -> None:
    made = publish_policy(
        db, name="trial", document=document, reason="A test.", author_id=None, at=AT
    )
    project = make_project(db, budget_minor=70_000, rate_minor_per_hour=10_000, cap_s=3600)
    for _ in range(6):
        make_expert(db, max_concurrent=2)
    for _ in range(4):
        make_task(db, project, slots=2, complexity=3)
    ended = run_now(db, policy_id=made.id, seed=11)
    assert ended.state == "succeeded", ended.failure
    kept = recorded(db, ended.id)
    assert verify(kept.problem, kept.assignment) == []
    again = assign(kept.problem, read_policy(made.document).matcher, seed=11)
    assert again.chosen.tolist() == kept.assignment.chosen.tolist()
    assert again.prices.task.tolist() == kept.assignment.prices.task.tolist()
    chances = sorted(offer.probability for offer in offers_of(db, ended))
    assert chances == pytest.approx(sorted(kept.assignment.probability.tolist()))
