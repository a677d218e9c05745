"""Batches that are drawn at random, what a lab reports of them, and what that does to credit."""

from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import new_id
from market.impact.models import ExpertImpact, ItemCredit
from market.lifts.models import LiftItem
from market.projects.models import Project
from market.submissions.models import Submission
from market.verdicts.models import Verdict
from tests.factories import (
    AT,
    Caller,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)

React = Callable[[], list[str]]
Web = TestClient[Any]
PEOPLE, EACH = 4, 6


def delivered(db: Session, lab: Caller, experts: list[UUID], each: int) -> Project:
    """A project with accepted work of some experts."""
    project = make_project(db, lab.organisation_id, budget_minor=10**9)
    for number in range(each * len(experts)):
        expert_id = experts[number % len(experts)]
        task = make_task(db, project, domain=("chemistry", "biology")[number % 2])
        offer = make_offer(db, task, expert_id)
        handed = Submission(
            organisation_id=project.organisation_id,
            project_id=project.id,
            task_id=task.id,
            slot_id=offer.slot_id,
            offer_id=offer.id,
            expert_id=expert_id,
            payload={"answer": number},
            created_at=AT,
            submitted_at=AT,
        )
        db.add(handed)
        db.flush()
        db.add(
            Verdict(
                submission_id=handed.id,
                organisation_id=project.organisation_id,
                project_id=project.id,
                task_id=task.id,
                expert_id=expert_id,
                votes=3,
                rejects=0,
                is_accepted=True,
                is_tested=False,
                is_validated=True,
                is_stump=False,
                is_silent=False,
                decided_at=AT,
            )
        )
        db.add(
            ItemCredit(
                submission_id=handed.id,
                expert_id=expert_id,
                project_id=project.id,
                domain=task.domain,
                validity=1.0,
                novelty=1.0,
                level_weight=1.0,
                lift=0.0,
                credit=1.0,
                like_submission_id=None,
                decided_at=AT,
                signature=b"",
            )
        )
    db.flush()
    return project


def drawn(
    db: Session, web: Web, *, each: int = EACH, **given: Any
) -> tuple[Any, dict[str, Any], list[UUID]]:
    """A lab with a study of what four experts delivered, and those experts."""
    experts = [make_expert(db).id for _ in range(PEOPLE)]
    lab = make_caller(db, web, Part.LAB)
    project = delivered(db, lab, experts, each)
    answer = lab.post(
        f"/v1/projects/prj_{project.id.hex}/lift-studies",
        json={"metric": "accuracy on the hard half", "batches": 8, **given},
        headers={"Idempotency-Key": new_id().hex},
    )
    assert answer.status_code == 201, answer.text
    return lab, answer.json(), experts


