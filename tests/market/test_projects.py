"""Projects: their terms, their moves, and whose they are."""

import random
from typing import Any

import pytest
from httpx import Response
from litestar.testing import TestClient
from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import PLATFORM, Scope, database
from market.errors import MarketError
from market.events import EventRow, StateChange, change_state
from market.projects.actions import (
    allocate_budget,
    close_project,
    move_project,
    settle_project,
)
from market.projects.models import Project
from market.projects.queries import project
from market.projects.rules import PROJECT
from payouts.chart import lab_funding
from payouts.ledger import balance
from payouts.money import Money
from tests.factories import (
    AT,
    Caller,
    give_money,
    make_caller,
    make_expert,
    make_organisation,
    make_project,
    make_task,
    pairs_in_database,
)

MODEL = {"name": "frontier", "base_url": "http://127.0.0.1:9/v1", "model": "f-1", "key": "sk-1"}


@pytest.fixture
def lab(db: Session, web: TestClient[Any]) -> Caller:
    return make_caller(db, web, Part.LAB)


@pytest.fixture
def rival(db: Session, web: TestClient[Any]) -> Caller:
    return make_caller(db, web, Part.LAB)


def drafted(lab: Caller, **terms: object) -> dict[str, Any]:
    answer = lab.post("/v1/projects", json={"name": "Reactions", **terms})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def move(lab: Caller, project_id: str, action: str, **given: object) -> Response:
    seen = lab.get(f"/v1/projects/{project_id}").headers["etag"]
    return lab.post(
        f"/v1/projects/{project_id}/transitions",
        json={"action": action, **given},
        headers={"If-Match": seen},
    )


# Projects -----------------------------------------------------------------------------------------


def test_a_project_goes_live_once_it_lacks_nothing(db: Session, lab: Caller) -> None:
    made = drafted(lab)
    assert (made["state"], made["fee_basis_points"], made["version"]) == ("draft", 2000, 1)
    assert move(lab, made["id"], "submit").json()["state"] == "checking"
    early = move(lab, made["id"], "pass")
    assert (early.status_code, early.json()["code"]) == (409, "project_incomplete")
    assert early.json()["missing"] == [
        "a brief",
        "a domain at least",
        "a target model",
        "a budget with money free",
    ]
    assert move(lab, made["id"], "fail", reason_code="incomplete").json()["state"] == "draft"
    model = lab.post("/v1/target-models", json=MODEL).json()["id"]
    path = f"/v1/projects/{made['id']}"
    filled = lab.patch(
        path,
        json={"brief": "Find it.", "domains": ["chemistry"], "target_model_id": model},
        headers={"If-Match": lab.get(path).headers["etag"]},
    )
    assert filled.status_code == 200, filled.text
    assert lab.organisation_id is not None
    give_money(db, lab.organisation_id, 50_000)
    db.commit()
    paid = lab.post(
        f"{path}/budget",
        json={"amount_minor": 40_000, "currency": "USD"},
        headers={"Idempotency-Key": "k"},
    )
    assert paid.json()["free"] == {"amount_minor": 40_000, "currency": "USD"}, paid.text
    move(lab, made["id"], "submit")
    assert move(lab, made["id"], "pass").json()["state"] == "ready"
    silent = move(lab, made["id"], "launch")
    assert (silent.status_code, silent.json()["code"]) == (422, "reason_missing")
    live = move(lab, made["id"], "launch", reason_code="calibration_waived")
    assert (live.status_code, live.json()["state"]) == (200, "live")
    told = db.scalars(
        select(EventRow.type).where(EventRow.organisation_id == lab.organisation_id)
    ).all()
    assert "project.live" in told
    assert "budget.allocated" in told
    assert [one["id"] for one in lab.get("/v1/projects?state=live").json()["items"]] == [made["id"]]
    assert lab.get("/v1/projects?state=draft").json()["items"] == []


