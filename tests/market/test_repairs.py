"""Skips with a reason: the list of tasks to repair, and the budget that experts see."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.offers.actions import decline_offer
from market.projects.models import Project
from market.repairs.actions import end_repair, note_skipped
from market.repairs.models import TaskRepair, TaskSkip
from market.repairs.queries import over_budget, reasons_of, skip_budget
from market.repairs.rules import BUDGET, BUDGET_SPAN, HELD_AT, TASK_REPAIR, RepairUnfit
from market.states import StateConflict
from market.tasks.models import Task
from tests.factories import (
    AT,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
    pairs_in_database,
)
from tests.market.test_console import come_in, send, token


def skip(
    db: Session, task: Task, reason: str, *, at: datetime = AT, note: str | None = None
) -> TaskSkip:
    """Somebody declines a task, and it is noted."""
    offer = make_offer(db, task, make_expert(db).id, at=at, accepted=False)
    decline_offer(db, offer.id, expert_id=offer.expert_id, reason=reason, note=note, at=at)
    made = note_skipped(db, offer.id, at=at)
    assert made is not None
    assert note_skipped(db, offer.id, at=at) is None
    return made


def opened(db: Session) -> tuple[Task, TaskRepair]:
    """A task that is held for its repair."""
    task = make_task(db, make_project(db))
    for n in range(HELD_AT):
        skip(db, task, "task_broken", note=f"The table of row {n} is missing.")
    return task, db.scalars(select(TaskRepair).where(TaskRepair.task_id == task.id)).one()


def test_the_database_knows_the_same_moves_of_repairs_as_the_rules(db: Session) -> None:
    assert pairs_in_database(db, TASK_REPAIR) == TASK_REPAIR.pairs()


def test_complaints_open_a_repair_and_so_many_hold_the_task(db: Session) -> None:
    task = make_task(db, make_project(db))
    skip(db, task, "no_time")
    assert db.scalars(select(TaskRepair)).all() == []
    for n in range(HELD_AT):
        assert task.state == "queued"
        skip(db, task, "task_unclear" if n else "task_broken")
    assert task.state == "held"
    row = db.scalars(select(TaskRepair)).one()
    assert (row.state, row.holds_task) == ("open", True)
    assert reasons_of(db, [task.id])[task.id] == {
        "task_unclear": HELD_AT - 1,
        "no_time": 1,
        "task_broken": 1,
    }


def test_a_skip_that_is_told_again_opens_no_repair_where_one_has_ended(db: Session) -> None:
    task = make_task(db, make_project(db))
    noted = skip(db, task, "task_broken")
    row = db.scalars(select(TaskRepair)).one()
    end_repair(db, row.id, was_wrong=True, note="The table is there.", at=AT)
    assert note_skipped(db, noted.offer_id, at=AT) is None
    assert db.scalars(select(TaskRepair)).all() == [row]


def test_repairs_are_for_labs_and_ops_to_read(db: Session, web: TestClient[Any]) -> None:
    opened(db)
    seen = {
        part: make_caller(db, web, part).get("/v1/repairs")
        for part in (Part.EXPERT, Part.REVIEWER, Part.LAB, Part.OPS)
    }
    assert [answer.status_code for answer in seen.values()] == [403, 403, 200, 200]
    assert seen[Part.LAB].json()["items"] == []
    assert len(seen[Part.OPS].json()["items"]) == 1


@pytest.mark.parametrize("was_wrong", [True, False])
def test_offers_go_on_when_the_repair_ends(db: Session, was_wrong: bool) -> None:
    task, row = opened(db)
    with pytest.raises(RepairUnfit):
        end_repair(db, row.id, was_wrong=was_wrong, note="  ", at=AT)
    end_repair(db, row.id, was_wrong=was_wrong, note="The table is there.", at=AT)
    assert (task.state, row.state) == ("queued", "repaired" if was_wrong else "closed")
    assert task.clarification == ("The table is there." if was_wrong else None)
    with pytest.raises(StateConflict):
        end_repair(db, row.id, was_wrong=was_wrong, note="Again.", at=AT)
    # A complaint after it opens a repair of its own.
    skip(db, task, "task_broken")
    assert task.state == "queued"


def test_a_task_that_its_lab_held_itself_stays_held(db: Session) -> None:
    task = make_task(db, make_project(db))
    skip(db, task, "task_broken")
    row = db.scalars(select(TaskRepair)).one()
    task.held_from, task.state = "queued", "held"
    db.flush()
    end_repair(db, row.id, was_wrong=False, note="It is right.", at=AT)
    assert task.state == "held"


def test_the_budget_counts_own_reasons_of_seven_days_and_tells_when_it_grows(db: Session) -> None:
    me = make_expert(db)
    project = make_project(db)
    reasons = ("no_time", "task_broken", "outside_expertise", "conflict_of_interest", "other")
    for n, reason in enumerate(reasons):
        at = AT + timedelta(hours=n)
        offer = make_offer(db, make_task(db, project), me.id, at=at, accepted=False)
        decline_offer(db, offer.id, expert_id=me.id, reason=reason, at=at)
        note_skipped(db, offer.id, at=at)
    seen = skip_budget(db, me.id, at=AT + timedelta(days=1))
    assert (seen.used, seen.left, seen.frees_at) == (2, BUDGET - 2, AT + BUDGET_SPAN)
    assert skip_budget(db, me.id, at=AT + BUDGET_SPAN).used == 1
    assert over_budget(db, at=AT + timedelta(days=1), limit=9) == []


def test_whoever_skips_more_than_the_budget_is_named_to_ops_and_offered_work_as_before(
    db: Session, web: TestClient[Any]
) -> None:
    at = datetime.now(UTC) - timedelta(hours=1)
    me = make_expert(db)
    project = make_project(db, at=at, budget_minor=10_000_000)
    for _ in range(BUDGET + 1):
        offer = make_offer(db, make_task(db, project), me.id, at=at, accepted=False)
        decline_offer(db, offer.id, expert_id=me.id, reason="no_time", at=at)
        note_skipped(db, offer.id, at=at)
    assert over_budget(db, at=datetime.now(UTC), limit=9) == [(me.id, BUDGET + 1)]
    db.commit()
    seen = key_for(db, web, me.id, Part.EXPERT).get("/v1/skips/me").json()
    assert (seen["budget"], seen["used"], seen["left"]) == (BUDGET, BUDGET + 1, 0)
    assert me.state == "good"
    make_offer(db, make_task(db, project), me.id, at=at)
    come_in(web, make_caller(db, web, Part.OPS))
    assert f"{BUDGET + 1} skips" in web.get("/console/ops/repairs").text


def test_an_expert_declines_over_http_and_the_lab_reads_why(
    db: Session, web: TestClient[Any], react: Any
) -> None:
    lab = make_caller(db, web, Part.LAB)
    at = datetime.now(UTC)
    project = make_project(db, lab.organisation_id, at=at)
    offer = make_offer(db, make_task(db, project, at=at), make_expert(db).id, at=at, accepted=False)
    db.commit()
    expert = key_for(db, web, offer.expert_id, Part.EXPERT)
    said = {"reason": "task_broken", "note": "The picture is missing."}
    path = f"/v1/offers/ofr_{offer.id.hex}/decline"
    assert expert.post(path, json=said, headers={"If-Match": '"1"'}).status_code == 200
    react()
    (row,) = lab.get("/v1/repairs", params={"state": "open"}).json()["items"]
    assert (row["reasons"], row["held"]) == ({"task_broken": 1}, False)
    assert [one["note"] for one in row["complaints"]] == ["The picture is missing."]
    assert str(offer.expert_id.hex) not in str(row)
    url = f"/v1/repairs/{row['id']}/repair"
    other = make_caller(db, web, Part.LAB)
    assert other.post(url, json={"note": "?"}).json()["code"] == "repair_not_found"
    assert lab.post(url, json={"note": " "}).json()["code"] == "repair_unfit"
    ended = lab.post(url, json={"note": "The picture is there."})
    assert (ended.status_code, ended.json()["state"]) == (200, "repaired")
    again = lab.post(f"/v1/repairs/{row['id']}/close", json={"note": "It was right."})
    assert again.status_code == 409
    # Whoever gets the task next reads what was put right.
    task = db.get_one(Task, offer.task_id)
    following = make_offer(db, task, make_expert(db).id, at=at)
    db.commit()
    reader = key_for(db, web, following.expert_id, Part.EXPERT)
    shown = reader.get(f"/v1/offers/ofr_{following.id.hex}").json()
    assert shown["clarification"] == "The picture is there."
    come_in(web, reader)
    bench = web.get(f"/console/expert/offers/ofr_{following.id.hex}").text
    assert "The picture is there." in bench
    assert f"{BUDGET} of {BUDGET} skips" in bench


def test_labs_and_ops_end_repairs_on_their_pages(db: Session, web: TestClient[Any]) -> None:
    lab = make_caller(db, web, Part.LAB)
    task, row = opened(db)
    project = db.get_one(Project, task.project_id)
    db.commit()
    come_in(web, make_caller(db, web, Part.OPS))
    page = web.get("/console/ops/repairs").text
    assert task.external_id in page
    assert "The table of row 1 is missing." in page
    form = f"/console/ops/repairs/rpr_{row.id.hex}/repair"
    csrf = token(web, "/console/ops/repairs")
    assert send(web, form, csrf, note="").status_code == 422
    sent = send(web, form, csrf, note="The table is there.")
    assert sent.headers["location"].endswith("?said=repair-repair")
    assert "The table is there." in web.get("/console/ops/repairs?of=repaired").text
    db.refresh(task)
    assert task.state == "queued"
    # Another lab sees nothing of it, and has a page of its own.
    come_in(web, lab)
    assert web.get(f"/console/lab/projects/prj_{project.id.hex}/repairs").status_code == 404
    mine = make_project(db, lab.organisation_id)
    db.commit()
    own = web.get(f"/console/lab/projects/prj_{mine.id.hex}/repairs")
    assert "No task waits for a repair." in own.text
