"""Trials of pay, instructions, tools and drafts: what each arm really gets, and what is logged."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.experiments.models import Exposure
from market.experiments.queries import trial_for
from market.experiments.rules import Tried, guidance_of, is_treated, shown_payload
from market.experts.models import Expert
from market.http import wire_id
from market.offers.models import Offer
from market.offers.rules import reservation_key
from market.policies.queries import default_policy
from market.projects.models import Project
from market.runs.actions import request_run
from market.runs.jobs import run_matching
from payouts.ledger_models import JournalEntry, Posting
from tests.factories import (
    Caller,
    key_for,
    make_caller,
    make_expert,
    make_project,
    make_task,
)
from tests.market.test_console import visit_as


@pytest.fixture
def ops(db: Session, web: TestClient[Any]) -> Caller:
    return make_caller(db, web, Part.OPS)


def begun(ops: Caller, kind: str, treatment: dict[str, Any], **changes: Any) -> dict[str, Any]:
    body = {
        "name": f"a trial of {kind}",
        "kind": kind,
        "unit": "expert",
        "share": 0.5,
        "reason": "To see.",
        "treatment": treatment,
        **changes,
    }
    # Arms are drawn by a hash of the experiment's id: few units can all fall into one of them, and
    # that is refused.
    for _ in range(20):
        made = ops.post("/v1/experiments", json=body).json()
        answer = ops.post(f"/v1/experiments/{made['id']}/start")
        if answer.status_code == 200:
            break
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def matched(db: Session, seed: int) -> list[Offer]:
    found, _ = request_run(db, seed=seed, at=datetime.now(UTC))
    db.commit()
    run_matching(str(found.id))
    db.expire_all()
    return list(db.scalars(select(Offer).where(Offer.run_id == found.id)))


def arms_logged(db: Session, trial: dict[str, Any]) -> dict[UUID, str]:
    wanted = select(Exposure.offer_id, Exposure.arm).where(
        Exposure.experiment_id == UUID(trial["id"][4:])
    )
    return {row.offer_id: row.arm for row in db.execute(wanted)}


def reserved_minor(db: Session, offer: Offer) -> int:
    entry = select(JournalEntry.id).where(JournalEntry.key == reservation_key(offer.id))
    return sum(db.scalars(select(Posting.amount_minor).where(Posting.entry_id.in_(entry))).all())


def test_a_raise_is_tried_on_projects_that_allow_it_and_reserved_at_the_arms_rate(
    db: Session, ops: Caller
) -> None:
    allowed = [
        make_project(
            db,
            rate_minor_per_hour=8001,
            attempt_fee_minor=101,
            attempt_fees_max=3,
            trial_raise_basis_points=1000,
        )
        for _ in range(6)
    ]
    careful = make_project(db, rate_minor_per_hour=8001, trial_raise_basis_points=400)
    for project in (*allowed, careful):
        make_task(db, project)
        make_expert(db)
    trial = begun(ops, "pay", {"raise_basis_points": 1000}, unit="project")
    assert trial["treated_units"] + trial["control_units"] == 6
    offers = matched(db, 1)
    assert len(offers) == 7
    logged = arms_logged(db, trial)
    assert set(logged.values()) == {"control", "treated"}
    for offer in offers:
        treated = logged.get(offer.id) == "treated"
        # 8,001 and a tenth, rounded up; 101 likewise. Whoever is not treated gets what was agreed.
        assert offer.terms["rate_minor_per_hour"] == (8802 if treated else 8001)
        if offer.project_id == careful.id:
            assert offer.id not in logged
            assert offer.terms["trials"] == []
            continue
        assert offer.terms["attempt_fee_minor"] == (112 if treated else 101)
        expected = is_treated(trial["id"][4:], offer.project_id, 0.5)
        assert treated is expected
        assert reserved_minor(db, offer) == offer.reserved_minor
        # The cap of four hours in up to three weeks, three attempts, and the fee on each.
        assert (
            offer.terms["most_pay_minor"]
            >= 4 * offer.terms["rate_minor_per_hour"] + 3 * (offer.terms["attempt_fee_minor"])
        )
    report = ops.get(f"/v1/experiments/{trial['id']}").json()
    assert report["treated_units"] >= 1


def test_a_raise_that_was_kept_holds_until_it_is_retired_and_a_smaller_trial_cuts_no_pay(
    db: Session, ops: Caller
) -> None:
    projects = [
        make_project(db, rate_minor_per_hour=8000, trial_raise_basis_points=1000) for _ in range(8)
    ]
    for project in projects:
        make_task(db, project)
        make_expert(db, max_concurrent=4, weekly_hours=80)
    kept = begun(ops, "pay", {"raise_basis_points": 1000}, unit="project")
    answer = ops.post(f"/v1/experiments/{kept['id']}/promote", json={"reason": "Better work."})
    assert answer.json()["state"] == "promoted", answer.text
    smaller = begun(ops, "pay", {"raise_basis_points": 200}, unit="project")
    offers = matched(db, 1)
    assert {one.terms["rate_minor_per_hour"] for one in offers} == {8800}
    assert set(arms_logged(db, smaller).values()) == {"control", "treated"}
    assert arms_logged(db, kept) == {}
    # A lab that allows raises no longer is in none.
    db.get_one(Project, projects[0].id).trial_raise_basis_points = 0
    db.flush()
    retired = ops.post(f"/v1/experiments/{kept['id']}/finish", json={"reason": "Too dear."})
    assert (retired.json()["state"], retired.json()["end_reason"]) == ("finished", "Too dear.")
    for project in projects:
        make_task(db, project)
    rates = {one.project_id: one.terms["rate_minor_per_hour"] for one in matched(db, 2)}
    assert rates == {
        one.id: 8160
        if one is not projects[0] and is_treated(smaller["id"][4:], one.id, 0.5)
        else 8000
        for one in projects
    }


def test_no_project_that_allows_a_raise_is_an_empty_cohort(db: Session, ops: Caller) -> None:
    make_project(db)
    body = {
        "name": "more pay",
        "kind": "pay",
        "unit": "project",
        "share": 0.5,
        "reason": "To see.",
        "treatment": {"raise_basis_points": 100},
    }
    made = ops.post("/v1/experiments", json=body).json()
    answer = ops.post(f"/v1/experiments/{made['id']}/start")
    assert (answer.status_code, answer.json()["code"]) == (422, "cohort_empty"), answer.text
    assert "trial_raise_basis_points" in answer.json()["detail"]


def test_instructions_tools_and_drafts_reach_the_experts_of_their_arm_and_no_other(
    db: Session, ops: Caller, web: TestClient[Any]
) -> None:
    project = make_project(db)
    experts = [make_expert(db, max_concurrent=1) for _ in range(12)]
    payload = {"instructions": "Find an error.", "draft": "Water boils at 90 °C.", "unit": "°C"}
    for _ in experts:
        make_task(db, project, payload=payload)
    trials = {
        "instructions": begun(ops, "instructions", {"text": "Find an error, and say where."}),
        "tool_version": begun(
            ops, "tool_version", {"tool": "editor", "version": "2.1", "instead_of": "2.0"}
        ),
        "draft": begun(ops, "draft", {"field": "draft"}),
    }
    offers = matched(db, 1)
    logged = {kind: arms_logged(db, trial) for kind, trial in trials.items()}
    seen = set()
    for offer in offers:
        arms = {kind: logged[kind][offer.id] == "treated" for kind in trials}
        seen.add(tuple(arms.values()))
        expert = key_for(db, web, offer.expert_id, Part.EXPERT)
        shown = expert.get(f"/v1/offers/{wire_id('ofr', offer.id)}").json()
        told = shown["task"]
        assert told["instructions"] == (
            "Find an error, and say where." if arms["instructions"] else "Find an error."
        )
        assert shown["tools"] == {"editor": "2.1" if arms["tool_version"] else "2.0"}
        # What is tried is the draft, so that without it the task does not hold it either.
        assert "draft" not in told
        assert shown["draft"] == ("Water boils at 90 °C." if arms["draft"] else None)
        assert told["unit"] == "°C"
    assert len(seen) > 1
    kinds = ops.get(f"/v1/offers/{wire_id('ofr', offers[0].id)}/variants").json()["items"]
    assert sorted(one["kind"] for one in kinds) == ["draft", "instructions", "tool_version"]
    # The pages say the same: the draft is where the work is typed.
    given = next(one for one in offers if logged["draft"][one.id] == "treated")
    expert = key_for(db, web, given.expert_id, Part.EXPERT)
    path = f"/v1/offers/{wire_id('ofr', given.id)}"
    assert expert.post(f"{path}/accept", headers={"If-Match": '"1"'}).status_code == 200
    visit_as(web, db, given.expert_id)
    page = web.get(f"/console/expert/offers/{wire_id('ofr', given.id)}").text
    assert "A draft to begin from" in page
    assert '<textarea id="answer" name="answer" rows="6">Water boils at 90 °C.</textarea>' in page
    web.cookies.clear()
    # A trial that is over leaves the offers that were made in it as they are.
    ops.post(f"/v1/experiments/{trials['draft']['id']}/finish", json={})
    again = expert.get(path)
    assert again.json()["draft"] == "Water boils at 90 °C."


def test_a_kept_policy_is_taken_back_by_a_return_and_not_by_ending_its_experiment(
    db: Session, ops: Caller
) -> None:
    for _ in range(10):
        make_expert(db)
    body = {"name": "tried", "document": {"weights": {"urgency": 0.2}}, "reason": "A trial."}
    policy = ops.post("/v1/policies", json=body).json()["id"]
    made = begun(ops, "policy", {}, treated_policy_id=policy, share=0.5)
    ops.post(f"/v1/experiments/{made['id']}/promote", json={})
    answer = ops.post(f"/v1/experiments/{made['id']}/finish", json={})
    assert (answer.status_code, answer.json()["code"]) == (422, "experiment_invalid")
    assert "taken back by a return" in answer.json()["detail"]


def test_what_is_tried_now_stands_before_what_was_kept() -> None:
    now, before = UUID(int=1), UUID(int=2)
    kept = Tried(before, "instructions", "kept", {"text": "Old."})
    given = guidance_of([Tried(now, "instructions", "control", {"text": "New."}), kept], {})
    assert given.instructions == "Old."
    template = Tried(now, "draft", "treated", {"text": "Begin."})
    field = Tried(now, "draft", "treated", {"field": "sketch"})
    payload = {"sketch": {"steps": 2}, "text": "?"}
    assert guidance_of([template], payload).draft == "Begin."
    assert guidance_of([field], payload).draft == '{"steps": 2}'
    assert guidance_of([field], {"text": "?"}).draft is None
    assert shown_payload(payload, guidance_of([field], payload)) == {"text": "?"}


def test_a_trial_is_about_those_for_whom_its_expression_holds_and_whom_it_touched_stays(
    db: Session, ops: Caller
) -> None:
    project = make_project(db)
    inside = [make_expert(db, max_concurrent=1, country="CA") for _ in range(6)]
    outside = [make_expert(db, max_concurrent=1, country="FR") for _ in range(6)]
    for _ in range(12):
        make_task(db, project)
    trial = begun(
        ops, "instructions", {"text": "Be brief."}, scope_expression='country in ("CA", "NZ")'
    )
    assert trial["scope_expression"] == 'country in ("CA", "NZ")'
    assert trial["treated_units"] + trial["control_units"] == 6
    offers = matched(db, 1)
    assert len(offers) == 12
    logged = arms_logged(db, trial)
    assert {one.expert_id for one in offers if one.id in logged} == {one.id for one in inside}
    for one in offers:
        assert bool(one.terms["trials"]) is (one.id in logged)
    # The endpoint that explains eligibility tells why one of them is outside.
    asked = {
        "expression": trial["scope_expression"],
        "expert_ids": [wire_id("per", one.id) for one in (inside[0], outside[0])],
    }
    told = ops.post("/v1/expressions:explain", json=asked).json()["experts"]
    assert [one["matches"] for one in told] == [True, False]
    assert told[1]["failing"][0]["known"] == "FR"
    # One moves in and one moves away: the first enters, and the second keeps its arm.
    outside[0].country, inside[0].country = "NZ", "FR"
    for one in db.scalars(select(Offer)):
        one.state, one.ended_at = "declined", datetime.now(UTC)
    db.flush()
    for _ in range(24):
        make_task(db, project)
    again = {one.expert_id: one for one in matched(db, 2)}
    logged = arms_logged(db, trial)
    entered = {who for who, one in again.items() if one.id in logged}
    assert entered == {one.id for one in (*inside, outside[0])}
    report = ops.get(f"/v1/experiments/{trial['id']}").json()
    assert report["treated_units"] + report["control_units"] == 7
    # Once it has begun, whom it is about is settled.
    answer = ops.put(f"/v1/experiments/{trial['id']}/scope", json={"scope_expression": None})
    assert (answer.status_code, answer.json()["code"]) == (409, "experiment_begun"), answer.text


def test_a_tried_policy_weighs_the_pairs_of_no_expert_and_no_project_outside_its_expression(
    db: Session, ops: Caller
) -> None:
    dear, cheap = (
        [make_project(db, rate_minor_per_hour=rate) for _ in range(4)] for rate in (9000, 5000)
    )
    inside = [make_expert(db, max_concurrent=1, country="CA") for _ in range(8)]
    for _ in range(8):
        make_expert(db, max_concurrent=1, country="FR")
    for project in (*dear, *cheap):
        for _ in range(2):
            make_task(db, project)
    body = {
        "name": "tried",
        "document": {"default_interest": 0.25, "perturbation": 0.5, "weights": {"urgency": 0.2}},
        "reason": "A trial.",
    }
    tried = ops.post("/v1/policies", json=body).json()["id"]
    ids = {one.id for one in inside}
    control = default_policy(db).policy_id
    for unit, scope, units in (
        ("expert", 'country = "CA"', ids),
        ("project", "rate > 8000", {one.id for one in dear}),
    ):
        trial = begun(ops, "policy", {}, unit=unit, treated_policy_id=tried, scope_expression=scope)
        assert trial["treated_units"] + trial["control_units"] == len(units)
        seen = trial_for(
            db, control, None, expert_ids=db.scalars(select(Expert.id)).all(), at=datetime.now(UTC)
        )
        assert seen is not None
        assert set((seen.experts if unit == "expert" else seen.projects) or ()) == units
        everybody = [*units, *(one.id for one in cheap), ops.person_id]
        assert {
            one for one, treated in zip(everybody, seen.treats(everybody), strict=True) if treated
        } == {one for one in units if is_treated(trial["id"][4:], one, 0.5)}
        if unit == "project":
            offers = matched(db, 1)
            logged = arms_logged(db, trial)
            assert logged
            assert {one.project_id for one in offers if one.id in logged} <= units
            assert all(one.id in logged for one in offers if one.project_id in units)
        ops.post(f"/v1/experiments/{trial['id']}/finish", json={"reason": "Enough."})


def test_whom_a_trial_is_about_is_changed_before_the_start_and_a_wrong_word_is_refused(
    db: Session, ops: Caller
) -> None:
    body = {
        "name": "brief",
        "kind": "instructions",
        "unit": "expert",
        "share": 0.5,
        "reason": "To see.",
        "treatment": {"text": "Be brief."},
        "scope_expression": "shoe_size > 40",
    }
    answer = ops.post("/v1/experiments", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "expression_invalid"), answer.text
    made = ops.post("/v1/experiments", json={**body, "scope_expression": None}).json()
    assert made["scope_expression"] is None
    path = f"/v1/experiments/{made['id']}"
    for scope in ('country = "CA"', None, 'country = "NZ"'):
        answer = ops.put(f"{path}/scope", json={"scope_expression": scope})
        assert answer.json()["scope_expression"] == scope, answer.text
    refused = ops.put(f"{path}/scope", json={"scope_expression": "rate > 8000"})
    assert refused.json()["code"] == "expression_invalid"
    make_expert(db, country="CA")
    answer = ops.post(f"{path}/start")
    assert (answer.status_code, answer.json()["code"]) == (422, "cohort_empty"), answer.text
