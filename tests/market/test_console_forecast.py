"""A lab's pages on what to expect of a project, and on why its tasks wait."""

from typing import Any

from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from tests.factories import AT, make_expert, make_offer, make_project, make_task
from tests.market.test_console import check_guards, visit

Web = TestClient[Any]


def test_a_lab_reads_before_a_launch_whom_each_step_takes_and_what_it_costs(
    web: Web, db: Session
) -> None:
    lab = visit(web, db, Part.LAB)
    project = make_project(db, lab.organisation_id, state="ready", at=AT)
    for _ in range(3):
        make_task(db, project)
    for _ in range(5):
        make_expert(db)
    db.commit()
    base = f"/console/lab/projects/prj_{project.id.hex}"
    shown = web.get(f"{base}/forecast")
    check_guards(shown)
    assert shown.status_code == 200
    assert "<dt>Answers wanted</dt><dd>3<" in shown.text
    assert "<dt>Experts</dt><dd>5<" in shown.text
    assert "there is no pace to go by" in shown.text
    assert f'href="{base}/forecast"' in web.get(base).text
    other = make_project(db, at=AT)
    db.commit()
    for page in ("forecast", "waiting"):
        hidden = web.get(f"/console/lab/projects/prj_{other.id.hex}/{page}")
        assert hidden.status_code == 404


def test_a_lab_reads_why_its_tasks_wait_and_not_who_is_few(web: Web, db: Session) -> None:
    lab = visit(web, db, Part.LAB)
    project = make_project(db, lab.organisation_id, at=AT)
    base = f"/console/lab/projects/prj_{project.id.hex}/waiting"
    db.commit()
    assert "No task waits." in web.get(base).text
    taken, open_one = make_task(db, project), make_task(db, project)
    make_offer(db, taken, make_expert(db).id)
    db.commit()
    shown = web.get(base)
    check_guards(shown)
    assert open_one.external_id in shown.text
    assert taken.external_id not in shown.text
    assert "some experts fit; the next run decides who gets it" in shown.text
    assert "fewer than 5" in shown.text
