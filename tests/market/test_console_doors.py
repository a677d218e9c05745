"""Signing up at the door, a visitor's keys, and what pages call themselves in the menu."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.approvals.rules import what_next
from market.auth import Part
from market.console.visitors import COOKIE
from market.console.words import facts
from market.people.actions import make_key
from market.people.models import ApiKey, Membership, Organisation, Person
from tests.factories import AT
from tests.market.test_console import check_guards, come_in, send, token, visit

Web = TestClient[Any]
KEY = re.compile(r'class="secret">(sw_[^<]+)<')
LENA = {"name": "Lena", "email": "lena@lab.example", "organisation_name": "Frontier Lab"}


def join(web: Web, **fields: str) -> Any:
    """Send the form of the door."""
    return web.post("/console/join", data=fields, follow_redirects=False)


def test_a_lab_signs_up_at_the_door_and_is_in_with_a_key_shown_once(web: Web, db: Session) -> None:
    assert "/console/join?of=lab" in web.get("/console").text
    form = web.get("/console/join?of=lab")
    assert 'value="lab" checked' in form.text
    check_guards(form)
    joined = join(web, part="lab", **LENA)
    assert joined.status_code == 200
    (key,) = KEY.findall(joined.text)
    assert "/console/lab/projects/new" in joined.text
    assert web.get("/console/lab").status_code == 200
    assert web.get("/v1/me", headers={"Authorization": f"Bearer {key}"}).json()["part"] == "lab"
    assert db.scalars(select(Organisation.name)).all() == ["Frontier Lab"]
    # Whoever is in has no use for the form.
    assert web.get("/console/join", follow_redirects=False).headers["location"] == "/console"
    assert key not in web.get("/console/keys").text


def test_an_expert_signs_up_at_the_door_without_a_lab(web: Web, db: Session) -> None:
    joined = join(web, part="expert", name="Emil", email="emil@people.example")
    assert "fill in my profile" in joined.text
    assert web.get("/console/expert/profile").status_code == 200
    assert db.scalars(select(Organisation)).all() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"part": "ops"}, "Say whether you are an expert or a lab."),
        ({"part": "lab", "organisation_name": " "}, "Name the lab whose projects they are."),
        ({"email": "lena"}, "no e-mail address"),
        ({"name": " "}, "Name needs 1 to 200 characters."),
    ],
)
def test_a_sign_up_that_does_not_fit_is_refused_in_words_and_keeps_what_was_typed(
    web: Web, db: Session, change: dict[str, str], said: str
) -> None:
    answer = join(web, **{"part": "lab", **LENA, **change})
    assert (answer.status_code, said in answer.text) == (422, True)
    assert f'value="{change.get("email", "lena@lab.example")}"' in answer.text
    assert COOKIE not in web.cookies
    assert db.scalars(select(Person)).all() == []


def test_an_address_signs_up_once(web: Web, db: Session) -> None:
    join(web, part="lab", **LENA)
    web.cookies.clear()
    again = join(web, part="expert", **LENA)
    assert (again.status_code, "use its key" in again.text) == (409, True)
    assert len(db.scalars(select(Person)).all()) == 1


def test_a_form_from_another_site_signs_nobody_up(web: Web, db: Session) -> None:
    sent = web.post(
        "/console/join",
        data={"part": "lab", **LENA},
        headers={"Sec-Fetch-Site": "cross-site"},
        follow_redirects=False,
    )
    assert sent.status_code == 403
    assert db.scalars(select(Person)).all() == []


def test_a_visitor_makes_a_key_and_ends_it_and_nobody_elses(web: Web, db: Session) -> None:
    stranger = visit(web, db, Part.LAB)
    theirs = db.scalars(
        select(ApiKey).join(Membership).where(Membership.person_id == stranger.person_id)
    ).one()
    visit(web, db, Part.EXPERT)
    home = "/console/keys"
    assert "opened this page" in web.get(home).text
    csrf = token(web, home)
    made = send(web, home, csrf, name="my laptop", days="30")
    (key,) = KEY.findall(made.text)
    assert web.get("/v1/me", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert "My laptop" in web.get(home).text
    for wrong in ({"name": " ", "days": "30"}, {"name": "x", "days": "4000"}):
        assert send(web, home, csrf, **wrong).status_code == 422
    assert send(web, f"{home}/key_{theirs.id.hex}/end", csrf).status_code == 404
    mine = db.scalars(select(ApiKey).where(ApiKey.name == "my laptop")).one()
    ended = send(web, f"{home}/key_{mine.id.hex}/end", csrf)
    assert (ended.status_code, ended.headers["location"]) == (303, f"{home}?said=key-ended")
    assert web.get("/v1/me", headers={"Authorization": f"Bearer {key}"}).status_code == 401
    assert web.get(home).text.count("revoked") == 1


def test_a_key_that_may_not_hand_out_keys_makes_none_on_its_page(web: Web, db: Session) -> None:
    caller = visit(web, db, Part.EXPERT)
    membership = db.scalars(
        select(Membership).where(Membership.person_id == caller.person_id)
    ).one()
    _, narrow = make_key(
        db,
        membership,
        name="narrow",
        scopes=frozenset({"offer:read"}),
        days=9,
        at=datetime.now(UTC),
    )
    db.flush()
    come_in(web, type(caller)(web, narrow, caller.person_id, caller.organisation_id))
    sent = send(web, "/console/keys", token(web, "/console/keys"), name="wide", days="9")
    assert sent.status_code == 403
    assert db.scalars(select(ApiKey).where(ApiKey.name == "wide")).all() == []


@pytest.mark.parametrize(
    ("part", "path", "item"),
    [
        (Part.EXPERT, "/console/expert/statement", "Earnings"),
        (Part.EXPERT, "/console/expert/leaving", "Profile"),
        (Part.EXPERT, "/console/expert/disputes/new", "Work"),
        (Part.LAB, "/console/lab/invoice", "Spend"),
        (Part.OPS, "/console/ops/held", "Offers"),
    ],
)
def test_a_page_stands_in_the_menu_under_what_leads_to_it(
    web: Web, db: Session, part: Part, path: str, item: str
) -> None:
    visit(web, db, part)
    assert re.findall(r'aria-current="page">(\w+)</a>', web.get(path).text)[:1] == [item]


def test_what_an_event_says_is_told_in_units_and_ids_lead_to_what_they_name() -> None:
    subject = uuid4()
    told = facts(
        {
            "amount_minor": 154000,
            "currency": "USD",
            "waited_s": 5400,
            "project_id": str(subject),
            "is_final": True,
            "rules": ["cap", "tier"],
            "order_id": "A-7",
            "note": None,
        }
    )
    assert [(one.name, one.text.replace("\u00a0", " ")) for one in told] == [
        ("amount", "1,540.00 USD"),
        ("waited", "1 h 30 min"),
        ("project", f"…\u2060{str(subject)[-12:]}"),
        ("is final", "yes"),
        ("rules", "cap, tier"),
        ("order id", "A-7"),
        ("note", "–"),
    ]
    assert [one.subject for one in told if one.subject] == [subject]


def test_nothing_comes_after_a_line_that_is_in_the_bank() -> None:
    assert what_next("approved", None, "paid", at=AT).startswith("Nothing: it is paid")
    assert what_next("approved", None, "in_transit", at=AT) == (
        "Its payout is in transit; the payout says what comes next."
    )


def test_a_refusal_leads_back_to_the_page_that_asked_and_to_no_other_site(
    web: Web, db: Session
) -> None:
    visit(web, db, Part.OPS)
    nowhere = f"/console/ops/runs/mrn_{'0' * 32}"
    for referer, leads in (
        ("http://testserver.local/console/ops/runs?cursor=1", True),
        ("https://elsewhere.example/console/ops/runs", False),
        ("http://testserver.local/docs", False),
        (f"http://testserver.local{nowhere}", False),
        ("", False),
    ):
        refused = web.get(nowhere, headers={"Referer": referer})
        assert refused.status_code == 404
        assert ('href="/console/ops/runs">Back to where you were' in refused.text) is leads
