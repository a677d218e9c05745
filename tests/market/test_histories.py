"""History in one shape: what stood at any time, for whoever may see the thing and nobody else."""

from datetime import timedelta
from typing import Any

from litestar.testing import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from market.auth import Part
from market.histories.rules import TABLES, Step, state_at
from market.http import KINDS, wire_id
from market.standings.actions import change_standing
from market.work.models import WorkSession
from tests.factories import AT, key_for, make_caller, make_expert
from tests.market.reviewed import ACCEPT, LATER, cast, hand_in

Web = TestClient[Any]


def test_every_machine_that_guards_a_table_has_a_history_to_read(db: Session) -> None:
    guarded = {
        f"market.{table}"
        for table in db.scalars(
            text(
                "select c.relname from pg_trigger t join pg_class c on c.oid = t.tgrelid"
                " join pg_namespace n on n.oid = c.relnamespace"
                " join pg_proc p on p.oid = t.tgfoid"
                " where p.proname = 'guard_state' and n.nspname = 'market'"
            )
        )
    }
    assert guarded - set(TABLES.values()) == set()
    assert TABLES.keys() <= KINDS.keys()


def test_a_history_tells_what_stood_at_any_time(db: Session, web: Web) -> None:
    handed = hand_in(db, with_attempt=False, reviews=1)
    cast(db, handed, ACCEPT)
    ops, path = make_caller(db, web, Part.OPS), f"/v1/history/{wire_id('sub', handed.id)}"
    whole = ops.get(path).json()
    assert (whole["kind"], whole["state"], whole["state_now"]) == (
        "submission",
        "accepted",
        "accepted",
    )
    states = [move["to_state"] for move in whole["moves"]]
    assert states[-2:] == ["in_review", "accepted"]
    between = {"at": (AT + timedelta(minutes=10)).isoformat()}
    then = ops.get(path, params=between).json()
    assert (then["state"], then["state_now"]) == ("awaiting_review", "accepted")
    assert [move["to_state"] for move in then["moves"]] == ["awaiting_review"]
    assert ops.get(path, params={"at": LATER.isoformat()}).json()["state"] == "accepted"


def test_everybody_reads_the_history_of_what_it_may_see_and_of_nothing_else(
    db: Session, web: Web
) -> None:
    handed = hand_in(db, with_attempt=False, reviews=1)
    cast(db, handed, ACCEPT)
    path = f"/v1/history/{wire_id('sub', handed.id)}"
    author = key_for(db, web, handed.expert_id, Part.EXPERT)
    moves = author.get(path).json()["moves"]
    assert {move["by"] for move in moves} >= {"you", "somebody"}
    assert all(move["actor_id"] is None for move in moves if move["by"] == "somebody")
    stranger = key_for(db, web, make_expert(db).id, Part.EXPERT)
    for caller in (stranger, make_caller(db, web, Part.LAB), make_caller(db, web, Part.REVIEWER)):
        assert caller.get(path).status_code == 404
        run = caller.get(f"/v1/history/mrn_{'0' * 32}")
        assert (run.status_code, run.json()["code"]) == (404, "not_found")
    unknown = author.get("/v1/history/org_" + "0" * 32)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "no_history")


def test_a_move_keeps_what_it_rests_on(db: Session, web: Web) -> None:
    expert = make_expert(db)
    change_standing(
        db,
        expert.id,
        "watch",
        reason_code="copied",
        note="Two works are copies of a page.",
        evidence=["https://example.org/page", "sub_1"],
        at=AT,
    )
    change_standing(db, expert.id, "lift", reason_code="mistaken", note="It was its own.", at=AT)
    path = f"/v1/history/{wire_id('per', expert.id)}"
    moves = make_caller(db, web, Part.OPS).get(path).json()["moves"]
    told = {move["action"]: move["evidence"] for move in moves}
    assert told == {"watch": ["https://example.org/page", "sub_1"], "lift": []}


def test_every_kind_answers_ops_even_where_nothing_is(db: Session, web: Web) -> None:
    ops = make_caller(db, web, Part.OPS)
    handed = hand_in(db, with_attempt=False)
    work = db.query(WorkSession).filter_by(offer_id=handed.offer_id).one()
    assert ops.get(f"/v1/history/{wire_id('ses', work.id)}").json()["moves"]
    for prefix in TABLES:
        assert ops.get(f"/v1/history/{prefix}_{'0' * 32}").status_code == 404, prefix


def test_what_began_without_a_move_stands_in_its_first_state_until_the_first_one() -> None:
    step = Step("draft", "checking", "submit", AT, None, None, None)
    started = Step("", "open", "open", AT, None, None, None)
    before = AT - timedelta(seconds=1)
    assert state_at([step], "checking", before) == "draft"
    assert state_at([step], "checking", AT) == "checking"
    assert state_at([started], "open", before) is None
    assert state_at([], "draft", before) == "draft"
