"""What every address has in common: ids, problems, pages, versions, writes that happen once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from market.app import create_app
from market.auth import keyring
from market.db import NOBODY, database, new_id, now, take_scope
from market.http import NotFound, read_id, wire_id
from market.once import KeptReply
from market.people.models import Person
from market.problems import PROBLEMS
from market.settings import Settings
from tests.conftest import SECRET
from tests.market.test_people import bearer, join

Web = TestClient[Litestar]


def test_every_answer_names_its_request_and_keeps_a_name_that_was_given(
    web: Web,
) -> None:
    made = web.get("/health/live").headers["x-request-id"]
    assert made.startswith("req_")
    kept = web.get("/health/live", headers={"X-Request-Id": "given-by-caller-1"})
    assert kept.headers["x-request-id"] == "given-by-caller-1"
    odd = web.get("/health/live", headers={"X-Request-Id": "<script>"})
    assert odd.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing-here", 404, "no_such_address"),
        ("DELETE", "/v1/signups", 405, "method_not_allowed"),
        ("GET", "/v1/me", 401, "key_missing"),
    ],
)
def test_what_the_framework_refuses_is_a_problem_too(
    web: Web, method: str, path: str, status: int, code: str
) -> None:
    answer = web.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["instance"] == path


@pytest.mark.parametrize("body", [b"{", b"[1,", b"\xff\xfe", b'{"part": "lab"', b"null", b"[]"])
def test_a_body_that_is_no_json_object_is_refused_without_harm(web: Web, body: bytes) -> None:
    answer = web.post("/v1/signups", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["code"] in ("malformed_body", "invalid_body")


def test_an_unknown_query_parameter_is_refused_by_name(web: Web) -> None:
    key = join(web)["api_key"]
    answer = web.get("/v1/keys?limt=5", headers=bearer(key))
    assert (answer.status_code, answer.json()["code"]) == (400, "unknown_parameter")
    assert "limit" in answer.json()["detail"]


@pytest.mark.parametrize("limit", ["0", "201", "x", "-1"])
def test_a_limit_out_of_range_is_refused(web: Web, limit: str) -> None:
    key = join(web)["api_key"]
    answer = web.get(f"/v1/keys?limit={limit}", headers=bearer(key))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_parameter")


def test_pages_cover_a_list_once_and_in_order_although_rows_are_added(
    web: Web,
) -> None:
    key = join(web)["api_key"]
    for number in range(7):
        web.post("/v1/keys", json={"name": f"key {number}"}, headers=bearer(key))
    seen: list[str] = []
    cursor = None
    for page in range(10):
        query = f"?limit=3{f'&cursor={cursor}' if cursor else ''}"
        answer = web.get(f"/v1/keys{query}", headers=bearer(key)).json()
        seen += [item["name"] for item in answer["items"]]
        cursor = answer["next_cursor"]
        assert answer["has_more"] is (cursor is not None)
        if page == 0:
            web.post("/v1/keys", json={"name": "later"}, headers=bearer(key))
        if cursor is None:
            break
    assert seen == [*(f"key {n}" for n in reversed(range(7))), "first key"]


def test_a_cursor_of_another_list_is_refused(web: Web) -> None:
    one, two = join(web, "a@x.example")["api_key"], join(web, "b@x.example")["api_key"]
    for key in (one, two):
        web.post("/v1/keys", json={"name": "more"}, headers=bearer(key))
    cursor = web.get("/v1/keys?limit=1", headers=bearer(one)).json()["next_cursor"]
    for wrong in (cursor, "AAAA", "%F0", cursor[:-2] + "AA"):
        answer = web.get(f"/v1/keys?cursor={wrong}", headers=bearer(two))
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_cursor"), wrong


def test_a_repeat_under_a_key_gets_the_first_reply_and_does_nothing(web: Web, db: Session) -> None:
    body = {"part": "expert", "name": "Eve", "email": "eve@x.example"}
    first = web.post("/v1/signups", json=body, headers={"Idempotency-Key": "one"})
    again = web.post("/v1/signups", json=body, headers={"Idempotency-Key": "one"})
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert db.scalar(select(func.count()).select_from(Person)) == 1
    kept = db.scalars(select(KeptReply)).one()
    assert first.json()["api_key"].encode() not in kept.sealed_body
    assert first.json()["api_key"].encode() in keyring.unseal(kept.sealed_body)


def test_a_used_key_with_another_body_is_refused(web: Web) -> None:
    headers = {"Idempotency-Key": "two"}
    web.post(
        "/v1/signups", json={"part": "expert", "name": "E", "email": "e@x.example"}, headers=headers
    )
    other = web.post(
        "/v1/signups", json={"part": "expert", "name": "F", "email": "f@x.example"}, headers=headers
    )
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_a_reply_that_a_changed_secret_cannot_read_is_said_to_be_lost(web: Web) -> None:
    body = {"part": "expert", "name": "Eve", "email": "eve@x.example"}
    web.post("/v1/signups", json=body, headers={"Idempotency-Key": "old-secret"})
    keyring.open("another secret that is long enough too")
    try:
        again = web.post("/v1/signups", json=body, headers={"Idempotency-Key": "old-secret"})
    finally:
        keyring.open(SECRET)
    assert (again.status_code, again.json()["code"]) == (409, "idempotency_reply_lost")


def test_a_refused_write_leaves_its_key_free(web: Web) -> None:
    headers = {"Idempotency-Key": "three"}
    refused = web.post(
        "/v1/signups", json={"part": "expert", "name": "E", "email": "bad"}, headers=headers
    )
    assert refused.status_code == 422
    mended = web.post(
        "/v1/signups", json={"part": "expert", "name": "E", "email": "e@x.example"}, headers=headers
    )
    assert mended.status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "with space"])
def test_a_key_of_another_form_is_refused(web: Web, key: str) -> None:
    answer = web.post(
        "/v1/signups",
        json={"part": "expert", "name": "E", "email": "e@x.example"},
        headers={"Idempotency-Key": key},
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")


def test_twenty_requests_at_once_under_one_key_do_one_thing(committed: str, whole_app: Web) -> None:
    del committed
    gate = threading.Barrier(20)

    def send(_: int) -> int:
        gate.wait(10)
        answer = whole_app.post(
            "/v1/signups",
            json={"part": "expert", "name": "E", "email": "once@x.example"},
            headers={"Idempotency-Key": "race"},
        )
        return answer.status_code

    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(send, range(20)))
    assert set(statuses) <= {201, 409}
    assert 201 in statuses
    with database.begin() as session:
        assert session.scalar(select(func.count()).select_from(Person)) == 1


def test_ids_on_the_wire_name_their_kind_and_nothing_else_passes() -> None:
    made = new_id()
    assert read_id("prj", wire_id("prj", made)) == made
    for wrong in (wire_id("tsk", made), "prj_", "prj_zz", made.hex, "", f"prj_{made}"):
        with pytest.raises(NotFound):
            read_id("prj", wrong)


def test_every_problem_type_has_a_page(web: Web) -> None:
    listed = web.get("/problems").json()
    assert {row["type"] for row in listed} == {f"/problems/{code}" for _, code in PROBLEMS.values()}
    assert all(row["means"] for row in listed)
    assert web.get("/problems/bad_cursor").json()["status"] == 400
    assert web.get("/problems/none").status_code == 404


def test_the_service_says_whether_it_lives_is_ready_and_what_it_counted(
    web: Web,
) -> None:
    assert web.get("/health/live").json() == {"status": "live"}
    assert web.get("/health/ready").json() == {"status": "ready"}
    web.get("/v1/me")
    counted = web.get("/metrics").text
    assert 'stumpwork_http_requests_total{method="GET",route="/v1/me",status="401"}' in counted


def test_the_documentation_page_asks_nobody_else_for_anything(web: Web) -> None:
    page = web.get("/docs/swagger").text
    assert "cdn" not in page
    assert "https://" not in page.replace("https://swagger.io", "")
    assert web.get("/docs-files/swagger-ui-bundle.js").status_code == 200


def test_a_lost_database_is_a_503_that_may_be_tried_again(settings: Settings) -> None:
    database.open("postgresql+psycopg://nobody@127.0.0.1:1/none")
    try:
        with TestClient(create_app(settings), raise_server_exceptions=False) as client:
            ready = client.get("/health/ready")
            answer = client.post(
                "/v1/signups", json={"part": "expert", "name": "E", "email": "e@x.example"}
            )
    finally:
        database.close()
    assert ready.status_code == 503
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert answer.json()["retryable"] is True


def test_a_transaction_without_a_principal_sees_no_row(db: Session) -> None:
    db.add(Person(name="E", email="e@x.example", created_at=now()))
    db.flush()
    take_scope(db, NOBODY)
    assert db.scalar(select(func.count()).select_from(Person)) == 0
