"""The audit log: who was told of whom, what ops changed, and that nobody rewrites it."""

import os
import subprocess
import sys
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from market.audit.jobs import link_audit
from market.audit.models import AuditEntry
from market.audit.queries import broken_audit
from market.auth import Part
from market.db import database
from market.http import wire_id
from tests.factories import Caller, key_for, make_caller, make_expert, make_offer, make_project
from tests.factories import make_task as a_task

Web = TestClient[Any]


def entries(db: Session) -> list[AuditEntry]:
    return list(db.scalars(select(AuditEntry).order_by(AuditEntry.id)))


def enter(web: Web, caller: Caller) -> None:
    came = web.post("/console/enter", data={"key": caller.key}, follow_redirects=False)
    assert came.status_code == 303


def test_whoever_reads_a_profile_is_on_record_with_whose_it_was(db: Session, web: Web) -> None:
    ops, read, other = make_caller(db, web, Part.OPS), make_expert(db), make_expert(db)
    answer = ops.get(f"/v1/experts/{wire_id('per', read.id)}")
    assert answer.status_code == 200
    (noted,) = entries(db)
    assert (noted.kind, noted.part, noted.status) == ("read", "ops", 200)
    assert (noted.actor_id, noted.people) == (ops.person_id, [read.id])
    assert noted.route == "/v1/experts/{expert_id}"
    assert noted.request_id == answer.headers["x-request-id"]
    ops.get("/v1/experts")
    assert sorted(entries(db)[-1].people) == sorted([read.id, other.id])


def test_reading_ones_own_data_or_nobodys_leaves_no_entry(db: Session, web: Web) -> None:
    expert = make_expert(db)
    own = key_for(db, web, expert.id, Part.EXPERT)
    assert own.get("/v1/experts/me").status_code == 200
    assert make_caller(db, web, Part.OPS).get("/v1/policies/settings").status_code == 200
    assert make_caller(db, web, Part.OPS).get("/v1/experts/per_" + "0" * 32).status_code == 404
    assert entries(db) == []


def test_an_answer_that_names_nobody_by_id_still_says_whose_it_was(db: Session, web: Web) -> None:
    expert = make_expert(db)
    make_offer(db, a_task(db, make_project(db)), expert.id)
    ops = make_caller(db, web, Part.OPS)
    path = f"/v1/experts/{wire_id('per', expert.id)}/measures"
    assert ops.get(path).json()["items"] == []
    assert entries(db)[-1].people == [expert.id]
    enter(web, ops)
    assert web.get("/console/ops/offers").status_code == 200
    page = entries(db)[-1]
    assert (page.route, page.people) == ("/console/ops/offers", [expert.id])
    shown = web.get("/console/ops/audit/accesses", params={"about": wire_id("per", expert.id)})
    assert "GET /console/ops/offers" in shown.text


def test_a_change_by_ops_is_on_record_before_and_after_it(db: Session, web: Web) -> None:
    ops, expert = make_caller(db, web, Part.OPS), make_expert(db)
    path = f"/v1/experts/{wire_id('per', expert.id)}/transitions"
    refused = ops.post(path, json={"nonsense": 1})
    assert refused.status_code >= 400
    asked, done = entries(db)
    assert (asked.kind, asked.status, asked.path) == ("asked", None, path)
    assert (done.kind, done.status) == ("done", refused.status_code)
    assert asked.request_id == done.request_id == refused.headers["x-request-id"]


def test_a_read_that_cannot_be_noted_is_not_answered(db: Session, web: Web) -> None:
    ops, expert = make_caller(db, web, Part.OPS), make_expert(db)
    db.execute(
        text(
            "create function pg_temp.full() returns trigger language plpgsql as"
            " $$ begin raise exception 'no space' using errcode = 'disk_full'; end $$"
        )
    )
    db.execute(
        text(
            "set local role none; create trigger full_disk before insert on market.audit_entry"
            " for each row execute function pg_temp.full()"
        )
    )
    db.execute(text("set local role stumpwork_platform"))
    answer = ops.get(f"/v1/experts/{wire_id('per', expert.id)}")
    assert answer.status_code == 503
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["code"] == "read_unnoted"
    assert expert.id.hex not in answer.text


def test_ops_search_the_log_and_a_person_sees_who_was_told_of_it(db: Session, web: Web) -> None:
    ops, expert, other = make_caller(db, web, Part.OPS), make_expert(db), make_expert(db)
    for one in (expert, other, expert):
        ops.get(f"/v1/experts/{wire_id('per', one.id)}")
    about = {"person_id": wire_id("per", expert.id), "kind": "read"}
    first = ops.get("/v1/audit", params={**about, "limit": 1}).json()
    assert first.get("has_more"), first
    # The first page of the log was itself a look at this expert.
    then = ops.get("/v1/audit", params={**about, "limit": 1, "cursor": first["next_cursor"]})
    assert [row["people"] for row in then.json()["items"]] == [[wire_id("per", expert.id)]]
    whole = {"route": "/v1/experts/{expert_id}", "actor_id": wire_id("per", ops.person_id)}
    assert len(ops.get("/v1/audit", params=whole).json()["items"]) == 3
    own = key_for(db, web, expert.id, Part.EXPERT).get("/v1/audit/me").json()["items"]
    assert {(row["part"], row["organisation"]) for row in own} == {("ops", None)}
    assert [row["route"] for row in own].count("/v1/experts/{expert_id}") == 2
    assert make_caller(db, web, Part.LAB).get("/v1/audit").status_code == 403


def test_the_chain_covers_every_entry_and_shows_what_was_rewritten(db: Session, web: Web) -> None:
    ops, expert = make_caller(db, web, Part.OPS), make_expert(db)
    for _ in range(3):
        ops.get(f"/v1/experts/{wire_id('per', expert.id)}")
    link_audit("now")
    head = ops.get("/v1/audit/head").json()
    assert (head["number"], len(head["digest"])) == (3, 64)
    assert broken_audit(db) == []
    with pytest.raises(DBAPIError, match="append-only"), db.begin_nested():
        db.execute(text("set local role none; update market.audit_entry set people = '{}'"))
    # Whoever owns the database could do it all the same, but not without a trace.
    db.execute(text("set local role none"))
    db.execute(text("alter table market.audit_entry disable trigger user"))
    second = entries(db)[1].id
    db.execute(text("update market.audit_entry set people = '{}' where id = :id"), {"id": second})
    db.execute(text("set local role stumpwork_platform"))
    assert broken_audit(db) == ["link 2"]


def test_check_says_that_the_log_was_rewritten(committed: str) -> None:
    with database.begin() as session:
        session.execute(
            text(
                "insert into market.audit_entry (id, at, kind, actor_id, part, key_id, method,"
                " route, path, query, request_id, people) values (gen_random_uuid(), now(),"
                " 'read', gen_random_uuid(), 'ops', gen_random_uuid(), 'GET', '/', '/', '', 'r',"
                " '{}')"
            )
        )
    link_audit("now")
    with database.engine.begin() as owner:
        owner.execute(text("alter table market.audit_entry disable trigger user"))
        owner.execute(text("update market.audit_entry set part = 'lab'"))
    ran = subprocess.run(
        [sys.executable, "-m", "market.cli", "check"],
        env={**os.environ, "STUMPWORK_DATABASE_URL": committed, "STUMPWORK_SECRET_KEY": "x" * 40},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 1, ran.stderr
    assert "audit log: link 1" in ran.stdout
