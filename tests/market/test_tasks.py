"""Tasks and their slots: how they move, who sees them, and what experts say of them."""

import random
from typing import Any

import pytest
from httpx import Response
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import PLATFORM, Scope, database
from market.errors import MarketError
from market.events import Event, EventRow, StateChange, change_state
from market.experts.models import ExpertDomain
from market.standings.actions import change_standing
from market.states import StateConflict
from market.tasks.actions import extend_task, move_task
from market.tasks.models import Interest, Task, TaskSlot
from market.tasks.rules import ASKED, OPEN, SLOT, TASK
from tests.factories import (
    AT,
    Caller,
    make_caller,
    make_expert,
    make_project,
    make_task,
    pairs_in_database,
)


@pytest.fixture
def lab(db: Session, web: TestClient[Any]) -> Caller:
    return make_caller(db, web, Part.LAB)


@pytest.fixture
def expert(db: Session, web: TestClient[Any]) -> Caller:
    caller = make_caller(db, web, Part.EXPERT)
    made = caller.post("/v1/experts/me", json={"domains": [{"domain": "chemistry"}]})
    assert made.status_code == 201
    return caller


def wire(task: Task) -> str:
    return f"tsk_{task.id.hex}"


def move(lab: Caller, task: Task, action: str, **given: object) -> Response:
    path = f"/v1/tasks/{wire(task)}"
    seen = {"If-Match": lab.get(path).headers["etag"]}
    return lab.post(f"{path}/transitions", json={"action": action, **given}, headers=seen)


def slot_of(db: Session, task: Task) -> TaskSlot:
    return db.scalars(select(TaskSlot).where(TaskSlot.task_id == task.id)).one()


# Machines -----------------------------------------------------------------------------------------


def test_the_database_knows_the_same_moves_of_tasks_and_slots_as_the_rules(db: Session) -> None:
    assert pairs_in_database(db, TASK) == TASK.pairs()
    assert pairs_in_database(db, SLOT) == SLOT.pairs()
    project = make_project(db)
    task = make_task(db, project)
    for table, row, wrong in (
        ("task", task, "accepted"),
        ("task", task, "nowhere"),
        ("task_slot", slot_of(db, task), "counted"),
    ):
        with pytest.raises(DBAPIError), db.begin_nested():
            db.execute(
                text(f"update market.{table} set state = :state where id = :id"),
                {"state": wrong, "id": row.id},
            )
    for made in (
        Task(
            organisation_id=project.organisation_id,
            project_id=project.id,
            external_id="x",
            domain="chemistry",
            payload={},
            expected_s=1,
            created_at=AT,
            state="accepted",
        ),
        TaskSlot(
            organisation_id=project.organisation_id,
            task_id=task.id,
            number=9,
            state="counted",
            offer_id=task.id,
        ),
    ):
        with pytest.raises(DBAPIError), db.begin_nested():
            _insert(db, made)


def _insert(db: Session, row: Task | TaskSlot) -> None:
    db.add(row)
    db.flush()


def test_no_sequence_of_moves_leaves_the_table_and_history_leads_to_the_present(
    db: Session,
) -> None:
    draw = random.Random(20260302)
    project = make_project(db)
    ours = sorted({move.action for move in TASK.moves if not move.action.startswith("release_")})
    reached: set[str] = set()
    for _ in range(40):
        task = make_task(db, project, state="draft")
        for _ in range(30):
            # Ends are rarer here than in life, so that walks are long.
            action = draw.choice([*ours, "release"])
            if action in ("cancel", "expire") and draw.random() < 0.7:
                continue
            before = task.state
            try:
                if action in ASKED:
                    move_task(db, task.id, action, at=AT)
                elif action == "extend":
                    extend_task(db, task.id, at=AT)
                else:
                    change_state(db, TASK, task, action, at=AT)
            except MarketError:
                assert task.state == before
            else:
                assert (before, task.state) in TASK.pairs()
            assert (task.state == "held") == (task.held_from is not None)
            reached.add(task.state)
        state = "draft"
        for step in db.scalars(
            select(StateChange).where(StateChange.subject_id == task.id).order_by(StateChange.id)
        ):
            assert step.from_state == state
            state = step.to_state
        assert state == task.state
    assert reached >= {"queued", "active", "in_review", "held", "cancelled", "expired", "accepted"}


@pytest.mark.parametrize("state", OPEN)
def test_what_is_held_goes_back_to_where_it_was(db: Session, state: str) -> None:
    task = make_task(db, make_project(db), state="draft")
    for action in ("publish", "start", "review", "conflict")[: OPEN.index(state)]:
        change_state(db, TASK, task, action, at=AT)
    assert task.state == state
    move_task(db, task.id, "hold", at=AT, reason_code="quality")
    assert (task.state, task.held_from) == ("held", state)
    move_task(db, task.id, "release", at=AT)
    assert (task.state, task.held_from) == (state, None)
    with pytest.raises(StateConflict):
        move_task(db, task.id, "release", at=AT)


