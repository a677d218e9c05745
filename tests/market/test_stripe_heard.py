"""What Stripe says and what it forgot to say: webhooks, what is caught up with, and the sweep."""

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from market.auth import Part
from market.books.queries import EVERY_INVARIANT
from market.events import Event
from market.payout_runs.jobs import run_payouts
from market.settings import in_force
from market.treasury.actions import ask_for_more, hold_policy
from market.treasury.jobs import catch_up_stripe, review_held_payouts, sweep_stripe
from market.treasury.rules import differences
from payouts.errors import EventUnclear, PayoutStateConflict
from payouts.inbox import store_event
from payouts.models import ExternalCall, Payout
from payouts.opening import open_payouts
from payouts.seen import BalanceSeen
from payouts.transfers import move_payout
from tests.factories import Caller
from tests.fakestripe.delivery import signature
from tests.market.house import MONDAY, House, earn, paid_in
from tests.payouts.scene import SECRET, in_the_way


def test_a_sender_whose_time_was_over_has_the_next_one_sent(house: House) -> None:
    paid_in(house)
    experts = [house.expert(), house.expert()]
    for one in experts:
        house.become_payee(one)
        earn(house, one)
    house.approve()
    with house.begin() as session:
        owners = [(one.person_id, "USD") for one in experts]
        opened = open_payouts(
            session, owners, period_end=MONDAY, at=datetime.now(UTC), policy=hold_policy()
        )
        assert len(opened.new) == 2
        # Whoever planned them told nobody: the jobs of these two are lost.
        left = ask_for_more(session, at=datetime.now(UTC))
    assert left == min(opened.new, key=lambda one: one.call_id or one.id).id
    assert "send_payout" in house.react()
    assert len(house.stripe.every("transfer")) == 2
    with house.begin() as session:
        assert ask_for_more(session, at=datetime.now(UTC)) is None


def test_a_webhook_is_kept_once_and_only_from_stripe(house: House) -> None:
    lab = house.caller(Part.LAB)
    house.fund(lab, 10_000, "pm_usBankAccount_success")
    house.react()
    house.stripe.settle()
    letters = house.mailbox.take()
    assert letters
    for letter in letters:
        assert house.receive(letter) == 200
        # Stripe may send again what it has sent.
        assert house.receive(letter) == 200
        forged = type(letter)(letter.endpoint, letter.payload + b" ", letter.signature)
        assert house.receive(forged) == 400
        unsigned = type(letter)(letter.endpoint, letter.payload, "")
        assert house.receive(unsigned) == 400
    assert len(house.events(Event.STRIPE_EVENT_RECEIVED)) == len(letters)
    house.react()
    assert lab.get("/v1/fundings").json()["items"][0]["state"] == "succeeded"


