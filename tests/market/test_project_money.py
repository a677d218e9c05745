"""What a project costs its lab, and the models that it tests."""

from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part, keyring
from market.db import database
from market.errors import MarketError
from market.projects.actions import (
    allocate_budget,
    close_project,
    move_project,
    settle_project,
)
from market.projects.models import Project, TargetModel
from market.projects.queries import budget
from market.projects.rules import BaseUrlInvalid, check_base_url
from market.tasks.jobs import settle_projects
from market.tasks.models import TaskSlot
from payouts.chart import lab_funding, owed_to, project_budget
from payouts.ledger import Line, balance, post_pending, reserve
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
)
from tests.races import at_once

MODEL = {"name": "frontier", "base_url": "http://127.0.0.1:9/v1", "model": "f-1", "key": "sk-1"}


@pytest.fixture
def lab(db: Session, web: TestClient[Any]) -> Caller:
    return make_caller(db, web, Part.LAB)


# Money --------------------------------------------------------------------------------------------


def test_a_budget_comes_from_the_labs_free_money_once_under_its_key(
    db: Session, lab: Caller
) -> None:
    project = make_project(db, lab.organisation_id, state="draft", budget_minor=0)
    assert lab.organisation_id is not None
    give_money(db, lab.organisation_id, 1_000)
    db.commit()
    path = f"/v1/projects/prj_{project.id.hex}/budget"
    money = {"amount_minor": 600, "currency": "USD"}
    assert lab.post(path, json=money).json()["code"] == "idempotency_key_missing"
    first = lab.post(path, json=money, headers={"Idempotency-Key": "k"})
    again = lab.post(path, json=money, headers={"Idempotency-Key": "k"})
    assert (first.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    other = lab.post(path, json={**money, "amount_minor": 5}, headers={"Idempotency-Key": "k"})
    assert other.json()["code"] == "idempotency_key_reused"
    short = lab.post(path, json=money, headers={"Idempotency-Key": "k2"})
    assert (short.status_code, short.json()["code"]) == (409, "funds_short")
    assert (short.json()["available_minor"], short.json()["wanted_minor"]) == (400, 600)
    for wrong, code in (
        ({"amount_minor": 0, "currency": "USD"}, "invalid_body"),
        ({"amount_minor": 10**25, "currency": "USD"}, "invalid_body"),
        ({"amount_minor": 1.5, "currency": "USD"}, "invalid_body"),
        ({"amount_minor": 5, "currency": "EUR"}, "budget_currency_wrong"),
        ({"amount_minor": 5, "currency": "ZZZ"}, "currency_unknown"),
    ):
        answer = lab.post(path, json=wrong, headers={"Idempotency-Key": "w"})
        assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text
    assert lab.get(path).json()["funded"]["amount_minor"] == 600
    assert balance(db, lab_funding(lab.organisation_id)).available_minor == 400


def test_a_budget_tells_what_is_promised_spent_and_free_and_its_rest_goes_back(
    db: Session,
) -> None:
    project = make_project(db, budget_minor=10_000, state="draining")
    lab_id, expert = project.organisation_id, make_expert(db)
    escrow = project_budget(project.id, lab_id)
    for number, amount in enumerate((3_000, 2_000)):
        lines = [Line(escrow, owed_to(expert.id), amount)]
        reserve(db, key=f"r{number}", kind="J3", lines=lines, at=AT)
    paid = [Line(escrow, owed_to(expert.id), 1_000)]
    post_pending(db, "r0", key="p0", lines=paid, at=AT)
    now = budget(db, project)
    assert (now.funded_minor, now.reserved_minor, now.spent_minor, now.free_minor) == (
        10_000,
        2_000,
        1_000,
        7_000,
    )
    assert now.funded_minor == now.reserved_minor + now.spent_minor + now.free_minor
    settle_project(db, project.id, at=AT)
    close_project(db, project.id, at=AT)
    after = budget(db, project)
    assert (after.funded_minor, after.reserved_minor, after.spent_minor, after.free_minor) == (
        3_000,
        2_000,
        1_000,
        0,
    )
    assert balance(db, lab_funding(lab_id)).available_minor == 7_000


def test_a_draining_project_settles_and_closes_by_itself_when_nothing_is_under_way(
    db: Session,
) -> None:
    project = make_project(db, state="draining")
    task = make_task(db, project)
    slot = db.scalars(select(TaskSlot).where(TaskSlot.task_id == task.id)).one()
    slot.state, slot.offer_id = "offered", task.id
    db.commit()
    settle_projects("now")
    db.refresh(project)
    assert project.state == "draining"
    for state, expected in (("claimed", "draining"), ("submitted", "settling")):
        slot.state = state
        db.commit()
        settle_projects("now")
        db.refresh(project)
        assert project.state == expected
    slot.state = "counted"
    db.commit()
    settle_projects("now")
    settle_projects("now")
    db.refresh(project)
    assert project.state == "closed"
    assert budget(db, project).free_minor == 0
    assert project.closed_at is not None
    too_late = project.closed_at + timedelta(days=31)
    with pytest.raises(MarketError, match="30 days"):
        move_project(db, project.id, "reopen", at=too_late)


def test_two_budgets_cannot_both_take_the_last_of_a_labs_money(committed: str) -> None:
    del committed
    with database.begin() as session:
        lab_id = make_organisation(session)
        projects = [make_project(session, lab_id, budget_minor=0).id for _ in range(6)]
        give_money(session, lab_id, 1_000)

    def take(project_id: UUID) -> str:
        with database.begin() as session:
            money = Money(400, "USD")
            return allocate_budget(session, project_id, money, key=f"{project_id}", at=AT).kind

    taken = at_once([partial(take, one) for one in projects])
    assert sorted(type(one).__name__ for one in taken) == ["FundsShort"] * 4 + ["str"] * 2
    with database.begin() as session:
        assert balance(session, lab_funding(lab_id)).available_minor == 200


def test_of_two_moves_at_once_one_wins(committed: str) -> None:
    del committed
    with database.begin() as session:
        project_id = make_project(session).id

    def go(action: str) -> str:
        with database.begin() as session:
            return move_project(
                session, project_id, action, at=AT, reason_code="manual", note="x"
            ).state

    states = at_once([partial(go, "pause")] * 3)
    assert [one for one in states if one == "paused"] == ["paused"]
    with database.begin() as session:
        assert session.get_one(Project, project_id).version == 2


# Target models ------------------------------------------------------------------------------------


def test_the_key_of_a_target_model_is_sealed_and_never_told(db: Session, lab: Caller) -> None:
    made = lab.post("/v1/target-models", json={**MODEL, "price_in_minor": "7.5"})
    assert (made.status_code, made.json()["has_key"]) == (201, True), made.text
    assert made.json()["price_in_minor"] == "7.5"
    model = db.scalars(
        select(TargetModel).where(TargetModel.organisation_id == lab.organisation_id)
    ).one()
    assert model.sealed_key is not None
    assert b"sk-1" not in model.sealed_key
    assert keyring.unseal(model.sealed_key) == b"sk-1"
    path = f"/v1/target-models/{made.json()['id']}"
    told = lab.get(path).text + lab.get("/v1/target-models").text + made.text
    assert "sk-1" not in told
    assert "sealed" not in told
    assert lab.patch(path, json={"samples": 3}).status_code == 428
    kept = lab.patch(path, json={"samples": 3}, headers={"If-Match": '"1"'})
    assert (kept.json()["samples"], kept.json()["has_key"]) == (3, True)
    gone = lab.patch(path, json={"key": ""}, headers={"If-Match": '"2"'})
    assert gone.json()["has_key"] is False


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"base_url": "ftp://models.example/v1"}, "base_url_invalid"),
        ({"base_url": "models.example"}, "base_url_invalid"),
        ({"base_url": "https://"}, "base_url_invalid"),
        ({"base_url": "https://a:b@models.example"}, "base_url_invalid"),
        ({"base_url": "https://models.example:99999"}, "base_url_invalid"),
        ({"base_url": "https://models.example/v1?x=1"}, "base_url_invalid"),
        ({"base_url": "https://[::1"}, "base_url_invalid"),
        ({"base_url": "https://models.example/\x00"}, "base_url_invalid"),
        ({"timeout_s": 0}, "invalid_body"),
        ({"samples": 10**20}, "invalid_body"),
        ({"price_in_minor": "NaN"}, "project_field_invalid"),
        ({"price_out_minor": "-1"}, "project_field_invalid"),
        ({"price_out_minor": "1e400"}, "project_field_invalid"),
        ({"price_out_minor": "dear"}, "invalid_body"),
        ({"secret": "x"}, "invalid_body"),
    ],
)
def test_a_target_model_that_cannot_be_asked_is_refused(
    lab: Caller, change: dict[str, object], code: str
) -> None:
    answer = lab.post("/v1/target-models", json={**MODEL, **change})
    assert (answer.status_code, answer.json()["code"]) == (422, code), answer.text


def test_plain_addresses_of_models_are_taken() -> None:
    for url in ("https://api.example/v1", "http://127.0.0.1:8080", "http://[::1]:9/v1/"):
        check_base_url(url)
    with pytest.raises(BaseUrlInvalid):
        check_base_url("https://" + "x" * 2000)
