"""Payouts from what is owed to the bank: the real library, the stand-in's process, real commits."""

import contextlib
import subprocess
import sys
import threading
import time
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError, IntegrityError

from payouts import chart
from payouts.calls import due_calls, unknown_calls
from payouts.errors import (
    CallNotOpen,
    FloorBreached,
    GatewayKeyRejected,
    PayoutStateConflict,
    UnknownHold,
)
from payouts.funding import plan_funding, plan_refund
from payouts.gateway import Gateway
from payouts.holds import HoldPolicy, Reason, open_holds
from payouts.ledger import Line, post_entry
from payouts.models import ExternalCall, Funding, Payout, PayoutMove, StateRule, Transfer
from payouts.money import Money
from payouts.sender import (
    CallOutcome,
    Result,
    approve_new_attempt,
    resolve_unknown,
    run_call,
    stop_payout,
)
from payouts.states import (
    CALL_MOVES,
    MOVES,
    CallState,
    FundingState,
    HoldCode,
    HoldOwner,
    PayoutState,
)
from payouts.transfers import clear_hold, move_payout, open_payout, place_hold, review_payout
from payouts.wire import plan_reversal
from tests.payouts.scene import API_KEY, AT_ONCE, PERIOD_END, Scene

TRANSFER = "post /v1/transfers"
ROOT = Path(__file__).resolve().parents[2]


def batched(scene: Scene, amount_minor: int = 13_316) -> Payout:
    """A payout whose transfer is planned; the lab's money is there."""
    owner_id = scene.payee().owner_id
    scene.fund(1_000_000)
    scene.earn(owner_id, amount_minor)
    payout = scene.open(owner_id)
    assert payout.state == PayoutState.BATCHED
    return payout


def live_transfers(scene: Scene, payout_id: UUID) -> int:
    """How many transfers the stand-in's bank made for one payout."""
    return sum(1 for t in scene.stripe.every("transfer") if t["transfer_group"] == str(payout_id))


def test_money_goes_from_a_lab_to_an_experts_bank_to_the_cent(scene: Scene) -> None:
    one, two = scene.payee().owner_id, scene.payee().owner_id
    scene.fund(1_000_000, "pm_usBankAccount_success")
    scene.deliver()
    # J1: 10,000.00 by bank debit, 5.00 of it Stripe's fee.
    assert scene.posted(chart.stripe_clearing()) == 999_500
    assert scene.posted(chart.stripe_fees()) == 500
    assert scene.posted(chart.lab_funding(scene.lab_id)) == 1_000_000
    scene.earn(one, 13_316)
    scene.earn(two, 82_538)
    payouts = [scene.open(one), scene.open(two)]
    assert scene.available(chart.owed_to(one)) == 0
    for payout in payouts:
        assert scene.run(payout.call_id).result == Result.CONFIRMED
    # J8: out of what is owed, and from our balance at Stripe to theirs.
    assert scene.posted(chart.owed_to(one)) == scene.posted(chart.owed_to(two)) == 0
    assert scene.posted(chart.in_transit_to(two)) == 82_538
    assert scene.posted(chart.connected_balance(one)) == 13_316
    assert scene.posted(chart.stripe_clearing()) == 999_500 - 13_316 - 82_538
    scene.deliver()
    # J9: Stripe reports both as paid.
    for owner_id, payout in zip((one, two), payouts, strict=True):
        assert scene.payout(payout.id).state == PayoutState.PAID
        assert scene.posted(chart.in_transit_to(owner_id)) == 0
        assert scene.posted(chart.connected_balance(owner_id)) == 0
        account = scene.seen(owner_id).account_id
        assert scene.stripe.held(f"{account}/bank") == payout.amount_minor
    scene.agrees(one, two)
    with scene.begin() as session:
        states = session.scalars(
            select(PayoutMove.to_state)
            .where(PayoutMove.payout_id == payouts[0].id)
            .order_by(PayoutMove.number)
        ).all()
    assert states == [
        "eligible",
        "batched",
        "transferring",
        "transferred",
        "payout_pending",
        "in_transit",
        "paid",
    ]
    assert scene.kinds().count("payout_paid") == 2


def test_a_payout_is_opened_once_for_a_period_however_often_it_is_asked_for(scene: Scene) -> None:
    first = batched(scene)
    scene.earn(first.owner_id, 500)
    assert scene.open(first.owner_id).id == first.id
    later = scene.open(first.owner_id, date(2026, 11, 29))
    assert later.amount_minor == 500
    with scene.begin() as session:
        nothing = open_payout(
            session,
            owner_id=first.owner_id,
            currency="USD",
            period_end=date(2026, 12, 6),
            at=scene.now(),
        )
    assert nothing is None


