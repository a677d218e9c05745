"""Signing up, keys, and what a key may do."""

from datetime import timedelta

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import Scope, now, take_scope
from market.people.actions import grant_part, sign_up
from market.people.models import ApiKey, Membership, Person

Web = TestClient[Litestar]


def join(web: Web, email: str = "ada@lab.example", part: str = "lab") -> dict[str, str]:
    body = {"part": part, "name": "Ada", "email": email}
    if part == "lab":
        body["organisation_name"] = "Lab One"
    answer = web.post("/v1/signups", json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, str] = answer.json()
    return found


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_lab_signs_up_and_its_key_says_who_it_is(web: Web) -> None:
    joined = join(web)
    me = web.get("/v1/me", headers=bearer(joined["api_key"]))
    assert me.status_code == 200, me.text
    assert me.json()["organisation_name"] == "Lab One"
    assert me.json()["organisation_id"] == joined["organisation_id"]
    assert "project:write" in me.json()["scopes"]


def test_an_address_signs_up_once_whatever_its_case(web: Web) -> None:
    join(web, "ada@lab.example")
    again = web.post(
        "/v1/signups", json={"part": "expert", "name": "Ada", "email": "ADA@lab.example"}
    )
    assert again.status_code == 409
    assert again.json()["code"] == "email_taken"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"part": "lab", "name": "A", "email": "no address"}, "email_invalid"),
        ({"part": "lab", "name": "", "email": "a@b.example"}, "name_blank"),
        ({"part": "lab", "name": "A", "email": "a@b.example"}, "name_blank"),
        ({"part": "ops", "name": "A", "email": "a@b.example"}, "invalid_body"),
        ({"part": "lab", "name": 5, "email": "a@b.example"}, "invalid_body"),
        ({"part": "lab", "name": "A", "email": "a@b.example", "admin": True}, "invalid_body"),
        ({"part": "expert", "name": "A\u0000B", "email": "a@b.example"}, "value_unstorable"),
    ],
)
def test_a_signup_that_does_not_fit_is_refused_in_words(
    web: Web, body: dict[str, object], code: str
) -> None:
    answer = web.post("/v1/signups", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == code
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_a_key_can_be_made_used_and_ended(web: Web) -> None:
    first = join(web)["api_key"]
    made = web.post(
        "/v1/keys",
        json={"name": "import", "scopes": ["task:write", "key:write"]},
        headers=bearer(first),
    )
    assert made.status_code == 201, made.text
    second = made.json()
    assert web.get("/v1/me", headers=bearer(second["api_key"])).status_code == 200
    listed = web.get("/v1/keys", headers=bearer(first)).json()["items"]
    assert [key["name"] for key in listed] == ["import", "first key"]
    assert all("api_key" not in key for key in listed)
    ended = web.delete(f"/v1/keys/{second['id']}", headers=bearer(first))
    assert ended.json()["is_live"] is False
    refused = web.get("/v1/me", headers=bearer(second["api_key"]))
    assert (refused.status_code, refused.json()["code"]) == (401, "key_refused")


@pytest.mark.parametrize("days", ["30", 30.5, True, None, [30]])
def test_a_number_that_is_sent_as_something_else_is_refused_with_its_place(
    web: Web, days: object
) -> None:
    first = join(web)["api_key"]
    answer = web.post("/v1/keys", json={"name": "k", "days": days}, headers=bearer(first))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_body"), answer.text
    assert answer.json()["errors"][0]["pointer"] == "/days"


def test_a_key_hands_out_no_more_than_it_holds(web: Web) -> None:
    first = join(web)["api_key"]
    small = web.post("/v1/keys", json={"name": "s", "scopes": ["key:write"]}, headers=bearer(first))
    beyond = web.post(
        "/v1/keys",
        json={"name": "b", "scopes": ["fund:write"]},
        headers=bearer(small.json()["api_key"]),
    )
    assert (beyond.status_code, beyond.json()["code"]) == (403, "scopes_beyond")


def test_an_expired_key_is_refused_and_says_when_it_ended(web: Web, db: Session) -> None:
    key = join(web)["api_key"]
    row = db.scalars(select(ApiKey)).one()
    row.expires_at = now() - timedelta(seconds=1)
    db.flush()
    answer = web.get("/v1/me", headers=bearer(key))
    assert (answer.status_code, answer.json()["code"]) == (401, "key_refused")
    assert "expired at" in answer.json()["detail"]
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize("key", ["", "nonsense", "sw_zz_x", f"sw_{'0' * 32}_secret"])
def test_a_key_that_is_none_is_refused(web: Web, key: str) -> None:
    assert web.get("/v1/me", headers=bearer(key)).status_code == 401


def test_a_secret_is_kept_as_a_hash_only(web: Web, db: Session) -> None:
    key = join(web)["api_key"]
    secret = key.split("_", 2)[2]
    row = db.scalars(select(ApiKey)).one()
    assert secret.encode() not in row.digest
    assert len(row.digest) == 32


def test_an_expert_may_not_do_what_a_lab_may(web: Web) -> None:
    key = join(web, "e@x.example", part="expert")["api_key"]
    answer = web.post("/v1/people/per_1/parts", json={"part": "ops"}, headers=bearer(key))
    assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
    assert answer.json()["scope"] == "people:write"


def test_granting_a_part_twice_changes_nothing(db: Session) -> None:
    joined = sign_up(db, part=Part.EXPERT, name="E", email="e@x.example", at=now())
    first = grant_part(db, joined.person.id, Part.REVIEWER, organisation_id=None, at=now())
    again = grant_part(db, joined.person.id, Part.REVIEWER, organisation_id=None, at=now())
    assert first.id == again.id


def test_a_lab_sees_its_own_people_and_no_others_even_in_raw_sql(db: Session) -> None:
    one = sign_up(
        db, part=Part.LAB, name="A", email="a@x.example", organisation_name="One", at=now()
    )
    sign_up(db, part=Part.LAB, name="B", email="b@x.example", organisation_name="Two", at=now())
    assert one.organisation is not None
    take_scope(db, Scope("stumpwork_lab", one.organisation.id))
    assert db.scalars(select(Person.name)).all() == ["A"]
    assert len(db.scalars(select(Membership)).all()) == 1
    refused = pytest.raises(Exception, match="permission denied")
    with refused, db.begin_nested():
        db.execute(text("select * from market.api_key"))
