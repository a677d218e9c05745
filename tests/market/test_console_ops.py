"""Pages of ops and finance without a browser: what they show, what their forms do, and charts."""

import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from market.console import charts
from market.console.charts import Chart, Series, svg_of
from market.earnings.rules import week_of
from market.http import wire_id
from market.treasury.models import PayoutRun
from tests.market.test_console import come_in, send, token, visit

Web = TestClient[Any]
MONEY = "/console/ops/money"
PAGES = (
    "/console/ops/signals",
    MONEY,
    f"{MONEY}/runs",
    f"{MONEY}/holds",
    f"{MONEY}/reconciliation",
    f"{MONEY}/reconciliation?ended=true",
    f"{MONEY}/disputes",
)
CHARTS = ("levels", "calibration", "spread", "runs", "pay")
WITH_ALL = Chart(
    "Title & <b>",
    "A sentence.",
    "Predicted",
    "Came",
    (
        Series("points", (0.1, 0.5), (0.2, 0.4), (0.1, 0.3), (0.3, 0.9), "points"),
        Series("band", (0.1, 0.9), (0.2, 0.4), (0.1, 0.3), (0.3, 0.9)),
    ),
    x_unit="share",
    y_unit="share",
    even_line="As predicted",
)


@pytest.mark.parametrize("path", PAGES)
def test_pages_of_ops_read_well_with_nothing_on_them(web: Web, db: Session, path: str) -> None:
    visit(web, db, Part.OPS)
    answer = web.get(path)
    assert answer.status_code == 200
    assert "<h1>" in answer.text


def test_every_chart_answers_as_a_picture_that_browsers_keep_by_its_digest(
    web: Web, db: Session
) -> None:
    visit(web, db, Part.OPS)
    for name in CHARTS:
        answer = web.get(f"/console/ops/charts/{name}.svg")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("image/svg+xml")
        assert "no-cache" in answer.headers["cache-control"]
        digest = answer.headers["etag"].strip('"').removesuffix("-light")
        kept = web.get(f"/console/ops/charts/{name}.svg?v={digest}&scheme=dark")
        assert "immutable" in kept.headers["cache-control"]
    assert web.get("/console/ops/charts/none.svg").status_code == 404


def test_a_chart_is_the_same_bytes_each_time_and_names_no_day() -> None:
    drawn = svg_of(WITH_ALL, "light")
    charts._drawn.cache_clear()
    assert svg_of(WITH_ALL, "light") == drawn
    assert b"<dc:date>" not in drawn
    assert svg_of(WITH_ALL, "dark") != drawn
    ElementTree.fromstring(drawn)


def test_the_table_beside_a_chart_has_every_number_of_it() -> None:
    assert WITH_ALL.heads == ("Predicted", "points", "band")
    nbsp = "\u00a0"
    said = [tuple(cell.replace(nbsp, " ") for cell in row) for row in WITH_ALL.rows]
    assert said == [
        ("10.0 %", "20.0 % (10.0 % to 30.0 %)", "20.0 % (10.0 % to 30.0 %)"),
        ("50.0 %", "40.0 % (30.0 % to 90.0 %)", "–"),
        ("90.0 %", "–", "40.0 % (30.0 % to 90.0 %)"),
    ]


def test_finance_asks_for_a_payout_run_and_stops_it_with_a_reason(web: Web, db: Session) -> None:
    visit(web, db, Part.OPS)
    csrf = token(web, f"{MONEY}/runs")
    period = week_of(datetime.now(UTC)).isoformat()
    answer = send(web, f"{MONEY}/runs", csrf, period_end=period)
    assert answer.status_code == 303
    path = answer.headers["location"].partition("?")[0]
    assert "Payouts are being prepared" in web.get(path).text
    refused = send(web, f"{path}/cancel", csrf, note="short")
    assert refused.status_code == 422
    assert send(web, f"{path}/cancel", csrf, note="Asked for by mistake.").status_code == 303
    run = db.query(PayoutRun).one()
    db.refresh(run)
    assert (run.state, wire_id("prn", run.id) in path) == ("cancelled", True)


def test_a_period_that_has_not_ended_is_refused_in_words(web: Web, db: Session) -> None:
    visit(web, db, Part.OPS)
    csrf = token(web, f"{MONEY}/runs")
    ahead = (week_of(datetime.now(UTC)) + timedelta(weeks=1)).isoformat()
    for period in (ahead, "next week"):
        assert send(web, f"{MONEY}/runs", csrf, period_end=period).status_code == 422


def test_a_reconciliation_is_asked_for_from_the_page(web: Web, db: Session) -> None:
    visit(web, db, Part.OPS)
    csrf = token(web, f"{MONEY}/reconciliation")
    answer = send(web, f"{MONEY}/reconciliation", csrf)
    assert answer.status_code == 303
    assert "being matched" in web.get(answer.headers["location"]).text


@pytest.mark.parametrize(
    "path",
    [
        f"{MONEY}/holds/hld_{'0' * 32}/end",
        f"{MONEY}/breaks/brk_{'0' * 32}/take",
        f"{MONEY}/breaks/brk_{'0' * 32}/end",
        f"{MONEY}/disputes/cdp_{'0' * 32}",
        f"{MONEY}/payouts/pay_{'0' * 32}/withdraw",
        f"{MONEY}/payouts/pay_{'0' * 32}/recall",
        f"{MONEY}/payouts/pay_{'0' * 32}/again",
        f"{MONEY}/calls/cal_{'0' * 32}/approve",
    ],
)
def test_a_form_about_something_that_is_not_there_is_refused_on_a_page(
    web: Web, db: Session, path: str
) -> None:
    visit(web, db, Part.OPS)
    csrf = token(web, f"{MONEY}/runs")
    fields = {"note": "A reason that says enough.", "how": "explained", "reason": "retry"}
    answer = send(web, path, csrf, **fields)
    assert answer.status_code == 404
    assert "text/html" in answer.headers["content-type"]
    # Whoever types the address of a form is led to the start.
    assert web.get(path, follow_redirects=False).status_code in (303, 404)


def test_nobody_but_ops_reads_or_moves_money(web: Web, db: Session) -> None:
    for part in (Part.LAB, Part.EXPERT, Part.REVIEWER):
        caller = visit(web, db, part)
        for path in (*PAGES, "/console/ops/charts/pay.svg"):
            assert web.get(path, follow_redirects=False).status_code == 303
        assert come_in(web, caller).status_code == 303
