"""What is to be expected: near misses, the next offer, a project's end, and why a task waits."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from litestar.testing import TestClient
from sqlalchemy.orm import Session

from market.auth import Part
from market.availability.rules import Window, week_of
from market.candidates.queries import candidates
from market.candidates.rules import id_at
from market.eligibility.actions import set_eligibility, widen_project
from market.eligibility.rules import Step
from market.explanations.queries import Availability, NearMiss, hindrances, work_for
from market.forecasts.queries import next_offer, project_forecast, waiting
from market.forecasts.rules import LOOKED_BACK_D, dispersion, least_days, seats_paid, time_for
from market.policies.rules import read_policy
from market.projects.models import Project
from market.seats.actions import activate_offer, complete_offer
from market.standings.actions import change_standing
from market.tasks.models import Task
from market.tasks.queries import tasks_open_to
from tests.factories import (
    AT,
    Caller,
    key_for,
    make_caller,
    make_expert,
    make_offer,
    make_project,
    make_task,
)
from tests.market.running import run_now

HOUR = 3600
BALANCED = read_policy({})


def availability(db: Session, expert_id: UUID, at: datetime = AT) -> Availability:
    found = work_for(db, expert_id, at=at)
    assert found is not None
    return found


def missed(db: Session, expert_id: UUID, at: datetime = AT) -> list[tuple[UUID, str]]:
    return [(one.project_id, one.code) for one in availability(db, expert_id, at).near_misses]


# Near misses --------------------------------------------------------------------------------------


def test_a_project_that_one_condition_keeps_away_is_named_with_it(db: Session) -> None:
    abroad = make_expert(db, country="US", domains=("chemistry.organic",))
    barred, leveled = make_project(db), make_project(db, minimum_level="qualified")
    fit, other = make_project(db), make_project(db, domains=("poetry",))
    for project in (barred, leveled, fit):
        make_task(db, project)
    make_task(db, other, domain="poetry")
    assert set_eligibility(
        db, barred.id, (Step('country = "CA"', 600), Step("everyone", None)), at=AT
    )
    widen_project(db, barred.id, at=AT)
    found = {one.project_id: one for one in availability(db, abroad.id).near_misses}
    assert found.keys() == {barred.id, leveled.id}
    assert found[barred.id] == NearMiss(
        barred.id,
        "project",
        1,
        "not_eligible",
        'you do not fulfil country = "CA"',
        AT + timedelta(seconds=600),
    )
    assert found[leveled.id].code == "level_not_shown"
    # Two short is not near.
    leveled.require_interest = True
    db.flush()
    assert missed(db, abroad.id) == [(barred.id, "not_eligible")]


def test_what_passes_by_itself_says_when(db: Session) -> None:
    project = make_project(db)
    make_task(db, project)
    tired = make_expert(db, weekly_hours=1)
    tired.weekly_hours = 0
    week = week_of([Window(day="sat", starts="10:00", ends="14:00")])
    weekend = make_expert(db, week=week)
    db.flush()
    assert missed(db, tired.id) == [(project.id, "no_hours_left")]
    near = availability(db, weekend.id).near_misses[0]
    assert (near.code, near.until) == ("outside_hours", datetime(2026, 3, 7, 10, tzinfo=UTC))
    codes = [code for code, _ in availability(db, weekend.id).reasons]
    assert codes == ["outside_hours"]


def test_a_limit_of_standing_reaches_the_domains_that_it_names(db: Session) -> None:
    expert = make_expert(db, domains=("chemistry", "law"))
    project = make_project(db, domains=("chemistry", "law"))
    organic = make_task(db, project, domain="chemistry.organic")
    general = make_task(db, project, domain="chemistry")
    make_task(db, project, domain="law")

    def open_to() -> set[str]:
        seen = candidates(db, BALANCED, project_id=project.id, at=AT)
        tasks = {id_at(seen.task_ids, task) for task in seen.pair_task.tolist()}
        listed = {row[0].id for row in db.execute(tasks_open_to(expert.id))}
        assert tasks == listed
        return {db.get_one(Task, one).domain for one in tasks}

    change = partial(change_standing, db, expert.id, at=AT, reason_code="quality", note="Case 7.")
    assert open_to() == {"chemistry.organic", "chemistry", "law"}
    change("watch")
    change("limit", domains=["chemistry.organic"], until=AT + timedelta(days=7))
    assert open_to() == {"chemistry", "law"}
    said = "the expert's standing is limited in the task's domain"
    assert hindrances(db, organic.id, expert.id, at=AT) == [said]
    assert hindrances(db, general.id, expert.id, at=AT) == []
    assert availability(db, expert.id).fitting_tasks == 2
    change("lift")
    assert len(open_to()) == 3


def test_a_limit_that_names_no_domain_reaches_all_of_them(db: Session) -> None:
    expert, project = make_expert(db), make_project(db)
    make_task(db, project)
    for step in ("watch", "limit"):
        change_standing(db, expert.id, step, at=AT, reason_code="quality", note="Case 7.")
    assert candidates(db, BALANCED, project_id=project.id, at=AT).pairs == 0
    assert missed(db, expert.id) == [(project.id, "domain_limited")]


# Pace ---------------------------------------------------------------------------------------------


def test_time_to_come_follows_the_pace_and_is_less_sure_where_less_is_known() -> None:
    steady = time_for(56, [2] * 28)
    assert steady is not None
    assert steady.high_d is not None
    assert steady.low_d < 28 < steady.high_d
    assert steady.median_d == pytest.approx(28, rel=0.03)
    little = time_for(2, [2] + [0] * 27)
    assert little is not None
    assert little.high_d is not None
    assert little.high_d / little.low_d > 4 * steady.high_d / steady.low_d
    # Days that differ more than chance says widen it.
    lumpy = time_for(56, [28, 28] + [0] * 26)
    assert lumpy is not None
    assert lumpy.low_d < steady.low_d
    assert time_for(5, [0] * 28) is None
    assert time_for(0, [1] * 28) is None
    bound = time_for(1, [50] * 28, least_d=3.0)
    assert bound is not None
    assert (bound.low_d, bound.median_d, bound.high_d) == (3.0, 3.0, 3.0)


def test_the_interval_holds_what_comes_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    held, tries = 0, 400
    for _ in range(tries):
        rate = rng.uniform(0.5, 6)
        told = time_for(30, rng.poisson(rate, 28).tolist())
        assert told is not None
        came = rng.gamma(30, 1 / rate)
        held += told.low_d <= came <= (told.high_d or np.inf)
    assert 0.75 <= held / tries <= 0.92


def test_small_sums_of_forecasts() -> None:
    assert dispersion([3, 3, 3]) == 1.0
    assert dispersion([9, 0, 0]) == pytest.approx(9.0)
    assert least_days(40 * HOUR, 20) == 14.0
    assert least_days(1, 0) is None
    assert (seats_paid(100, 40, 4), seats_paid(30, 40, 4), seats_paid(1, 0, 4)) == (4, 3, 4)


# Projects -----------------------------------------------------------------------------------------


def handed_in(db: Session, project: Project, expert_id: UUID, at: datetime) -> None:
    offer = make_offer(db, make_task(db, project, at=at), expert_id, at=at)
    activate_offer(db, offer.id, expert_id=expert_id, at=at)
    complete_offer(db, offer.id, expert_id=expert_id, at=at + timedelta(hours=1))


def test_a_forecast_counts_each_step_and_prices_the_work(db: Session) -> None:
    project = make_project(db, state="ready")
    for _ in range(3):
        make_task(db, project, expected_s=HOUR)
    for country in ("CA", "CA", "US", "DE"):
        make_expert(db, country=country, weekly_hours=10)
    make_expert(db, domains=("poetry",))
    make_expert(db, tier="T2", country="FR", weekly_hours=10)
    steps = (
        Step('country = "CA" and years.chemistry >= 0', 600),
        Step('country in ("CA", "US")', 600),
        Step("everyone", None),
    )
    set_eligibility(db, project.id, steps, at=AT)
    found = project_forecast(db, project, at=AT)
    assert [(one.experts, one.starts_after_s) for one in found.steps] == [
        (2, 0),
        (3, 600),
        (5, 1200),
    ]
    assert found.steps[0].costliest == 'country = "CA"'
    assert (found.seats, found.work_s, found.pace, found.finish) == (3, 3 * HOUR, None, None)
    assert found.least_d == pytest.approx(7 * 3 / 50)
    rates = (found.steps[2].rate_lowest, found.steps[2].rate_highest)
    assert rates[0] == 2200
    assert found.lowest_minor == 3 * (2200 + 440)
    assert found.expected_minor is not None
    assert found.highest_minor is not None
    assert found.lowest_minor < found.expected_minor < found.highest_minor


def test_a_forecast_rests_on_the_pool_and_later_on_the_project_itself(db: Session) -> None:
    expert, elsewhere = make_expert(db), make_project(db)
    project = make_project(db)
    for _ in range(4):
        make_task(db, project)
    for day in range(1, 15):
        handed_in(db, elsewhere, expert.id, AT - timedelta(days=day, hours=2))
    found = project_forecast(db, project, at=AT)
    assert found.pace is not None
    assert (found.pace.kind, found.pace.answers, found.pace.experts) == ("pool", 14, 1)
    assert found.finish is not None
    assert found.finish.median_d == pytest.approx(8, rel=0.2)
    handed_in(db, project, expert.id, AT - timedelta(days=1))
    own = project_forecast(db, project, at=AT)
    assert own.pace is not None
    assert (own.pace.kind, own.pace.answers) == ("project", 1)
    assert own.finish is not None
    assert own.finish.median_d > found.finish.median_d
    # What is older than the record does not count.
    old = project_forecast(db, project, at=AT + timedelta(days=LOOKED_BACK_D + 1))
    assert old.pace is None


def test_the_next_offer_is_told_from_offers_of_the_domain(db: Session) -> None:
    one, other = make_expert(db), make_expert(db)
    poet = make_expert(db, domains=("poetry",))
    assert next_offer(db, one.id, at=AT) is None
    project = make_project(db)
    for day in range(1, 8):
        task = make_task(db, project, at=AT - timedelta(days=day))
        make_offer(db, task, other.id, accepted=False, at=AT - timedelta(days=day))
    found = next_offer(db, one.id, at=AT)
    assert found is not None
    assert (found.offers, found.experts) == (7, 2)
    # Seven offers in four weeks to two people: one in eight days each, and half of the time sooner.
    assert 4 < found.interval.median_d < 8
    assert next_offer(db, poet.id, at=AT) is None


# Tasks --------------------------------------------------------------------------------------------


def test_a_task_that_waits_says_what_binds_and_whom_each_condition_leaves(db: Session) -> None:
    project = make_project(db)
    task = make_task(db, project, expected_s=2 * HOUR)
    assert waiting(db, task, at=AT).rule == "domain"
    make_expert(db, country="US", weekly_hours=1)
    set_eligibility(db, project.id, (Step('country = "CA"', None),), at=AT)
    found = waiting(db, task, at=AT)
    assert (found.rule, dict(found.left)["level"]) == ("eligibility", 1)
    set_eligibility(db, project.id, (Step("everyone", None),), at=AT)
    assert waiting(db, task, at=AT).rule == "capacity"
    week = week_of([Window(day="mon", starts="09:00", ends="10:00")])
    make_expert(db, week=week)
    found = waiting(db, task, at=AT)
    assert (found.rule, dict(found.left)["interest"], dict(found.left)["hours"]) == (
        "capacity",
        2,
        1,
    )
    make_expert(db)
    found = waiting(db, task, at=AT)
    assert (found.rule, dict(found.left)["capacity"], found.run_id) == ("next_run", 1, None)
    run = run_now(db)
    found = waiting(db, task, at=datetime.now(UTC))
    assert (found.rule, found.offers_out, found.run_id) == ("offered", 1, run.id)
    assert found.price is not None
    project.state = "paused"
    db.flush()
    assert waiting(db, task, at=AT).sentence == "the project is paused"


# Over HTTP ----------------------------------------------------------------------------------------


def test_forecasts_over_http_hide_few_people_from_a_lab(db: Session, web: TestClient[Any]) -> None:
    lab, ops = make_caller(db, web, Part.LAB), make_caller(db, web, Part.OPS)
    stranger = make_caller(db, web, Part.LAB)
    project = make_project(db, lab.organisation_id)
    task = make_task(db, project, expected_s=HOUR)
    expert = make_expert(db)
    db.commit()
    path = f"/v1/projects/prj_{project.id.hex}/forecast"
    told = lab.get(path)
    assert told.status_code == 200, told.text
    body = told.json()
    assert (body["answers_wanted"], body["work_hours"]) == (1, 1.0)
    assert body["steps"][0]["experts"] is None
    assert body["cost"]["expected"] is None
    assert body["finish"] is None
    assert "nothing was handed in" in body["unfounded"]
    whole = ops.get(path).json()
    assert whole["steps"][0]["experts"] == 1
    assert whole["cost"]["expected"] == {"amount_minor": 2640, "currency": "USD"}
    assert whole["cost"]["seats_paid"] == 1
    assert stranger.get(path).status_code == 404
    why = lab.get(f"/v1/tasks/tsk_{task.id.hex}/waiting").json()
    assert (why["rule"], why["open_seats"]) == ("next_run", 1)
    assert why["sentence"] == "some experts fit; the next run decides who gets it"
    assert {one["experts"] for one in why["left"]} == {None}
    assert stranger.get(f"/v1/tasks/tsk_{task.id.hex}/waiting").status_code == 404
    me: Caller = key_for(db, web, expert.id, Part.EXPERT)
    mine = me.get("/v1/work-availability").json()
    assert (mine["fitting_tasks"], mine["near_misses"], mine["next_offer"]) == (1, [], None)
    for _ in range(4):
        make_expert(db)
    db.commit()
    assert lab.get(path).json()["steps"][0]["experts"] == 5
