"""Whom a project takes: first a few, and more while nobody claims its tasks."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.candidates.queries import candidates
from market.candidates.rules import id_at
from market.eligibility.actions import set_eligibility, widen_project
from market.eligibility.models import Widening
from market.eligibility.queries import widening_steps
from market.eligibility.rules import Step
from market.experts.models import ExpertDomain
from market.explanations.queries import hindrances, work_for
from market.policies.rules import read_policy
from market.projects.models import Project
from market.runs.models import MatchingRun
from market.shortlists import queries as shortlists
from tests.factories import (
    AT,
    Caller,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)

Web = TestClient[Any]

BALANCED = read_policy({})

STEPS = (Step('country = "CA"', 600), Step('country in ("CA", "US")', 600), Step("everyone", None))


@pytest.fixture
def lab(db: Session, web: Web) -> Caller:
    return make_caller(db, web, Part.LAB)


def takes(db: Session, project: Project, at: datetime = AT) -> set[UUID]:
    seen = candidates(db, BALANCED, project_id=project.id, at=at)
    return {id_at(seen.expert_ids, expert) for expert in seen.pair_expert.tolist()}


def timer(db: Session, task_id: UUID) -> Widening:
    db.expire_all()
    return db.get_one(Widening, task_id)


def test_each_step_takes_its_people_and_the_next_begins_after_its_time(db: Session) -> None:
    there, near, far = (make_expert(db, country=one).id for one in ("CA", "US", "DE"))
    project = make_project(db)
    task = make_task(db, project)
    assert takes(db, project) == {there, near, far}
    set_eligibility(db, project.id, STEPS, at=AT)
    assert takes(db, project) == {there}
    assert widen_project(db, project.id, at=AT) == 0
    assert widen_project(db, project.id, at=AT + timedelta(seconds=599)) == 0
    assert widen_project(db, project.id, at=AT + timedelta(seconds=600)) == 1
    assert widen_project(db, project.id, at=AT + timedelta(seconds=600)) == 0
    assert takes(db, project) == {there, near}
    assert widen_project(db, project.id, at=AT + timedelta(days=9)) == 1
    assert widen_project(db, project.id, at=AT + timedelta(days=99)) == 0
    assert takes(db, project) == {there, near, far}
    assert [one.step for one in widening_steps(db, task.id)] == [1, 2, 3]


def test_a_task_that_comes_later_begins_at_the_first_step(db: Session) -> None:
    project = make_project(db)
    early = make_task(db, project)
    set_eligibility(db, project.id, STEPS, at=AT)
    widen_project(db, project.id, at=AT)
    widen_project(db, project.id, at=AT + timedelta(seconds=600))
    late = make_task(db, project)
    widen_project(db, project.id, at=AT + timedelta(seconds=601))
    assert (timer(db, early.id).step, timer(db, late.id).step) == (2, 1)


def test_a_claim_starts_the_time_of_its_step_anew(db: Session) -> None:
    expert = make_expert(db, country="CA")
    project = make_project(db, answers_per_task=2)
    task = make_task(db, project)
    set_eligibility(db, project.id, STEPS, at=AT)
    widen_project(db, project.id, at=AT)
    make_offer(db, task, expert.id, at=AT + timedelta(seconds=300))
    assert widen_project(db, project.id, at=AT + timedelta(seconds=600)) == 0
    assert timer(db, task.id).due_at == AT + timedelta(seconds=900)
    assert widen_project(db, project.id, at=AT + timedelta(seconds=900)) == 1


def test_a_pause_stops_the_time_and_the_rest_of_it_is_kept(db: Session) -> None:
    project = make_project(db)
    task = make_task(db, project)
    set_eligibility(db, project.id, STEPS, at=AT)
    widen_project(db, project.id, at=AT)
    project.state = "paused"
    db.flush()
    widen_project(db, project.id, at=AT + timedelta(seconds=400))
    assert (timer(db, task.id).due_at, timer(db, task.id).left_s) == (None, 200)
    project = db.get_one(Project, project.id)
    project.state = "live"
    db.flush()
    assert widen_project(db, project.id, at=AT + timedelta(days=1)) == 0
    assert timer(db, task.id).due_at == AT + timedelta(days=1, seconds=200)


def test_other_rules_begin_at_the_first_step_again(db: Session) -> None:
    project = make_project(db)
    task = make_task(db, project)
    set_eligibility(db, project.id, STEPS, at=AT)
    widen_project(db, project.id, at=AT)
    widen_project(db, project.id, at=AT + timedelta(seconds=600))
    later = AT + timedelta(seconds=700)
    second = set_eligibility(db, project.id, STEPS[1:], at=later)
    widen_project(db, project.id, at=later)
    assert (timer(db, task.id).step, timer(db, task.id).eligibility_id) == (1, second.id)
    assert second.version == 2


def test_in_a_large_domain_the_few_who_are_taken_are_found(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("small", 2), ("best", 2), ("nearest", 1), ("spread", 1)):
        monkeypatch.setitem(shortlists.WORDS, name, str(size))
    for _ in range(8):
        able = make_expert(db, country="US")
        db.get_one(ExpertDomain, (able.id, "chemistry")).ability = 2.0
    wanted = {make_expert(db, country="CA").id for _ in range(2)}
    project = make_project(db)
    make_task(db, project)
    set_eligibility(db, project.id, STEPS, at=AT)
    db.flush()
    assert takes(db, project) == wanted


def test_an_expert_and_ops_are_told_the_condition_that_fails(db: Session) -> None:
    expert = make_expert(db, country="US")
    project = make_project(db)
    task = make_task(db, project)
    set_eligibility(db, project.id, STEPS, at=AT)
    found = work_for(db, expert.id, at=AT)
    assert found is not None
    assert found.fitting_tasks == 0
    assert [code for code, _ in found.reasons] == ["not_eligible"]
    assert 'country = "CA" for 1' in found.reasons[0][1]
    told = hindrances(db, task.id, expert.id, at=AT)
    assert told == ['the project takes whoever fulfils country = "CA"; known is US']
    widen_project(db, project.id, at=AT)
    widen_project(db, project.id, at=AT + timedelta(seconds=600))
    assert hindrances(db, task.id, expert.id, at=AT) == []
    found = work_for(db, expert.id, at=AT)
    assert found is not None
    assert (found.fitting_tasks, found.reasons[0][0]) == (1, "next_run")


def test_a_lab_sets_who_is_taken_and_sees_whom_a_task_takes(
    db: Session, lab: Caller, react: Callable[[], list[str]]
) -> None:
    project = make_project(db, lab.organisation_id)
    task = make_task(db, project)
    for _ in range(6):
        make_expert(db, country="CA")
    react()
    where = f"/v1/projects/prj_{project.id.hex}/eligibility"
    assert lab.get(where).json()["code"] == "not_found"
    steps = [{"expression": one.source, "after_s": one.after_s} for one in STEPS]
    made = lab.put(where, json={"steps": steps})
    assert made.status_code == 200, made.text
    assert [one["matching"] for one in made.json()["steps"]] == [6, 6, 6]
    assert "match_anew" in react()
    asked = db.scalars(select(MatchingRun).where(MatchingRun.project_id == project.id)).all()
    assert len(asked) == 1
    at = datetime.now(UTC)
    widen_project(db, project.id, at=at)
    said = lab.get(f"/v1/tasks/tsk_{task.id.hex}/eligibility").json()
    assert (said["step"], said["steps"], said["expression"]) == (1, 3, 'country = "CA"')
    assert len(said["history"]) == 1
    assert datetime.fromisoformat(said["widens_at"]) == at + timedelta(seconds=600)


def test_a_step_raises_what_its_tasks_are_worth(db: Session) -> None:
    make_expert(db, country="CA")
    project = make_project(db)
    task = make_task(db, project, value_weight=2.0)
    plain = make_task(db, make_project(db))
    steps = (Step("everyone", 600), Step("everyone", None, 2.5))
    set_eligibility(db, project.id, steps, at=AT)

    def weights() -> dict[UUID, float]:
        seen = candidates(db, BALANCED, project_id=None, at=AT)
        known = enumerate(seen.task_weight.tolist())
        return {id_at(seen.task_ids, n): weight for n, weight in known}

    assert weights() == {task.id: 2.0, plain.id: 1.0}
    widen_project(db, project.id, at=AT)
    widen_project(db, project.id, at=AT + timedelta(seconds=600))
    assert weights() == {task.id: 5.0, plain.id: 1.0}


@pytest.mark.parametrize(
    ("steps", "code", "field"),
    [
        ([("everyone", 60)], "steps_invalid", "after_s of step 1"),
        ([("everyone", None), ("everyone", None)], "steps_invalid", "after_s of step 1"),
        ([("everyone", 59), ("everyone", None)], "steps_invalid", "after_s of step 1"),
        ([("everybody", None)], "expression_invalid", None),
    ],
)
def test_steps_that_lead_nowhere_are_refused(
    db: Session, lab: Caller, steps: list[tuple[str, int | None]], code: str, field: str | None
) -> None:
    project = make_project(db, lab.organisation_id)
    answer = lab.put(
        f"/v1/projects/prj_{project.id.hex}/eligibility",
        json={"steps": [{"expression": source, "after_s": wait} for source, wait in steps]},
    )
    assert answer.status_code == 422
    assert (answer.json()["code"], answer.json().get("field")) == (code, field)
