"""Pages on lift and on gold: a lab draws batches and reports, ops look on; a lab keeps its gold."""

import re
from typing import Any

from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.golds.models import Gold
from market.lifts.models import LiftBatch, LiftStudy
from tests.factories import make_expert, make_project
from tests.market.reviewed import make_senior, settled
from tests.market.test_console import check_guards, token, visit
from tests.market.test_lifts import EACH, PEOPLE, React, delivered

Web = TestClient[Any]


def form(web: Web, page: str, **fields: str) -> dict[str, str]:
    """A form of a page with what is typed into it."""
    once = re.search(r'name="once" value="([^"]+)"', web.get(page).text)
    return {"csrf": token(web, page), "once": once.group(1) if once else "", **fields}


def test_a_lab_draws_batches_reports_them_and_reads_whose_items_added_what(
    web: Web, db: Session, react: React
) -> None:
    lab = visit(web, db, Part.LAB)
    experts = [make_expert(db).id for _ in range(PEOPLE)]
    project = delivered(db, lab, experts, EACH)
    db.commit()
    base = f"/console/lab/projects/prj_{project.id.hex}"
    assert f'href="{base}/lift"' in web.get(base).text
    few = form(web, f"{base}/lift", metric="accuracy", batches="199")
    refused = web.post(f"{base}/lift", data=few)
    assert refused.status_code == 422
    assert "two a batch" in refused.text
    drawn = form(web, f"{base}/lift", metric="accuracy", batches="8")
    sent = web.post(f"{base}/lift", data=drawn, follow_redirects=False)
    assert sent.status_code == 303
    study = db.scalars(select(LiftStudy)).one()
    page = f"/console/lab/lift/lft_{study.id.hex}"
    assert sent.headers["location"].startswith(page)
    batches = db.scalars(select(LiftBatch).order_by(LiftBatch.number)).all()
    file = web.get(f"/console/lab/lift-batches/lfb_{batches[1].id.hex}/items.jsonl")
    assert len(file.text.splitlines()) == batches[1].items
    assert "per_" not in file.text
    assert (
        "a number" in web.post(page, data=form(web, page, **{f"lfb_{batches[0].id.hex}": "x"})).text
    )
    told = {f"lfb_{one.id.hex}": str(0.5 + 0.01 * one.items) for one in batches}
    assert web.post(page, data=form(web, page, **told), follow_redirects=False).status_code == 303
    react()
    shown = web.get(page)
    check_guards(shown)
    assert "<h2>Contributors</h2>" in shown.text
    assert shown.text.count('class="mono">per_') == PEOPLE
    assert web.get(f"{page}/lift.svg").status_code == 200
    assert "accuracy" in web.get("/console/lab/lift").text
    visit(web, db, Part.OPS)
    assert "accuracy" in web.get("/console/ops/signals/lift").text
    looked = web.get(f"/console/ops/signals/lift/lft_{study.id.hex}")
    assert "<h2>Contributors</h2>" in looked.text
    assert "<button>Report</button>" not in looked.text
    visit(web, db, Part.LAB)
    assert web.get(page).status_code == 404


def test_a_lab_adds_gold_on_its_page_and_retires_it(web: Web, db: Session) -> None:
    lab = visit(web, db, Part.LAB)
    project = make_project(db, lab.organisation_id)
    db.commit()
    page = f"/console/lab/projects/prj_{project.id.hex}/golds"
    assert "No gold yet." in web.get(page).text
    typed = {"external_id": "g-1", "instructions": "6 x 7?", "answers": "42\nforty-two"}
    wrong = web.post(page, data=form(web, page, **typed, domain="law"))
    assert wrong.status_code == 422
    assert "one of the project" in wrong.text
    right = form(web, page, **typed, domain="chemistry")
    assert web.post(page, data=right, follow_redirects=False).status_code == 303
    item = db.scalars(select(Gold)).one()
    assert (item.answers, item.payload) == (["42", "forty-two"], {"instructions": "6 x 7?"})
    retire = f"/console/lab/golds/gld_{item.id.hex}/retire"
    assert web.post(retire, data=form(web, page), follow_redirects=False).status_code == 303
    shown = web.get(page)
    check_guards(shown)
    assert "you withdrew it" in shown.text


def test_a_lab_makes_gold_of_what_a_senior_settled_on_its_page(web: Web, db: Session) -> None:
    lab = visit(web, db, Part.LAB)
    project = make_project(db, lab.organisation_id, reviews_per_submission=2)
    handed = settled(db, project.id, make_senior(db), payload={"answer": "42"})
    db.commit()
    page = f"/console/lab/projects/prj_{project.id.hex}/golds"
    shown = web.get(page)
    check_guards(shown)
    assert "answer: 42" in shown.text
    accept = f"/console/lab/submissions/sub_{handed.id.hex}/gold"
    wrong = web.post(accept, data=form(web, page, field="nothing"))
    assert (wrong.status_code, db.scalars(select(Gold)).all()) == (422, [])
    answer = web.post(accept, data=form(web, page, field="answer"), follow_redirects=False)
    assert answer.status_code == 303
    assert db.scalars(select(Gold)).one().answers == ["42"]
    assert "Make it gold" not in web.get(page).text
