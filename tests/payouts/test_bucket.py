"""The pace of writing to Stripe: shared by every process, and kept when Stripe says too much."""

import threading
from datetime import timedelta
from uuid import uuid4

from payouts.bucket import WriteRate, hold_back, take_places
from payouts.calls import due_calls
from payouts.funding import plan_funding
from payouts.money import Money
from payouts.outcomes import Result
from payouts.sender import run_call
from tests.payouts.scene import Scene, batched

TEN = WriteRate(per_second=10, burst=1, patience=timedelta(hours=1))
TRANSFER = "post /v1/transfers"


def test_places_are_an_interval_apart_whoever_asks(scene: Scene) -> None:
    at = scene.now()
    found: list[float] = []
    lock = threading.Lock()

    def ask() -> None:
        for _ in range(10):
            with scene.begin() as session:
                place = take_places(session, 1, at=at, rate=TEN)
            with lock:
                found.append((place.goes_at - at).total_seconds())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [round(one, 3) for one in sorted(found)] == [round(n / 10, 3) for n in range(80)]


def test_a_burst_goes_at_once_and_what_follows_waits(scene: Scene) -> None:
    at = scene.now()
    rate = WriteRate(per_second=10, burst=5, patience=timedelta(hours=1))
    with scene.begin() as session:
        waits = [(take_places(session, 1, at=at, rate=rate).goes_at - at) for _ in range(7)]
    assert [max(wait, timedelta(0)).total_seconds() for wait in waits] == [0] * 5 + [0.1, 0.2]


def test_a_place_that_is_far_away_is_not_taken(scene: Scene) -> None:
    at = scene.now()
    rate = WriteRate(per_second=1, burst=1, patience=timedelta(seconds=1))
    with scene.begin() as session:
        taken = [take_places(session, 1, at=at, rate=rate).is_taken for _ in range(5)]
        last = take_places(session, 1, at=at, rate=rate)
    assert taken == [True, True, False, False, False]
    assert last.goes_at == at + timedelta(seconds=2)


def planned(scene: Scene) -> list[object]:
    ids = []
    for _ in range(3):
        with scene.begin() as session:
            call = plan_funding(
                session,
                funding_id=uuid4(),
                lab_id=scene.lab_id,
                money=Money(10_000, "USD"),
                payment_method="pm_card_bypassPending",
                at=scene.now(),
            )
            ids.append(call.id)
    return list(ids)


def test_senders_wait_for_their_place_outside_of_any_transaction(scene: Scene) -> None:
    waited: list[float] = []
    rate = WriteRate(per_second=2, burst=1, wait=waited.append)
    ids = planned(scene)
    at = scene.now()
    for call_id in ids:
        run_call(scene.begin, scene.gateway, call_id, now=lambda: at, rate=rate)  # type: ignore[arg-type]
    assert [round(one, 3) for one in waited] == [0.5, 1.0]
    assert len(scene.stripe.every("payment_intent")) == 3


def test_an_answer_of_too_many_holds_every_sender_back(scene: Scene) -> None:
    payout = batched(scene)
    scene.stripe.fault(TRANSFER, "429", retry_after="7")
    before = scene.now()
    outcome = scene.run(payout.call_id)
    assert outcome.result is Result.TRY_LATER
    assert outcome.retry_at is not None
    assert outcome.retry_at >= before + timedelta(seconds=7)
    (another, *_) = planned(scene)
    waiting = scene.run(another)  # type: ignore[arg-type]
    assert (waiting.result, waiting.text) == (Result.TRY_LATER, "too many writes")
    assert waiting.retry_at is not None
    assert waiting.retry_at >= before + timedelta(seconds=7)
    scene.pass_time(seconds=8)
    with scene.begin() as session:
        assert payout.call_id in due_calls(session, scene.now())
    assert scene.run(payout.call_id).result is Result.CONFIRMED


def test_a_lock_on_one_object_holds_back_only_its_own_call(scene: Scene) -> None:
    payout = batched(scene)
    scene.stripe.fault(TRANSFER, "lock_timeout")
    assert scene.run(payout.call_id).result is Result.TRY_LATER
    (another, *_) = planned(scene)
    assert scene.run(another).result is Result.CONFIRMED  # type: ignore[arg-type]
    assert scene.insist(payout.call_id).result is Result.CONFIRMED


def test_held_back_never_brings_a_place_nearer(scene: Scene) -> None:
    at = scene.now()
    with scene.begin() as session:
        hold_back(session, until=at + timedelta(seconds=30))
        hold_back(session, until=at + timedelta(seconds=10))
        place = take_places(session, 1, at=at, rate=TEN)
    assert place.goes_at >= at + timedelta(seconds=30)
