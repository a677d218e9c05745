"""Experts and a model at the same items, and what follows where nobody is above the model."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from market.auth import Part, keyring
from market.baselines.actions import (
    answer_eval_item,
    create_eval_set,
    judge_baseline,
    put_eval_item,
)
from market.baselines.jobs import pause_exhausted
from market.baselines.models import BaselineResult, EvalAnswer, EvalSet
from market.baselines.rules import Design, Item
from market.db import new_id
from market.events import Event, EventRow, StateChange
from market.predictions.models import Observation
from market.projects.models import Project, TargetModel
from market.qualifications.actions import (
    begin_qualification,
    grade_qualification,
    invite_to_qualify,
)
from market.quality.models import FrontierAlarm
from tests.factories import AT, Caller, key_for, make_caller, make_expert, make_project
from tests.fakemodel import FakeModel
from tests.market.test_console import check_guards, come_in, visit

React = Callable[[], list[str]]
Web = TestClient[Any]
ITEMS, HARD = 20, 6


@pytest.fixture
def model() -> Iterator[FakeModel]:
    """A target model on loopback that multiplies numbers of five digits wrongly."""
    with FakeModel(key="sk-secret") as running:
        yield running


def items(count: int = ITEMS, hard: int = HARD) -> tuple[Item, ...]:
    """Products, the first of them too great for the model."""
    pairs = [((12_345 if n < hard else 123) + n, 67 + n) for n in range(count)]
    return tuple(Item(f"What is {a} * {b}?", (str(a * b), f"{a * b:,}")) for a, b in pairs)


def live_project(db: Session, base_url: str, organisation_id: UUID | None = None) -> Project:
    project = make_project(db, organisation_id)
    db.execute(
        update(TargetModel)
        .where(TargetModel.id == project.target_model_id)
        .values(
            base_url=base_url,
            sealed_key=keyring.seal(b"sk-secret"),
            price_out_minor=Decimal(1),
            cost_cap_minor=1_000,
        )
    )
    db.commit()
    return project


def qualified(db: Session, domain: str = "chemistry") -> UUID:
    """An expert whose qualification in a domain is in force."""
    person_id = make_expert(db).id
    asked = invite_to_qualify(db, person_id, domain=domain, at=AT)
    begin_qualification(db, asked.id, person_id=person_id, at=AT)
    grade_qualification(db, asked.id, score=90, at=AT)
    return person_id


def laid_down(db: Session, project: Project, asked: tuple[Item, ...]) -> EvalSet:
    design = Design("Products", "chemistry", 3, 60, 3, asked)
    made = create_eval_set(db, project, design, by=new_id(), at=AT)
    db.commit()
    return made


def solve(db: Session, found: EvalSet, asked: tuple[Item, ...], wrong: set[int]) -> UUID:
    """Let a fresh expert answer every item, those at some places wrongly."""
    person_id = qualified(db)
    for n, item in enumerate(asked):
        put = put_eval_item(db, found.id, person_id=person_id, at=AT)
        assert put is not None
        assert put[0].number == n + 1
        answer = "0" if n in wrong else item.key[0]
        answer_eval_item(db, found.id, n + 1, answer, person_id=person_id, at=AT)
    assert put_eval_item(db, found.id, person_id=person_id, at=AT) is None
    db.commit()
    return person_id


def test_experts_and_the_model_answer_the_same_items_and_stand_on_one_scale(
    db: Session, web: Web, react: React, model: FakeModel
) -> None:
    lab = make_caller(db, web, Part.LAB)
    project = live_project(db, model.base_url, lab.organisation_id)
    asked = items(30, 9)
    answer = lab.post(
        f"/v1/projects/prj_{project.id.hex}/eval-sets",
        json={
            "name": "Products",
            "domain": "chemistry",
            "complexity": 3,
            "limit_s": 60,
            "experts": 5,
            "items": [{"prompt": one.prompt, "key": list(one.key)} for one in asked],
        },
        headers={"Idempotency-Key": new_id().hex},
    )
    assert answer.status_code == 201, answer.text
    set_id = answer.json()["id"]
    assert "ask_eval_items" in react()
    found = db.get_one(EvalSet, UUID(set_id[4:]))
    db.refresh(found)
    assert found.model_state == "done"
    # What the model answers beside the tokens it may use costs no more than it used.
    target = db.get_one(TargetModel, found.target_model_id)
    assert 0 < target.spent_minor < Decimal("0.01")
    first = key_for(db, web, qualified(db), Part.EXPERT)
    assert [one["id"] for one in first.get("/v1/eval-sets/open").json()["items"]] == [set_id]
    put = first.post(f"/v1/eval-sets/{set_id}/next-item").json()
    assert put["prompt"] == asked[0].prompt
    assert put == first.post(f"/v1/eval-sets/{set_id}/next-item").json()
    said = {"number": 1, "answer": f" {asked[0].key[1]}. "}
    told = first.post(f"/v1/eval-sets/{set_id}/answers", json=said)
    assert (told.status_code, told.json()["answer"]) == (200, said["answer"])
    assert "is_right" not in told.json()
    assert first.post(f"/v1/eval-sets/{set_id}/answers", json=said).status_code == 200
    other = first.post(f"/v1/eval-sets/{set_id}/answers", json={"number": 1, "answer": "0"})
    assert other.json()["code"] == "eval_item_closed"
    solve(db, found, asked, set())
    solve(db, found, asked, {3})
    # Two who had all items are too few to speak of people.
    react()
    assert lab.get(f"/v1/eval-sets/{set_id}/baseline").json()["standing"] == "thin"
    solve(db, found, asked, {3, 4})
    solve(db, found, asked, {3, 4, 5})
    sixth = key_for(db, web, qualified(db), Part.EXPERT)
    full = sixth.post(f"/v1/eval-sets/{set_id}/next-item")
    assert (full.status_code, full.json()["code"]) == (409, "eval_set_full")
    assert sixth.get("/v1/eval-sets/open").json()["items"] == []
    assert (
        key_for(db, web, make_expert(db).id, Part.EXPERT)
        .post(f"/v1/eval-sets/{set_id}/next-item")
        .status_code
        == 404
    )
    react()
    seen = lab.get(f"/v1/eval-sets/{set_id}/baseline").json()
    assert seen["model"]["low"] < 1 - 9 / 30 < seen["model"]["high"]
    assert [one["answered"] for one in seen["people"]].count(30) == 4
    assert all(
        one["share"]["low"] <= one["share"]["value"] <= one["share"]["high"]
        for one in seen["people"]
    )
    assert max(one["beats"] for one in seen["people"]) > 0.9
    assert seen["standing"] == "human"
    assert len(seen["history"]) == 5
    assert make_caller(db, web, Part.LAB).get(f"/v1/eval-sets/{set_id}/baseline").status_code == 404
    come_in(web, lab)
    shown = web.get(f"/console/lab/projects/prj_{project.id.hex}/baselines")
    check_guards(shown)
    assert "People together" in shown.text
    drawn = web.get(f"/console/lab/baselines/{set_id}.svg")
    assert drawn.headers["content-type"].startswith("image/svg")
    visit(web, db, Part.OPS)
    assert "Products: shares of right answers" in web.get("/console/ops/signals/baselines").text
    assert web.get(f"/console/ops/baselines/{set_id}.svg").status_code == 200
    visit(web, db, Part.LAB)
    assert web.get(f"/console/lab/baselines/{set_id}.svg").status_code == 404


def test_where_nobody_is_above_the_model_projects_pause_and_go_on_when_somebody_is(
    db: Session, web: Web, react: React, model: FakeModel
) -> None:
    # The app has settings in force, by which the model may be on loopback.
    assert web
    project, other = live_project(db, model.base_url), live_project(db, model.base_url)
    asked = items()
    found = laid_down(db, project, asked)
    react()
    for wrong in (8, 9, 10):
        solve(db, found, asked, {*range(HARD), wrong})
    react()
    result = db.scalars(select(BaselineResult).order_by(BaselineResult.id.desc())).first()
    assert result is not None
    assert (result.standing, result.people, result.best_chance) == ("saturated", 3, 0.0)
    assert result.proposal is not None
    assert "Close the project" in result.proposal
    db.refresh(project)
    db.refresh(other)
    assert (project.state, other.state) == ("paused", "live")
    moved = db.scalars(
        select(StateChange)
        .where(StateChange.subject_id == project.id)
        .order_by(StateChange.id.desc())
    ).first()
    assert moved is not None
    assert (moved.reason_code, moved.note) == ("saturated", result.proposal)
    told = select(EventRow).where(EventRow.type == Event.BASELINE_SATURATED.value)
    assert [row.organisation_id for row in db.scalars(told)] == [project.organisation_id]
    # The same finding again pauses nothing that its lab let go on meanwhile.
    judge_baseline(db, found.id, at=AT)
    assert len(db.scalars(told).all()) == 1
    harder = items(hard=ITEMS)
    again = laid_down(db, project, harder)
    react()
    for wrong in (1, 2, 3):
        solve(db, again, harder, {wrong})
    react()
    db.refresh(project)
    assert project.state == "live"


def test_a_level_that_ran_dry_with_none_left_to_go_to_pauses_what_tests_the_model_there(
    db: Session, react: React
) -> None:
    project = make_project(db)
    assert project.target_model_id is not None
    for level, proposed in ((3, 5), (9, None)):
        seen = Observation(
            kind="verdict",
            subject_id=new_id(),
            version=1,
            at=AT,
            observed_at=AT,
            domain="chemistry",
            target_model_id=project.target_model_id,
        )
        db.add(seen)
        db.flush()
        alarm = FrontierAlarm(
            seq=seen.seq,
            domain="chemistry",
            level=level,
            target_model_id=project.target_model_id,
            at=AT,
            high=1.0,
            proposed_level=proposed,
            reason="the stump rate is about 10%",
            rate=0.1,
            opening=0.6,
            evidence=30.0,
            productive=0.0,
            low=0.0,
        )
        db.add(alarm)
        db.flush()
        pause_exhausted(str(alarm.id))
        db.refresh(project)
        assert project.state == ("live" if proposed else "paused")
    pause_exhausted(str(new_id()))


def test_a_model_that_fails_or_has_no_money_left_is_asked_again_for_the_rest(
    db: Session, web: Web, react: React, model: FakeModel
) -> None:
    lab = make_caller(db, web, Part.LAB)
    project = live_project(db, model.base_url, lab.organisation_id)
    asked = (*items(ITEMS - 1), Item("What is [[nonsense]] 2 + 2?", ("4",)))
    db.execute(update(TargetModel).values(cost_cap_minor=0))
    found = laid_down(db, project, asked)
    react()
    db.refresh(found)
    assert (found.model_state, model.world.count) == ("failed", 0)
    assert found.failure is not None
    assert "cost cap" in found.failure
    db.execute(update(TargetModel).values(cost_cap_minor=1_000))
    db.commit()
    assert lab.post(f"/v1/eval-sets/evs_{found.id.hex}/model-runs").json()["failure"] is None
    react()
    db.refresh(found)
    assert found.model_state == "failed"
    assert len(db.scalars(select(EvalAnswer)).all()) == ITEMS - 1
    spent = db.get_one(TargetModel, found.target_model_id).spent_minor
    assert spent < Decimal("0.01")


def test_an_item_that_is_not_answered_in_time_counts_as_not_known(
    db: Session, model: FakeModel
) -> None:
    found = laid_down(db, live_project(db, model.base_url), items())
    person_id = qualified(db)
    put = put_eval_item(db, found.id, person_id=person_id, at=AT)
    assert put is not None
    late = AT + timedelta(seconds=66)
    row = answer_eval_item(db, found.id, 1, "7", person_id=person_id, at=late)
    assert (row.answer, row.is_right) == (None, False)
    following = put_eval_item(db, found.id, person_id=person_id, at=late)
    assert following is not None
    assert following[0].number == 2


def lab_and_project(db: Session, web: Web) -> tuple[Caller, Project]:
    lab = make_caller(db, web, Part.LAB)
    return lab, make_project(db, lab.organisation_id)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"items": [{"prompt": "?", "key": ["1"]}] * 5}, "items"),
        ({"complexity": 11}, "complexity"),
        ({"limit_s": 1}, "limit_s"),
        ({"name": " "}, "name"),
        ({"items": [{"prompt": " ", "key": ["1"]}] * 20}, "items/0/prompt"),
        ({"items": [{"prompt": "?", "key": []}] * 20}, "items/0/key"),
        ({"items": [{"prompt": "?", "key": ["1"], "choices": ["2"]}] * 20}, "items/0/key"),
    ],
)
def test_a_set_that_could_tell_nothing_is_refused(
    db: Session, web: Web, given: dict[str, Any], field: str
) -> None:
    lab, project = lab_and_project(db, web)
    terms = {
        "name": "Products",
        "domain": "chemistry",
        "complexity": 3,
        "limit_s": 60,
        "items": [{"prompt": "2 + 2?", "key": ["4"]}] * 20,
    }
    answer = lab.post(
        f"/v1/projects/prj_{project.id.hex}/eval-sets",
        json={**terms, **given},
        headers={"Idempotency-Key": new_id().hex},
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "eval_set_unfit")
    assert answer.json()["field"] == field


def test_an_answer_that_is_no_choice_is_refused(db: Session, web: Web) -> None:
    _, project = lab_and_project(db, web)
    asked = tuple(Item(f"{n} + 1?", ("1",), ("1", "2")) for n in range(ITEMS))
    found = laid_down(db, project, asked)
    expert = key_for(db, web, qualified(db), Part.EXPERT)
    expert.post(f"/v1/eval-sets/evs_{found.id.hex}/next-item")
    answer = expert.post(
        f"/v1/eval-sets/evs_{found.id.hex}/answers", json={"number": 1, "answer": "3"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "eval_answer_unfit")
