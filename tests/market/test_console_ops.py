"""Pages of ops and finance without a browser: what they show, what their forms do, and charts."""

import re
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from market.books.queries import check_under_way
from market.broker import DeadLetter
from market.console import charts
from market.console.charts import Chart, Series, svg_of
from market.db import now
from market.earnings.rules import week_of
from market.http import wire_id
from market.operations import end_operation
from market.payout_runs.models import PayoutRun
from tests.factories import AT
from tests.market.test_console import come_in, send, token, visit

Web = TestClient[Any]
MONEY = "/console/ops/money"
POLICIES = "/console/ops/policies"
PAGES = (
    "/console/ops/signals",
    MONEY,
    f"{MONEY}/runs",
    f"{MONEY}/holds",
    f"{MONEY}/reconciliation",
    f"{MONEY}/reconciliation?ended=true",
    f"{MONEY}/disputes",
    POLICIES,
    f"{POLICIES}/previews",
    f"{POLICIES}/experiments",
    f"{POLICIES}/experiments?of=running",
    f"{POLICIES}/experiments/new",
    "/console/ops/cases",
    "/console/ops/rules",
    "/console/ops/signals/agreement",
    "/console/ops/cases?ended=true",
    "/console/ops/audit",
    f"/console/ops/audit?about=prj_{'0' * 32}",
    "/console/ops/audit?about=nothing&of=offer.accepted",
    "/console/ops/audit/accesses?about=nothing&of=read",
    "/console/ops/webhooks",
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
    assert (run.state, wire_id("prn", run.id) in path) == ("cancelling", True)
    assert "What was not sent is being taken out" in web.get(path).text


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
        f"{POLICIES}/plc_{'0' * 32}/approve",
        f"{POLICIES}/plc_{'0' * 32}/use",
        f"{POLICIES}/experiments/exp_{'0' * 32}/start",
        f"{POLICIES}/experiments/exp_{'0' * 32}/promote",
        f"/console/ops/queues/dlt_{'0' * 32}/replay",
        f"/console/ops/cases/appeals/apl_{'0' * 32}/take",
        f"/console/ops/cases/pay/rcv_{'0' * 32}/decide",
        f"/console/ops/runs/mrn_{'0' * 32}/check",
        f"/console/ops/runs/mrn_{'0' * 32}/cancel",
    ],
)
def test_a_form_about_something_that_is_not_there_is_refused_on_a_page(
    web: Web, db: Session, path: str
) -> None:
    visit(web, db, Part.OPS)
    csrf = token(web, f"{MONEY}/runs")
    note = "A reason that says enough, with what it rests on and by which rule it is so."
    fields = {"note": note, "how": "explained", "reason": "retry"}
    fields["outcome"] = "dismiss"
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


def _settings_of(page: str) -> dict[str, str]:
    """What the form of a proposal holds before anybody types."""
    found = dict(
        re.findall(r'<input id="([^"]+)" name="[^"]+" inputmode="decimal" value="([^"]*)"', page)
    )
    return {**found, "floor": "0"}


def _propose(web: Web, csrf: str, **changes: str) -> httpx.Response:
    """Propose a version that changes some settings of the one that is obeyed."""
    path = re.search(r'href="([^"]+/propose)"', web.get(POLICIES).text)
    assert path is not None
    fields = {**_settings_of(web.get(path[1]).text), "reason": "Chemistry waits too long."}
    return send(web, path[1], csrf, **{**fields, **changes})


def test_a_policy_is_proposed_read_in_words_put_to_use_and_taken_back(
    web: Web, db: Session
) -> None:
    visit(web, db, Part.OPS)
    csrf = token(web, POLICIES)
    answer = _propose(web, csrf, **{"weights.urgency": "0.2"})
    assert answer.status_code == 303, answer.text
    path = answer.headers["location"].partition("?")[0]
    shown = web.get(path).text
    assert "Urgency counts 2 times as much" in shown
    assert web.get(f"{path}/weights.svg").headers["content-type"].startswith("image/svg+xml")
    assert send(web, f"{path}/use", csrf, note="Tried on last week.").status_code == 303
    assert "obeyed</span></h1>" in web.get(path).text
    assert send(web, f"{POLICIES}/return", csrf).status_code == 303
    assert "Put it to use" in web.get(path).text


