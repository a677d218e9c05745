"""The page of ops about one person: found by its name, with its work, handed a key."""

import re
from typing import Any
from uuid import uuid4

from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.people.models import ApiKey, Membership, Person
from tests.factories import make_caller, make_expert, make_offer, make_project, make_task
from tests.market.test_console import check_guards, send, token, visit

Web = TestClient[Any]
KEY = re.compile(r'class="secret">(sw_[^<]+)<')
OPS = "/console/ops"


def test_ops_find_anybody_by_a_part_of_a_name_or_address(web: Web, db: Session) -> None:
    lab = make_caller(db, web, Part.LAB)
    found = db.get_one(Person, lab.person_id)
    found.name = "Lena 100 % sure"
    db.flush()
    visit(web, db, Part.OPS)
    for sought in ("lena 100", "100 % s", found.email[:12].upper()):
        shown = web.get(f"{OPS}/experts", params={"q": sought}).text
        assert f"{OPS}/people/per_{lab.person_id.hex}" in shown
        assert 'data-name="Plays">lab<' in shown
    # What stands for anything elsewhere stands for itself here.
    assert "Nobody has that" in web.get(f"{OPS}/experts", params={"q": "lena_100"}).text
    assert "per_" not in web.get(f"{OPS}/experts?q=nobody").text


def test_ops_read_of_an_expert_what_it_knows_does_and_earned(web: Web, db: Session) -> None:
    expert = make_expert(db)
    offer = make_offer(db, make_task(db, make_project(db)), expert.id)
    db.flush()
    visit(web, db, Part.OPS)
    home = f"{OPS}/people/per_{expert.id.hex}"
    assert home in web.get(f"{OPS}/experts").text
    answer = web.get(home)
    check_guards(answer)
    assert f"{OPS}/audit?about={offer.id}" in answer.text
    assert f"{OPS}/audit/accesses?about={expert.id}" in answer.text
    assert "Nothing yet." in answer.text
    assert web.get(f"{OPS}/people/per_{uuid4().hex}").status_code == 404
    visit(web, db, Part.LAB)
    assert web.get(home, follow_redirects=False).status_code == 303


def test_ops_let_somebody_review_with_a_key_that_is_shown_once(web: Web, db: Session) -> None:
    expert = make_caller(db, web, Part.EXPERT)
    visit(web, db, Part.OPS)
    home = f"{OPS}/people/per_{expert.person_id.hex}"
    csrf = token(web, home)
    for part in ("ops", "lab", ""):
        refused = send(web, f"{home}/parts", csrf, part=part)
        assert (refused.status_code, "an expert or a reviewer" in refused.text) == (422, True)
    made = send(web, f"{home}/parts", csrf, part="reviewer")
    (key,) = KEY.findall(made.text)
    me = web.get("/v1/me", headers={"Authorization": f"Bearer {key}"}).json()
    assert (me["part"], me["person_id"]) == ("reviewer", f"per_{expert.person_id.hex}")
    shown = web.get(home).text
    assert "Expert, reviewer" in shown
    assert key not in shown
    nobody = send(web, f"{OPS}/people/per_{uuid4().hex}/parts", csrf, part="reviewer")
    assert nobody.status_code == 404


def test_ops_whose_key_may_not_change_people_hand_out_none(web: Web, db: Session) -> None:
    ops = visit(web, db, Part.OPS)
    held = db.scalars(
        select(ApiKey).join(Membership).where(Membership.person_id == ops.person_id)
    ).one()
    held.scopes = [one for one in held.scopes if one != "people:write"]
    db.flush()
    home = f"{OPS}/people/per_{ops.person_id.hex}"
    refused = send(web, f"{home}/parts", token(web, home), part="reviewer")
    assert (refused.status_code, KEY.findall(refused.text)) == (403, [])
