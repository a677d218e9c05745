"""Statements and charges as pages to print: the weeks that were asked for, and every line."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.earnings.models import Earning
from market.earnings.queries import statement_totals
from market.fundings.models import Funding
from market.http import page_of
from market.invoices.queries import Weeks, charged_lines, lots_of_lines
from tests.factories import AT, make_project
from tests.market.test_budgets import HOUR, worked
from tests.market.test_console import send, token, visit, visit_as

Web = TestClient[Any]


def test_an_expert_prints_a_statement_of_the_weeks_it_asks_for(web: Web, db: Session) -> None:
    offer = worked(db, make_project(db, state="live"), 2 * HOUR)
    db.commit()
    visit_as(web, db, offer.expert_id)
    line = db.scalars(select(Earning)).one()
    shown = web.get("/console/expert/statement").text
    assert f"ear_{line.id.hex}" in shown
    assert "44.00" in shown
    later = web.get(f"/console/expert/statement?first={line.week + timedelta(days=7)}").text
    assert "Nothing earned in these weeks." in later
    assert f"ear_{line.id.hex}" not in later


def test_a_lab_prints_its_charges_and_sees_no_other_labs(web: Web, db: Session) -> None:
    lab = visit(web, db, Part.LAB)
    mine = worked(db, make_project(db, lab.organisation_id, state="live"), 2 * HOUR)
    other = worked(db, make_project(db, state="live"), HOUR)
    db.commit()
    shown = web.get("/console/lab/invoice").text
    assert f"ofr_{mine.id.hex}" in shown
    assert "52.80" in shown
    assert f"ofr_{other.id.hex}" not in shown
    # What the form sends when only one of its dates is filled in.
    assert "Nothing charged" in web.get("/console/lab/invoice?first=2099-01-05&last=").text
    (row,) = csv.DictReader(io.StringIO(web.get("/console/lab/invoice.csv?first=&last=").text))
    assert row["offer"] == f"ofr_{mine.id.hex}"


def test_lines_are_read_in_lots_and_pages_and_none_is_left_out(web: Web, db: Session) -> None:
    lab = visit(web, db, Part.LAB)
    for _ in range(3):
        worked(db, make_project(db, lab.organisation_id, state="live"), HOUR)
    db.commit()
    assert lab.organisation_id is not None
    weeks = Weeks(lab.organisation_id)
    lines = list(db.scalars(select(Earning.id).order_by(Earning.id)))
    lots = list(lots_of_lines(weeks, lot=2))
    assert [[line.earning.id for line in lot] for lot in lots] == [lines[:2], lines[2:]]
    rows, following = page_of(db, charged_lines(weeks), Earning.id, limit=2, cursor=None)
    rest, end = page_of(db, charged_lines(weeks), Earning.id, limit=2, cursor=following)
    assert sorted(row[0].id for row in [*rows, *rest]) == lines
    assert (following is not None, end) == (True, None)


def test_a_day_that_is_none_is_refused_on_a_page(web: Web, db: Session) -> None:
    visit(web, db, Part.LAB)
    refused = web.get("/console/lab/invoice?first=tomorrow")
    assert (refused.status_code, refused.headers["content-type"][:9]) == (400, "text/html")
    assert "first: " in refused.text


def test_a_page_to_print_ends_somewhere_and_says_where_the_rest_is(
    web: Web, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("market.console.lab_money.PRINTED", 1)
    lab = visit(web, db, Part.LAB)
    for _ in range(2):
        worked(db, make_project(db, lab.organisation_id, state="live"), HOUR)
    db.commit()
    assert "1 more line is not on this page" in web.get("/console/lab/invoice").text


def test_what_a_case_withheld_is_no_part_of_a_statements_totals(db: Session) -> None:
    offer = worked(db, make_project(db, state="live"), 2 * HOUR)
    (line,) = db.scalars(select(Earning).where(Earning.offer_id == offer.id))
    (total,) = statement_totals([(line, "P", "paid")])
    assert (total.seconds, total.pay_minor, total.paid_minor) == (2 * HOUR, 4_400, 4_400)
    (total,) = statement_totals([(line, "P", None)])
    assert total.paid_minor == 0
    db.expunge(line)
    line.state = "withheld"
    assert statement_totals([(line, "P", None)]) == []


def test_a_lab_asks_for_an_invoice_and_is_told_what_it_lacks(web: Web, db: Session) -> None:
    visit(web, db, Part.LAB)
    csrf = token(web, "/console/lab/money")

    def ask(email: str, days: str = "30") -> Any:
        return send(
            web,
            "/console/lab/fundings",
            csrf,
            amount="700.00",
            way="invoice",
            email=email,
            days_until_due=days,
        )

    assert ask("nobody").status_code == 422
    assert ask("a@lab.example", "91").status_code == 422
    assert ask("a@lab.example").headers["location"] == "/console/lab/money?said=invoice"
    funding = db.scalars(select(Funding)).one()
    assert (funding.amount_minor, funding.payment_method) == (70_000, None)
    funding.state = "invoiced"
    funding.invoice_number, funding.invoice_url = "A-1", "https://invoice.example/1"
    funding.due_at = AT
    db.commit()
    shown = web.get("/console/lab/money").text
    assert 'href="https://invoice.example/1"' in shown
    path = f"/console/lab/fundings/fnd_{funding.id.hex}/void"
    assert path in shown
    # Nothing was sent to Stripe here, so that there is nothing to take back yet.
    refused = send(web, path, csrf)
    assert refused.status_code == 409
    assert "planned" in refused.text
