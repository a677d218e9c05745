"""Sitting a test in the browser: its pay before it, its items with their clock, what it came to."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.appeals.models import Appeal
from market.auth import Part
from market.http import wire_id
from market.item_banks.models import BankItem, ItemFlag
from market.item_banks.queries import key_of
from market.qualifications.actions import invite_to_qualify
from market.qualifications.models import Qualification
from market.sitting_pay.actions import accrue_sitting
from market.sittings.actions import put_item
from market.sittings.models import Sitting, SittingItem
from tests.market.banked import BANK, knows, make_bank, seat, sit
from tests.market.test_console import check_guards, send, token, visit

Web = TestClient[Any]
HOME = "/console/expert/tests"


def invited(db: Session, me: UUID, **terms: Any) -> Qualification:
    """An invitation to the bank's test."""
    at = datetime.now(UTC)
    made = invite_to_qualify(db, me, domain=BANK, pass_score=70, at=at, **terms)
    db.commit()
    return made


def sat_down(web: Web, db: Session, me: UUID) -> tuple[str, str]:
    """A sitting that has just begun: its address, and what its forms carry."""
    asked = invited(db, me)
    csrf = token(web, HOME)
    done = send(web, f"{HOME}/{wire_id('qua', asked.id)}/start", csrf)
    assert done.status_code == 303, done.text
    return done.headers["location"].partition("?")[0], csrf


def open_step(db: Session) -> SittingItem:
    """The item that is open now."""
    db.expire_all()
    return db.scalars(select(SittingItem).where(SittingItem.closed_at.is_(None))).one()


def over(db: Session, me: UUID, ability: float, *, pass_score: int = 70) -> Sitting:
    """A sitting of somebody that ended a moment ago."""
    at = datetime.now(UTC) - timedelta(hours=1)
    row = seat(db, person_id=me, pass_score=pass_score, at=at)
    sit(db, row, knows(ability), at=at)
    db.commit()
    assert row.state != "open"
    return row


def check_no_key_told(page: httpx.Response) -> None:
    """No page of a test says how its answers were marked."""
    assert not re.search(r"was (right|wrong)\.|the key is", page.text)


def test_what_a_test_pays_or_why_not_is_read_before_it_begins(web: Web, db: Session) -> None:
    make_bank(db)
    me = visit(web, db, Part.EXPERT).person_id
    page = web.get(HOME)
    assert "No test yet." in page.text
    check_guards(page)
    asked = invited(db, me)
    assert asked.pay_minor_per_hour is not None
    shown = web.get(HOME).text
    assert f"{asked.pay_minor_per_hour / 100:,.2f}\u00a0{asked.pay_currency}" in shown
    assert "Sit down to it" in shown
    other = visit(web, db, Part.EXPERT)
    reason = "Part of a <b>course</b> that pays for itself."
    invited(db, other.person_id, unpaid_reason=reason)
    shown = web.get(HOME).text
    assert "not paid" in shown
    assert "Part of a &lt;b&gt;course" in shown
    # Another's invitation is as if it were not there, and so is a move that is none.
    csrf = token(web, HOME)
    assert send(web, f"{HOME}/{wire_id('qua', asked.id)}/start", csrf).status_code == 404
    assert send(web, f"{HOME}/{wire_id('qua', asked.id)}/burn", csrf).status_code == 404


def test_items_come_when_asked_for_and_looking_starts_no_clock(web: Web, db: Session) -> None:
    make_bank(db)
    path, csrf = sat_down(web, db, visit(web, db, Part.EXPERT).person_id)
    page = web.get(path)
    check_guards(page)
    assert "The first item" in page.text
    assert db.scalars(select(SittingItem)).all() == []
    assert send(web, f"{path}/next", csrf).status_code == 303
    # Asked for twice, it is the same item.
    assert send(web, f"{path}/next", csrf).status_code == 303
    page = web.get(path)
    check_guards(page)
    step = open_step(db)
    item = db.get_one(BankItem, step.item_id)
    assert item.prompt in page.text
    assert re.search(r'data-countdown="\d+"', page.text)
    none = send(web, f"{path}/answer", csrf, step="1", answer="purple")
    assert (none.status_code, "one of the choices" in none.text) == (422, True)
    other = send(web, f"{path}/answer", csrf, step="7", answer="red")
    assert "Item 1 is open" in other.text
    given = {"step": "1", "answer": item.choices[0]}
    assert send(web, f"{path}/answer", csrf, **given, then="rest").status_code == 303
    assert "1 item answered" in web.get(path).text
    # The same answer sent once more is one, and by the other button the next item follows.
    assert send(web, f"{path}/answer", csrf, **given, then="next").status_code == 303
    assert open_step(db).step == 2
    changed = send(web, f"{path}/answer", csrf, step="1", answer=item.choices[1])
    assert "answered otherwise" in changed.text
    assert send(web, f"{path}/answer", csrf, step="2", unknown="yes").status_code == 303
    assert open_step(db).step == 3
    assert "Go on with it" in web.get(HOME).text
    # Somebody else's sitting is nowhere.
    visit(web, db, Part.EXPERT)
    assert web.get(path).status_code == 404
    assert send(web, f"{path}/next", token(web, HOME)).status_code == 404


