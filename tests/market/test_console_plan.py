"""The page on which a lab says how work is reviewed."""

from typing import Any

from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from market.http import wire_id
from market.review_plans.actions import set_plan
from market.review_plans.queries import newest_plan
from market.review_plans.rules import PLAIN, Check, FurtherLevel, Plan, SampleRule
from tests.factories import AT, make_project
from tests.market.test_console import check_guards, send, token, visit


def test_a_lab_says_on_a_page_how_work_is_reviewed_and_keeps_what_the_page_has_no_field_for(
    db: Session, web: TestClient[Any]
) -> None:
    lab = visit(web, db, Part.LAB)
    project = make_project(db, lab.organisation_id)
    db.commit()
    base = f"/console/lab/projects/{wire_id('prj', project.id)}"
    path = f"{base}/plan"
    assert f'href="{path}"' in web.get(base).text
    check_guards(web.get(path))
    assert "Nothing is said yet" in web.get(path).text
    csrf = token(web, path)
    assert newest_plan(db, project.id) == (0, PLAIN)
    said = {"control": "10", "adjudicate": "ties", "max_rework": "1", "rework_hours": "24"}
    assert send(web, path, csrf, **said, rejected="burn").status_code == 422
    assert send(web, path, csrf, **said, rate="101").status_code == 422
    drawn = {"rate": "20", "min_decided": "30", "min_accepted": "80", "above": "5"}
    done = send(web, path, csrf, **said, **drawn, rejected="drop", stop_early="yes")
    assert done.headers["location"] == f"{path}?said=plan-set"
    wanted = Plan(
        control_rate=0.1,
        rules=(SampleRule(rate=0.2, min_decided=30, min_accepted=0.8),),
        stop_early=True,
        further=(FurtherLevel(level=2, rate=0.05),),
        max_rework=1,
        rework_within_s=24 * 3600,
        rejected="drop",
    )
    assert newest_plan(db, project.id) == (1, wanted)
    # What came over the API, finer and more of it, is shown and outlives the form.
    fine = Plan(
        control_rate=0.125,
        rules=(SampleRule(rate=0.015, min_decided=9), SampleRule(rate=0.5)),
        rework_within_s=5_000,
        authority="checklist",
        checks=(Check(field="answer", kind="least_words", number=5),),
    )
    set_plan(db, project.id, fine, at=AT)
    db.commit()
    shown = web.get(path).text
    assert "So many rules are changed over the API" in shown
    assert "checklist" in shown
    kept = {"control": "12.5", "adjudicate": "ties", "max_rework": "2", "rework_hours": "1"}
    assert send(web, path, csrf, **kept, rejected="drop", stop_early="no").status_code == 303
    version, plan = newest_plan(db, project.id)
    assert (version, plan.rejected) == (3, "drop")
    assert (plan.rules, plan.checks, plan.control_rate) == (fine.rules, fine.checks, 0.125)
    assert (plan.rework_within_s, plan.further) == (5_000, ())
