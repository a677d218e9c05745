"""Predictions that went wrong are told once, looked at once, and levels are read each week."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
from litestar.testing import TestClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from market.alarms.actions import watch_calibration_of, watch_reviewers
from market.alarms.jobs import read_frontier, watch_calibration
from market.alarms.models import DriftAlarm, FrontierReading
from market.alarms.rules import WATCHED
from market.auth import Part
from market.db import new_id
from market.events import Event, EventRow
from market.predictions.actions import learn_outcomes
from market.predictions.models import Observation
from market.predictions.rules import Outcome
from market.quality.queries import known_answers
from market.reviews.actions import claim_review
from market.votes.actions import record_vote
from tests.factories import AT, make_caller, make_expert, make_project
from tests.market.reviewed import ACCEPT, LATER, REJECT, make_reviewer, review_ids
from tests.market.test_console import check_guards, visit
from tests.market.test_golds import answered, gold_in, put


def learned(db: Session, target_model_id: UUID, *, predicted: float, rate: float) -> None:
    """A hundred verdicts of a rate of stumps, of which something else was predicted."""
    rng = np.random.default_rng(3)
    experts = [new_id() for _ in range(10)]
    told = []
    for n in range(100):
        stumped = float(rng.random() < rate)
        told.append(
            Outcome(
                kind="verdict",
                subject_id=new_id(),
                version=1,
                project_id=new_id(),
                task_id=new_id(),
                expert_id=experts[n % 10],
                domain="chemistry",
                target_model_id=target_model_id,
                level=2,
                at=AT + timedelta(minutes=n),
                start=1.0,
                fooled=stumped,
                valid=1.0 if stumped else None,
            )
        )
    learn_outcomes(db, told, at=AT)
    db.execute(
        update(Observation)
        .where(Observation.predicted_stump.is_(None))
        .values(predicted_fooled=predicted, predicted_valid=1.0, predicted_stump=predicted)
    )


def model_of(db: Session) -> UUID:
    found = make_project(db).target_model_id
    assert found is not None
    return found


def test_predictions_that_went_wrong_are_told_once_and_looked_at_once(
    db: Session, web: TestClient[Any]
) -> None:
    model = model_of(db)
    learned(db, model, predicted=0.8, rate=0.3)
    watch_calibration("today")
    alarm = db.scalars(select(DriftAlarm)).one()
    assert alarm.expected > 0.7 > 0.5 > alarm.came
    told = db.scalars(select(EventRow).where(EventRow.type == Event.QUALITY_ALERT.value)).one()
    assert told.data["kind"] == "drift"
    for _ in range(3):
        # Each time what comes after the last alarm is watched anew, until all of it is seen.
        watch_calibration("today")
    before = len(db.scalars(select(DriftAlarm)).all())
    watch_calibration("tomorrow")
    raised = db.scalars(select(DriftAlarm)).all()
    assert len(raised) == len({one.seq for one in raised})
    assert len(raised) - before <= 1

    ops = make_caller(db, web, Part.OPS)
    listed = ops.get("/v1/alarms", params={"is_open": True}).json()
    assert listed[-1]["kind"] == "drift"
    address = f"/v1/alarms/{listed[-1]['id']}/acknowledge"
    seen = ops.post(address, json={"note": "a release that nobody told of"}).json()
    assert seen["acknowledged_by"] == f"per_{ops.person_id.hex}"
    assert ops.post(address, json={"note": "again"}).json() == seen
    still = ops.get("/v1/alarms", params={"is_open": True}).json()
    assert len(still) == len(listed) - 1
    assert ops.get("/v1/alarms", params={"is_open": False}).json() == [seen]
    unknown = ops.post(f"/v1/alarms/alm_{new_id().hex}/acknowledge", json={"note": "x"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert make_caller(db, web, Part.LAB).get("/v1/alarms").status_code == 403


def test_predictions_that_hold_are_left_alone(db: Session) -> None:
    model = model_of(db)
    learned(db, model, predicted=0.6, rate=0.6)
    assert watch_calibration_of(db, "chemistry", model, at=AT) is None


def test_every_level_is_read_once_a_week(db: Session, web: TestClient[Any]) -> None:
    learned(db, model_of(db), predicted=0.6, rate=0.6)
    read_frontier("week 1")
    read_frontier("week 1")  # A queue may deliver twice.
    read_frontier("week 2")
    rows = db.scalars(select(FrontierReading).order_by(FrontierReading.slot)).all()
    assert [row.slot for row in rows] == ["week 1", "week 2"]
    assert rows[0].low < 0.6 < rows[0].high
    assert rows[0].claims == 100
    read = make_caller(db, web, Part.OPS).get("/v1/frontier/readings").json()
    assert [one["complexity"] for one in read] == [3, 3]
    assert read[0]["productive_low"] <= read[0]["productive"] <= read[0]["productive_high"]


def test_a_reviewer_who_votes_against_what_is_known_is_told_once_and_others_are_not(
    db: Session, web: TestClient[Any]
) -> None:
    project = make_project(db, budget_minor=10**9, reviews_per_submission=2)
    gold_in(db, project, "g-1")
    careless, careful = make_reviewer(db), make_reviewer(db)
    for nth in range(6):
        # A slip or two is no alarm.
        assert nth > 2 or watch_reviewers(db, at=LATER) == 0
        expert = make_expert(db)
        # Work that is known to be wrong: one takes it, the other does not.
        handed = answered(db, put(db, project, expert.id), expert.id, "13")
        for review_id, reviewer, vote in zip(
            review_ids(db, handed), (careless, careful), (ACCEPT, REJECT), strict=True
        ):
            claim_review(db, review_id, reviewer_id=reviewer, at=LATER)
            record_vote(db, review_id, reviewer_id=reviewer, vote=vote, at=LATER)
    assert known_answers(db, since=AT) == {careless: (0, 6), careful: (6, 0)}
    assert watch_reviewers(db, at=LATER) == 1
    assert watch_reviewers(db, at=LATER) == 0
    (told,) = db.scalars(select(EventRow).where(EventRow.type == Event.QUALITY_ALERT.value))
    assert (told.person_id, told.organisation_id) == (careless, None)
    assert told.data["reason"].startswith("Of 6 votes on work whose answer is known, 0 were right")
    ops = make_caller(db, web, Part.OPS)
    (listed,) = ops.get("/v1/alarms", params={"is_open": True}).json()
    assert (listed["kind"], listed["person_id"]) == ("reviewer", f"per_{careless.hex}")
    visit(web, db, Part.OPS)
    page = web.get("/console/ops/signals/alarms")
    check_guards(page)
    assert "votes against what is known" in page.text
    noted = ops.post(f"/v1/alarms/{listed['id']}/acknowledge", json={"note": "we talked"})
    assert noted.json()["note"] == "we talked"
    # What was so long ago says nothing any more.
    assert watch_reviewers(db, at=LATER + 2 * WATCHED) == 0
    (ended,) = ops.get("/v1/alarms").json()
    assert ended["ended_at"] is not None
    assert watch_reviewers(db, at=LATER) == 1
