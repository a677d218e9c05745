"""Rounds of payouts: everybody who is owed something is paid once, whatever dies on the way."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from market.approvals.actions import approve_lines
from market.auth import Part
from market.earnings.actions import accrue_earning
from market.earnings.models import Earning
from market.events import Event
from market.payout_runs.jobs import open_weekly_payouts, run_payouts
from market.payout_runs.models import PayoutRun
from market.payout_runs.rules import PAYOUT_RUN
from market.treasury.jobs import send_payout
from payouts import chart
from payouts.models import Payout
from tests.factories import AT, Caller, make_project, make_task, pairs_in_database
from tests.market.earned import end_offer, make_active_offer, work_on
from tests.market.house import HOUR, MONDAY, House, as_owner, earn, paid_in


def spent_of(house: House, ops: Caller) -> dict[str, int]:
    """Where the money is that the project of the only line of pay has spent."""
    with house.begin() as session:
        lab_id = session.scalars(select(Earning.organisation_id)).one()
    (found,) = ops.get(f"/v1/balance?organisation_id=org_{lab_id.hex}").json()
    (line,) = found["projects"]
    names = ("accrued", "owed", "paid", "fee", "spent")
    return {name: line[name]["amount_minor"] for name in names}


def test_what_was_earned_is_in_the_bank_after_a_run(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    assert expert.get("/v1/payees/me").json() == {"is_ready": True, "missing": []}
    assert earn(house, expert) == 4400
    owed = expert.get("/v1/earnings/balance").json()
    figures = [owed[0][name]["amount_minor"] for name in ("free", "in_payouts", "in_review")]
    assert figures == [0, 0, 4400]
    assert spent_of(house, ops) == {
        "accrued": 4400,
        "owed": 0,
        "paid": 0,
        "fee": 880,
        "spent": 5280,
    }

    done = house.pay_out(ops)
    assert (done["state"], done["result"]) == (
        "succeeded",
        {"payouts": 1, "held": 0, "total_minor": {"USD": 4400}},
    )
    (payout,) = expert.get("/v1/payouts").json()["items"]
    assert (payout["state"], payout["amount"]["amount_minor"]) == ("transferred", 4400)
    (line,) = expert.get("/v1/earnings").json()["items"]
    assert (line["state"], line["payout_id"]) == ("transferred", payout["id"])
    assert spent_of(house, ops) == {
        "accrued": 0,
        "owed": 4400,
        "paid": 0,
        "fee": 880,
        "spent": 5280,
    }

    house.hear()
    found = expert.get(f"/v1/payouts/{payout['id']}").json()
    assert (found["state"], found["holds"]) == ("paid", [])
    assert expert.get("/v1/earnings").json()["items"][0]["state"] == "paid"
    assert house.posted(chart.owed_to(expert.person_id)) == 0
    assert house.posted(chart.in_transit_to(expert.person_id)) == 0
    assert len(house.events(Event.PAYOUT_PAID)) == 1
    assert spent_of(house, ops) == {
        "accrued": 0,
        "owed": 0,
        "paid": 4400,
        "fee": 880,
        "spent": 5280,
    }
    assert len(house.stripe.every("transfer")) == 1


def test_a_run_twice_and_its_jobs_twice_pay_once(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    earn(house, expert)
    house.pay_out(ops, key="first")
    house.pay_out(ops, key="second")
    with house.begin() as session:
        runs = session.scalars(select(PayoutRun.id)).all()
        (payout,) = session.scalars(select(Payout)).all()
    assert len(runs) == 2
    for run_id in runs:
        run_payouts(str(run_id))
    send_payout(str(payout.id))
    house.hear()
    assert len(house.stripe.every("transfer")) == 1
    assert house.posted(chart.owed_to(expert.person_id)) == 0


def test_the_same_key_is_the_same_run(house: House) -> None:
    ops = house.caller(Part.OPS)
    body = {"period_end": MONDAY.isoformat()}
    assert ops.post("/v1/payout-runs", json=body).json()["code"] == "idempotency_key_missing"
    keyed = {"Idempotency-Key": "k"}
    first = ops.post("/v1/payout-runs", json=body, headers=keyed)
    again = ops.post("/v1/payout-runs", json=body, headers=keyed)
    assert first.json() == again.json()
    assert first.headers["location"] == again.headers["location"]
    other = {"period_end": (MONDAY - timedelta(days=7)).isoformat()}
    refused = ops.post("/v1/payout-runs", json=other, headers=keyed)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    assert len(ops.get("/v1/payout-runs").json()["items"]) == 1


@pytest.mark.parametrize("days", [1, 7])
def test_a_period_ends_on_a_monday_that_has_come(house: House, days: int) -> None:
    ops = house.caller(Part.OPS)
    body = {"period_end": (MONDAY + timedelta(days=days)).isoformat()}
    refused = ops.post("/v1/payout-runs", json=body, headers={"Idempotency-Key": "k"})
    assert (refused.status_code, refused.json()["code"]) == (422, "period_end_invalid")
    assert refused.json()["latest"] == MONDAY.isoformat()


def test_late_minutes_of_a_week_that_was_paid_go_with_the_next_payout(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    earn(house, expert)
    house.pay_out(ops, period_end=MONDAY - timedelta(days=7), key="on-time")
    earn(house, expert, HOUR, since=AT + timedelta(days=1))
    house.pay_out(ops, key="late")
    late, first = expert.get("/v1/earnings").json()["items"]
    assert late["week"] == first["week"]
    assert late["payout_id"] != first["payout_id"]
    assert [one["state"] for one in (late, first)] == ["transferred", "transferred"]
    assert house.posted(chart.owed_to(expert.person_id)) == 0


def test_a_line_that_waits_for_its_approval_goes_with_a_later_payout(house: House) -> None:
    expert, ops = house.expert(), house.caller(Part.OPS)
    earn(house, expert)
    house.approve()
    waiting = earn(house, expert, HOUR, since=AT + timedelta(days=1))
    body = {"period_end": MONDAY.isoformat()}
    ops.post("/v1/payout-runs", json=body, headers={"Idempotency-Key": "k"})
    house.react()
    (payout,) = expert.get("/v1/payouts").json()["items"]
    lines = expert.get("/v1/earnings").json()["items"]
    taken = {line["state"]: line["payout_id"] for line in lines}
    assert taken == {"held": payout["id"], "accrued": None}
    assert payout["amount"]["amount_minor"] == sum(one["pay_minor"] for one in lines) - waiting


def test_a_run_that_died_half_way_goes_on_where_it_was(house: House) -> None:
    paid_in(house)
    experts = [house.expert() for _ in range(3)]
    for expert in experts:
        house.become_payee(expert)
        earn(house, expert)
    house.approve()
    ops = house.caller(Part.OPS)
    body = {"period_end": MONDAY.isoformat()}
    answer = ops.post("/v1/payout-runs", json=body, headers={"Idempotency-Key": "k"})
    run_id = UUID(answer.json()["id"].removeprefix("prn_"))
    # Two workers at once stand for one that was thought dead and was not.
    both = [threading.Thread(target=run_payouts, args=(str(run_id),)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    house.hear()
    assert len(house.stripe.every("transfer")) == 3
    found = ops.get(f"/v1/payout-runs/prn_{run_id.hex}").json()
    assert (found["state"], found["payouts"]) == ("succeeded", 3)


def test_one_who_cannot_be_paid_costs_nobody_else_its_payday(house: House) -> None:
    paid_in(house)
    experts = [house.expert() for _ in range(3)]
    for expert in experts:
        earn(house, expert)
    house.approve()
    body = {"period_end": MONDAY.isoformat()}
    ops = house.caller(Part.OPS)
    answer = ops.post("/v1/payout-runs", json=body, headers={"Idempotency-Key": "k"})
    run_id = answer.json()["id"].removeprefix("prn_")
    refuse = "alter table payouts.payout {} constraint poison {}"
    others = f"check (owner_id <> '{experts[1].person_id}') not valid"
    as_owner(house, refuse.format("add", others))
    try:
        with pytest.raises(IntegrityError):
            run_payouts(str(UUID(run_id)))
    finally:
        as_owner(house, refuse.format("drop", ""))
    paid = [bool(one.get("/v1/payouts").json()["items"]) for one in experts]
    assert paid == [True, False, True]
    # It is run again by whoever sees that it failed.
    run_payouts(str(UUID(run_id)))
    assert len(experts[1].get("/v1/payouts").json()["items"]) == 1
    found = ops.get(f"/v1/payout-runs/prn_{run_id}").json()
    assert (found["state"], found["payouts"]) == ("succeeded", 3)


def test_the_clock_asks_once_for_a_week(house: House) -> None:
    wednesday = datetime(2026, 3, 4, 18, tzinfo=UTC)
    open_weekly_payouts(wednesday.isoformat())
    open_weekly_payouts(wednesday.isoformat())
    assert house.react() == ["run_payouts"]
    with house.begin() as session:
        (run,) = session.scalars(select(PayoutRun)).all()
    assert (run.period_end, run.state) == (AT.date(), "succeeded")


def test_pay_credited_while_a_run_pays_waits_for_the_next(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    threads = [threading.Thread(target=earn_once, args=(house, expert, n)) for n in range(6)]
    for thread in threads[:3]:
        thread.start()
    house.pay_out(ops)
    for thread in threads[3:]:
        thread.start()
    for thread in threads:
        thread.join()
    with house.begin() as session:
        payouts = session.scalars(select(Payout)).all()
    lines = expert.get("/v1/earnings").json()["items"]
    assert len(lines) == 6
    for payout in payouts:
        taken = [one["pay_minor"] for one in lines if one["payout_id"] == f"pay_{payout.id.hex}"]
        assert sum(taken) == payout.amount_minor
    waiting = [one["pay_minor"] for one in lines if one["payout_id"] is None]
    owed = expert.get("/v1/earnings/balance").json()[0]
    left = owed["free"]["amount_minor"] + owed["in_review"]["amount_minor"]
    assert left == sum(waiting)


def earn_once(house: House, expert: Caller, n: int) -> None:
    """An hour of work, each in an hour of its own so that no two overlap; then its credit."""
    at = datetime.now(UTC)
    with house.begin() as session:
        project = make_project(session)
        task = make_task(session, project)
        offer = make_active_offer(session, project, task, expert.person_id, at=at)
        work_on(session, offer, AT + timedelta(hours=n), HOUR)
        end_offer(session, offer)
    with house.begin() as session:
        lines = [line.id for line in accrue_earning(session, offer.id, at=at)]
        approve_lines(session, expert.person_id, lines, at=at)


def test_the_database_knows_the_moves_of_a_run(house: House) -> None:
    with house.begin() as session:
        assert pairs_in_database(session, PAYOUT_RUN) == PAYOUT_RUN.pairs()
