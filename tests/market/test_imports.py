"""Files of tasks and of interest: every row gets a verdict, and nothing is taken by halves."""

import io
import json
from threading import Event as Gate
from threading import Thread
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from market import uploads
from market.auth import Part
from market.db import Scope, database
from market.events import EventRow
from market.experts.models import Expert
from market.imports import ImportRow, ImportRunning, start_import
from market.people.models import Person
from market.projects.models import Project
from market.tasks.models import Interest, TaskSlot
from market.uploads import Upload
from tests.factories import Caller, make_caller, make_expert, make_project, make_task
from tests.market.sending import JSONL, counts, kept, lines, row, send, told


@pytest.fixture
def lab(db: Session, web: TestClient[Any]) -> Caller:
    return make_caller(db, web, Part.LAB)


@pytest.fixture
def project(db: Session, lab: Caller) -> Project:
    made = make_project(db, lab.organisation_id, answers_per_task=2, cap_s=1200)
    db.commit()
    return made


# Verdicts -----------------------------------------------------------------------------------------


def test_each_row_has_its_verdict_and_what_can_be_taken_is(
    db: Session, lab: Caller, project: Project
) -> None:
    body = lines([row(1, complexity=3, value_weight=2.5), row(2, expected_s=60)])
    found = told(send(lab, project, body))
    assert counts(found) == (2, 0, 0, 0)
    assert (found["rows"], found["bytes"], found["format"]) == (2, len(body), "jsonl")
    tasks = kept(db, project)
    one = tasks["t-1"]
    assert one.payload == row(1)["payload"]
    assert (one.complexity, one.value_weight, one.expected_s) == (3, 2.5, 1200)
    assert (one.state, one.version, tasks["t-2"].expected_s) == ("queued", 1, 60)
    slots = db.scalars(
        select(TaskSlot).where(TaskSlot.task_id == one.id).order_by(TaskSlot.number)
    ).all()
    assert [(slot.number, slot.state) for slot in slots] == [(1, "open"), (2, "open")]
    assert [slot.id.version for slot in slots] == [7, 7]
    happened = db.scalars(select(EventRow).where(EventRow.type == "tasks.imported")).one()
    assert happened.data["created"] == 2


def test_a_second_upload_changes_nothing_and_other_content_is_refused(
    db: Session, lab: Caller, project: Project
) -> None:
    told(send(lab, project, lines([row(1), row(2)])))
    before = {name: (task.id, task.payload) for name, task in kept(db, project).items()}
    again = told(send(lab, project, lines([row(2), row(1)]), key="again"))
    assert counts(again) == (0, 2, 0, 0)
    changed = lines([row(1, payload={"instructions": "other"}), row(2, complexity=9), row(3)])
    third = told(send(lab, project, changed, key="third"))
    assert counts(third) == (1, 0, 2, 0)
    assert [(one["line"], one["code"]) for one in third["first_refused"]] == [
        (1, "content_differs"),
        (2, "content_differs"),
    ]
    after = {name: (task.id, task.payload) for name, task in kept(db, project).items()}
    assert {name: after[name] for name in before} == before
    assert set(after) == {"t-1", "t-2", "t-3"}


def test_a_repeat_under_the_same_key_is_the_first_reply_and_another_body_is_refused(
    db: Session, lab: Caller, project: Project
) -> None:
    first = send(lab, project, lines([row(1)]))
    again = send(lab, project, lines([row(1)]))
    assert again.json() == told(first)
    assert again.headers["idempotency-replayed"] == "true"
    other = send(lab, project, lines([row(2)]))
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert set(kept(db, project)) == {"t-1"}
    bare = lab.post(
        f"/v1/projects/prj_{project.id.hex}/tasks:import",
        content=b"",
        headers={"Content-Type": JSONL},
    )
    assert bare.json()["code"] == "idempotency_key_missing"