def test_an_item_whose_time_is_over_says_so_and_counts_as_not_known(web: Web, db: Session) -> None:
    make_bank(db)
    me = visit(web, db, Part.EXPERT).person_id
    row = seat(db, person_id=me, at=datetime.now(UTC) - timedelta(hours=1))
    put_item(db, row.id, person_id=me, at=row.begun_at)
    db.commit()
    path = f"{HOME}/sittings/{wire_id('sit', row.id)}"
    assert "The time for item 1 is over" in web.get(path).text
    csrf = token(web, path)
    late = send(web, f"{path}/answer", csrf, step="1", answer="red")
    assert late.status_code in (409, 422)
    assert "counts as not known" in late.text
    assert send(web, f"{path}/next", csrf).status_code == 303
    step = open_step(db)
    assert step.step == 2
    first = db.get_one(SittingItem, (row.id, 1))
    assert (first.answer, first.is_right) == (None, False)
    # And a sitting whose own time is over ends when its result is asked for.
    row.ends_at = datetime.now(UTC) - timedelta(seconds=30)
    step.due_at = row.ends_at
    db.commit()
    assert "The time of this sitting is over" in web.get(path).text
    assert send(web, f"{path}/next", csrf).status_code == 303
    page = web.get(path)
    assert "Too few answers to tell" in page.text
    check_guards(page)


def test_a_result_comes_with_its_interval_its_pay_and_what_would_change_it(
    web: Web, db: Session
) -> None:
    make_bank(db)
    me = visit(web, db, Part.EXPERT).person_id
    row = over(db, me, -1.5)
    path = f"{HOME}/sittings/{wire_id('sit', row.id)}"
    page = web.get(path)
    check_guards(page)
    assert "You are below what was asked" in page.text
    assert f"{row.score_low} to {row.score_high} % with 90 % certainty" in page.text
    assert "What would change it" in page.text
    assert "invited to a new test" in page.text
    assert "on its way to your earnings" in page.text
    check_no_key_told(page)
    line = accrue_sitting(db, row.id, at=datetime.now(UTC))
    db.commit()
    assert line is not None
    assert f"{line.pay_minor / 100:,.2f}\u00a0{line.currency}" in web.get(path).text
    # The decision can be appealed from the page of tests, with a reason.
    asked = db.get_one(Qualification, row.qualification_id)
    assert asked.state == "denied"
    appeal = f"{HOME}/{wire_id('qua', asked.id)}/appeal"
    csrf = token(web, HOME)
    short = send(web, appeal, csrf, note="No.")
    assert (short.status_code, "at least" in short.text, ">No.<" in short.text) == (422, True, True)
    done = send(web, appeal, csrf, note="Two of the items have no right answer among the choices.")
    assert done.status_code == 303, done.text
    assert "Your appeal" in web.get(done.headers["location"]).text
    assert db.scalars(select(Appeal.kind)).all() == ["qualification"]
    again = send(web, f"{HOME}/{wire_id('qua', asked.id)}/start", csrf)
    assert again.status_code == 409


def test_a_key_is_challenged_once_with_a_reason_and_ops_see_it(web: Web, db: Session) -> None:
    make_bank(db)
    me = visit(web, db, Part.EXPERT).person_id
    row = over(db, me, 1.5)
    path = f"{HOME}/sittings/{wire_id('sit', row.id)}"
    csrf = token(web, path)
    short = send(web, f"{path}/challenge", csrf, step="2", note="Wrong.")
    assert (short.status_code, ">Wrong.<" in short.text) == (422, True)
    note = "Solution 2 turns <i>green</i> only below ten degrees."
    assert send(web, f"{path}/challenge", csrf, step="999", note=note).status_code in (409, 422)
    done = send(web, f"{path}/challenge", csrf, step="2", note=note)
    assert done.status_code == 303, done.text
    again = send(web, f"{path}/challenge", csrf, step="2", note=f"{note} Once more.")
    assert again.status_code == 303
    flag = db.scalars(select(ItemFlag)).one()
    assert (flag.reason, flag.detail, flag.person_id) == ("challenged", note, me)
    page = web.get(path)
    assert "turns &lt;i&gt;green" in page.text
    check_guards(page)
    # What the key is stays untold.
    step = db.get_one(SittingItem, (row.id, 2))
    assert key_of(db, step.item_id).key
    check_no_key_told(page)
    visit(web, db, Part.OPS)
    assert "turns &lt;i&gt;green" in web.get("/console/ops/experts/tests").text
