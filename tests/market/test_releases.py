"""A new version of a target model: told, calibrated by ordinary work, settled, and adopted."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.attempts.models import Attempt
from market.auth import Part
from market.candidates.queries import candidates
from market.candidates.rules import asked_of, id_at
from market.db import new_id
from market.events import Event, EventRow, StateChange
from market.offers.models import Offer
from market.policies.rules import read_policy
from market.predictions.actions import learn_outcomes, request_refit
from market.predictions.models import Ability, Observation
from market.predictions.queries import (
    in_force,
    predictions_for,
    present,
    record,
    told_releases,
)
from market.predictions.rules import Outcome, attempts_of, code_of
from market.projects.models import Project, TargetModel
from market.projects.rules import ModelVersion, TargetModelNotFound
from market.quality.actions import fitted
from market.releases.actions import announce_release, calibrate_if_possible, move_release
from market.releases.models import CalibrationTask, ModelRelease
from market.releases.rules import CalibrationTooFew
from market.tasks.models import Task
from tests.factories import (
    AT,
    Caller,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)
from tests.market.reviewed import STUMP, cast, hand_in

React = Callable[[], list[str]]
NEXT = ModelVersion("target, spring", "target-2")


def make_open_tasks(db: Session, project: Project, count: int) -> list[Task]:
    return [make_task(db, project, complexity=1 + n % 5) for n in range(count)]


def effect_of(db: Session, target_model_id: UUID) -> tuple[float, float]:
    return present(db).model.model_effect(code_of(target_model_id))


def fooled_by(task: Task, expert_id: UUID, target_model_id: UUID) -> Outcome:
    """What is learned of a verdict on a stump that held."""
    return Outcome(
        kind="verdict",
        subject_id=new_id(),
        version=1,
        project_id=task.project_id,
        task_id=task.id,
        expert_id=expert_id,
        domain=task.domain,
        target_model_id=target_model_id,
        level=task.complexity - 1,
        at=AT,
        start=1.0,
        fooled=1.0,
        valid=1.0,
    )


def work_on(db: Session, task: Task, expert_id: UUID) -> Attempt:
    handed = hand_in(db, offer=make_offer(db, task, expert_id, cap_s=600))
    cast(db, handed, STUMP)
    assert handed.attempt_id is not None
    return db.get_one(Attempt, handed.attempt_id)


def test_a_release_is_calibrated_by_ordinary_work_and_then_predicted_anew(
    db: Session, react: React
) -> None:
    project = make_project(db, reviews_per_submission=1, budget_minor=100_000_000)
    assert project.target_model_id is not None
    tasks = make_open_tasks(db, project, 30)
    found = announce_release(db, project.target_model_id, NEXT, size=10, at=AT)
    new = db.get_one(TargetModel, found.target_model_id)
    assert (new.model, new.base_url) == ("target-2", "http://127.0.0.1:9/v1")
    assert effect_of(db, new.id)[0] == pytest.approx(-found.prior_mean)
    assert "propose_calibration" in react()
    db.refresh(found)
    assert found.state == "calibrating"
    chosen = set(db.scalars(select(CalibrationTask.task_id)))
    assert len(chosen) == 10
    assert {task.id for task in tasks if task.target_model_id == new.id} == chosen
    terms = {name: getattr(project, name) for name in ("rate_minor_per_hour", "pay_basis", "cap_s")}

    expert = make_expert(db).id
    ours = [task for task in tasks if task.id in chosen]
    learn_outcomes(db, [fooled_by(task, expert, new.id) for task in ours[1:]], at=AT)
    # Everybody else's work goes on against the version that the project tests.
    other = next(task for task in tasks if task.id not in chosen)
    assert work_on(db, other, make_expert(db).id).target_model_id == project.target_model_id
    react()
    db.refresh(found)
    assert found.state == "calibrating"
    assert work_on(db, ours[0], make_expert(db).id).target_model_id == new.id
    react()

    db.refresh(found)
    assert found.state == "calibrated"
    assert found.mean is not None
    assert found.sd is not None
    # All ten led it astray: it is weaker than was thought, and better known.
    assert found.mean < found.prior_mean
    assert found.sd < found.prior_sd
    mean, variance = effect_of(db, new.id)
    assert mean == pytest.approx(-found.mean)
    assert variance == pytest.approx(found.sd**2, abs=0.05)
    told = db.scalars(
        select(Observation).where(Observation.kind == "release").order_by(Observation.seq)
    ).all()
    assert [row.version for row in told] == [1, 2]
    moves = db.scalars(
        select(StateChange.action)
        .where(StateChange.subject_id == found.id)
        .order_by(StateChange.id)
    ).all()
    assert moves == ["calibrate", "settle"]
    event = db.scalars(
        select(EventRow).where(EventRow.type == Event.RELEASE_CALIBRATED.value)
    ).one()
    assert event.data["decided"] == 10
    met = select(Ability).where(Ability.target_model_id == new.id)
    assert sorted(one.outcomes for one in db.scalars(met)) == [1, 9]

    # The project goes on as it was until somebody decides otherwise; what it pays stays even then.
    assert db.get_one(Project, project.id).target_model_id != new.id
    move_release(db, found.id, "adopt", at=AT)
    db.refresh(project)
    assert project.target_model_id == new.id
    assert {name: getattr(project, name) for name in terms} == terms


def test_a_release_without_tasks_enough_waits_and_says_what_it_lacks(
    db: Session, react: React
) -> None:
    project = make_project(db)
    assert project.target_model_id is not None
    make_open_tasks(db, project, 9)
    found = announce_release(db, project.target_model_id, NEXT, at=AT)
    react()
    db.refresh(found)
    assert found.state == "told"
    with pytest.raises(CalibrationTooFew) as refusal:
        move_release(db, found.id, "calibrate", at=AT)
    assert refusal.value.found == 9
    make_open_tasks(db, project, 3)
    assert calibrate_if_possible(db, found.id, at=AT)
    assert not calibrate_if_possible(db, found.id, at=AT)
    with pytest.raises(CalibrationTooFew, match="0 tasks are decided"):
        move_release(db, found.id, "settle", at=AT)


def test_a_task_that_somebody_holds_is_not_chosen_and_a_withdrawn_release_gives_tasks_back(
    db: Session,
) -> None:
    project = make_project(db)
    assert project.target_model_id is not None
    tasks = make_open_tasks(db, project, 12)
    make_offer(db, tasks[0], make_expert(db).id, accepted=False, cap_s=600)
    found = announce_release(db, project.target_model_id, NEXT, size=30, at=AT)
    assert calibrate_if_possible(db, found.id, at=AT)
    assert db.get_one(Task, tasks[0].id).target_model_id is None
    begun = make_offer(db, tasks[1], make_expert(db).id, cap_s=600)
    move_release(db, found.id, "withdraw", at=AT)
    db.expire_all()
    marked = [task.id for task in tasks if task.target_model_id is not None]
    assert marked == [db.get_one(Offer, begun.id).task_id]


def test_a_refit_keeps_what_a_release_said_of_a_model_that_nobody_asked(db: Session) -> None:
    project = make_project(db)
    assert project.target_model_id is not None
    found = announce_release(db, project.target_model_id, NEXT, at=AT)
    before = effect_of(db, found.target_model_id)
    version = in_force(db)
    assert version is not None
    rows = attempts_of(record(db, through=10**9))
    for bytes_before in (version.content, b"of another release of this software"):
        model, _ = fitted(bytes_before, 0, rows, told_releases(db, through=10**9))
        assert model.model_effect(code_of(found.target_model_id)) == pytest.approx(before)


def test_matching_expects_of_a_task_what_its_own_target_model_lets_through(
    db: Session, react: React
) -> None:
    project = make_project(db, budget_minor=100_000_000)
    assert project.target_model_id is not None
    tasks = [make_task(db, project, complexity=3) for _ in range(24)]
    expert = make_expert(db).id
    found = announce_release(db, project.target_model_id, NEXT, size=10, at=AT)
    assert calibrate_if_possible(db, found.id, at=AT)
    # The version that the project tests is never fooled, the new one by everything.
    old = [replace(fooled_by(t, expert, project.target_model_id), fooled=0.0) for t in tasks]
    new = [fooled_by(task, expert, found.target_model_id) for task in tasks]
    learn_outcomes(db, [*old, *new], at=AT)
    request_refit(db, at=AT)
    react()

    seen = candidates(db, read_policy({}), project_id=project.id, at=AT)
    assert set(seen.models) == {project.target_model_id, found.target_model_id}
    stump = predictions_for(db, asked_of(seen)).stump
    chosen = set(db.scalars(select(CalibrationTask.task_id)))
    theirs = np.array([id_at(seen.task_ids, at) in chosen for at in seen.pair_task.tolist()])
    assert (theirs.sum(), (~theirs).sum()) == (10, 14)
    assert stump[theirs].min() > 0.6
    assert stump[~theirs].max() < 0.4
    # Adopted by nobody and withdrawn, its tasks are the old model's again.
    move_release(db, found.id, "withdraw", at=AT)
    seen = candidates(db, read_policy({}), project_id=project.id, at=AT)
    assert seen.models == (project.target_model_id,)
    assert predictions_for(db, asked_of(seen)).stump.max() < 0.4


def test_labs_tell_of_their_own_models_and_ops_of_anybodys(
    db: Session, web: TestClient[Any], react: React
) -> None:
    lab, stranger = make_caller(db, web, Part.LAB), make_caller(db, web, Part.LAB)
    ops = make_caller(db, web, Part.OPS)
    project = make_project(db, lab.organisation_id)
    make_open_tasks(db, project, 12)
    db.commit()
    assert project.target_model_id is not None
    address = f"/v1/target-models/mdl_{project.target_model_id.hex}/releases"
    asked = {"name": "spring", "model": "target-2", "size": 10}
    assert stranger.post(address, json=asked).status_code == 404
    made = lab.post(address, json=asked)
    assert made.status_code == 201, made.text
    react()
    told = lab.get(f"/v1/releases/{made.json()['id']}")
    assert told.json()["state"] == "calibrating"
    assert sum(level["tasks"] for level in told.json()["levels"]) == 10
    assert stranger.get(f"/v1/releases/{made.json()['id']}").json()["code"] == "not_found"
    assert stranger.get("/v1/releases").json()["items"] == []
    assert len(lab.get(f"/v1/releases/{made.json()['id']}/tasks").json()) == 10
    early = move(lab, told.json(), "settle")
    assert (early.status_code, early.json()["code"]) == (409, "calibration_too_few")
    assert move(lab, told.json(), "adopt").json()["code"] == "state_conflict"
    assert move(ops, told.json(), "withdraw").json()["state"] == "withdrawn"
    second = ops.post(address, json={**asked, "name": "summer"})
    assert second.status_code == 201
    line = lab.get(address).json()
    assert [one["state"] for one in line] == ["withdrawn", "told"]
    assert len(ops.get("/v1/releases", params={"state": "told"}).json()["items"]) == 1


def move(caller: Caller, told: dict[str, Any], action: str) -> Any:
    return caller.post(
        f"/v1/releases/{told['id']}/transitions",
        json={"action": action},
        headers={"If-Match": f'"{told["version"]}"'},
    )


def test_a_model_that_is_not_there_has_no_release(db: Session) -> None:
    with pytest.raises(TargetModelNotFound):
        announce_release(db, UUID(int=1), NEXT, at=AT)
    assert db.scalars(select(ModelRelease)).all() == []
