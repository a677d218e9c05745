"""Why no work is offered: the exact reason, as a code."""

from uuid import UUID

from litestar import Litestar
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from market.explanations.queries import work_for
from tests.factories import AT, key_for, make_expert, make_project, make_task
from tests.market.test_people import bearer

Web = TestClient[Litestar]


def codes(db: Session, expert_id: UUID) -> list[str]:
    found = work_for(db, expert_id, at=AT)
    assert found is not None
    return [code for code, _ in found.reasons]


def test_with_no_live_project_there_is_no_open_task(db: Session) -> None:
    expert = make_expert(db, at=AT)
    assert codes(db, expert.id) == ["no_open_task"]


def test_open_work_that_fits_waits_for_the_next_run(db: Session) -> None:
    expert = make_expert(db, at=AT)
    make_task(db, make_project(db))
    assert codes(db, expert.id) == ["next_run"]


def test_open_work_of_other_domains_is_named_as_such(db: Session) -> None:
    expert = make_expert(db, at=AT, domains=("poetry.sonnets",))
    make_task(db, make_project(db))
    assert codes(db, expert.id) == ["no_domain_match"]


def test_a_full_hand_a_full_week_and_a_suspension_are_told_apart(db: Session) -> None:
    make_task(db, make_project(db))
    tired = make_expert(db, at=AT)
    tired.weekly_hours = 0
    away = make_expert(db, at=AT)
    db.flush()
    assert codes(db, tired.id) == ["no_hours_left"]
    away.state = "watched"
    db.flush()
    assert codes(db, away.id) == ["next_run"]


def test_a_project_for_the_interested_asks_for_interest(db: Session) -> None:
    expert = make_expert(db, at=AT)
    project = make_project(db)
    project.require_interest = True
    make_task(db, project)
    db.flush()
    assert codes(db, expert.id) == ["interest_needed"]


def test_the_expert_asks_over_http_and_a_stranger_has_no_profile(web: Web, db: Session) -> None:
    expert = make_expert(db, at=AT)
    make_task(db, make_project(db))
    caller = key_for(db, web, expert.id, Part.EXPERT)
    answer = web.get("/v1/work-availability", headers=bearer(caller.key))
    assert answer.status_code == 200, answer.text
    assert answer.json()["fitting_tasks"] == 1
    assert answer.json()["reasons"][0]["code"] == "next_run"
