"""Experiments: who is in which arm, what is refused, what stops by itself, what is kept."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from litestar.testing import TestClient
from sqlalchemy import event, select, text
from sqlalchemy.orm import Session

from market.auth import Part
from market.candidates.rules import by_arm
from market.console.experiment_told import metric_told
from market.db import Scope, database, new_id
from market.experiments.actions import (
    design_experiment,
    keep_past,
    look_at_experiment,
    start_experiment,
)
from market.experiments.jobs import look_at_experiments
from market.experiments.models import Experiment, Exposure
from market.experiments.queries import experiment, exposed, guidances_for, units_past
from market.experiments.rules import (
    METRICS,
    Design,
    ExperimentOverlaps,
    Exposed,
    UnitsPast,
    effect_told,
    is_treated,
    look,
)
from market.http import wire_id
from market.offers.models import Offer
from market.runs.actions import request_run
from market.runs.jobs import run_matching
from matching.policy import Policy, Weights
from matching.value import PairParts, pair_value
from tests.factories import AT, Caller, make_caller, make_expert, make_project, make_task
from tests.races import at_once

React = Callable[[], list[str]]


@pytest.fixture
def ops(db: Session, web: TestClient[Any]) -> Caller:
    return make_caller(db, web, Part.OPS)


def tried_policy(ops: Caller, **document: Any) -> str:
    document = document or {"weights": {"urgency": 0.2}}
    body = {
        "name": "tried",
        "document": {"default_interest": 0.25, "perturbation": 0.5, **document},
        "reason": "A trial.",
    }
    made: str = ops.post("/v1/policies", json=body).json()["id"]
    return made


def designed(ops: Caller, **changes: Any) -> dict[str, Any]:
    return {
        "name": "less waiting",
        "kind": "policy",
        "unit": "expert",
        "share": 0.2,
        "reason": "Chemistry waits.",
        **changes,
    }


def test_arms_are_the_same_on_every_machine_and_hold_their_share() -> None:
    first = UUID("01890a5d-ac00-7000-8000-000000000001")
    assert [is_treated(f"salt {n}", first, 0.5) for n in range(6)] == [
        is_treated(f"salt {n}", UUID(first.hex), 0.5) for n in range(6)
    ]
    ids = [new_id() for _ in range(4000)]
    ten = {one for one in ids if is_treated("s", one, 0.1)}
    twenty = {one for one in ids if is_treated("s", one, 0.2)}
    assert ten < twenty
    assert abs(len(ten) / len(ids) - 0.1) < 0.03


def test_a_pair_is_weighed_by_the_policy_of_its_arm_part_by_part() -> None:
    rng = np.random.default_rng(2)
    parts = PairParts(stump=rng.random(50), cost=rng.random(50) * 1e4)
    one = pair_value(parts, Policy())
    two = pair_value(parts, Policy(weights=Weights(cost=0.3)))
    inside = rng.random(50) < 0.4
    both = by_arm(one, two, inside)
    assert np.ptp(both.total[inside] / two.total[inside]) < 1e-12
    assert (both.total[~inside] == one.total[~inside]).all()
    assert np.allclose(sum(part.weighed for part in both.parts), both.total)


def test_a_policy_that_counts_everything_double_wins_no_seats_in_a_trial() -> None:
    rng = np.random.default_rng(3)
    parts = PairParts(stump=rng.random(50), cost=rng.random(50) * 1e3)
    weights = Weights(cost=0.3)
    doubled = Weights(**{name: 2 * getattr(weights, name) for name in weights.__slots__})
    one, two = (pair_value(parts, Policy(weights=each)) for each in (weights, doubled))
    assert np.allclose(by_arm(one, two, rng.random(50) < 0.5).total, one.total)
    # Where nothing is worth anything, there is no scale to bring it to.
    nothing = pair_value(PairParts(stump=np.zeros(50)), Policy())
    assert (by_arm(one, nothing, np.ones(50, np.bool_)).total == nothing.total).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "charm"}, "kind"),
        ({"unit": "task"}, "unit"),
        ({"share": 0.0}, "share"),
        ({"share": 1.0}, "share"),
        ({"metric": "joy"}, "metric"),
        ({"guardrails": ["joy"]}, "guardrails"),
        ({"guardrails": ["wait_h", "wait_h"]}, "guardrails"),
        ({"name": " "}, "name"),
        ({"reason": " "}, "reason"),
        ({}, "treated_policy_id"),
        ({"kind": "instructions"}, "treatment"),
        ({"kind": "pay", "treatment": {"raise_basis_points": 900}}, "unit"),
        *(
            ({"kind": kind, "unit": "project", "treatment": treatment}, "treatment")
            for kind, treatment in (
                ("pay", {"raise_basis_points": -900}),
                ("pay", {"raise_basis_points": 0.5}),
                ("pay", {"rate_minor_per_hour": 9000}),
                ("instructions", {"text": " "}),
                ("instructions", {"text": 7}),
                ("tool_version", {"tool": "editor"}),
                ("draft", {"text": "Begin.", "field": "draft"}),
            )
        ),
    ],
)
def test_an_experiment_that_does_not_fit_is_refused_with_its_setting(
    ops: Caller, changes: dict[str, Any], said: str
) -> None:
    answer = ops.post("/v1/experiments", json=designed(ops, **changes))
    assert (answer.status_code, answer.json()["code"]) == (422, "experiment_invalid"), answer.text
    assert answer.json()["detail"].startswith(said)


def test_a_canary_on_an_empty_cohort_and_a_second_one_are_refused(db: Session, ops: Caller) -> None:
    policy = tried_policy(ops)
    body = designed(ops, treated_policy_id=policy, domain="astrology")
    first = ops.post("/v1/experiments", json=body).json()
    answer = ops.post(f"/v1/experiments/{first['id']}/start")
    assert (answer.status_code, answer.json()["code"]) == (422, "cohort_empty"), answer.text
    assert "none of the 0 experts in scope" in answer.json()["detail"]
    for _ in range(40):
        make_expert(db)
    ids = []
    for _ in range(2):
        body = designed(ops, treated_policy_id=policy)
        ids.append(ops.post("/v1/experiments", json=body).json()["id"])
    begun = ops.post(f"/v1/experiments/{ids[0]}/start").json()
    assert (begun["state"], begun["treated_units"] + begun["control_units"]) == ("running", 40)
    answer = ops.post(f"/v1/experiments/{ids[1]}/start")
    assert (answer.status_code, answer.json()["code"]) == (409, "experiment_overlaps")
    dropped = ops.post(f"/v1/experiments/{ids[1]}/finish", json={"reason": "Not now."}).json()
    assert (dropped["state"], dropped["end_reason"]) == ("dropped", "Not now.")
    unknown = wire_id("exp", ops.person_id)
    assert ops.get(f"/v1/experiments/{unknown}").json()["code"] == "not_found"
    # A large change on more than a canary's share has to be approved as if it were chosen.
    ops.post(f"/v1/experiments/{ids[0]}/finish", json={})
    bold = tried_policy(ops, weights={"stump": 0.1, "cost": 3.0})
    body = designed(ops, treated_policy_id=bold, share=0.5)
    third = ops.post("/v1/experiments", json=body).json()["id"]
    answer = ops.post(f"/v1/experiments/{third}/start")
    assert (answer.status_code, answer.json()["code"]) == (409, "approval_missing")


def test_offers_are_drawn_into_arms_and_a_promoted_policy_becomes_the_default(
    db: Session, ops: Caller, react: React
) -> None:
    project = make_project(db)
    for _ in range(16):
        make_expert(db, max_concurrent=1)
        make_task(db, project)
    policy = tried_policy(ops)
    body = designed(ops, treated_policy_id=policy, share=0.5)
    made = ops.post("/v1/experiments", json=body).json()
    shown = designed(ops, kind="instructions", treatment={"text": "Be brief."})
    other = ops.post("/v1/experiments", json=shown).json()
    for one in (made, other):
        assert ops.post(f"/v1/experiments/{one['id']}/start").status_code == 200
    found, _ = request_run(db, seed=1, at=datetime.now(UTC))
    db.commit()
    run_matching(str(found.id))
    db.expire_all()
    exposed = ops.get(f"/v1/experiments/{made['id']}/exposures?limit=100").json()["items"]
    assert len(exposed) == 16
    for one in exposed:
        treated = is_treated(made["id"][4:], UUID(one["unit_id"][4:]), 0.5)
        assert one["arm"] == ("treated" if treated else "control")
    offer = exposed[0]["offer_id"]
    kinds = [one["kind"] for one in ops.get(f"/v1/offers/{offer}/variants").json()["items"]]
    assert sorted(kinds) == ["instructions", "policy"]
    look_at_experiments("slot")
    report = ops.get(f"/v1/experiments/{made['id']}").json()
    assert report["looks"][0]["decision"] == "continue"
    assert report["looks"][0]["exposed"] == 16
    assert ops.post("/v1/policies/default/return").json()["code"] == "nothing_to_return_to"
    kept = ops.post(f"/v1/experiments/{made['id']}/promote", json={"reason": "Better."}).json()
    assert kept["state"] == "promoted", kept
    assert ops.get("/v1/policies/default").json()["policy_id"] == policy
    assert ops.get("/v1/policies/uses").json()["items"][0]["how"] == "promoted"
    again = ops.post(f"/v1/experiments/{made['id']}/promote", json={})
    assert (again.status_code, again.json()["code"]) == (409, "state_conflict")
    # Under the promoted policy nothing is tried any more, except the instructions.
    make_expert(db)
    make_task(db, project)
    later, _ = request_run(db, seed=2, at=datetime.now(UTC))
    run_matching(str(later.id))
    ids = select(Offer.id).where(Offer.run_id == later.id)
    touched = db.scalars(select(Exposure.experiment_id).where(Exposure.offer_id.in_(ids))).all()
    assert {wire_id("exp", one) for one in touched} == {other["id"]}


def test_a_trial_that_does_harm_is_stopped_by_its_guardrail(db: Session, ops: Caller) -> None:
    project = make_project(db, budget_minor=10**8)
    experts = [make_expert(db, max_concurrent=4, weekly_hours=80) for _ in range(60)]
    for _ in range(240):
        make_task(db, project)
    policy = tried_policy(ops)
    made = ops.post(
        "/v1/experiments", json=designed(ops, treated_policy_id=policy, share=0.5)
    ).json()
    ops.post(f"/v1/experiments/{made['id']}/start")
    found, _ = request_run(db, seed=1, at=datetime.now(UTC))
    db.commit()
    run_matching(str(found.id))
    db.expire_all()
    experiment_id = UUID(made["id"][4:])
    assert len(experts) == 60
    # Nine of ten in the control accept; of the treated, one of ten.
    db.execute(
        text(
            """
            update market.offer o set state = 'declined', ended_at = :at, version = 2
            from market.experiment_exposure x where x.offer_id = o.id
            and (x.arm = 'treated') = (hashtext(o.id::text) % 10 <> 0)
            """
        ),
        {"at": datetime.now(UTC)},
    )
    db.execute(
        text(
            "update market.offer set state = 'accepted', accepted_at = created_at"
            " + interval '1 hour' where state = 'pending'"
        )
    )
    at = datetime.now(UTC) + timedelta(hours=2)
    seen = look_at_experiment(db, experiment_id, at=at)
    assert seen is not None
    assert seen.verdict.decision == "stop_harm", seen.verdict
    assert "accepted is worse" in seen.verdict.reason
    row = db.get_one(Experiment, experiment_id)
    assert (row.state, row.end_reason) == ("stopped", seen.verdict.reason)
    assert look_at_experiment(db, experiment_id, at=at) is None
    report = ops.get(f"/v1/experiments/{made['id']}").json()
    assert report["looks"][0]["effects"]["guard.accepted"]["high"] < 0
    # Nothing came before it; to a trial that begins now, all of this is the past.
    assert units_past(db, row) is None
    row.started_at = at
    keep_past(db, row)
    past = units_past(db, row)
    assert past is not None
    states = Counter((one.expert_id, one.state) for one in db.scalars(select(Offer)))
    for unit, is_in, yes, known in zip(
        past.unit, past.treated, past.total["accepted"], past.count["accepted"], strict=True
    ):
        assert is_in == is_treated(row.salt, unit, row.share)
        assert (yes, known) == (
            states[unit, "accepted"],
            states[unit, "accepted"] + states[unit, "declined"],
        )
    assert past.total["wait_h"] == pytest.approx(past.total["accepted"])
    assert not past.count["rejected"].any()
    assert not np.isnan(past.predicted).any()
    assert past.known("rejected")[:, 0] == pytest.approx(0)
    # Every look takes out the same, whatever is corrected meanwhile, and in whichever process.
    db.execute(text("update market.offer set ended_at = ended_at + interval '9 days'"))
    keep_past(db, row)
    db.expire_all()
    again = exposed(db, row).past
    assert again is not None
    assert again.unit == past.unit
    for name in METRICS:
        assert (again.total[name] == past.total[name]).all()
        assert (again.count[name] == past.count[name]).all()


def begun(session: Session, count: int) -> list[UUID]:
    """Trials of other instructions on thirty experts, not begun yet."""
    for _ in range(30):
        make_expert(session)
    design = Design("words", "instructions", "expert", 0.5, "Said anew.", treatment={"text": "So."})
    return [design_experiment(session, design, author_id=None, at=AT).id for _ in range(count)]


@pytest.mark.usefixtures("committed")
def test_of_two_trials_of_a_kind_begun_at_once_one_begins_and_offers_do_not_wait_for_looks() -> (
    None
):
    with database.begin() as session:
        ids = begun(session, 2)

    def start(which: UUID) -> UUID:
        with database.begin() as session:
            return start_experiment(session, which, actor_id=None, at=AT).id

    found = at_once([partial(start, one) for one in ids])
    (running,) = [one for one in found if isinstance(one, UUID)]
    assert sum(isinstance(one, ExperimentOverlaps) for one in found) == 1
    with database.begin() as looking, database.begin() as offering:
        experiment(looking, running, lock=True)
        offering.execute(text("set local lock_timeout = '10s'"))
        unit = new_id()
        offering.add(
            Exposure(experiment_id=running, offer_id=unit, unit_id=unit, arm="control", at=AT)
        )
        offering.flush()


@pytest.mark.usefixtures("committed")
def test_what_an_offer_was_made_with_is_read_over_the_connection_of_whoever_asks() -> None:
    with database.begin() as session:
        (made,) = begun(session, 1)
    expert = Scope("stumpwork_expert", new_id())
    terms = {"trials": [{"experiment_id": str(made), "kind": "instructions", "arm": "treated"}]}
    taken: list[object] = []
    event.listen(database.engine, "checkout", lambda *given: taken.append(given))
    with database.begin(expert) as session:
        told = guidances_for(session, [(terms, {}), ({}, {"a": 1}), (terms, {})])
        assert [one.instructions for one in told] == ["So.", None, "So."]
        assert session.scalar(text("select current_setting('role')")) == "stumpwork_expert"
    assert len(taken) == 1


def made_up(rng: np.random.Generator, gain: float) -> Exposed:
    """Forty experts in each arm with ten assignments each, whose ability differs."""
    unit = [new_id() for _ in range(80)]
    treated = np.repeat(np.arange(80) % 2 == 0, 10)
    chance = np.clip(np.repeat(rng.normal(0.4, 0.1, 80), 10) + gain * treated, 0.02, 0.98)
    stump = (rng.random(800) < chance).astype(float)
    yes = (rng.random(800) < 0.8).astype(float)
    known = np.ones(800, np.bool_)
    return Exposed(
        unit=tuple(one for one in unit for _ in range(10)),
        treated=treated,
        outcome={"stump": stump, "accepted": yes, "rejected": 1 - yes},
        known={"stump": known, "accepted": known, "rejected": known},
    )


def test_what_experts_differed_in_before_narrows_the_interval_and_is_told() -> None:
    rng = np.random.default_rng(4)
    unit = tuple(new_id() for _ in range(200))
    arm = np.arange(200) % 2 == 0
    chance = np.clip(rng.normal(0.4, 0.15, 200), 0.02, 0.98)
    stump = (rng.random(2000) < np.repeat(chance, 10)).astype(float)
    known = {"stump": np.ones(2000, np.bool_)}
    treated = np.repeat(arm, 10)
    units = tuple(one for one in unit for _ in range(10))
    had, came = np.full(200, 40.0), rng.binomial(40, chance).astype(float)
    past = UnitsPast(unit, arm, {"stump": came}, {"stump": had}, np.full(200, np.nan))
    told = []
    for before in (None, past):
        seen = look(Exposed(units, treated, {"stump": stump}, known, before), "stump", ())
        told.append(seen.primary)
    assert told[1].high - told[1].low < 0.8 * (told[0].high - told[0].low)
    assert told[1].reduction > 0.4
    shown = [metric_told("stump", {"stump": effect_told(one)}) for one in told]
    assert ["known before" in one.evidence for one in shown if one is not None] == [False, True]


def test_nothing_is_declared_of_two_equal_arms_and_a_large_gain_is_found() -> None:
    guards = ("accepted", "rejected")
    told = [look(made_up(np.random.default_rng(n), 0.0), "stump", guards) for n in range(60)]
    assert sum(one.verdict.decision != "continue" for one in told) <= 3
    found = [look(made_up(np.random.default_rng(n), 0.35), "stump", ()) for n in range(10)]
    assert {one.verdict.decision for one in found} == {"promote"}
    harm = [look(made_up(np.random.default_rng(n), -0.35), "stump", ()) for n in range(10)]
    assert {one.verdict.decision for one in harm} == {"stop_harm"}
