"""Who leaves gets back to no work, and all of its money: a ban, a closed country, its own wish."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from litestar.testing import TestClient
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from market.auth import Part
from market.claims.actions import Opening, ask_for_time
from market.db import new_id
from market.departures.actions import (
    INTO,
    begin_departure,
    call_off,
    close_country,
    come_back,
    follow_standing,
    keep_minimums,
    open_country,
)
from market.departures.jobs import advance_departures
from market.departures.models import Departure
from market.departures.queries import departure_of
from market.departures.rules import (
    DEPARTURE,
    CannotComeBack,
    CountryClosed,
    DepartureNotFound,
    Left,
    ReasonUnfit,
)
from market.disputes.actions import withdraw
from market.earnings.actions import accrue_earning
from market.earnings.models import Earning
from market.earnings.rules import week_of
from market.events import Event
from market.experts.models import Expert
from market.offers.models import Offer
from market.settings import in_force
from market.standings.actions import change_standing, lift_measure
from market.standings.queries import measure_in_force
from market.submissions.actions import leave_offer
from market.treasury.actions import pay_again
from market.work.actions import end_session, start_session
from payouts import chart
from payouts.holds import HoldPolicy
from payouts.ledger import Line, post_entry
from payouts.models import Payee, Payout
from tests.factories import (
    AT,
    Caller,
    make_caller,
    make_expert,
    make_project,
    make_task,
    pairs_in_database,
)
from tests.market.earned import end_offer, make_active_offer, work_on
from tests.market.house import House, paid_in
from tests.market.test_verdicts import statements_of

WHY = "It moves to the mountains."


def standing_of(db: Session, expert_id: UUID) -> str:
    return db.get_one(Expert, expert_id, populate_existing=True).state


def take_steps(db: Session, expert_id: UUID, *actions: str) -> None:
    for action in actions:
        change_standing(
            db,
            expert_id,
            action,
            at=AT,
            reason_code="conduct",
            note="What was seen is written here.",
            evidence=["a letter of the lab"],
        )


def test_the_database_knows_the_same_moves_of_departures_as_the_rules(db: Session) -> None:
    assert pairs_in_database(db, DEPARTURE) == DEPARTURE.pairs()
    stages = ("returning", "settling", "paying", "done")
    assert all(DEPARTURE.target(stages[n - 1], INTO[stages[n]]) == stages[n] for n in range(4))


@pytest.mark.parametrize(
    ("left", "stage"),
    [
        (Left(), "done"),
        (Left(owed_minor=1), "paying"),
        (Left(payouts=1), "paying"),
        (Left(lines=1, owed_minor=1), "settling"),
        (Left(disputes=1), "settling"),
        (Left(appeals=1, cases=1), "settling"),
        (Left(offers=1, lines=3), "returning"),
        (Left(sessions=1), "returning"),
    ],
)
def test_a_departure_is_as_far_as_what_it_waits_for(left: Left, stage: str) -> None:
    assert left.stage == stage
    said = left.in_words(is_payee=False)
    assert bool(said) == (stage != "done")
    assert ("set up your payouts" in " ".join(said)) == bool(
        left.owed_minor or left.lines or left.payouts
    )


@pytest.mark.parametrize("steps", [(), ("watch",), ("watch", "limit")])
def test_who_comes_back_has_the_standing_that_it_had(db: Session, steps: tuple[str, ...]) -> None:
    expert = make_expert(db)
    take_steps(db, expert.id, *steps)
    before = standing_of(db, expert.id)
    begun = begin_departure(db, expert.id, "own", reason=WHY, at=AT, by=expert.id)
    assert standing_of(db, expert.id) == "left"
    assert begin_departure(db, expert.id, "asked", reason=WHY, at=AT) is begun
    come_back(db, expert.id, at=AT)
    assert (standing_of(db, expert.id), departure_of(db, expert.id)) == (before, None)
    with pytest.raises(DepartureNotFound):
        come_back(db, expert.id, at=AT)
    with pytest.raises(ReasonUnfit):
        begin_departure(db, expert.id, "own", reason="bye", at=AT)


def test_open_work_goes_back_and_what_runs_may_be_handed_in(
    db: Session, react: Callable[[], list[str]]
) -> None:
    expert = make_expert(db, at=AT - timedelta(days=30))
    project = make_project(db)
    _, running = (
        make_active_offer(db, project, make_task(db, project), expert.id) for _ in range(2)
    )
    start_session(db, running.id, expert_id=expert.id, at=AT)
    begin_departure(db, expert.id, "own", reason=WHY, at=AT, by=expert.id)
    assert "withdraw_expert_offers" in react()
    states = db.scalars(select(Offer.state).where(Offer.expert_id == expert.id)).all()
    assert sorted(states) == ["grace", "grace"]
    advance_departures("")
    found = departure_of(db, expert.id)
    assert found is not None
    assert found.state == "returning"


def test_departures_that_wait_hold_up_none_that_come_later(
    db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("market.departures.jobs.SWEEP", 1)
    project = make_project(db)
    waiting, free = (make_expert(db, at=AT - timedelta(days=30)) for _ in range(2))
    make_active_offer(db, project, make_task(db, project), waiting.id)
    for expert in (waiting, free):
        begin_departure(db, expert.id, "own", reason=WHY, at=AT, by=expert.id)
    advance_departures("")
    found = [departure_of(db, expert.id) for expert in (waiting, free)]
    assert [one and one.state for one in found] == ["returning", "done"]


def test_who_is_shut_out_leaves_and_comes_back_when_that_is_lifted(db: Session) -> None:
    expert = make_expert(db)
    take_steps(db, expert.id, "watch", "limit", "suspend")
    follow_standing(db, expert.id, at=AT)
    # A suspension ends; whoever is suspended has not left.
    assert departure_of(db, expert.id) is None
    take_steps(db, expert.id, "close")
    follow_standing(db, expert.id, at=AT)
    follow_standing(db, expert.id, at=AT)
    found = departure_of(db, expert.id)
    assert found is not None
    assert (found.cause, standing_of(db, expert.id)) == ("closed", "closed")
    assert "What was seen is written here." in found.reason
    with pytest.raises(CannotComeBack):
        come_back(db, expert.id, at=AT)
    measure = measure_in_force(db, expert.id)
    assert measure is not None
    lift_measure(db, measure.id, reason_code="appeal_won", at=AT)
    follow_standing(db, expert.id, at=AT)
    assert (standing_of(db, expert.id), departure_of(db, expert.id)) == ("good", None)


def test_a_step_that_ends_brings_nobody_back_who_leaves_for_another_reason(db: Session) -> None:
    expert = make_expert(db)
    take_steps(db, expert.id, "watch", "limit", "suspend")
    begin_departure(db, expert.id, "own", reason=WHY, at=AT)
    assert standing_of(db, expert.id) == "suspended"
    take_steps(db, expert.id, "lift")
    follow_standing(db, expert.id, at=AT)
    assert standing_of(db, expert.id) == "left"


def test_a_closed_country_is_left_by_whoever_lives_or_is_paid_there(db: Session) -> None:
    ops = new_id()
    lives, is_paid, other = (make_expert(db) for _ in range(3))
    db.execute(update(Expert).where(Expert.id == lives.id).values(country="FR"))
    db.add(Payee(owner_id=is_paid.id, country="FR", created_at=AT))
    db.flush()
    advance_departures("")
    assert db.scalars(select(Departure)).all() == []
    close_country(db, "FR", reason="The law there has changed.", by=ops, at=AT)
    with pytest.raises(CountryClosed):
        close_country(db, "FR", reason="The law there has changed.", by=ops, at=AT)
    advance_departures("")
    for one in (lives, is_paid):
        found = departure_of(db, one.id)
        assert found is not None
        assert (found.cause, found.reason) == ("region", "The law there has changed.")
    assert departure_of(db, other.id) is None
    with pytest.raises(CannotComeBack):
        come_back(db, lives.id, at=AT)
    payee = db.scalars(select(Payee).where(Payee.owner_id == is_paid.id)).one()
    db.refresh(payee)
    assert payee.is_leaving
    # Who moves away may stay; where one is paid counts as well as where one lives.
    db.execute(update(Expert).where(Expert.id == lives.id).values(country="DE"))
    advance_departures("")
    assert standing_of(db, lives.id) == "good"
    assert standing_of(db, is_paid.id) == "left"
    open_country(db, "FR", by=ops, at=AT)
    with pytest.raises(CountryClosed):
        open_country(db, "FR", by=ops, at=AT)
    advance_departures("")
    db.refresh(payee)
    assert (standing_of(db, is_paid.id), payee.is_leaving) == ("good", False)


def test_whom_ops_let_stay_does_not_leave_again_before_its_country_closes_again(
    db: Session,
) -> None:
    ops, expert = new_id(), make_expert(db)
    db.execute(update(Expert).where(Expert.id == expert.id).values(country="FR"))
    at = datetime.now(UTC)
    close_country(db, "FR", reason="The law there has changed.", by=ops, at=at)
    advance_departures("")
    leaving = departure_of(db, expert.id)
    assert leaving is not None
    call_off(db, leaving.id, at=at + timedelta(minutes=1), by=ops)
    advance_departures("")
    assert (departure_of(db, expert.id), standing_of(db, expert.id)) == (None, "good")
    # The word was about that law, and not about the next.
    open_country(db, "FR", by=ops, at=at + timedelta(days=1))
    close_country(db, "FR", reason="Another law was made.", by=ops, at=at + timedelta(days=2))
    advance_departures("")
    assert standing_of(db, expert.id) == "left"


@pytest.mark.slow
def test_region_exit(house: House) -> None:
    """A country closes under somebody at work: every minute is paid, below the minimum too."""
    paid_in(house)
    expert, ops, lab = house.expert(), house.caller(Part.OPS), house.caller(Part.LAB)
    house.become_payee(expert)
    assert expert.patch("/v1/experts/me", json={"country": "FR"}, headers=tag(expert)).is_success
    in_force.open(msgspec.structs.replace(in_force.settings, payout_minimum_minor=5_000))
    now = datetime.now(UTC)
    with house.begin() as session:
        project = make_project(session, lab.organisation_id)
        over, running, asked = (
            make_active_offer(
                session, project, make_task(session, project), expert.person_id, at=now
            )
            for _ in range(3)
        )
        work_on(session, over, AT, 90)
        accrue_earning(session, end_offer(session, over).id, at=now)
        work = start_session(
            session, running.id, expert_id=expert.person_id, at=now - timedelta(seconds=80)
        )
        dispute = ask_for_time(
            session,
            asked.id,
            Opening(
                now - timedelta(hours=2),
                now - timedelta(hours=1),
                "offline_work",
                "I read the sources on paper, without a screen.",
            ),
            expert_id=expert.person_id,
            at=now,
        )
    closed = ops.post(
        "/v1/closed-countries", json={"country": "FR", "reason": "The law there has changed."}
    )
    assert closed.status_code == 201, closed.text

    def look() -> dict[str, Any]:
        advance_departures("")
        house.react()
        found: dict[str, Any] = expert.get("/v1/experts/me/departure").json()
        return found

    begun = look()
    assert (begun["cause"], begun["state"]) == ("region", "returning")
    assert expert.get("/v1/experts/me").json()["standing"] == "left"
    with house.begin() as session:
        end_session(session, work.id, expert_id=expert.person_id, at=now)
    for offer in (running, asked):
        # Nothing is handed in within the grace.
        with house.begin() as session:
            assert leave_offer(session, offer.id, at=now + timedelta(hours=49))
    settling = look()
    assert settling["state"] == "settling"
    assert any("disputes about your time keep their clocks" in one for one in settling["waits_for"])
    # What is not in dispute is paid meanwhile.
    house.pay_out(ops)
    house.hear()
    with house.begin() as session:
        (payout,) = session.scalars(select(Payout)).all()
        earned = session.scalars(select(Earning.pay_minor)).all()
        assert (payout.state, payout.amount_minor) == ("paid", sum(earned))
        assert 0 < payout.amount_minor < 5_000
        withdraw(session, dispute.id, actor_id=expert.person_id, at=now)
    assert look()["state"] == "done"
    assert house.events(Event.DEPARTURE_DONE)
    assert house.posted(chart.owed_to(expert.person_id)) == 0
    # Everything can still be read and taken along.
    for path in ("/v1/earnings.csv", "/v1/statement", "/v1/record/me", "/v1/payouts"):
        assert expert.get(path).status_code == 200
    assert ops.post("/v1/closed-countries/FR/open").status_code == 200
    advance_departures("")
    assert expert.get("/v1/experts/me").json()["standing"] == "good"
    assert expert.get("/v1/experts/me/departure").status_code == 404


def test_whoever_leaves_is_paid_below_the_least_amount_of_a_payout(db: Session) -> None:
    stays, leaves = make_expert(db), make_expert(db)
    policy = HoldPolicy(first_payout_wait=timedelta(0), least_minor=5_000)
    found = []
    for one in (stays, leaves):
        db.add(
            Payee(
                owner_id=one.id,
                country="US",
                created_at=AT,
                account_id=f"acct_{one.id.hex}",
                transfers_status="active",
            )
        )
        db.flush()
        line = Line(chart.stripe_clearing("USD"), chart.owed_to(one.id), 55)
        post_entry(db, key=f"test:{one.id}", kind="test", lines=[line], at=AT)
        if one is leaves:
            begin_departure(db, one.id, "own", reason=WHY, at=AT)
            keep_minimums(db)
            db.expire_all()
        monday = week_of(AT)
        payout = pay_again(
            db, one.id, "USD", period_end=monday, reason_code="leaving", at=AT, policy=policy
        )
        found.append(payout.state)
    assert found == ["held", "batched"]


def tag(expert: Caller) -> dict[str, str]:
    return {"If-Match": expert.get("/v1/experts/me").headers["etag"]}


def test_a_page_of_departures_takes_as_many_statements_however_many_it_tells_of(
    db: Session, web: TestClient[Any]
) -> None:
    ops = make_caller(db, web, Part.OPS)
    assert ops.get("/v1/departures").json()["items"] == []
    taken = []
    for _ in range(2):
        for _ in range(2):
            begin_departure(db, make_expert(db).id, "own", reason=WHY, at=AT)
        db.flush()
        taken.append(statements_of(db, lambda: ops.get("/v1/departures")))
    assert len(ops.get("/v1/departures").json()["items"]) == 4
    assert taken[0] == taken[1]


def test_experts_leave_and_stay_and_ops_see_who_does(db: Session, web: TestClient[Any]) -> None:
    me, ops = make_caller(db, web, Part.EXPERT), make_caller(db, web, Part.OPS)
    assert me.post("/v1/experts/me", json={}).status_code == 201
    assert me.get("/v1/experts/me/departure").json()["code"] == "departure_not_found"
    assert me.post("/v1/experts/me/departure", json={"reason": "no"}).json()["code"] == (
        "reason_unfit"
    )
    left = me.post("/v1/experts/me/departure", json={"reason": WHY})
    assert (left.status_code, left.json()["state"]) == (201, "returning")
    advance_departures("")
    assert me.get("/v1/experts/me/departure").json()["state"] == "done"
    (row,) = ops.get("/v1/departures?cause=own&state=done").json()["items"]
    assert row["id"] == left.json()["id"]
    assert ops.get(f"/v1/departures/{row['id']}").json()["waits_for"] == []
    assert me.post("/v1/experts/me/departure/call-off").json()["state"] == "called_off"
    asked = ops.post(
        "/v1/departures", json={"expert_id": f"per_{me.person_id.hex}", "reason": WHY}
    ).json()
    refused = me.post("/v1/experts/me/departure/call-off")
    assert (refused.status_code, refused.json()["code"]) == (409, "cannot_come_back")
    assert ops.post(f"/v1/departures/{asked['id']}/call-off").json()["state"] == "called_off"
    assert ops.post("/v1/closed-countries", json={"country": "fr", "reason": WHY}).json()[
        "code"
    ] == ("country_invalid")
    assert ops.post("/v1/closed-countries/FR/open").json()["code"] == "country_closed"
    assert ops.get("/v1/closed-countries").json()["items"] == []
    assert me.get("/v1/departures").status_code == 403
    # What only a departure moves is no step that ops could take.
    found = ops.get(f"/v1/experts/per_{me.person_id.hex}")
    step = ops.post(
        f"/v1/experts/per_{me.person_id.hex}/transitions",
        json={"action": "leave", "reason_code": "x", "note": "y"},
        headers={"If-Match": found.headers["etag"]},
    )
    assert (step.status_code, step.json()["allowed"]) == (409, ["watch"])
    with pytest.raises(DepartureNotFound):
        call_off(db, new_id(), at=AT)
