"""Payout runs that are cancelled: what they have not sent is taken out, some at a time."""

import threading
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from market.auth import Part
from market.payout_runs.actions import clear_some
from market.payout_runs.jobs import clear_run
from payouts import chart
from payouts.models import Payout, PayoutMove
from payouts.withdrawals import unsent_of_run
from tests.factories import Caller
from tests.market.house import MONDAY, House, as_owner, earn, paid_in

NOTE = {"note": "A person looked at it and stopped it."}


def stopped_run(house: House, ops: Caller, experts: list[Caller]) -> tuple[UUID, Any]:
    """A run of payouts that wait for their experts, cancelled and not yet cleared; its operation
    too.
    """
    for expert in experts:
        earn(house, expert)
    house.pay_out(ops)
    (run,) = ops.get("/v1/payout-runs").json()["items"]
    answer = ops.post(f"/v1/payout-runs/{run['id']}/cancel", json=NOTE)
    assert answer.status_code == 202
    return UUID(run["id"].removeprefix("prn_")), answer.headers["location"]


def states(house: House, run_id: UUID) -> dict[str, int]:
    """How many payouts of a run are in each state."""
    with house.begin() as session:
        rows = session.execute(
            select(Payout.state, func.count()).where(Payout.run_id == run_id).group_by(Payout.state)
        )
        return {str(state): number for state, number in rows}


def test_a_cancelled_run_takes_out_what_was_not_sent_and_another_pays_it(house: House) -> None:
    paid_in(house)
    held, ops = house.expert(), house.caller(Part.OPS)
    earn(house, held)
    house.pay_out(ops)
    (run,) = ops.get("/v1/payout-runs").json()["items"]
    short = ops.post(f"/v1/payout-runs/{run['id']}/cancel", json={"note": "no"})
    assert (short.status_code, short.json()["code"]) == (422, "note_missing")
    stopped = ops.post(f"/v1/payout-runs/{run['id']}/cancel", json=NOTE)
    assert (stopped.status_code, stopped.json()["state"]) == (202, "cancelling")
    again = ops.post(f"/v1/payout-runs/{run['id']}/cancel", json=NOTE)
    assert (again.status_code, again.json()["code"]) == (409, "state_conflict")
    assert house.react() == ["clear_run"]
    followed = ops.get(stopped.headers["location"]).json()
    assert (followed["state"], followed["result"]) == ("succeeded", {"withdrawn": 1})
    assert ops.get(f"/v1/payout-runs/{run['id']}").json()["state"] == "cancelled"
    (payout,) = held.get("/v1/payouts").json()["items"]
    assert payout["state"] == "cancelled"
    (line,) = held.get("/v1/earnings").json()["items"]
    assert (line["state"], line["payout_id"]) == ("approved", None)
    house.become_payee(held)
    assert house.pay_out(ops, key="anew")["result"]["payouts"] == 1
    house.hear()
    newest, _ = held.get("/v1/payouts").json()["items"]
    assert newest["state"] == "paid"
    assert len(house.stripe.every("transfer")) == 1


def test_a_cancellation_that_died_between_two_lots_goes_on_where_it_was(house: House) -> None:
    paid_in(house)
    experts, ops = [house.expert() for _ in range(4)], house.caller(Part.OPS)
    run_id, followed = stopped_run(house, ops, experts)
    with house.begin() as session:
        unsent = unsent_of_run(session, run_id)
        clear_some(session, run_id, unsent[:2], at=datetime.now(UTC))
    # Its process is killed here: two are out for good, and the run says that it is not done.
    assert states(house, run_id) == {"cancelled": 2, "held": 2}
    assert ops.get(f"/v1/payout-runs/prn_{run_id.hex}").json()["state"] == "cancelling"
    body = {"period_end": MONDAY.isoformat()}
    early = ops.post("/v1/payout-runs", json=body, headers={"Idempotency-Key": "early"})
    assert (early.status_code, early.json()["code"]) == (409, "payout_run_stopping")
    # The queue gives its job to another, and to a second one that thought the first was dead.
    both = [threading.Thread(target=clear_run, args=(str(run_id),)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert states(house, run_id) == {"cancelled": 4}
    done = ops.get(followed).json()
    assert (done["state"], done["result"]) == ("succeeded", {"withdrawn": 4})
    assert ops.get(f"/v1/payout-runs/prn_{run_id.hex}").json()["state"] == "cancelled"
    with house.begin() as session:
        moves = session.execute(
            select(PayoutMove.actor_id, PayoutMove.note).where(PayoutMove.action == "withdraw")
        ).all()
    assert moves == [(ops.person_id, NOTE["note"])] * 4
    assert [house.posted(chart.owed_to(one.person_id)) for one in experts] == [4400] * 4
    assert house.pay_out(ops, key="anew")["result"]["payouts"] == 4


def test_one_that_cannot_be_taken_out_keeps_none_of_the_others_in(house: House) -> None:
    paid_in(house)
    experts, ops = [house.expert() for _ in range(3)], house.caller(Part.OPS)
    run_id, followed = stopped_run(house, ops, experts)
    refuse = "alter table payouts.payout {} constraint poison {}"
    others = f"check (state <> 'cancelled' or owner_id <> '{experts[1].person_id}') not valid"
    as_owner(house, refuse.format("add", others))
    try:
        with pytest.raises(IntegrityError):
            clear_run(str(run_id))
    finally:
        as_owner(house, refuse.format("drop", ""))
    assert states(house, run_id) == {"cancelled": 2, "held": 1}
    assert ops.get(followed).json()["state"] == "running"
    clear_run(str(run_id))
    assert states(house, run_id) == {"cancelled": 3}
    assert ops.get(followed).json()["state"] == "succeeded"


@pytest.mark.slow
def test_what_was_sent_of_a_cancelled_run_goes_its_way(house: House) -> None:
    paid_in(house)
    sent, waiting, ops = house.expert(), house.expert(), house.caller(Part.OPS)
    house.become_payee(sent)
    run_id, _ = stopped_run(house, ops, [sent, waiting])
    assert states(house, run_id) == {"transferred": 1, "held": 1}
    house.hear()
    assert states(house, run_id) == {"paid": 1, "cancelled": 1}
    assert len(house.stripe.every("transfer")) == 1