def test_a_large_change_waits_for_somebody_else_and_its_author_cannot_approve_it(
    web: Web, db: Session
) -> None:
    author = visit(web, db, Part.OPS)
    csrf = token(web, POLICIES)
    path = _propose(web, csrf, randomness="0.5").headers["location"].partition("?")[0]
    assert "somebody else has to" in web.get(path).text
    assert send(web, f"{path}/use", csrf, note="Now.").status_code == 409
    assert send(web, f"{path}/approve", csrf, note="Mine.").status_code in (403, 409)
    visit(web, db, Part.OPS)
    second = token(web, path)
    assert send(web, f"{path}/approve", second, note="It is right.").status_code == 303
    assert "Approved by" in web.get(path).text
    come_in(web, author)
    assert send(web, f"{path}/use", token(web, path), note="Now.").status_code == 303


def test_a_worthless_policy_and_a_second_editor_are_refused_and_the_form_keeps_what_was_typed(
    web: Web, db: Session
) -> None:
    visit(web, db, Part.OPS)
    csrf = token(web, POLICIES)
    gains = ("stump", "quality", "interest", "affinity", "learning", "urgency")
    void = _propose(web, csrf, **{f"weights.{name}": "0" for name in gains})
    assert void.status_code == 422
    assert "every pair is worth nothing" in void.text
    assert _propose(web, csrf, **{"weights.urgency": "0.2"}).status_code == 303
    # Somebody else had the form of the same version open all the while.
    late = _propose(web, csrf, **{"weights.urgency": "0.3"})
    assert late.status_code == 412
    assert "is at version 2 now" in late.text
    assert 'value="0.3"' in late.text


@pytest.mark.parametrize("typed", ["-1", "nan", "1e9", "a lot", ""])
def test_a_setting_that_is_out_of_range_is_refused_and_the_form_keeps_what_was_typed(
    web: Web, db: Session, typed: str
) -> None:
    visit(web, db, Part.OPS)
    answer = _propose(web, token(web, POLICIES), **{"weights.stump": typed, "share_cap": "0.75"})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    assert 'value="0.75"' in answer.text
    assert "Chemistry waits too long." in answer.text


def test_dead_letters_are_run_again_or_dropped_with_a_reason(web: Web, db: Session) -> None:
    visit(web, db, Part.OPS)
    letters = [
        DeadLetter(
            queue="default", job=job, subject=str(AT.year), error="ValueError: <b>", died_at=AT
        )
        for job in ("learn_verdict", "gone")
    ]
    db.add_all(letters)
    db.flush()
    csrf = token(web, "/console/ops/queues")
    assert "ValueError: &lt;b&gt;" in web.get("/console/ops/queues").text
    again, gone = (f"/console/ops/queues/{wire_id('dlt', one.id)}" for one in letters)
    assert send(web, f"{gone}/replay", csrf).status_code >= 400
    assert send(web, f"{gone}/drop", csrf).status_code == 422
    assert send(web, f"{gone}/drop", csrf, note="No such job.").status_code == 303
    assert send(web, f"{again}/replay", csrf).status_code == 303
    for one in letters:
        db.refresh(one)
    assert [one.settlement for one in letters] == ["queued again", "dropped: No such job."]
    assert "Dead letter replayed" in web.get("/console/ops/audit").text


def test_what_a_check_of_the_books_found_stands_on_the_page_of_money(web: Web, db: Session) -> None:
    visit(web, db, Part.OPS)
    assert "not checked yet" in web.get(MONEY).text
    send(web, f"{MONEY}/checks", token(web, MONEY))
    asked = check_under_way(db, at=now())
    assert asked is not None
    assert "Being checked" in web.get(MONEY).text
    found = {"violations": 1, "broken_by": {"I1": ["entry <7>"], "I2": []}}
    end_operation(db, asked.subject_id, at=AT, result=found)
    db.commit()
    shown = web.get(MONEY).text
    assert "1 violation at" in shown
    assert "Not true of entry &lt;7&gt;." in shown
