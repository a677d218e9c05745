"""The time of tests and of baselines is paid, at a rate that is known before they begin."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.baselines.actions import answer_eval_item, create_eval_set, put_eval_item
from market.baselines.rules import Design, Item
from market.books.queries import untrue
from market.db import new_id, now
from market.earnings.models import Earning
from market.earnings.rules import week_of
from market.projects.models import Project
from market.qualifications.actions import (
    begin_qualification,
    grade_qualification,
    invite_to_qualify,
)
from market.sitting_pay.actions import accrue_baseline, accrue_sitting
from market.sitting_pay.jobs import pay_left_baselines
from market.sitting_pay.rules import HOUSE, TESTS
from market.sittings.actions import start_sitting
from market.wages.queries import own_wages
from payouts import chart
from payouts.invariants import violations
from payouts.ledger import balance
from payouts.pay import pay_minor
from tests.factories import AT, key_for, make_caller, make_expert, make_project
from tests.market.banked import BANK, make_bank, seat, sit
from tests.market.test_console import come_in

React = Callable[[], list[str]]
Web = TestClient[Any]


def test_the_time_before_the_items_of_a_test_is_a_line_of_pay_that_can_be_paid_out_at_once(
    db: Session, react: React
) -> None:
    make_bank(db)
    row = seat(db)
    answered = sit(db, row, lambda _: True)
    db.commit()
    assert "pay_sitting" in react()
    line = db.scalars(select(Earning).where(Earning.expert_id == row.person_id)).one()
    # Each answer came twenty seconds after its item; nothing else is paid, and nothing less.
    assert (line.kind, line.seconds) == ("sitting", 20 * answered)
    assert line.pay_minor == pay_minor(20 * answered, 3000)
    assert (line.state, line.source_id, line.fee_minor) == ("approved", row.id, 0)
    assert line.week == week_of(AT)
    (wage,) = own_wages(db, row.person_id)
    assert (wage.pay_minor, wage.test_s, wage.work_s) == (line.pay_minor, 20 * answered, 0)
    owed = balance(db, chart.owed_to(row.person_id))
    assert owed.available_minor == line.pay_minor
    # The platform's own project, in which no work is offered.
    assert (line.project_id, line.organisation_id) == (TESTS, HOUSE)
    assert db.get_one(Project, TESTS).state == "draft"
    assert accrue_sitting(db, row.id, at=AT) is None
    second = seat(db)
    sit(db, second, lambda _: False)
    assert accrue_sitting(db, second.id, at=AT) is not None
    assert violations(db) == []
    assert untrue(db) == []


def test_a_test_is_unpaid_only_by_a_recorded_reason_that_is_read_before_it_begins(
    db: Session, web: Web
) -> None:
    make_bank(db)
    ops = make_caller(db, web, Part.OPS)
    expert = key_for(db, web, make_expert(db).id, Part.EXPERT)
    asked: dict[str, Any] = {"person_id": f"per_{expert.person_id.hex}", "domain": BANK}
    refused = ops.post("/v1/qualifications", json={**asked, "unpaid_reason": "no"})
    assert (refused.status_code, refused.json()["field"]) == (422, "unpaid_reason")
    why = "A second try in one week, which its taker asked for."
    made = ops.post("/v1/qualifications", json={**asked, "unpaid_reason": why}).json()
    seen = expert.get(f"/v1/qualifications/{made['id']}").json()
    assert (seen["state"], seen["unpaid_reason"]) == ("invited", why)
    assert seen["pay_minor_per_hour"] is None
    row = start_sitting(db, UUID(made["id"][4:]), person_id=expert.person_id, at=now())
    answered = sit(db, row, lambda _: True, at=now())
    assert accrue_sitting(db, row.id, at=now()) is None
    assert db.scalars(select(Earning)).all() == []
    db.commit()
    # Its minutes are in what the expert earned an hour all the same.
    (wage,) = expert.get("/v1/experts/me/wage").json()
    assert (wage["pay_minor"], wage["work_s"], wage["minor_per_hour"]) == (0, 0, 0)
    assert wage["test_s"] == 20 * answered


def test_a_new_rate_is_published_and_holds_for_invitations_from_then_on(
    db: Session, web: Web
) -> None:
    make_bank(db)
    ops = make_caller(db, web, Part.OPS)
    expert = key_for(db, web, make_expert(db).id, Part.EXPERT)
    before = invite_to_qualify(db, expert.person_id, domain="chemistry", at=now())
    assert expert.get("/v1/sitting-rate").json()["rate_minor_per_hour"] == 3000
    rise: dict[str, Any] = {"rate_minor_per_hour": 4200, "note": "Experts of this kind cost more."}
    assert expert.post("/v1/sitting-rates", json=rise).status_code == 403
    assert ops.post("/v1/sitting-rates", json=rise).status_code == 201
    assert expert.get("/v1/sitting-rate").json()["rate_minor_per_hour"] == 4200
    after = invite_to_qualify(db, expert.person_id, domain=BANK, at=now())
    assert (before.pay_minor_per_hour, after.pay_minor_per_hour) == (3000, 4200)
    shown = expert.get(f"/v1/qualifications/qua_{after.id.hex}").json()
    assert (shown["pay_minor_per_hour"], shown["pay_currency"]) == (4200, "USD")
    for wrong in ({"rate_minor_per_hour": 0}, {"note": "why"}):
        assert ops.post("/v1/sitting-rates", json={**rise, **wrong}).status_code == 422


@pytest.mark.parametrize(("budget", "fee"), [(1_000_000, True), (0, False)])
def test_the_time_of_a_baseline_is_paid_by_its_project_once_as_far_as_it_went(
    db: Session, budget: int, fee: bool
) -> None:
    project = make_project(db, rate_minor_per_hour=6000, budget_minor=budget)
    items = tuple(Item(f"{n} + 1?", (str(n + 1),)) for n in range(20))
    design = Design("Sums", "chemistry", 1, 60, 3, items)
    found = create_eval_set(db, project, design, by=new_id(), at=AT)
    person_id = make_expert(db).id
    asked = invite_to_qualify(db, person_id, domain="chemistry", at=AT)
    begin_qualification(db, asked.id, person_id=person_id, at=AT)
    grade_qualification(db, asked.id, score=90, at=AT)

    def answer(count: int) -> None:
        for _ in range(count):
            put = put_eval_item(db, found.id, person_id=person_id, at=AT)
            assert put is not None
            later = AT + timedelta(seconds=30)
            answer_eval_item(db, found.id, put[0].number, "1", person_id=person_id, at=later)

    answer(4)
    db.commit()
    # Whoever leaves is paid for what was answered, and for the rest if it comes back.
    first = accrue_baseline(db, found.id, person_id, at=AT)
    assert first is not None
    assert (first.seconds, first.pay_minor) == (120, 200)
    assert accrue_baseline(db, found.id, person_id, at=AT) is None
    answer(16)
    rest = accrue_baseline(db, found.id, person_id, at=AT)
    assert rest is not None
    assert (rest.seconds, rest.pay_minor, rest.project_id) == (480, 800, project.id)
    assert (rest.fee_minor > 0) is fee
    assert balance(db, chart.owed_to(person_id)).available_minor == 1000
    pay_left_baselines("a day")
    assert len(db.scalars(select(Earning)).all()) == 2
    assert violations(db) == []
    assert untrue(db) == []


def test_who_reviews_is_paid_for_its_tests_and_reads_its_pay(
    db: Session, web: Web, react: React
) -> None:
    make_bank(db)
    row = seat(db)
    sit(db, row, lambda _: True)
    db.commit()
    react()
    line = db.scalars(select(Earning).where(Earning.expert_id == row.person_id)).one()
    assert line.note is not None
    reviewer = key_for(db, web, row.person_id, Part.REVIEWER)
    (told,) = reviewer.get("/v1/earnings").json()["items"]
    assert (told["kind"], told["pay_minor"]) == ("sitting", line.pay_minor)
    # It stands in the statement under what it is for.
    (stated,) = reviewer.get("/v1/statement").json()["lines"]
    assert stated["project"] == line.note
    assert line.note in reviewer.get("/v1/earnings.csv").text
    (owed,) = reviewer.get("/v1/earnings/balance").json()
    assert owed["currency"] == "USD"
    line_url = f"/v1/earnings/ear_{line.id.hex}"
    seen = reviewer.get(line_url).json()
    assert seen["kind"] == "sitting"
    assert sum(one["paid_s"] for one in seen["minutes"]) == line.seconds
    for path in ("/v1/pay-calendar", "/v1/payouts", "/v1/fraud-cases", "/v1/recovery-cases"):
        assert reviewer.get(path).status_code == 200, path
    made = reviewer.post("/v1/payees/me", json={"country": "US"})
    assert made.status_code == 201, made.text
    assert reviewer.get("/v1/payees/me").json()["is_ready"] is False
    expert = key_for(db, web, row.person_id, Part.EXPERT)
    come_in(web, expert)
    assert line.note in web.get("/console/expert/earnings").text
    page = web.get(f"/console/expert/earnings/ear_{line.id.hex}")
    assert page.text.count('data-name="Item"') == len(seen["minutes"])
    come_in(web, reviewer)
    page = web.get("/console/reviewer/earnings")
    assert line.note in page.text
    assert 'action="/console/reviewer/onboarding"' in page.text
    # Nobody else's.
    other = make_caller(db, web, Part.REVIEWER)
    assert other.get("/v1/earnings").json()["items"] == []
    assert other.get(line_url).status_code == 404