def test_sixteen_pay_runs_at_once_open_one_payout_and_send_one_transfer(scene: Scene) -> None:
    owner_id = scene.payee().owner_id
    scene.fund(1_000_000)
    scene.earn(owner_id, 70_000)
    gate = threading.Barrier(16)
    results: list[CallOutcome] = []
    opened: set[UUID] = set()

    def pay() -> None:
        gate.wait()
        payout = scene.open(owner_id)
        opened.add(payout.id)
        results.append(scene.run(payout.call_id))

    threads = [threading.Thread(target=pay) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(results) == 16
    assert len(opened) == 1
    assert {r.result for r in results} <= {Result.CONFIRMED, Result.BUSY}
    assert live_transfers(scene, opened.pop()) == 1


LOST: tuple[dict[str, object], ...] = (
    {"kind": "timeout_after", "delay_s": 0.7},
    {"kind": "timeout_before", "delay_s": 0.7},
    {"kind": "drop_after"},
    {"kind": "drop_before"},
    {"kind": "cut_body"},
    {"kind": "502_html"},
    {"kind": "409"},
    {"kind": "429"},
    {"kind": "429", "should_retry": "true"},
)


def test_a_transfer_whose_answer_was_lost_is_sent_again_and_pays_once(scene: Scene) -> None:
    owner_id = scene.payee().owner_id
    owed = chart.owed_to(owner_id)
    scene.fund(1_000_000)
    patient = scene.gateway
    hasty = Gateway(api_key=API_KEY, base_url=scene.stripe.url, timeout_s=0.5)
    for number, fault in enumerate(LOST):
        scene.earn(owner_id, 1_000 + number)
        payout = scene.open(owner_id, PERIOD_END + timedelta(days=7 * number))
        scene.stripe.no_faults()
        scene.stripe.ask("POST", "/_faults", operation=TRANSFER, **fault)
        scene.gateway = hasty
        assert scene.run(payout.call_id).result == Result.TRY_LATER, fault
        scene.gateway = patient
        # Nobody can tell, so the money is neither free nor paid.
        assert scene.available(owed) == 0
        assert scene.posted(owed) == payout.amount_minor
        assert scene.payout(payout.id).state == PayoutState.TRANSFERRING
        assert scene.insist(payout.call_id).result == Result.CONFIRMED, fault
        assert live_transfers(scene, payout.id) == 1, fault
    scene.deliver()
    assert scene.kinds().count("payout_paid") == len(LOST)
    scene.agrees(owner_id)


def test_a_server_error_is_tried_twice_and_then_only_looked_up(scene: Scene) -> None:
    payout = batched(scene)
    # Done, and answered with an error, which v1 repeats for the key for ever after.
    scene.stripe.fault(TRANSFER, "500_after")
    assert scene.run(payout.call_id).result == Result.TRY_LATER
    assert scene.insist(payout.call_id).result == Result.UNKNOWN
    assert scene.run(payout.call_id).result == Result.UNKNOWN
    assert scene.available(chart.owed_to(payout.owner_id)) == 0
    with scene.begin() as session:
        assert unknown_calls(session) == [payout.call_id]
    assert payout.call_id is not None
    found = resolve_unknown(
        scene.begin, scene.gateway, payout.call_id, now=scene.now, tell=scene.tell
    )
    assert found.result == Result.CONFIRMED
    assert live_transfers(scene, payout.id) == 1
    scene.deliver()
    assert scene.payout(payout.id).state == PayoutState.PAID


def test_a_transfer_that_never_happened_is_looked_for_twice_and_sent_anew_by_a_person(
    scene: Scene,
) -> None:
    payout = batched(scene)
    assert payout.call_id is not None
    scene.stripe.fault(TRANSFER, "500_before")
    scene.run(payout.call_id)
    assert scene.insist(payout.call_id).result == Result.UNKNOWN
    operator = uuid4()

    def look() -> CallOutcome:
        assert payout.call_id is not None
        return resolve_unknown(scene.begin, scene.gateway, payout.call_id, now=scene.now)

    first = look()
    assert first.result == Result.UNKNOWN
    assert first.retry_at is not None
    with scene.begin() as session, pytest.raises(CallNotOpen):
        approve_new_attempt(session, payout.call_id, by=operator, reason="?", at=scene.now())
    assert look().retry_at == first.retry_at
    scene.pass_time(minutes=11)
    assert look().result == Result.NOT_FOUND
    assert scene.available(chart.owed_to(payout.owner_id)) == 0
    with scene.begin() as session:
        facts = approve_new_attempt(
            session, payout.call_id, by=operator, reason="looked in the dashboard", at=scene.now()
        )
    assert [fact.kind for fact in facts] == ["payout_held"]
    assert scene.available(chart.owed_to(payout.owner_id)) == payout.amount_minor
    with scene.begin() as session:
        (hold,) = open_holds(session, payout.id)
        clear_hold(session, hold.id, by=operator, note="send it", at=scene.now(), policy=AT_ONCE)
    again = scene.payout(payout.id)
    assert again.attempt == 2
    assert again.call_id != payout.call_id
    assert scene.run(again.call_id).result == Result.CONFIRMED
    assert live_transfers(scene, payout.id) == 1


def test_a_key_is_never_sent_again_twenty_hours_after_the_first_time(scene: Scene) -> None:
    payout = batched(scene)
    assert payout.call_id is not None
    scene.stripe.fault(TRANSFER, "drop_after")
    assert scene.run(payout.call_id).result == Result.TRY_LATER
    # Stripe has forgotten the key by then: another sending would pay a second time.
    scene.pass_time(hours=25)
    assert scene.run(payout.call_id).result == Result.UNKNOWN
    assert live_transfers(scene, payout.id) == 1
    found = resolve_unknown(scene.begin, scene.gateway, payout.call_id, now=scene.now)
    assert found.result == Result.CONFIRMED
    assert scene.payout(payout.id).state == PayoutState.TRANSFERRED


def test_a_key_may_be_sent_again_until_twenty_hours_have_passed(scene: Scene) -> None:
    payout = batched(scene)
    scene.stripe.fault(TRANSFER, "drop_after")
    assert scene.run(payout.call_id).result == Result.TRY_LATER
    scene.pass_time(hours=19, minutes=59)
    assert scene.run(payout.call_id).result == Result.CONFIRMED
    assert live_transfers(scene, payout.id) == 1


def test_after_an_hour_without_an_answer_a_call_is_only_looked_up(scene: Scene) -> None:
    payout = batched(scene)
    scene.stripe.fault(TRANSFER, "429", times=2)
    assert scene.run(payout.call_id).result == Result.TRY_LATER
    scene.pass_time(minutes=61)
    assert scene.run(payout.call_id).result == Result.UNKNOWN
    assert "call_unknown" in scene.kinds()


def test_a_sender_that_died_after_its_lease_leaves_the_call_to_the_next(scene: Scene) -> None:
    payout = batched(scene)
    assert payout.call_id is not None

    class Died(Exception):
        """Stands for a process that ends between lease and answer."""

    class Deathbed(Gateway):
        def create_transfer(self, *args: object, **options: object) -> None:  # type: ignore[override]
            raise Died

    dying = Deathbed(api_key=API_KEY, base_url=scene.stripe.url)
    with pytest.raises(Died):
        run_call(scene.begin, dying, payout.call_id, now=scene.now)
    assert scene.run(payout.call_id).result == Result.BUSY
    with scene.begin() as session:
        assert due_calls(session, scene.now()) == []
        assert due_calls(session, scene.now() + timedelta(minutes=2)) == [payout.call_id]
    scene.pass_time(minutes=2)
    assert scene.run(payout.call_id).result == Result.CONFIRMED
    assert live_transfers(scene, payout.id) == 1


SENDER = """
import sys
from datetime import UTC, datetime
from uuid import UUID

from market.db import database
from payouts.gateway import Gateway
from payouts.sender import run_call

database.open(sys.argv[1])
gateway = Gateway(api_key="sk_test_stumpwork", base_url=sys.argv[2])
run_call(database.begin, gateway, UUID(sys.argv[3]), now=lambda: datetime.now(UTC))
"""


def test_a_sender_killed_between_sending_and_the_answer_pays_once(scene: Scene, books: str) -> None:
    payout = batched(scene)
    # Done at Stripe; the answer hangs, and the process that waits for it is killed.
    scene.stripe.fault(TRANSFER, "timeout_after", delay_s=1)
    command = [sys.executable, "-c", SENDER, books, scene.stripe.url, str(payout.call_id)]
    with subprocess.Popen(command, cwd=ROOT) as sender:
        until = time.monotonic() + 30
        while not live_transfers(scene, payout.id):
            assert sender.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        sender.kill()
        sender.wait(timeout=10)
    assert scene.payout(payout.id).state == PayoutState.TRANSFERRING
    assert scene.available(chart.owed_to(payout.owner_id)) == 0
    # Webhooks are kept and not read yet, so that only a second sending can tell.
    scene.stripe.settle()
    scene.store(scene.mailbox.take())
    scene.pass_time(minutes=2)
    assert scene.insist(payout.call_id).result == Result.CONFIRMED
    assert live_transfers(scene, payout.id) == 1
    scene.deliver()
    assert scene.payout(payout.id).state == PayoutState.PAID
    scene.agrees(payout.owner_id)


def test_a_slow_answer_beyond_the_lease_still_pays_once(scene: Scene) -> None:
    payout = batched(scene)
    scene.stripe.fault(TRANSFER, "slow", delay_s=1)
    outcomes: list[CallOutcome] = []
    slow = threading.Thread(target=lambda: outcomes.append(scene.run(payout.call_id)))
    slow.start()
    # The second sender thinks the first is dead, and meets its key in use.
    while not scene.stripe.ask("GET", "/_faults")["rules"][0]["seen"]:
        time.sleep(0.01)
    scene.pass_time(minutes=2)
    second = scene.run(payout.call_id)
    slow.join(timeout=10)
    assert second.result == Result.TRY_LATER
    assert outcomes[0].result == Result.CONFIRMED
    assert scene.run(payout.call_id).result == Result.CONFIRMED
    assert live_transfers(scene, payout.id) == 1


def test_a_refused_transfer_gives_the_money_back_and_holds_with_a_reason(scene: Scene) -> None:
    payout = batched(scene)
    scene.stripe.fault(TRANSFER, "402")
    outcome = scene.run(payout.call_id)
    assert outcome.result == Result.REFUSED
    assert scene.payout(payout.id).state == PayoutState.HELD
    assert scene.available(chart.owed_to(payout.owner_id)) == payout.amount_minor
    with scene.begin() as session:
        (hold,) = open_holds(session, payout.id)
    assert hold.code == HoldCode.PLATFORM_FUNDS
    assert hold.acts == HoldOwner.PLATFORM
    assert "Your money is yours" in hold.text
    # What was given back is not paid by another payout meanwhile.
    scene.earn(payout.owner_id, 300)
    assert scene.open(payout.owner_id, date(2026, 11, 29)).amount_minor == 300
    with scene.begin() as session:
        assert review_payout(session, payout.id, at=scene.now(), policy=AT_ONCE) == []
    scene.pass_time(hours=2)
    with scene.begin() as session:
        facts = review_payout(session, payout.id, at=scene.now(), policy=AT_ONCE)
    assert [fact.kind for fact in facts] == ["payout_batched"]
    again = scene.payout(payout.id)
    assert scene.run(again.call_id).result == Result.CONFIRMED
    assert live_transfers(scene, payout.id) == 1


def test_a_platform_without_funds_is_refused_by_the_bank_itself(scene: Scene) -> None:
    owner_id = scene.payee().owner_id
    scene.fund(1_000)
    with scene.begin() as session:
        # Booked by hand, so that our books promise more than Stripe has.
        post_entry(
            session,
            key="by hand",
            kind="adjustment",
            lines=[Line(chart.suspense(), chart.owed_to(owner_id), 5_000)],
            at=scene.now(),
        )
    payout = scene.open(owner_id)
    outcome = scene.run(payout.call_id)
    assert outcome.result == Result.REFUSED
    assert "insufficient" in outcome.text
    assert scene.stripe.every("transfer") == []
    assert scene.payout(payout.id).state == PayoutState.HELD


def test_an_account_that_lost_its_capability_is_held_until_it_is_ready_again(
    scene: Scene,
) -> None:
    payout = batched(scene)
    account_id = scene.seen(payout.owner_id).account_id
    assert account_id is not None
    # Lost between the plan and the sending, and we have not heard of it.
    scene.stripe.ask("POST", f"/_accounts/{account_id}/transfers", status="restricted")
    assert scene.run(payout.call_id).result == Result.REFUSED
    with scene.begin() as session:
        (hold,) = open_holds(session, payout.id)
    assert hold.code == HoldCode.PAYEE_REQUIREMENTS
    assert hold.acts == HoldOwner.EXPERT
    scene.deliver()
    assert scene.payout(payout.id).state == PayoutState.HELD
    scene.stripe.ask("POST", f"/_accounts/{account_id}/transfers", status="active", requirements=[])
    scene.deliver()
    ready = scene.payout(payout.id)
    assert ready.state == PayoutState.BATCHED
    assert scene.run(ready.call_id).result == Result.CONFIRMED


def test_a_connected_account_below_zero_is_not_sent_money_that_it_would_swallow(
    scene: Scene,
) -> None:
    payout = batched(scene)
    account_id = scene.seen(payout.owner_id).account_id
    scene.stripe.ask("POST", f"/_accounts/{account_id}/take", amount=700)
    assert scene.run(payout.call_id).result == Result.REFUSED
    assert live_transfers(scene, payout.id) == 0
    with scene.begin() as session:
        (hold,) = open_holds(session, payout.id)
    assert "below zero" in hold.text
    scene.stripe.ask("POST", f"/_accounts/{account_id}/take", amount=-700)


def test_a_payout_to_a_changed_bank_account_is_planned_again(scene: Scene) -> None:
    payout = batched(scene)
    account_id = scene.seen(payout.owner_id).account_id
    scene.stripe.ask("POST", f"/_accounts/{account_id}/bank")
    scene.deliver()
    outcome = scene.run(payout.call_id)
    assert outcome.result == Result.REFUSED
    held = scene.payout(payout.id)
    assert held.state == PayoutState.HELD
    with scene.begin() as session:
        (hold,) = open_holds(session, payout.id)
    assert hold.code == HoldCode.BANK_CHANGED
    assert hold.acts == HoldOwner.TIME
    assert live_transfers(scene, payout.id) == 0
    scene.pass_time(hours=73)
    with scene.begin() as session:
        review_payout(session, payout.id, at=scene.now(), policy=AT_ONCE)
    assert scene.run(scene.payout(payout.id).call_id).result == Result.CONFIRMED


def test_an_expert_who_is_no_payee_is_told_so_and_paid_once_they_are(scene: Scene) -> None:
    scene.fund(100_000)
    payee = scene.payee(onboarded=False)
    scene.earn(payee.owner_id, 4_000)
    payout = scene.open(payee.owner_id)
    assert payout.state == PayoutState.HELD
    with scene.begin() as session:
        (hold,) = open_holds(session, payout.id)
    assert hold.code == HoldCode.PAYEE_REQUIREMENTS
    assert "a bank account to be paid to" in hold.text
    assert "your date of birth" in hold.text
    assert scene.available(chart.owed_to(payee.owner_id)) == 0
    assert payee.account_id is not None
    scene.stripe.onboard(payee.account_id)
    scene.deliver()
    assert "payee_ready" in scene.kinds()
    assert "payout_batched" in scene.kinds()
    assert scene.run(scene.payout(payout.id).call_id).result == Result.CONFIRMED


def test_small_amounts_wait_and_are_paid_together_once_they_reach_the_minimum(
    scene: Scene,
) -> None:
    policy = HoldPolicy(first_payout_wait=timedelta(0), minimum_minor={"USD": 1_000})
    owner_id = scene.payee().owner_id
    scene.fund(100_000)
    scene.earn(owner_id, 600)
    with scene.begin() as session:
        small = open_payout(
            session,
            owner_id=owner_id,
            currency="USD",
            period_end=PERIOD_END,
            at=scene.now(),
            policy=policy,
        )
        assert small is not None
        (hold,) = open_holds(session, small.id)
    assert hold.code == HoldCode.MINIMUM
    assert "USD 10.00" in hold.text
    scene.earn(owner_id, 500)
    with scene.begin() as session:
        next_one = open_payout(
            session,
            owner_id=owner_id,
            currency="USD",
            period_end=date(2026, 11, 29),
            at=scene.now(),
            policy=policy,
        )
    assert next_one is not None
    assert next_one.state == PayoutState.BATCHED
    assert scene.payout(small.id).state == PayoutState.BATCHED


def test_a_first_payout_says_until_when_it_waits(scene: Scene) -> None:
    owner_id = scene.payee().owner_id
    scene.fund(100_000)
    scene.earn(owner_id, 600)
    with scene.begin() as session:
        payout = open_payout(
            session, owner_id=owner_id, currency="USD", period_end=PERIOD_END, at=scene.now()
        )
        assert payout is not None
        (hold,) = open_holds(session, payout.id)
        assert hold.code == HoldCode.FIRST_PAYOUT
        assert hold.acts == HoldOwner.TIME
        facts = review_payout(session, payout.id, at=scene.now() + timedelta(days=7, minutes=1))
    assert [fact.kind for fact in facts] == ["payout_batched"]


def check_under_way(scene: Scene) -> Reason:
    """A reason that only a person can give."""
    return Reason(
        HoldCode.SANCTIONS,
        HoldOwner.PLATFORM,
        "A check is under way.",
        scene.now() + timedelta(days=2),
    )


def test_a_hold_of_a_persons_stands_until_a_person_ends_it_and_does_not_go_quiet(
    scene: Scene,
) -> None:
    payout = batched(scene)
    operator = uuid4()
    scene.stripe.fault(TRANSFER, "refuse", status=400, code="testing", message="No.")
    scene.run(payout.call_id)
    with scene.begin() as session:
        place_hold(session, payout.id, reason=check_under_way(scene), by=operator, at=scene.now())
        refused, sanction = open_holds(session, payout.id)
        assert "Stripe refused the transfer: No." in refused.text
        facts = clear_hold(
            session, refused.id, by=operator, note="seen", at=scene.now(), policy=AT_ONCE
        )
        assert facts == []
    with scene.begin() as session:
        later = scene.now() + timedelta(days=3)
        facts = review_payout(session, payout.id, at=later, policy=AT_ONCE)
        assert [fact.kind for fact in facts] == ["payout_hold_escalated"]
        assert review_payout(session, payout.id, at=later, policy=AT_ONCE) == []
    with scene.begin() as session:
        facts = clear_hold(
            session, sanction.id, by=operator, note="clean", at=scene.now(), policy=AT_ONCE
        )
        assert [fact.kind for fact in facts] == ["payout_batched"]
        with pytest.raises(UnknownHold):
            clear_hold(session, sanction.id, by=operator, note="again", at=scene.now())


def test_a_planned_transfer_can_be_stopped_and_a_sent_one_cannot(scene: Scene) -> None:
    payout = batched(scene)
    operator = uuid4()
    with scene.begin() as session:
        facts = stop_payout(
            session, payout.id, reason=check_under_way(scene), by=operator, at=scene.now()
        )
    assert [fact.kind for fact in facts] == ["payout_held"]
    assert scene.run(payout.call_id).result == Result.REFUSED
    assert scene.stripe.every("transfer") == []
    assert scene.available(chart.owed_to(payout.owner_id)) == payout.amount_minor
    with scene.begin() as session:
        (hold,) = open_holds(session, payout.id)
        assert hold.code == HoldCode.SANCTIONS
        clear_hold(session, hold.id, by=operator, note="clean", at=scene.now(), policy=AT_ONCE)
    assert scene.run(scene.payout(payout.id).call_id).result == Result.CONFIRMED
    with scene.begin() as session, pytest.raises(PayoutStateConflict):
        stop_payout(session, payout.id, reason=check_under_way(scene), by=operator, at=scene.now())


def test_stopping_and_sending_at_once_end_in_one_of_the_two(scene: Scene) -> None:
    owner_id = scene.payee().owner_id
    scene.fund(1_000_000)
    for number in range(6):
        scene.earn(owner_id, 1_000)
        payout = scene.open(owner_id, PERIOD_END + timedelta(days=7 * number))
        gate = threading.Barrier(2)
        stopped: list[bool] = []

        def stop(payout_id: UUID, gate: threading.Barrier, stopped: list[bool]) -> None:
            gate.wait()
            reason = check_under_way(scene)
            with (
                contextlib.suppress(PayoutStateConflict),
                scene.begin() as session,
            ):
                stop_payout(session, payout_id, reason=reason, by=owner_id, at=scene.now())
                stopped.append(True)

        thread = threading.Thread(target=stop, args=(payout.id, gate, stopped))
        thread.start()
        gate.wait()
        outcome = scene.run(payout.call_id)
        thread.join(timeout=20)
        if stopped:
            assert outcome.result == Result.REFUSED
            assert live_transfers(scene, payout.id) == 0
        else:
            assert outcome.result == Result.CONFIRMED
            assert live_transfers(scene, payout.id) == 1


def test_a_refusal_on_the_second_sending_does_not_free_what_the_first_may_have_paid(
    scene: Scene,
) -> None:
    payout = batched(scene)
    account_id = scene.seen(payout.owner_id).account_id
    scene.stripe.ask("POST", "/_clock", paused=True)
    scene.stripe.fault(TRANSFER, "drop_after")
    assert scene.run(payout.call_id).result == Result.TRY_LATER
    # The account has gone below zero since, and our key may not do this for a while.
    scene.stripe.ask("POST", f"/_accounts/{account_id}/take", amount=50_000)
    scene.stripe.no_faults()
    # The kept answer for the key would win over a refusal; this one comes before it is looked at.
    scene.stripe.fault(TRANSFER, "forbid")
    scene.pass_time(seconds=10)
    assert scene.run(payout.call_id).result == Result.TRY_LATER
    assert scene.available(chart.owed_to(payout.owner_id)) == 0
    scene.pass_time(seconds=30)
    assert scene.run(payout.call_id).result == Result.CONFIRMED
    assert live_transfers(scene, payout.id) == 1
    scene.stripe.ask("POST", f"/_accounts/{account_id}/take", amount=-50_000)
    scene.stripe.ask("POST", "/_clock", paused=False)


def test_a_payout_that_the_bank_returns_is_told_of_and_paid_to_the_next_account(
    scene: Scene,
) -> None:
    payout = batched(scene)
    scene.run(payout.call_id)
    scene.deliver()
    first = scene.payout(payout.id).stripe_payout_id
    scene.stripe.ask("POST", f"/_payouts/{first}/fail", code="account_closed")
    scene.deliver()
    returned = scene.payout(payout.id)
    assert returned.state == PayoutState.RETURNED
    assert returned.failure_text is not None
    assert "Your bank account is closed." in returned.failure_text
    # J10: back on the expert's balance at Stripe, and on its way once more.
    assert scene.posted(chart.connected_balance(payout.owner_id)) == payout.amount_minor
    assert scene.posted(chart.in_transit_to(payout.owner_id)) == payout.amount_minor
    scene.agrees(payout.owner_id)
    account_id = scene.seen(payout.owner_id).account_id
    scene.stripe.ask("POST", f"/_accounts/{account_id}/bank")
    scene.deliver()
    paid = scene.payout(payout.id)
    assert paid.state == PayoutState.PAID
    assert paid.stripe_payout_id != first
    assert scene.posted(chart.in_transit_to(payout.owner_id)) == 0
    scene.agrees(payout.owner_id)
    assert scene.kinds()[-3:].count("payout_paid") == 1


def test_money_is_taken_back_by_a_decided_case_and_only_while_it_is_at_stripe(
    scene: Scene,
) -> None:
    payout = batched(scene, 19_000)
    owner_id, person = payout.owner_id, uuid4()
    scene.stripe.ask("POST", "/_clock", paused=True)
    scene.run(payout.call_id)
    with scene.begin() as session, pytest.raises(FloorBreached):
        plan_reversal(
            session, payout_id=payout.id, amount_minor=1, decided_by=person, at=scene.now()
        )
    with scene.begin() as session:
        post_entry(
            session,
            key="case",
            kind="clawback",
            lines=[Line(chart.receivable_from(owner_id), chart.lab_funding(scene.lab_id), 19_000)],
            at=scene.now(),
        )
    for amount, state in ((7_000, PayoutState.TRANSFERRED), (12_000, PayoutState.REVERSED)):
        with scene.begin() as session:
            call = plan_reversal(
                session,
                payout_id=payout.id,
                amount_minor=amount,
                decided_by=person,
                at=scene.now(),
            )
        scene.stripe.fault("post /v1/transfers/{id}/reversals", "drop_after")
        assert scene.insist(call.id).result == Result.CONFIRMED
        assert scene.payout(payout.id).state == state
    assert scene.posted(chart.receivable_from(owner_id)) == 0
    assert scene.posted(chart.in_transit_to(owner_id)) == 0
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    scene.agrees(owner_id)
    with scene.begin() as session, pytest.raises(PayoutStateConflict):
        plan_reversal(
            session, payout_id=payout.id, amount_minor=1, decided_by=person, at=scene.now()
        )


def test_a_declined_card_is_told_of_and_books_nothing(scene: Scene) -> None:
    funding_id = scene.fund(50_000, "pm_card_chargeDeclined")
    with scene.begin() as session:
        funding = session.get_one(Funding, funding_id)
    assert funding.state == FundingState.FAILED
    assert funding.failure_text == "Your card was declined."
    assert scene.posted(chart.stripe_clearing()) == 0
    assert scene.kinds() == ["funding_failed"]
    scene.deliver()
    assert scene.kinds() == ["funding_failed"]


def test_money_that_can_still_bounce_is_the_labs_but_cannot_be_given_to_a_project(
    scene: Scene,
) -> None:
    scene.stripe.ask("POST", "/_clock", paused=True)
    funding_id = scene.fund(50_000, "pm_card_visa")
    lab = chart.lab_funding(scene.lab_id)
    assert scene.posted(chart.lab_funding_unsettled(scene.lab_id)) == 50_000
    assert scene.available(lab) == 0
    scene.agrees()
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    assert scene.available(lab) == 50_000
    with scene.begin() as session:
        assert session.get_one(Funding, funding_id).state == FundingState.SETTLED
    assert scene.kinds() == ["funding_received", "funding_settled"]
    scene.agrees()


def test_a_bank_debit_that_fails_after_days_books_nothing(scene: Scene) -> None:
    scene.fund(50_000, "pm_usBankAccount_insufficientFunds")
    assert scene.kinds() == ["funding_processing"]
    scene.deliver()
    assert scene.kinds() == ["funding_processing", "funding_failed"]
    assert scene.posted(chart.stripe_clearing()) == 0


def test_a_payment_whose_answer_was_lost_takes_the_labs_money_once(scene: Scene) -> None:
    scene.stripe.fault("post /v1/payment_intents", "drop_after")
    scene.fund(50_000)
    assert len(scene.stripe.every("payment_intent")) == 1
    assert scene.posted(chart.lab_funding(scene.lab_id)) == 50_000
    scene.deliver()
    scene.agrees()


def test_a_refund_leaves_once_and_only_from_what_the_lab_has_not_given_away(scene: Scene) -> None:
    funding_id = scene.fund(50_000)
    scene.earn(uuid4(), 30_000)
    with scene.begin() as session, pytest.raises(FloorBreached):
        plan_refund(session, funding_id=funding_id, amount_minor=20_001, at=scene.now())
    with scene.begin() as session:
        call = plan_refund(session, funding_id=funding_id, amount_minor=20_000, at=scene.now())
    assert scene.available(chart.lab_funding(scene.lab_id)) == 0
    scene.stripe.fault("post /v1/refunds", "drop_after")
    assert scene.insist(call.id).result == Result.CONFIRMED
    assert [refund["amount"] for refund in scene.stripe.every("refund")] == [20_000]
    assert scene.posted(chart.refund_to(scene.lab_id)) == 0
    scene.agrees()
    scene.deliver()
    (refund,) = scene.stripe.every("refund")
    scene.stripe.ask("POST", f"/_refunds/{refund['id']}/fail")
    scene.deliver()
    # The lab's bank did not take it: it is the lab's again.
    assert scene.available(chart.lab_funding(scene.lab_id)) == 20_000
    assert scene.kinds()[-2:] == ["refund_sent", "refund_refused"]
    scene.agrees()


def test_a_rejected_api_key_stops_the_sender_and_loses_nothing(scene: Scene) -> None:
    payout = batched(scene)
    scene.stripe.fault(TRANSFER, "401")
    with pytest.raises(GatewayKeyRejected):
        scene.run(payout.call_id)
    assert scene.payout(payout.id).state == PayoutState.TRANSFERRING
    assert scene.run(payout.call_id).result == Result.CONFIRMED


def test_stripe_is_never_asked_while_a_transaction_is_open(scene: Scene) -> None:
    with scene.begin() as session:
        call = plan_funding(
            session,
            funding_id=uuid4(),
            lab_id=scene.lab_id,
            money=Money(1_000, "USD"),
            payment_method="pm_card_visa",
            at=scene.now(),
        )
    from market.db import database

    with database.unit(), pytest.raises(RuntimeError, match="stays open"):
        run_call(database.begin, scene.gateway, call.id, now=scene.now)
    assert scene.stripe.every("payment_intent") == []


def test_the_database_holds_the_same_steps_as_the_code(scene: Scene) -> None:
    with scene.begin() as session:
        rules = {
            (machine, one, two)
            for machine, one, two in session.execute(
                select(StateRule.machine, StateRule.from_state, StateRule.to_state)
            )
        }
    wanted = {("payout", str(m.source), str(m.target)) for m in MOVES}
    wanted |= {("external_call", str(one), str(two)) for one, two in CALL_MOVES}
    wanted |= {("payout", "", "accrued"), ("external_call", "", "planned")}
    assert rules == wanted


def test_a_step_that_is_not_in_the_table_is_refused_by_code_and_by_database(scene: Scene) -> None:
    payout = batched(scene)
    with scene.begin() as session:
        kept = session.get_one(Payout, payout.id)
        with pytest.raises(PayoutStateConflict) as refused:
            move_payout(session, kept, "pay", at=scene.now())
    assert refused.value.state == "batched"
    with (
        pytest.raises(DatabaseError, match="no step leads from batched to paid"),
        scene.begin() as session,
    ):
        session.execute(text("update payouts.payout set state = 'paid'"))
    with pytest.raises(DatabaseError, match="history ends in"), scene.begin() as session:
        session.execute(text("update payouts.payout set state = 'transferring'"))


def test_what_was_asked_of_stripe_and_how_much_is_paid_cannot_be_changed(scene: Scene) -> None:
    batched(scene)
    for change in (
        "update payouts.external_call set params = '{}'",
        "update payouts.external_call set natural_key = 'x', attempt = 3",
        "update payouts.payout set amount_minor = 1",
        "update payouts.payout_move set note = 'x'",
        "delete from payouts.payout_move",
        "delete from payouts.external_call",
    ):
        with pytest.raises(DatabaseError), scene.begin() as session:
            session.execute(text(change))


def test_a_payout_has_one_live_transfer_whatever_the_application_does(scene: Scene) -> None:
    payout = batched(scene)
    scene.run(payout.call_id)
    with scene.begin() as session:
        first = session.scalars(select(Transfer)).one()
        other = session.scalars(
            select(ExternalCall.id).where(ExternalCall.id != first.call_id).limit(1)
        ).one()
    with pytest.raises(IntegrityError, match="uq_transfer_live"), scene.begin() as session:
        session.add(
            Transfer(
                payout_id=payout.id,
                owner_id=payout.owner_id,
                call_id=other,
                stripe_id="tr_other",
                destination="acct_x",
                destination_payment=None,
                currency="USD",
                amount_minor=1,
                at=scene.now(),
            )
        )


def test_an_expert_sees_their_own_payouts_and_a_lab_sees_none(scene: Scene) -> None:
    from market.db import Scope, database

    mine, other = batched(scene), batched(scene, 700)
    with database.begin(Scope("stumpwork_expert", mine.owner_id)) as session:
        assert session.scalars(select(Payout.id)).all() == [mine.id]
        assert session.scalars(select(PayoutMove.owner_id).distinct()).all() == [mine.owner_id]
        with pytest.raises(DatabaseError, match="permission denied"):
            session.execute(text("update payouts.payout set attempt = 9"))
        session.rollback()
    for scope in (
        Scope("stumpwork_lab", scene.lab_id),
        Scope("stumpwork_lab", other.owner_id),
        Scope("stumpwork_expert", other.owner_id),
    ):
        table = "external_call" if scope.role == "stumpwork_expert" else "payout"
        with (
            pytest.raises(DatabaseError, match="permission denied"),
            database.begin(scope) as session,
        ):
            session.execute(text(f"select * from payouts.{table}"))


def test_a_call_state_follows_its_table(scene: Scene) -> None:
    payout = batched(scene)
    scene.run(payout.call_id)
    with (
        pytest.raises(DatabaseError, match="no step leads from confirmed to sent"),
        scene.begin() as session,
    ):
        session.get_one(ExternalCall, payout.call_id).state = CallState.SENT
