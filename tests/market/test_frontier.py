"""A level that runs dry, told through the service."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from litestar.testing import TestClient
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from market.auth import Part
from market.db import new_id
from market.events import Event, EventRow
from market.predictions.actions import learn_outcomes
from market.predictions.rules import Outcome
from market.projects.models import TargetModel
from market.projects.rules import ModelVersion
from market.quality.actions import watch_cell
from market.quality.models import FrontierAlarm, FrontierState
from market.quality.queries import Cell, claims
from market.quality.rules import weeks_of
from market.releases.actions import announce_release
from matching.frontier import FrontierTracker
from tests.factories import AT, make_caller, make_organisation, make_project


def test_a_level_that_runs_dry_is_told_once_with_the_next_complexity(
    db: Session, web: TestClient[Any]
) -> None:
    model = TargetModel(
        organisation_id=make_organisation(db),
        name="target",
        base_url="http://127.0.0.1:1",
        model="m-2",
        sealed_key=None,
        created_at=AT,
    )
    db.add(model)
    db.flush()
    rng = np.random.default_rng(7)
    experts = [new_id() for _ in range(20)]
    project = new_id()

    def told(rate: float, count: int, week: int) -> list[Outcome]:
        found = []
        for n in range(count):
            stumped = float(rng.random() < rate)
            found.append(
                Outcome(
                    kind="verdict",
                    subject_id=new_id(),
                    version=1,
                    project_id=project,
                    task_id=new_id(),
                    expert_id=experts[n % len(experts)],
                    domain="chemistry",
                    target_model_id=model.id,
                    level=2,
                    at=AT + timedelta(weeks=week, minutes=n),
                    start=1.0,
                    fooled=stumped,
                    valid=1.0 if stumped else None,
                )
            )
        return found

    cell = Cell("chemistry", 2, model.id)
    assert watch_cell(db, cell, at=AT) is None
    learn_outcomes(db, told(0.8, 40, 0), at=AT)
    assert watch_cell(db, cell, at=AT) is None
    learn_outcomes(db, told(0.02, 40, 1), at=AT)
    alarm = watch_cell(db, cell, at=AT)
    assert alarm is not None
    assert alarm.rate < alarm.opening
    first = db.scalar(text("select min(seq) from market.observation"))
    assert 0 <= alarm.seq - first - 40 < 15
    assert alarm.low <= alarm.productive <= alarm.high
    assert alarm.proposed_level is None or alarm.proposed_level >= 2
    # What comes after an alarm is a new opening: it is not told again.
    assert watch_cell(db, cell, at=AT) is None
    assert len(db.scalars(select(FrontierAlarm)).all()) == 1
    events = db.scalars(select(EventRow).where(EventRow.type == Event.QUALITY_ALERT.value)).all()
    assert [event.data["complexity"] for event in events] == [3]
    frontier = make_caller(db, web, Part.OPS).get("/v1/frontier").json()
    rates = [week["rate"] for week in frontier["cells"][0]["weeks"]]
    assert rates[0] > 0.6 > 0.4 > rates[-1]
    assert frontier["alarms"][0]["complexity"] == 3
    assert db.scalar(text("select count(*) from market.observation")) == 80


def test_a_level_that_is_dry_against_a_new_version_is_told_by_how_it_opened_before(
    db: Session,
) -> None:
    earlier = make_project(db).target_model_id
    assert earlier is not None
    told = announce_release(db, earlier, ModelVersion("next", "m-3"), at=AT)
    rng = np.random.default_rng(5)
    experts = [new_id() for _ in range(20)]

    def learned(model: UUID, rate: float) -> None:
        learn_outcomes(
            db,
            [
                Outcome(
                    kind="verdict",
                    subject_id=new_id(),
                    version=1,
                    project_id=new_id(),
                    task_id=new_id(),
                    expert_id=experts[n % len(experts)],
                    domain="chemistry",
                    target_model_id=model,
                    level=2,
                    at=AT + timedelta(minutes=n),
                    start=1.0,
                    fooled=float(rng.random() < rate),
                    valid=1.0,
                )
                for n in range(40)
            ],
            at=AT,
        )

    learned(earlier, 0.8)
    learned(told.target_model_id, 0.05)
    cell = Cell("chemistry", 2, told.target_model_id)
    alarm = watch_cell(db, cell, at=AT)
    assert alarm is not None
    assert alarm.opening > 0.6 > 0.4 > alarm.rate
    assert watch_cell(db, cell, at=AT) is None
    assert watch_cell(db, Cell("chemistry", 2, earlier), at=AT) is None


def outcome(model: UUID, n: int, stumped: float, **given: Any) -> Outcome:
    """One piece of work at a level, decided."""
    return Outcome(
        kind="verdict",
        subject_id=given.get("subject_id", new_id()),
        version=given.get("version", 1),
        project_id=new_id(),
        task_id=new_id(),
        expert_id=new_id(),
        domain="chemistry",
        target_model_id=model,
        level=2,
        at=AT + timedelta(hours=n),
        start=1.0,
        fooled=stumped,
        valid=1.0 if stumped else None,
    )


def test_a_level_that_is_asked_about_after_each_verdict_stands_as_if_all_were_followed_at_once(
    db: Session,
) -> None:
    model = make_project(db).target_model_id
    assert model is not None
    cell = Cell("chemistry", 2, model)
    rng = np.random.default_rng(3)
    told = [outcome(model, n, float(rng.random() < 0.6)) for n in range(36)]

    def whole() -> list[float]:
        follower = FrontierTracker()
        rows = claims(db, cell)
        number = follower.open(at=weeks_of(rows[0][0]))
        for at, stump in rows:
            follower.observe(number, stump, at=weeks_of(at))
        return follower.kept(number)

    for one in told:
        learn_outcomes(db, [one], at=AT)
        assert watch_cell(db, cell, at=AT) is None
    state = db.scalars(select(FrontierState)).one()
    assert state.state == pytest.approx(whole())
    assert state.seq == db.scalar(text("select max(seq) from market.observation"))
    # A verdict that is corrected is not counted twice, nor as it stood before.
    first = told[0]
    again = outcome(model, 40, 1.0 - (first.fooled or 0.0), subject_id=first.subject_id, version=2)
    learn_outcomes(db, [again], at=AT)
    assert watch_cell(db, cell, at=AT) is None
    assert state.state == pytest.approx(whole())
    assert len(claims(db, cell)) == 36