def report(lab: Any, study_id: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    answer = lab.post(
        f"/v1/lift-studies/{study_id}/reports",
        json={"rows": rows},
        headers={"Idempotency-Key": new_id().hex},
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_items_are_dealt_at_random_each_once_and_can_be_downloaded_by_batch(
    db: Session, web: Web
) -> None:
    lab, study, experts = drawn(db, web)
    assert (study["items"], study["batches"], study["reports"]) == (PEOPLE * EACH, 8, 0)
    whole = lab.get(f"/v1/lift-studies/{study['id']}").json()
    assert [one["number"] for one in whole["batch"]] == list(range(9))
    assert whole["batch"][0]["items"] == 0
    seen: Counter[str] = Counter()
    for one in whole["batch"]:
        items = lab.get(f"/v1/lift-batches/{one['id']}/items").json()["items"]
        assert len(items) == one["items"]
        assert all("expert_id" not in item and item["payload"] for item in items)
        seen.update(item["submission_id"] for item in items)
    assert len(seen) == PEOPLE * EACH
    assert set(seen.values()) == {1}
    # Everybody is in half of the batches, so that batches differ in who is in them.
    for expert_id in experts:
        placed = db.scalars(select(LiftItem.batch_id).where(LiftItem.expert_id == expert_id))
        assert len(set(placed)) <= 4
    other = make_caller(db, web, Part.LAB)
    assert other.get(f"/v1/lift-studies/{study['id']}").status_code == 404
    assert other.get(f"/v1/lift-batches/{whole['batch'][1]['id']}/items").status_code == 404
    assert lab.get(f"/v1/projects/{study['project_id']}/lift-studies").json()["items"] == [study]


def test_what_a_lab_reports_enters_credit_and_rates_and_its_reason_is_told(
    db: Session, web: Web, react: React
) -> None:
    # Who shares a batch with whom is drawn anew each time; of 2,000 draws of 8 batches a hundred
    # could not tell these people apart, of 16 batches none.
    lab, study, experts = drawn(db, web, each=2 * EACH, batches=16)
    best = experts[0]
    batches = lab.get(f"/v1/lift-studies/{study['id']}").json()["batch"]
    rng = np.random.default_rng(3)
    rows = []
    for one in batches:
        placed = db.scalars(
            select(LiftItem.expert_id).where(LiftItem.batch_id == UUID(one["id"][4:]))
        )
        worth = sum(3.0 if expert_id == best else 1.0 for expert_id in placed)
        rows.append({"batch_id": one["id"], "value": 50 + worth + float(rng.normal(0, 0.05))})
    assert report(lab, study["id"], rows[:4])["created"] == 4
    react()
    # Four batches tell nothing yet, and nothing is claimed.
    assert lab.get(f"/v1/lift-studies/{study['id']}").json()["effects"] == []
    done = report(lab, study["id"], rows)
    assert (done["created"], done["unchanged"]) == (13, 4)
    assert {"weigh_lift", "count_lift"} <= set(react())
    told = lab.get(f"/v1/lift-studies/{study['id']}").json()
    people = {row["expert_id"]: row for row in told["effects"] if row["expert_id"]}
    assert len(people) == PEOPLE
    first = people[f"per_{best.hex}"]
    assert first["added"] == pytest.approx(3.0, abs=0.3)
    assert first["relative"] > first["low"] > 0
    assert all(row["relative"] < 0.1 for key, row in people.items() if key[4:] != best.hex)
    assert {row["domain"] for row in told["effects"] if row["domain"]} == {"chemistry", "biology"}
    worth_now = db.scalars(select(ItemCredit).where(ItemCredit.expert_id == best)).all()
    assert {row.lift for row in worth_now} == {0.5}
    assert {row.credit for row in worth_now} == {1.5}
    rates = {
        row.expert_id: row.rate
        for row in db.scalars(select(ExpertImpact).where(ExpertImpact.domain == "chemistry"))
    }
    assert max(rates, key=lambda one: rates[one]) == best
    own = key_for(db, web, best, Part.EXPERT).get("/v1/impact/me").json()
    assert "accuracy on the hard half" in own["items"][0]["lift_reason"]
    assert "more than on the average item" in own["items"][0]["lift_reason"]


def test_a_metric_of_which_less_is_better_is_turned_and_a_wrong_report_is_corrected(
    db: Session, web: Web, react: React
) -> None:
    lab, study, experts = drawn(db, web, is_higher_better=False)
    batches = lab.get(f"/v1/lift-studies/{study['id']}").json()["batch"]
    best = experts[1]
    rows = []
    for one in batches:
        placed = list(
            db.scalars(select(LiftItem.expert_id).where(LiftItem.batch_id == UUID(one["id"][4:])))
        )
        loss = 9.0 - 0.01 * len(placed) - 0.05 * placed.count(best)
        rows.append({"batch_id": one["id"], "value": loss})
    report(lab, study["id"], [{**rows[0], "value": 0.0}, *rows[1:]])
    again = report(lab, study["id"], rows)
    assert (again["conflicts"], again["unchanged"]) == (1, 8)
    assert again["rows"][0]["code"] == "reported_otherwise"
    assert report(lab, study["id"], [{**rows[0], "corrects": True}])["corrected"] == 1
    react()
    told = lab.get(f"/v1/lift-studies/{study['id']}").json()
    assert told["batch"][0]["reports"] == 2
    assert told["common"] < 0
    people = {row["expert_id"]: row["relative"] for row in told["effects"] if row["expert_id"]}
    assert max(people, key=lambda one: people[one]) == f"per_{best.hex}"


def test_rows_that_cannot_be_taken_say_why_and_keep_none_of_the_others_back(
    db: Session, web: Web
) -> None:
    lab, study, _ = drawn(db, web)
    batch = lab.get(f"/v1/lift-studies/{study['id']}").json()["batch"][0]["id"]
    told = report(
        lab,
        study["id"],
        [{"batch_id": f"lfb_{new_id().hex}", "value": 1.0}, {"batch_id": batch, "value": 2.0}],
    )
    assert [row["verdict"] for row in told["rows"]] == ["rejected", "created"]
    assert told["rows"][0]["code"] == "batch_unknown"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"batches": 3}, "batches"),
        ({"batches": 30}, "batches"),
        ({"metric": " "}, "metric"),
    ],
)
def test_a_study_that_could_tell_nothing_is_refused(
    db: Session, web: Web, given: dict[str, Any], field: str
) -> None:
    lab = make_caller(db, web, Part.LAB)
    project = delivered(db, lab, [make_expert(db).id for _ in range(2)], 10)
    answer = lab.post(
        f"/v1/projects/prj_{project.id.hex}/lift-studies",
        json={"metric": "accuracy", "batches": 4, **given},
        headers={"Idempotency-Key": new_id().hex},
    )
    assert answer.status_code == 422
    assert answer.json()["code"] == "lift_study_unfit"
    assert answer.json()["field"] == field


def test_items_are_measured_once_unless_their_lab_asks_again(db: Session, web: Web) -> None:
    lab, study, _ = drawn(db, web)

    def draw(**given: Any) -> Any:
        return lab.post(
            f"/v1/projects/{study['project_id']}/lift-studies",
            json={"metric": "accuracy", "batches": 8, **given},
            headers={"Idempotency-Key": new_id().hex},
        )

    assert draw().status_code == 422
    assert draw(again=True).json()["items"] == PEOPLE * EACH
