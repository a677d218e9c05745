"""Pages about tests, alarms and releases: what stands there, what a form does, what is refused."""

from typing import Any
from uuid import UUID

from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.alarms.models import Acknowledgement, DriftAlarm
from market.auth import Part
from market.http import wire_id
from market.item_banks.models import BankItem, ItemFlag
from market.predictions.models import Observation
from market.projects.models import TargetModel
from market.releases.models import ModelRelease
from market.target_models.actions import ModelTerms, create_target_model
from tests.factories import AT, make_project
from tests.market.banked import BANK, knows, make_bank, seat, sit
from tests.market.test_console import check_guards, send, token, visit

Web = TestClient[Any]
PAGES = ("/experts/tests", "/experts/tests/sittings", "/signals/alarms", "/signals/releases")


def test_every_page_says_so_while_there_is_nothing_on_it(web: Web, db: Session) -> None:
    visit(web, db, Part.OPS)
    for path, said in zip(
        PAGES,
        ("No item bank yet.", "No sitting here.", "No alarm waits.", "No release yet."),
        strict=True,
    ):
        answer = web.get(f"/console/ops{path}")
        assert answer.status_code == 200
        assert said in answer.text
        check_guards(answer)
    seen = web.get("/console/ops/signals/alarms?seen=true").text
    assert "Nobody has looked at an alarm yet." in seen
    visit(web, db, Part.LAB)
    page = web.get("/console/lab/releases")
    assert "No release yet." in page.text
    assert "No target model yet." in page.text
    check_guards(page)
    # Another part's pages are as if they were not there.
    for path in PAGES:
        assert web.get(f"/console/ops{path}", follow_redirects=False).status_code in (303, 404)


def test_a_bank_its_items_and_its_sittings_are_read_step_by_step(web: Web, db: Session) -> None:
    make_bank(db)
    row = seat(db)
    sit(db, row, knows(1.5))
    visit(web, db, Part.OPS)
    page = web.get("/console/ops/experts/tests").text
    assert "gives verdicts" in page
    items = web.get(f"/console/ops/experts/tests/banks/{BANK}")
    assert "Chemistry: organic" in items.text
    assert "which colour has solution" in items.text.lower()
    check_guards(items)
    assert "No item here." in web.get(f"/console/ops/experts/tests/banks/{BANK}?of=retired").text
    assert web.get("/console/ops/experts/tests/banks/astrology").status_code == 404
    listed = web.get("/console/ops/experts/tests/sittings").text
    assert wire_id("sit", row.id) in listed
    assert "No sitting here." in web.get("/console/ops/experts/tests/sittings?of=pilot").text
    one = web.get(f"/console/ops/experts/tests/sittings/{wire_id('sit', row.id)}")
    assert "Step by step" in one.text
    assert f"{row.score} %" in one.text
    check_guards(one)
    assert web.get("/console/ops/experts/tests/sittings/sit_nothing").status_code == 404


def odd_item(db: Session) -> BankItem:
    """An item that waits for somebody to look."""
    make_bank(db)
    found = db.scalars(select(BankItem).order_by(BankItem.id)).first()
    assert found is not None
    found.state = "flagged"
    db.add(
        ItemFlag(
            item_id=found.id,
            reason="harder",
            detail="It got harder: <b>.8</b> then, .4 now.",
            at=AT,
            answers=200,
        )
    )
    db.flush()
    return found


def test_an_odd_item_is_decided_on_its_page_and_a_short_note_is_refused(
    web: Web, db: Session
) -> None:
    item = odd_item(db)
    visit(web, db, Part.OPS)
    path = f"/console/ops/experts/tests/items/{wire_id('itm', item.id)}"
    assert "It got harder: &lt;b&gt;" in web.get("/console/ops/experts/tests").text
    page = web.get(path)
    check_guards(page)
    csrf = token(web, path)
    refused = send(web, path, csrf, decision="keep", note="Fine.")
    assert refused.status_code == 422
    assert "at least 40 characters" in refused.text
    assert "Fine." in refused.text
    wrong = send(web, path, csrf, decision="burn", note="x" * 40)
    assert (wrong.status_code, "keep, rekey, retire, withdraw" in wrong.text) == (422, True)
    note = "I read it again: the key is right, and the level fits."
    done = send(web, path, csrf, decision="keep", note=note)
    assert done.status_code == 303, done.text
    assert note in web.get(done.headers["location"]).text
    db.expire_all()
    assert db.get_one(BankItem, item.id).state == "active"
    assert web.get("/console/ops/experts/tests/items/itm_nothing").status_code == 404