def test_a_slot_goes_from_open_to_counted_or_back_to_open(db: Session) -> None:
    slot = slot_of(db, make_task(db, make_project(db)))
    for action in ("offer", "release", "reopen", "offer", "claim", "submit", "count"):
        slot.offer_id = None if action in ("release", "reopen") else slot.task_id
        change_state(db, SLOT, slot, action, at=AT)
    assert slot.state == "counted"
    with pytest.raises(StateConflict):
        change_state(db, SLOT, slot, "release", at=AT)


def test_a_task_whose_answers_settle_nothing_gets_one_more_seat(db: Session) -> None:
    task = make_task(db, make_project(db), slots=2)
    for action in ("start", "review"):
        change_state(db, TASK, task, action, at=AT)
    added = extend_task(db, task.id, at=AT)
    assert (added.number, added.state, task.state) == (3, "open", "active")


# Over HTTP ----------------------------------------------------------------------------------------


def test_a_lab_holds_releases_and_cancels_its_tasks(db: Session, lab: Caller) -> None:
    project = make_project(db, lab.organisation_id, answers_per_task=2)
    task, draft = make_task(db, project), make_task(db, project, state="draft")
    db.commit()
    found = lab.get(f"/v1/tasks/{wire(task)}")
    assert (found.status_code, found.headers["etag"]) == (200, '"1"')
    assert found.json()["slots"] == {"open": 2}
    assert found.json()["payload"] == task.payload
    assert move(lab, task, "hold", reason_code="quality").json()["state"] == "held"
    assert move(lab, task, "release").json()["state"] == "queued"
    assert move(lab, draft, "publish").json()["state"] == "queued"
    assert move(lab, task, "cancel").json()["state"] == "cancelled"
    told = db.scalars(
        select(EventRow.type).where(EventRow.subject_id == task.id).order_by(EventRow.id)
    ).all()
    assert told == [Event.TASK_HELD, Event.TASK_QUEUED, Event.TASK_CANCELLED]
    path = f"/v1/tasks/{wire(task)}/transitions"
    assert lab.post(path, json={"action": "cancel"}).json()["code"] == "version_missing"
    for action, given, status, code in (
        ("cancel", '"4"', 409, "state_conflict"),
        ("cancel", '"3"', 412, "version_conflict"),
        ("accept", '"4"', 422, "task_move_unasked"),
        ("", '"4"', 422, "task_move_unasked"),
    ):
        answer = lab.post(path, json={"action": action}, headers={"If-Match": given})
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    wrong = lab.post(path, json={"action": 5}, headers={"If-Match": '"4"'})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/action")


def test_tasks_come_in_pages_and_by_state(db: Session, lab: Caller) -> None:
    project = make_project(db, lab.organisation_id)
    made = [make_task(db, project) for _ in range(5)]
    held = make_task(db, project)
    move_task(db, held.id, "hold", at=AT)
    db.commit()
    path = f"/v1/projects/prj_{project.id.hex}/tasks"
    seen: list[str] = []
    cursor = ""
    for _ in range(5):
        answer = lab.get(f"{path}?state=queued&limit=2{cursor}").json()
        seen += [item["external_id"] for item in answer["items"]]
        assert all("payload" not in item for item in answer["items"])
        if not answer["has_more"]:
            break
        cursor = f"&cursor={answer['next_cursor']}"
    assert seen == [task.external_id for task in reversed(made)]
    other = lab.get(f"{path}?state=held{cursor}")
    assert other.json()["code"] == "bad_cursor"
    for bad in ("limit=0", "limit=201", "limit=x", "limit=99999999999999999999"):
        assert lab.get(f"{path}?{bad}").json()["code"] == "invalid_parameter"