def test_webhooks_that_never_came_are_caught_up_with(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    earn(house, expert)
    house.pay_out(ops)
    house.stripe.settle()
    house.mailbox.take()
    assert expert.get("/v1/payouts").json()["items"][0]["state"] == "transferred"
    catch_up_stripe(datetime.now(UTC).isoformat())
    house.react()
    assert expert.get("/v1/payouts").json()["items"][0]["state"] == "paid"


def test_after_a_long_silence_all_of_it_is_caught_up_with(house: House) -> None:
    catch_up_stripe(datetime.now(UTC).isoformat())
    lab = house.caller(Part.LAB)
    house.fund(lab, 10_000, "pm_card_visa")
    house.stripe.settle()
    house.mailbox.take()
    house.react()
    assert lab.get("/v1/fundings").json()["items"][0]["state"] == "received"
    # Ten hours later, of which the hourly look reaches back three.
    house.stripe.advance(timedelta(hours=10).total_seconds())
    catch_up_stripe((datetime.now(UTC) + timedelta(hours=10)).isoformat())
    house.react()
    assert lab.get("/v1/fundings").json()["items"][0]["state"] == "succeeded"


def run_and_crash(house: House) -> Caller:
    """An expert whose payout is opened by the run's own job, and whose event is never relayed."""
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    earn(house, expert)
    house.approve()
    body = {"period_end": MONDAY.isoformat()}
    answer = ops.post("/v1/payout-runs", json=body, headers={"Idempotency-Key": "k"})
    run_payouts(str(UUID(answer.json()["id"].removeprefix("prn_"))))
    return expert


def test_a_job_that_was_lost_is_made_up_for_by_the_sweep(house: House) -> None:
    expert = run_and_crash(house)
    sweep_stripe("2026-01-05T00:00:00+00:00")
    assert len(house.stripe.every("transfer")) == 1
    assert expert.get("/v1/payouts").json()["items"][0]["state"] == "transferred"


def test_what_cannot_be_recorded_holds_nothing_else_up_in_the_sweep(house: House) -> None:
    lab, expert = house.caller(Part.LAB), run_and_crash(house)
    # Its transfer is planned and goes; but where it stands meanwhile, it cannot have been sent.
    with house.begin() as session:
        payout = session.scalars(select(Payout)).one()
        move_payout(session, payout, "refuse", at=datetime.now(UTC))
    house.fund(lab, 10_000)
    with pytest.raises(PayoutStateConflict):
        sweep_stripe("2026-01-05T00:00:00+00:00")
    assert len(house.stripe.every("payment_intent")) == 2
    with house.begin() as session:
        payout = session.scalars(select(Payout)).one()
        for action in ("batch", "send"):
            move_payout(session, payout, action, at=datetime.now(UTC))
        call = session.scalars(
            select(ExternalCall).where(ExternalCall.id == payout.call_id).with_for_update()
        ).one()
        # A minute has passed.
        call.leased_until = datetime.now(UTC)
    sweep_stripe("2026-01-05T00:00:00+00:00")
    assert expert.get("/v1/payouts").json()["items"][0]["state"] == "transferred"
    house.hear()


def test_a_row_that_the_database_refuses_holds_nothing_else_up_in_the_sweep(house: House) -> None:
    lab = house.caller(Part.LAB)
    run_and_crash(house)
    with house.begin() as session:
        payout = session.scalars(select(Payout)).one()
    house.fund(lab, 10_000)
    with in_the_way(house.begin, payout), pytest.raises(IntegrityError):
        sweep_stripe("2026-01-05T00:00:00+00:00")
    assert len(house.stripe.every("payment_intent")) == 2


def test_an_event_that_stripe_never_shows_dies_as_a_job_where_ops_find_it(house: House) -> None:
    body = {
        "id": "evt_1",
        "object": "event",
        "type": "transfer.created",
        "livemode": False,
        "data": {"object": {"id": "tr_gone"}},
    }
    payload = json.dumps(body).encode()
    at = datetime.now(UTC) - timedelta(days=2)
    with house.begin() as session:
        mark = signature(payload, [SECRET], int(at.timestamp()))
        store_event(session, payload=payload, signature=mark, secret=SECRET, at=at)
    sweep_stripe("2026-01-05T00:00:00+00:00")
    # Once more, as a job of its own, which ops may run again when its reason has gone.
    with pytest.raises(EventUnclear, match="Stripe does not show tr_gone"):
        house.react()
    assert house.react() == []


def test_a_market_without_a_key_to_stripe_has_nothing_to_sweep(house: House) -> None:
    paid_in(house)
    earn(house, house.expert())
    house.approve()
    house.pay_out(house.caller(Part.OPS))
    in_force.open(msgspec.structs.replace(in_force.settings, stripe_key=""))
    sweep_stripe("2026-01-05T00:00:00+00:00")
    # The payout waits for where it is to go, which is not asked for either.
    review_held_payouts("2026-01-05T00:00:00+00:00")


def test_the_books_are_open_to_ops_and_balance(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    earn(house, expert)
    rows = ops.get("/v1/ledger/trial-balance").json()
    assert sum(row["debit_minor"] for row in rows) == sum(row["credit_minor"] for row in rows) > 0
    before = ops.get("/v1/ledger/invariants").json()
    assert {one["broken_by"] for one in before["invariants"]} == {None}
    asked = ops.post("/v1/ledger/checks")
    assert asked.status_code == 202
    assert ops.post("/v1/ledger/checks").json() == asked.json()
    house.react()
    assert ops.get(asked.headers["location"]).json()["state"] == "succeeded"
    found = ops.get("/v1/ledger/invariants").json()
    assert (found["violations"], found["checked_at"] is not None) == (0, True)
    assert [(one["id"], one["broken_by"]) for one in found["invariants"]] == [
        (invariant, []) for invariant in EVERY_INVARIANT
    ]


@pytest.mark.parametrize(
    ("before", "after", "available", "pending", "found"),
    [
        ({"USD": 100}, {"USD": 100}, {"USD": 60}, {"USD": 40}, 0),
        ({"USD": 100}, {"USD": 90}, {"USD": 90}, {}, 0),
        ({"USD": 100}, {"USD": 100}, {"USD": 99}, {}, 1),
        ({"USD": 100}, {"USD": 100}, {"USD": 100, "EUR": 5}, {}, 1),
        ({"USD": 7}, {"USD": 7}, {}, {}, 1),
        ({}, {}, {}, {}, 0),
    ],
)
def test_what_stripe_holds_is_compared_with_the_books_by_currency(
    before: dict[str, int],
    after: dict[str, int],
    available: dict[str, int],
    pending: dict[str, int],
    found: int,
) -> None:
    seen = BalanceSeen(available=available, pending=pending)
    assert len(differences(before, after, seen)) == found
