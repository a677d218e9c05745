"""Service targets: a breach of each is alerted once, burn-down, and how queues go."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from market.auth import Part
from market.events import Event, EventRow
from market.http import wire_id
from market.inbox.queries import recipients
from market.inbox.rules import NOTICES
from market.offers.actions import expire_offer
from market.targets.actions import (
    end_target,
    set_project_targets,
    set_queue_target,
    watch_target,
)
from market.targets.jobs import watch_targets
from market.targets.models import ServiceTarget, TargetMiss
from market.targets.queries import pools, seen
from market.targets.rules import (
    Goal,
    TargetNotFound,
    TargetUnfit,
    burn_down,
    check_goal,
    share_seen,
    volume_seen,
)
from tests.factories import AT, make_caller, make_expert, make_offer, make_project, make_task
from tests.market.reviewed import hand_in, make_decided
from tests.market.test_console import send, token, visit

Web = TestClient[Any]
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def alerts(db: Session) -> list[EventRow]:
    wanted = select(EventRow).where(EventRow.type == Event.QUALITY_ALERT.value)
    return list(db.scalars(wanted.order_by(EventRow.position)))


def test_a_breach_of_each_target_is_alerted_exactly_once_to_lab_and_ops(
    db: Session, web: Web
) -> None:
    lab, ops = make_caller(db, web, Part.LAB), make_caller(db, web, Part.OPS)
    assert lab.organisation_id is not None
    project = make_project(db, lab.organisation_id, budget_minor=10**9)
    made = set_project_targets(
        db,
        project.id,
        [
            Goal("speed", 3600.0),
            Goal("volume", 20.0, AT + 10 * DAY),
            Goal("quality", 0.9),
        ],
        at=AT,
    )
    # Eight a day late and half of them rejected: slower, fewer and worse than is wanted.
    who = make_expert(db).id
    make_decided(db, project, who, *([True, False] * 4), at=AT + DAY, every=HOUR, waited=5 * HOUR)
    at = AT + 6 * DAY
    for look in range(3):
        for target in made:
            watch_target(db, target.id, at=at + look * HOUR)
    told = alerts(db)
    assert sorted(row.data["kind"] for row in told) == ["quality", "speed", "volume"]
    for row in told:
        assert row.organisation_id == lab.organisation_id
        people = set(recipients(db, NOTICES[row.type], row))
        assert {lab.person_id, ops.person_id} <= people
    # It is met again, and missed once more: that is another breach.
    speed, volume, quality = made
    minute = timedelta(minutes=1)
    make_decided(db, project, who, *([True] * 40), at=at, every=minute, waited=30 * minute)
    later = at + HOUR
    for target in made:
        assert watch_target(db, target.id, at=later) is None
    assert [one.met_at for one in db.scalars(select(TargetMiss))] == [later] * 3
    assert not seen(db, quality, at=later).is_missed
    assert watch_target(db, speed.id, at=later) is None
    make_decided(db, project, who, *([True] * 60), at=later, every=0 * minute, waited=3 * HOUR)
    assert watch_target(db, speed.id, at=later + HOUR) is not None
    assert len(alerts(db)) == 4
    assert seen(db, volume, at=later).value == 104


def test_what_waits_counts_so_that_a_halt_is_no_speed(db: Session) -> None:
    project = make_project(db, budget_minor=10**9)
    (target,) = set_project_targets(db, project.id, [Goal("speed", 3600.0)], at=AT)
    for _ in range(5):
        task = make_task(db, project)
        hand_in(db, offer=make_offer(db, task, make_expert(db).id))
    assert not seen(db, target, at=AT + HOUR / 2).is_missed
    assert seen(db, target, at=AT + 3 * HOUR).is_missed


def test_a_share_is_missed_only_beyond_doubt_and_a_volume_behind_its_even_line() -> None:
    goal = Goal("quality", 0.8)
    assert not share_seen(goal, 3, 5).is_missed
    assert share_seen(goal, 30, 50).is_missed
    assert not share_seen(goal, 0, 4).is_missed
    assert share_seen(goal, 42, 50).is_met
    assert share_seen(Goal("expiry", 0.2), 30, 50, is_most=True).is_missed
    wanted = Goal("volume", 100.0, AT + 10 * DAY)
    assert not volume_seen(wanted, 41, since=AT, at=AT + 5 * DAY).is_missed
    assert volume_seen(wanted, 39, since=AT, at=AT + 5 * DAY).is_missed
    assert volume_seen(wanted, 99, since=AT, at=AT + 10 * DAY).is_missed
    points = burn_down(wanted, [(AT, 10), (AT + DAY, 30)], since=AT, at=AT + 2 * DAY)
    assert [one.left for one in points] == [100, 90, 60]
    assert [one.even for one in points] == [100, 90, 80]


@pytest.mark.parametrize(
    "goal",
    [
        Goal("speed", 0.0),
        Goal("quality", 1.5),
        Goal("volume", 10.0),
        Goal("volume", 10.0, AT - DAY),
        Goal("speed", 60.0, AT + DAY),
        Goal("beauty", 1.0),
    ],
)
def test_a_target_that_cannot_be_meant_is_refused(goal: Goal) -> None:
    with pytest.raises(TargetUnfit):
        check_goal(goal, kinds=("speed", "volume", "quality"), at=AT)


def test_queues_tell_what_waits_and_what_went_through_and_are_held_to_targets(db: Session) -> None:
    project = make_project(db, budget_minor=10**9, offer_ttl_s=3600)
    other = make_project(db, budget_minor=10**9, domains=("law",))
    make_task(db, project)
    make_task(db, other, domain="law")
    make_offer(db, make_task(db, project), make_expert(db).id, at=AT + HOUR)
    left = make_offer(db, make_task(db, project), make_expert(db).id, accepted=False)
    hand_in(db, offer=make_offer(db, make_task(db, project), make_expert(db).id))
    assert expire_offer(db, left.id, at=AT + 2 * HOUR)
    at = AT + 3 * HOUR
    found = {(one.queue, one.domain): one for one in pools(db, at=at, days=1)}
    seats = found["seats", "chemistry"]
    # One that was never offered, and one whose offer ran out.
    assert seats.now.count == 2
    assert seats.now.oldest_s == 3 * 3600
    assert (seats.lately.asked, seats.lately.taken, seats.lately.expired) == (3, 2, 1)
    assert seats.lately.half_s == 1800
    assert found["seats", "law"].now.count == 1
    assert found["reviews", "chemistry"].now.count == 3
    target = set_queue_target(db, "seats", Goal("age", 3600.0), domain="law", at=AT)
    again = set_queue_target(db, "seats", Goal("age", 7200.0), domain="law", at=AT)
    assert target.ended_at == AT
    every = set_queue_target(db, "seats", Goal("wait", 600.0), domain=None, at=AT)
    assert watch_target(db, again.id, at=AT + HOUR) is None
    assert watch_target(db, again.id, at=at) is not None
    assert watch_target(db, again.id, at=at) is None
    assert watch_target(db, every.id, at=at) is None
    for kind, share in (("acceptance", 0.9), ("expiry", 0.1)):
        one = set_queue_target(db, "seats", Goal(kind, share), domain="chemistry", at=AT)
        # Three offers are too few to say that a share is missed.
        assert (seen(db, one, at=at).count, seen(db, one, at=at).is_missed) == (3, False)
    end_target(db, again.id, at=at)
    with pytest.raises(TargetNotFound):
        end_target(db, again.id, at=at)


def test_a_lab_sets_targets_and_ops_watch_queues_over_the_wire(db: Session, web: Web) -> None:
    lab, ops = make_caller(db, web, Part.LAB), make_caller(db, web, Part.OPS)
    project = make_project(db, lab.organisation_id, budget_minor=10**9)
    make_task(db, project, at=AT)
    path = f"/v1/projects/{wire_id('prj', project.id)}/targets"
    due = (datetime.now(UTC) + 10 * DAY).isoformat()
    wanted = [
        {"kind": "speed", "goal": 86400},
        {"kind": "volume", "goal": 100, "due_at": due},
        {"kind": "quality", "goal": 0.8},
    ]
    put = lab.put(path, json={"targets": wanted})
    assert put.status_code == 200, put.text
    assert [one["kind"] for one in put.json()["targets"]] == ["speed", "volume", "quality"]
    assert put.json()["burn_down"][0]["left"] == 100
    # What stays as it was goes on, with its misses; what is left out ends.
    kept = lab.put(path, json={"targets": wanted[:2]}).json()["targets"]
    assert [one["id"] for one in kept] == [one["id"] for one in put.json()["targets"][:2]]
    assert [one["id"] for one in lab.get(path).json()["targets"]] == [one["id"] for one in kept]
    twice = lab.put(path, json={"targets": [wanted[0], wanted[0]]})
    assert (twice.status_code, twice.json()["code"]) == (422, "target_unfit")
    stranger = make_caller(db, web, Part.LAB)
    assert stranger.get(path).status_code == 404
    assert stranger.put(path, json={"targets": []}).status_code == 404
    made = ops.post("/v1/queues/targets", json={"queue": "seats", "kind": "age", "goal": 60})
    assert made.status_code == 201, made.text
    assert made.json()["is_missed"]
    watch_targets("now")
    watch_targets("again")
    told = ops.get("/v1/queues/statistics?days=3").json()
    assert told["days"] == 3
    (seats,) = [one for one in told["pools"] if one["queue"] == "seats"]
    assert (seats["domain"], seats["now"]["count"]) == ("chemistry", 1)
    (target,) = told["targets"]
    assert len(target["misses"]) == 1
    for status in (204, 404):
        ended = ops.request("DELETE", f"/v1/queues/targets/{target['id']}")
        assert ended.status_code == status
    assert lab.get("/v1/queues/statistics").status_code == 403
    assert len(db.scalars(select(ServiceTarget)).all()) == 4


def test_targets_are_set_and_read_on_the_console(db: Session, web: Web) -> None:
    lab = visit(web, db, Part.LAB)
    project = make_project(db, lab.organisation_id, budget_minor=10**9)
    make_decided(db, project, make_expert(db).id, True, at=datetime.now(UTC))
    path = f"/console/lab/projects/{wire_id('prj', project.id)}/targets"
    csrf = token(web, path)
    due = f"{datetime.now(UTC) + 9 * DAY:%Y-%m-%d}"
    assert send(web, path, csrf, volume="10").status_code == 422
    assert send(web, path, csrf, speed="24", volume="10", due=due, quality="80").status_code == 303
    shown = web.get(path).text
    assert "at least 10 answers" in shown
    assert "What is left to do" in shown
    assert web.get(f"{path}.svg").headers["content-type"].startswith("image/svg+xml")
    visit(web, db, Part.OPS)
    queues = "/console/ops/queues"
    csrf = token(web, queues)
    make_task(db, project, at=AT)
    wanted = {"queue": "seats", "domain": "", "kind": "age", "goal": "1"}
    assert send(web, "/console/ops/queue-targets", csrf, **wanted).status_code == 303
    watch_targets("now")
    shown = web.get(queues).text
    assert "the oldest waits for" in shown
    target = db.scalars(select(ServiceTarget).where(ServiceTarget.queue == "seats")).one()
    ended = f"/console/ops/queue-targets/{wire_id('tgt', target.id)}/end"
    assert send(web, ended, csrf).status_code == 303
    assert "the oldest waits for" not in web.get(queues).text