BAD_LINES: list[tuple[bytes, str, str]] = [
    (b"{", "malformed_json", ""),
    (b'{"external_id":"a","domain":"chemistry","payload":{}} x', "malformed_json", ""),
    (b"[]", "wrong_type", ""),
    (b"\xff\xfe", "not_utf8", ""),
    (b'{"external_id":"a\xe9","domain":"chemistry","payload":{}}', "not_utf8", ""),
    (b'{"domain":"chemistry","payload":{}}', "missing_field", "/external_id"),
    (b'{"external_id":"a","domain":"chemistry"}', "missing_field", "/payload"),
    (b'{"external_id":"","domain":"chemistry","payload":{}}', "blank", "/external_id"),
    (
        b'{"external_id":"' + b"x" * 201 + b'","domain":"chemistry","payload":{}}',
        "too_long",
        "/external_id",
    ),
    (b'{"external_id":5,"domain":"chemistry","payload":{}}', "wrong_type", "/external_id"),
    (b'{"external_id":"a","domain":"chemistry","payload":[]}', "wrong_type", "/payload"),
    (
        b'{"external_id":"a","domain":"chemistry","payload":{},"a/b~":1}',
        "unknown_field",
        "/a~1b~0",
    ),
    (
        b'{"external_id":"a","domain":"chemistry","payload":{},"complexity":"3"}',
        "wrong_type",
        "/complexity",
    ),
    (
        b'{"external_id":"a","domain":"chemistry","payload":{},"complexity":11}',
        "out_of_range",
        "/complexity",
    ),
    (
        b'{"external_id":"a","domain":"chemistry","payload":{},"complexity":' + b"9" * 40 + b"}",
        "out_of_range",
        "/complexity",
    ),
    (
        b'{"external_id":"a","domain":"chemistry","payload":{},"value_weight":1e999}',
        "out_of_range",
        "/value_weight",
    ),
    (
        b'{"external_id":"a","domain":"chemistry","payload":{"n":' + b"9" * 5000 + b"}}",
        "out_of_range",
        "/payload",
    ),
    (
        b'{"external_id":"a","domain":"chemistry","payload":{"n":'
        + b"[" * 5000
        + b"]" * 5000
        + b"}}",
        "too_deep",
        "",
    ),
    (
        b'{"external_id":"a","domain":"chemistry","payload":{"complexity_axes":{"steps":0}}}',
        "axes_unfit",
        "/payload/complexity_axes",
    ),
    (b'{"external_id":"a","domain":"law","payload":{}}', "domain_unknown", "/domain"),
    (b'{"external_id":"a","domain":"chemistry.A b","payload":{}}', "domain_unknown", "/domain"),
    (
        b'{"external_id":"a\\u0000","domain":"chemistry","payload":{}}',
        "nul_character",
        "/external_id",
    ),
    (
        b'{"external_id":"a","domain":"chemistry","payload":{"x":[{"y\\u0000":1}]}}',
        "nul_character",
        "/payload",
    ),
    (
        b'{"external_id":"a","domain":"chemistry","payload":{"x":"\\ud800"}}',
        "malformed_json",
        "",
    ),
]


@pytest.mark.parametrize(("line", "code", "pointer"), BAD_LINES)
def test_a_row_that_cannot_be_taken_is_rejected_alone(
    db: Session, lab: Caller, project: Project, line: bytes, code: str, pointer: str
) -> None:
    body = lines([row(1)]) + line + b"\n\n" + lines([row(2)])
    found = told(send(lab, project, body))
    assert counts(found) == (2, 0, 0, 1)
    refused = found["first_refused"][0]
    assert (refused["line"], refused["code"], refused["pointer"]) == (2, code, pointer), refused
    assert refused["detail"]
    assert kept(db, project)["t-2"].import_line == 4


def test_what_only_looks_like_a_nul_or_too_large_a_number_is_kept_as_it_is(
    db: Session, lab: Caller, project: Project
) -> None:
    payload = {"code": "\\u0000", "large": 10**40 + 1}
    told(send(lab, project, lines([row(1, payload=payload)])))
    assert kept(db, project)["t-1"].payload == payload