def test_a_rate_below_the_lowest_tier_or_in_a_currency_no_tier_pays_keeps_a_project_back(
    db: Session, lab: Caller
) -> None:
    low = make_project(db, lab.organisation_id, state="checking", rate_minor_per_hour=2199)
    euro = make_project(db, lab.organisation_id, state="checking", currency="EUR")
    db.commit()
    for found, word in ((low, "2200 minor units"), (euro, "no pay tier pays in EUR")):
        answer = move(lab, f"prj_{found.id.hex}", "pass")
        assert (answer.status_code, len(answer.json()["missing"])) == (409, 1), answer.text
        assert word in answer.json()["missing"][0]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_body"),
        ({"name": ""}, 422, "invalid_body"),
        ({"name": "  "}, 422, "project_field_invalid"),
        ({"name": "x", "owner": "me"}, 422, "invalid_body"),
        ({"name": "x", "answers_per_task": "three"}, 422, "invalid_body"),
        ({"name": "x", "answers_per_task": 0}, 422, "invalid_body"),
        ({"name": "x", "cap_s": 10**40}, 422, "invalid_body"),
        ({"name": "x", "rate_minor_per_hour": 22.5}, 422, "invalid_body"),
        ({"name": "x", "rate_minor_per_hour": -1}, 422, "invalid_body"),
        ({"name": "x", "minimum_level": "expert"}, 422, "invalid_body"),
        ({"name": "x", "domains": ["Chemistry"]}, 422, "domain_invalid"),
        ({"name": "x", "currency": "ZZZ"}, 422, "currency_unknown"),
        ({"name": "x", "brief": "a\x00b"}, 422, "value_unstorable"),
        ({"name": "x", "target_model_id": "mdl_" + "0" * 32}, 404, "not_found"),
        ({"name": "x", "target_model_id": "prj_x"}, 404, "not_found"),
        ([], 422, "invalid_body"),
    ],
)
def test_terms_that_do_not_fit_are_refused(
    lab: Caller, body: object, status: int, code: str
) -> None:
    answer = lab.post("/v1/projects", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert lab.get("/v1/projects").json()["items"] == []


def test_a_body_that_is_no_json_is_refused(lab: Caller) -> None:
    answer = lab.post(
        "/v1/projects", content=b'{"name": ', headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_body")


def test_terms_change_by_version_and_only_where_a_project_stands_still_or_runs(
    db: Session, lab: Caller
) -> None:
    live = make_project(db, lab.organisation_id, state="live")
    ending = make_project(db, lab.organisation_id, state="draining")
    db.commit()
    path = f"/v1/projects/prj_{live.id.hex}"
    assert lab.patch(path, json={"cap_s": 60}).status_code == 428
    assert lab.patch(path, json={"cap_s": 60}, headers={"If-Match": '"9"'}).status_code == 412
    bad = lab.patch(path, json={"cap_s": None}, headers={"If-Match": '"1"'})
    assert bad.status_code == 422
    changed = lab.patch(path, json={"cap_s": 60}, headers={"If-Match": '"1"'})
    assert (changed.json()["cap_s"], changed.headers["etag"]) == (60, '"2"')
    hollow = lab.patch(path, json={"brief": ""}, headers={"If-Match": '"2"'})
    assert (hollow.status_code, hollow.json()["missing"]) == (409, ["a brief"])
    late = lab.patch(
        f"/v1/projects/prj_{ending.id.hex}", json={"cap_s": 60}, headers={"If-Match": '"1"'}
    )
    assert (late.status_code, late.json()["code"]) == (409, "state_conflict")


def test_moves_need_a_version_a_known_action_and_a_reason_where_one_is_owed(
    db: Session, lab: Caller
) -> None:
    project = make_project(db, lab.organisation_id, state="live")
    db.commit()
    known = f"prj_{project.id.hex}"
    path = f"/v1/projects/{known}/transitions"
    assert lab.post(path, json={"action": "pause"}).status_code == 428
    assert lab.post(path, json={"action": "pause"}, headers={"If-Match": '"7"'}).status_code == 412
    for action, given, status, code in (
        ("launch", {"reason_code": "x"}, 409, "state_conflict"),
        ("", {}, 409, "state_conflict"),
        ("settle", {}, 409, "move_automatic"),
        ("pause", {}, 422, "pause_reason_unknown"),
        ("pause", {"reason_code": "weather"}, 422, "pause_reason_unknown"),
        ("terminate", {}, 422, "reason_missing"),
    ):
        answer = move(lab, known, action, **given)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert move(lab, known, "advance_round").json()["round"] == 2
    assert move(lab, known, "pause", reason_code="quality").json()["state"] == "paused"
    assert move(lab, known, "resume").json()["state"] == "live"


def test_a_project_without_free_money_cannot_resume(db: Session, lab: Caller) -> None:
    project = make_project(db, lab.organisation_id, state="paused", budget_minor=0)
    db.commit()
    answer = move(lab, f"prj_{project.id.hex}", "resume")
    assert answer.json()["missing"] == ["a budget with money free"]


# Machine ------------------------------------------------------------------------------------------


def test_the_database_knows_the_same_moves_of_projects_as_the_rules(db: Session) -> None:
    assert pairs_in_database(db, PROJECT) == PROJECT.pairs()
    project = make_project(db, state="draft")
    for wrong in ("live", "closed", "nowhere"):
        with pytest.raises(DBAPIError), db.begin_nested():
            db.execute(
                text("update market.project set state = :state where id = :id"),
                {"state": wrong, "id": project.id},
            )
    with pytest.raises(DBAPIError), db.begin_nested():
        db.execute(
            text(
                "insert into market.project select (p).* from (select jsonb_populate_record(p,"
                " jsonb_build_object('id', gen_random_uuid(), 'state', 'live')) as p"
                " from market.project p where id = :id) made"
            ),
            {"id": project.id},
        )


def test_no_sequence_of_moves_leaves_the_table_and_history_leads_to_the_present(
    db: Session,
) -> None:
    draw = random.Random(20260302)
    project = make_project(db, state="draft")
    actions = sorted({move.action for move in PROJECT.moves})
    reached = {project.state}
    for _ in range(250):
        action, before = draw.choice(actions), project.state
        allowed = PROJECT.allowed(before)
        try:
            if action == "settle":
                settle_project(db, project.id, at=AT)
            elif action == "close":
                close_project(db, project.id, at=AT)
            else:
                move_project(db, project.id, action, at=AT, reason_code="manual", note="a walk")
        except MarketError:
            assert project.state == before
        else:
            assert action in allowed
            assert (before, project.state) in PROJECT.pairs()
        reached.add(project.state)
        if project.state == "closed":
            # What was left went back to the lab, and a project that reopens needs it again.
            money = Money(balance(db, lab_funding(project.organisation_id)).available_minor, "USD")
            move_project(db, project.id, "reopen", at=AT)
            allocate_budget(db, project.id, money, key=f"walk:{project.version}", at=AT)
        if project.state in ("cancelled", "archived"):
            break
    assert len(reached) >= 5
    state = "draft"
    steps = db.scalars(
        select(StateChange).where(StateChange.subject_id == project.id).order_by(StateChange.id)
    ).all()
    for step in steps:
        assert step.from_state == state
        state = step.to_state
    assert state == project.state


# Two labs -----------------------------------------------------------------------------------------


def test_what_is_another_labs_is_not_there(db: Session, lab: Caller, rival: Caller) -> None:
    mine = make_project(db, lab.organisation_id, state="live")
    db.commit()
    known = f"prj_{mine.id.hex}"
    model = f"mdl_{mine.target_model_id.hex}" if mine.target_model_id else ""
    seen = {"If-Match": '"1"'}
    answers = [
        rival.get(f"/v1/projects/{known}"),
        rival.get(f"/v1/projects/{known}/budget"),
        rival.get(f"/v1/projects/{known}/tasks"),
        rival.patch(f"/v1/projects/{known}", json={"name": "x"}, headers=seen),
        rival.post(f"/v1/projects/{known}/transitions", json={"action": "drain"}, headers=seen),
        rival.post(
            f"/v1/projects/{known}/budget",
            json={"amount_minor": 1, "currency": "USD"},
            headers={"Idempotency-Key": "k"},
        ),
        rival.get(f"/v1/target-models/{model}"),
        rival.patch(f"/v1/target-models/{model}", json={"samples": 2}, headers=seen),
        rival.post("/v1/projects", json={"name": "x", "target_model_id": model}),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (404, "not_found")
    ] * len(answers)
    assert rival.get("/v1/projects").json()["items"] == []
    assert rival.get("/v1/target-models").json()["items"] == []
    cursor = lab.get("/v1/projects?limit=1").json()["next_cursor"]
    assert cursor is None
    assert lab.get("/v1/projects?cursor=forged").json()["code"] == "bad_cursor"
    assert lab.get("/v1/projects?colour=red").json()["code"] == "unknown_parameter"


def test_under_a_labs_role_sql_reads_and_writes_no_row_of_another_lab(db: Session) -> None:
    one, other = make_organisation(db), make_organisation(db)
    theirs = make_project(db, other)
    task = make_task(db, theirs)
    expert = make_expert(db)
    db.execute(
        text("insert into market.interest values (:expert, :task, :lab, :project, 1, now(), 1)"),
        {"expert": expert.id, "task": task.id, "lab": other, "project": theirs.id},
    )
    db.commit()
    scope = Scope("stumpwork_lab", one)
    tables = ("project", "target_model", "task", "task_slot", "interest", "bulk_import")
    with database.begin(scope) as session:
        for table in (*tables, "import_row"):
            assert session.scalar(text(f"select count(*) from market.{table}")) == 0
        for table in ("project", "target_model", "task", "task_slot"):
            touched = session.execute(
                text(f"update market.{table} set version = 99 returning id")
            ).all()
            assert touched == []
    with database.begin(Scope("stumpwork_lab", other)) as session:
        assert session.scalar(text("select count(*) from market.task_slot")) == 1
    copy = "insert into market.{0} select (p).* from (select jsonb_populate_record(null::market.{0}"
    copy += ", :row) as p) made"
    for table, row in (("project", theirs), ("task", task)):
        with database.begin(PLATFORM) as session:
            found = session.scalar(
                text(f"select to_jsonb(t) from market.{table} t where id = :id"), {"id": row.id}
            )
        smuggled = {**found, "id": str(expert.id), "external_id": "x", "state": "draft"}
        moved = {**smuggled, "organisation_id": str(one)}
        for given in (smuggled, moved) if table == "task" else (smuggled,):
            with pytest.raises(DBAPIError), database.begin(scope) as session:
                session.execute(
                    text(copy.format(table)).bindparams(bindparam("row", type_=JSONB)),
                    {"row": given},
                )
    db.expire_all()
    assert db.get_one(Project, theirs.id).version == 1


@pytest.mark.usefixtures("committed")
def test_a_row_that_was_read_before_is_locked_as_others_left_it() -> None:
    with database.begin() as session:
        project_id = make_project(session, budget_minor=0).id
    with database.begin() as session:
        seen = project(session, project_id)
        with database.begin() as another:
            change_state(another, PROJECT, project(another, project_id, lock=True), "pause", at=AT)
        locked = project(session, project_id, lock=True)
        assert locked is seen
        assert (locked.state, locked.version) == ("paused", 2)
