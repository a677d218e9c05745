"""Long work that is stopped: whoever asked says so, the job sees it, and nothing comes of it."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.books.actions import open_check
from market.books.jobs import check_books_now
from market.db import PLATFORM, database
from market.http import read_id, wire_id
from market.operations import Operation, end_operation, open_operation, report_progress
from market.predictions.actions import request_refit
from market.predictions.models import StumpFit
from market.predictions.queries import in_force, present
from market.previews import jobs
from market.previews.actions import end_preview
from market.previews.models import PolicyPreview
from market.previews.queries import preview
from market.quality.jobs import refit_stump_model
from market.runs.actions import request_check
from market.runs.jobs import check_run
from tests.factories import AT, Caller, make_caller
from tests.market.reviewed import STUMP, cast, hand_in
from tests.market.test_console import come_in, send, token
from tests.market.test_previews import drawn_run, published, stretch

React = Callable[[], list[str]]


@pytest.fixture
def ops(db: Session, web: TestClient[Any]) -> Caller:
    return make_caller(db, web, Part.OPS)


def stopped(ops: Caller, operation: Operation) -> dict[str, Any]:
    """An operation as it is told by whoever stops it."""
    answer = ops.post(f"/v1/operations/{wire_id('opn', operation.id)}/cancel")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_a_check_and_a_preview_are_stopped_before_and_in_the_middle_and_nothing_comes_of_them(
    db: Session, ops: Caller, web: TestClient[Any], react: React, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = read_id("mrn", drawn_run(db))
    react()
    check = request_check(db, run_id, at=AT)
    assert stopped(ops, check)["state"] == "cancelled"
    check_run(str(run_id))
    db.refresh(check)
    # The run that was to be checked has ended as it had.
    ran = db.scalars(select(Operation).where(Operation.subject_id == run_id)).all()
    assert sorted(one.state for one in ran) == ["cancelled", "succeeded"]
    assert check.result is None
    body = stretch(policy_id=published(ops, {"weights": {"stump": 2.0}}))
    asked = ops.post("/v1/policy-previews", json=body)
    address = f"/console/ops/policies/previews/{asked.json()['id']}"
    come_in(web, ops)
    assert send(web, f"{address}/stop", token(web, address)).status_code == 303
    assert "preview_policy" in react()
    found = preview(db, read_id("pvw", asked.json()["id"]))
    assert (found.result, found.ended_at is None) == (None, False)
    assert ops.get(asked.headers["location"]).json()["state"] == "cancelled"
    assert "It was stopped" in web.get(address).text
    # One that is replaying leaves it at its next look, and keeps nothing if it came to the end.
    ops.post("/v1/policy-previews", json=body)
    other = db.scalars(select(PolicyPreview).where(PolicyPreview.ended_at.is_(None))).one()
    monkeypatch.setattr(jobs, "LOOK_EVERY_S", 0.0)
    tell = jobs._progress(other.id, "replaying")
    tell(1, 3)
    operation = db.scalars(select(Operation).where(Operation.subject_id == other.id)).one()
    assert (operation.state, operation.done) == ("running", 1)
    assert stopped(ops, operation)["state"] == "cancelled"
    with pytest.raises(jobs.NotWanted):
        tell(2, 3)
    end_preview(db, other.id, at=AT, result={"sentence": "It came to the end."})
    assert (other.result, other.ended_at) == (None, AT)
    assert stopped(ops, operation)["state"] == "cancelled"


def test_a_refit_that_is_stopped_leaves_the_version_in_force_and_another_can_be_asked_for(
    db: Session, ops: Caller, react: React
) -> None:
    cast(db, hand_in(db, reviews=1), STUMP)
    react()
    before = in_force(db)
    operation = request_refit(db, at=AT)
    assert stopped(ops, operation)["state"] == "cancelled"
    fit = db.scalars(select(StumpFit)).one()
    assert (fit.state, fit.ended_at is None) == ("failed", False)
    refit_stump_model(str(fit.id))
    react()
    assert in_force(db) is before
    assert before is not None
    assert present(db).version_id == before.id
    again = request_refit(db, at=AT)
    assert again.id != operation.id
    react()
    assert stopped(ops, again)["state"] == "succeeded"
    assert in_force(db) is not before


def test_a_look_at_the_books_is_stopped(db: Session, ops: Caller) -> None:
    look = open_check(db, by=ops.person_id, at=AT)
    assert stopped(ops, look)["state"] == "cancelled"
    check_books_now(str(look.subject_id))
    db.expire_all()
    assert (look.state, look.result) == ("cancelled", None)


def test_what_was_stopped_tells_no_progress_and_does_not_end_otherwise(db: Session) -> None:
    subject = uuid4()
    with database.begin(PLATFORM) as session:
        found = open_operation(session, "books_check", subject, at=AT, organisation_id=None)
        found.state = "cancelled"
        session.flush()
        report_progress(session, subject, phase="on", done=1, total=2, at=AT)
        end_operation(session, subject, at=AT, result={"all": "well"})
    db.expire_all()
    assert (found.state, found.done, found.result) == ("cancelled", 0, None)
