"""Making calls: whatever goes wrong, a payout is sent once and its money is never lost."""

import contextlib
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import DatabaseError

from payouts import chart
from payouts.calls import due_calls, unknown_calls
from payouts.decisions import approve_new_attempt, resolve_unknown, stop_payout
from payouts.errors import (
    CallNotOpen,
    GatewayKeyRejected,
    PayoutStateConflict,
)
from payouts.funding import plan_funding
from payouts.gateway import Gateway
from payouts.holds import open_holds
from payouts.models import ExternalCall
from payouts.money import Money
from payouts.outcomes import CallOutcome, Result
from payouts.sender import run_call
from payouts.states import (
    CallState,
    HoldCode,
    PayoutState,
)
from payouts.transfers import clear_hold
from tests.payouts.scene import (
    API_KEY,
    AT_ONCE,
    PERIOD_END,
    TRANSFER,
    Scene,
    batched,
    check_under_way,
    live_transfers,
)

ROOT = Path(__file__).resolve().parents[2]


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
        until = time.monotonic() + 120
        while not live_transfers(scene, payout.id):
            assert sender.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        sender.kill()
        sender.wait(timeout=120)
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
    slow.join(timeout=120)
    assert second.result == Result.TRY_LATER
    assert outcomes[0].result == Result.CONFIRMED
    assert scene.run(payout.call_id).result == Result.CONFIRMED
    assert live_transfers(scene, payout.id) == 1


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
        thread.join(timeout=120)
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


def test_a_transfer_is_not_sent_before_the_balance_that_would_swallow_it_was_seen(
    scene: Scene,
) -> None:
    payout = batched(scene)
    account_id = scene.payout(payout.id).destination
    scene.stripe.ask("POST", f"/_accounts/{account_id}/take", amount=50_000)
    scene.stripe.fault("get /v1/balance", "500_before", times=9)
    assert scene.run(payout.call_id).result == Result.TRY_LATER
    scene.stripe.no_faults()
    assert scene.run(payout.call_id).result == Result.REFUSED
    assert scene.payout(payout.id).state == PayoutState.HELD
    assert live_transfers(scene, payout.id) == 0
    scene.stripe.ask("POST", f"/_accounts/{account_id}/take", amount=-50_000)


def test_a_rejected_api_key_stops_the_sender_and_loses_nothing(scene: Scene) -> None:
    payout = batched(scene)
    scene.stripe.fault(TRANSFER, "401")
    with pytest.raises(GatewayKeyRejected):
        scene.run(payout.call_id)
    assert scene.payout(payout.id).state == PayoutState.TRANSFERRING
    assert scene.run(payout.call_id).result == Result.CONFIRMED


def test_what_a_rejected_key_kept_from_being_sent_is_looked_at_again_before_it_is(
    scene: Scene,
) -> None:
    payout = batched(scene)
    scene.stripe.fault(TRANSFER, "401")
    with pytest.raises(GatewayKeyRejected):
        scene.run(payout.call_id)
    # Meanwhile the balance has become one that would swallow the transfer.
    account_id = scene.seen(payout.owner_id).account_id
    scene.stripe.ask("POST", f"/_accounts/{account_id}/take", amount=50_000)
    assert scene.run(payout.call_id).result == Result.REFUSED
    assert scene.payout(payout.id).state == PayoutState.HELD
    assert live_transfers(scene, payout.id) == 0
    scene.stripe.ask("POST", f"/_accounts/{account_id}/take", amount=-50_000)


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


def test_a_call_state_follows_its_table(scene: Scene) -> None:
    payout = batched(scene)
    scene.run(payout.call_id)
    with (
        pytest.raises(DatabaseError, match="no step leads from confirmed to sent"),
        scene.begin() as session,
    ):
        session.get_one(ExternalCall, payout.call_id).state = CallState.SENT