def drifted(db: Session) -> UUID:
    """An alarm that nobody has looked at."""
    project = make_project(db)
    assert project.target_model_id is not None
    seen = Observation(kind="verdict", subject_id=project.id, version=1, at=AT, observed_at=AT)
    db.add(seen)
    db.flush()
    made = DriftAlarm(
        seq=seen.seq,
        domain="chemistry",
        target_model_id=project.target_model_id,
        at=AT,
        expected=0.3,
        came=0.1,
        evidence=40.0,
        outcomes=80,
        reason="Three in ten were expected, one in ten came.",
    )
    db.add(made)
    db.flush()
    return made.id


def test_an_alarm_is_looked_at_once_and_then_stands_with_what_was_found(
    web: Web, db: Session
) -> None:
    alarm = drifted(db)
    visit(web, db, Part.OPS)
    home = "/console/ops/signals/alarms"
    page = web.get(home)
    assert "Three in ten were expected" in page.text
    check_guards(page)
    csrf, path = token(web, home), f"{home}/{wire_id('alm', alarm)}"
    assert send(web, path, csrf, note=" ").status_code == 422
    assert send(web, path, csrf, note="x" * 2001).status_code == 422
    assert send(web, f"{home}/alm_nothing", csrf, note="So.").status_code == 404
    assert send(web, path, csrf, note="A new release; it is priced in.").status_code == 303
    assert send(web, path, csrf, note="Somebody else, later.").status_code == 303
    found = db.get_one(Acknowledgement, alarm)
    assert found.note == "A new release; it is priced in."
    assert "No alarm waits." in web.get(home).text
    assert "it is priced in" in web.get(f"{home}?seen=true").text


def test_a_lab_tells_of_a_release_calibrates_and_withdraws_it(web: Web, db: Session) -> None:
    lab = visit(web, db, Part.LAB)
    assert lab.organisation_id is not None
    model = create_target_model(
        db,
        lab.organisation_id,
        ModelTerms(name="Winter", base_url="http://127.0.0.1:9/v1", model="w-1"),
        at=AT,
    )
    db.commit()
    home = "/console/lab/releases"
    csrf = token(web, home)
    given = {"earlier": wire_id("mdl", model.id), "name": "Spring", "model": "s-1"}
    for changes, said in (
        ({"size": "3"}, "asks to calibrate it"),
        ({"base_url": "ftp://nowhere"}, "http"),
        ({"earlier": wire_id("mdl", lab.person_id)}, "target model"),
    ):
        refused = send(web, home, csrf, **{**given, **changes})
        assert refused.status_code in (404, 422), refused.text
        assert said in refused.text
        assert 'value="Spring"' in refused.text
    done = send(web, home, csrf, **given)
    assert done.status_code == 303, done.text
    made = db.scalars(select(ModelRelease)).one()
    assert db.get_one(TargetModel, made.target_model_id).name == "Spring"
    page = web.get(done.headers["location"])
    assert "No task is put to it yet." in page.text
    check_guards(page)
    address = f"{home}/{wire_id('rls', made.id)}"
    assert web.get(f"{address}/rates.svg").headers["content-type"].startswith("image/svg")
    # No task is open, so that there is nothing to calibrate it with.
    assert send(web, f"{address}/calibrate", csrf).status_code in (409, 422)
    assert send(web, f"{address}/adopt", csrf).status_code == 409
    assert send(web, f"{address}/burn", csrf).status_code in (404, 409)
    assert send(web, f"{address}/withdraw", csrf, note="Too soon.").status_code == 303
    assert "withdrawn" in web.get(home).text
    visit(web, db, Part.LAB)
    assert web.get(address).status_code == 404
    visit(web, db, Part.OPS)
    assert "Spring" in web.get("/console/ops/signals/releases").text
    assert web.get(address.replace("/lab/", "/ops/signals/")).status_code == 200