def test_another_labs_task_is_not_there_and_experts_read_none(
    db: Session, web: TestClient[Any], lab: Caller, expert: Caller
) -> None:
    rival = make_caller(db, web, Part.LAB)
    task = make_task(db, make_project(db, lab.organisation_id))
    db.commit()
    path = f"/v1/tasks/{wire(task)}"
    seen = {"If-Match": '"1"'}
    for answer in (
        rival.get(path),
        rival.post(f"{path}/transitions", json={"action": "cancel"}, headers=seen),
        lab.get("/v1/tasks/tsk_" + "f" * 32),
        lab.get("/v1/tasks/tsk_nonsense"),
        lab.get(f"/v1/tasks/prj_{task.id.hex}"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert expert.get(path).status_code == 403
    with database.begin(Scope("stumpwork_expert", expert.person_id)) as session:
        for table in ("task", "task_slot", "project", "target_model"):
            refused = f"select 1 from market.{table}"
            seen_rows = _rows_or_none(session, refused)
            assert not seen_rows, table
    assert lab.put(f"{path}/interest", json={"value": 1}).status_code == 403


def _rows_or_none(session: Session, statement: str) -> list[Any]:
    try:
        with session.begin_nested():
            return list(session.execute(text(statement)).all())
    except DBAPIError:
        return []


# Interest -----------------------------------------------------------------------------------------


def test_an_expert_sees_tasks_that_it_could_be_offered_and_says_how_much_it_wants_them(
    db: Session, expert: Caller
) -> None:
    live = make_project(db, rate_minor_per_hour=9500, domains=("chemistry",))
    near = make_task(db, live, domain="chemistry.organic")
    far = make_task(db, make_project(db, domains=("law",)), domain="law")
    asleep = make_task(db, make_project(db, state="paused"))
    strict = make_task(db, make_project(db, minimum_level="qualified"))
    held = make_task(db, live)
    move_task(db, held.id, "hold", at=AT)
    taken = make_task(db, live)
    seat = slot_of(db, taken)
    seat.state, seat.offer_id = "offered", taken.id
    db.commit()
    items = expert.get("/v1/open-tasks").json()["items"]
    assert [item["id"] for item in items] == [wire(near)]
    assert (items[0]["rate_minor_per_hour"], items[0]["interest"]) == (9500, None)
    assert "payload" not in items[0]
    said = expert.put(f"/v1/tasks/{wire(near)}/interest", json={"value": 0.75})
    assert (said.status_code, said.headers["etag"]) == (200, '"1"'), said.text
    again = expert.put(f"/v1/tasks/{wire(near)}/interest", json={"value": 0.5})
    assert (again.json()["value"], again.headers["etag"]) == (0.5, '"2"')
    assert expert.get("/v1/open-tasks").json()["items"][0]["interest"] == 0.5
    for unseen in (far, asleep, strict, held, taken):
        answer = expert.put(f"/v1/tasks/{wire(unseen)}/interest", json={"value": 1})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    db.add(ExpertDomain(expert_id=expert.person_id, domain="chemistry.x", level="qualified"))
    db.commit()
    qualified = expert.put(f"/v1/tasks/{wire(strict)}/interest", json={"value": 1})
    assert qualified.status_code == 200, qualified.text


@pytest.mark.parametrize(
    "value", [-0.1, 1.1, "much", None, 10**400, [], {"value": 1}], ids=lambda v: str(v)[:12]
)
def test_interest_is_a_number_from_nought_to_one(
    db: Session, expert: Caller, value: object
) -> None:
    task = make_task(db, make_project(db))
    db.commit()
    answer = expert.put(f"/v1/tasks/{wire(task)}/interest", json={"value": value})
    assert (answer.status_code, answer.json()["code"]) in (
        (422, "invalid_body"),
        (400, "malformed_body"),
    ), answer.text
    assert db.scalars(select(Interest).where(Interest.task_id == task.id)).all() == []


def test_a_suspended_expert_is_offered_nothing(db: Session, expert: Caller) -> None:
    make_task(db, make_project(db))
    for action in ("watch", "limit", "suspend"):
        assert expert.get("/v1/open-tasks").json()["items"] != []
        with database.begin(PLATFORM) as session:
            change_standing(
                session,
                expert.person_id,
                action,
                at=AT,
                reason_code="fraud",
                note="case 1",
                evidence=["1"],
                # One that names no domain would reach all of them.
                domains=["poetry"] if action == "limit" else [],
            )
    assert expert.get("/v1/open-tasks").json()["items"] == []


def test_what_an_expert_said_is_its_own_and_the_labs_to_read(
    db: Session, lab: Caller, expert: Caller
) -> None:
    task = make_task(db, make_project(db, lab.organisation_id))
    stranger = make_expert(db)
    db.commit()
    expert.put(f"/v1/tasks/{wire(task)}/interest", json={"value": 1})
    count = text("select count(*) from market.interest where task_id = :id")
    for scope, seen in (
        (Scope("stumpwork_lab", lab.organisation_id), 1),
        (Scope("stumpwork_expert", expert.person_id), 1),
        (Scope("stumpwork_expert", stranger.id), 0),
    ):
        with database.begin(scope) as session:
            assert session.scalar(count, {"id": task.id}) == seen
        with pytest.raises(DBAPIError), database.begin(scope) as session:
            session.execute(text("update market.interest set value = 0"))