def test_a_row_that_a_file_repeats_is_rejected_whether_or_not_its_task_is_new(
    lab: Caller, project: Project
) -> None:
    body = lines([row(1), row(2), row(1), row(1, complexity=2)])
    for key, taken in (("a", (2, 0, 0, 2)), ("b", (0, 2, 0, 2))):
        found = told(send(lab, project, body, key=key))
        assert counts(found) == taken
        assert [(one["line"], one["code"]) for one in found["first_refused"]] == [
            (3, "duplicate_in_file"),
            (4, "duplicate_in_file"),
        ]
        assert found["first_refused"][0]["detail"] == "line 1 has this external_id too"


def test_a_line_longer_than_a_row_may_be_is_skipped_whole(
    db: Session, lab: Caller, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_ROW_BYTES", 1000)
    monkeypatch.setattr(uploads, "CHUNK_BYTES", 700)
    long = lines([row(2, payload={"x": "y" * 5000})])
    found = told(send(lab, project, lines([row(1)]) + long + lines([row(3)]) + long.rstrip()))
    assert [(one["line"], one["code"]) for one in found["first_refused"]] == [
        (2, "too_long"),
        (4, "too_long"),
    ]
    assert set(kept(db, project)) == {"t-1", "t-3"}


def test_lines_are_the_same_however_the_file_is_cut_into_chunks(
    db: Session, lab: Caller, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b"\xef\xbb\xbf" + lines([row(n) for n in range(12)]).replace(b"\n", b"\r\n").rstrip()
    for size in (4, 7, 64, 1000):
        monkeypatch.setattr(uploads, "CHUNK_BYTES", size)
        found = told(send(lab, project, body, key=f"chunk-{size}"))
        assert found["created"] + found["unchanged"] == 12
    assert len(kept(db, project)) == 12


def test_drafts_come_in_as_drafts(db: Session, lab: Caller, project: Project) -> None:
    answer = lab.post(
        f"/v1/projects/prj_{project.id.hex}/tasks:import?publish=false",
        content=lines([row(1)]),
        headers={"Content-Type": JSONL, "Idempotency-Key": "k"},
    )
    assert told(answer)["created"] == 1
    assert kept(db, project)["t-1"].state == "draft"


def test_the_verdicts_come_as_lines_in_the_order_of_the_file(
    db: Session, lab: Caller, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("market.tasks.queries.VERDICTS_AT_ONCE", 3)
    rows = [row(n) if n % 3 else {"external_id": f"bad-{n}"} for n in range(20)]
    found = told(send(lab, project, lines(rows)))
    assert lab.get(f"/v1/imports/{found['id']}").json() == found
    answer = lab.get(found["verdicts"])
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    verdicts = [json.loads(line) for line in answer.text.splitlines()]
    assert [one["line"] for one in verdicts] == list(range(1, 21))
    tasks = kept(db, project)
    for one, sent in zip(verdicts, rows, strict=True):
        assert one["external_id"] == sent["external_id"]
        if one["verdict"] == "created":
            assert one["task_id"] == f"tsk_{tasks[one['external_id']].id.hex}"
        else:
            assert (one["verdict"], one["code"]) == ("rejected", "missing_field")


# Whose --------------------------------------------------------------------------------------------


def test_nothing_comes_into_a_project_that_ends_or_is_anothers(
    db: Session, web: TestClient[Any], lab: Caller, project: Project
) -> None:
    ending = make_project(db, lab.organisation_id, state="draining")
    rival = make_caller(db, web, Part.LAB)
    expert = make_caller(db, web, Part.EXPERT)
    db.commit()
    for what in ("tasks", "interests"):
        late = send(lab, ending, lines([row(1)]), what=what)
        assert (late.status_code, late.json()["code"]) == (409, "state_conflict")
        foreign = send(rival, project, lines([row(1)]), what=what)
        assert (foreign.status_code, foreign.json()["code"]) == (404, "not_found")
        assert send(expert, project, lines([row(1)]), what=what).status_code == 403
    mine = told(send(lab, project, lines([row(1), {}])))
    for path in (f"/v1/imports/{mine['id']}", mine["verdicts"]):
        assert rival.get(path).json()["code"] == "not_found"
    assert lab.get("/v1/imports/imp_" + "0" * 32).status_code == 404
    with database.begin(Scope("stumpwork_lab", rival.organisation_id)) as session:
        for table in ("bulk_import", "import_row", "task"):
            assert session.scalar(text(f"select count(*) from market.{table}")) == 0


# Interest -----------------------------------------------------------------------------------------


def test_interest_comes_in_by_the_file_and_what_was_said_before_stays(
    db: Session, web: TestClient[Any], lab: Caller, project: Project
) -> None:
    one, two = make_expert(db), make_expert(db)
    make_task(db, project, external_id="a")
    make_task(db, project, external_id="b")
    stranger = make_caller(db, web, Part.EXPERT)
    make_task(db, make_project(db), external_id="elsewhere")
    db.commit()
    email = db.get_one(Person, one.id).email
    rows: list[object] = [
        {"expert": email.upper(), "task": "a", "value": 1},
        {"expert": f"per_{two.id.hex}", "task": "a", "value": 0.5},
        {"expert": f"per_{one.id.hex}", "task": "a", "value": 0.25},
        {"expert": email, "task": "elsewhere", "value": 1},
        {"expert": f"per_{stranger.person_id.hex}", "task": "b", "value": 1},
        {"expert": "nobody@x.example", "task": "b", "value": 1},
        {"expert": email, "task": "b", "value": 1.5},
        {"expert": email, "task": "b\x00", "value": 1},
        {"expert": email, "task": "b"},
    ]
    found = told(send(lab, project, lines(rows), what="interests"))
    assert counts(found) == (2, 0, 0, 7)
    assert [(r["line"], r["code"], r["pointer"]) for r in found["first_refused"]] == [
        (3, "duplicate_in_file", "/expert"),
        (4, "task_unknown", "/task"),
        (5, "expert_unknown", "/expert"),
        (6, "expert_unknown", "/expert"),
        (7, "out_of_range", "/value"),
        (8, "nul_character", "/task"),
        (9, "missing_field", "/value"),
    ]
    said = {i.expert_id: i.value for i in db.scalars(select(Interest))}
    assert said == {one.id: 1.0, two.id: 0.5}
    csv = f"expert,task,value\n{email},a,1.0\nper_{two.id.hex},a,0.75\n{email},b,0\n"
    again = told(send(lab, project, csv.encode(), "text/csv", key="2", what="interests"))
    assert counts(again) == (1, 1, 1, 0)
    lots = [json.loads(line) for line in lab.get(again["verdicts"]).text.splitlines()]
    assert [(one["verdict"], one["code"]) for one in lots] == [
        ("unchanged", None),
        ("conflict", "content_differs"),
        ("created", None),
    ]
    db.expire_all()
    assert db.get_one(Expert, two.id).version == 1
    assert db.scalar(select(func.count()).select_from(ImportRow)) == 12


# At once ------------------------------------------------------------------------------------------


def test_two_imports_into_one_project_do_not_run_at_once(committed: str) -> None:
    del committed
    with database.begin() as session:
        project = make_project(session)
    entered, leave = Gate(), Gate()

    def begin(session: Session) -> None:
        start_import(
            session,
            "tasks",
            Upload(io.BytesIO(), "jsonl", "utf-8", 0, b""),
            at=project.created_at,
            organisation_id=project.organisation_id,
            project_id=project.id,
        )

    def first() -> None:
        with database.begin() as session:
            begin(session)
            entered.set()
            leave.wait(10)

    thread = Thread(target=first)
    thread.start()
    try:
        assert entered.wait(10)
        with pytest.raises(ImportRunning), database.begin() as session:
            begin(session)
    finally:
        leave.set()
        thread.join(10)
    with database.begin() as session:
        begin(session)
