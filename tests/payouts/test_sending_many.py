"""Many transfers by one sender: leased and recorded together, sent one by one, each paid once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from payouts import chart
from payouts.bucket import WriteRate
from payouts.calls import due_calls
from payouts.decisions import approve_new_attempt
from payouts.errors import CallNotOpen, GatewayKeyRejected, GatewayRefused
from payouts.gateway import Gateway
from payouts.holds import open_holds
from payouts.ledger import Line, post_entry
from payouts.ledger_models import JournalEntry
from payouts.models import ExternalCall, Payee, Payout, Transfer
from payouts.opening import open_payouts
from payouts.outcomes import CallOutcome, Result
from payouts.recoveries import Owner
from payouts.seen import TransferSeen
from payouts.sender import ASKING, send_transfers
from payouts.states import CallState, HoldCode
from payouts.transfers import review_payout
from tests.payouts.scene import (
    API_KEY,
    AT_ONCE,
    PERIOD_END,
    TRANSFER,
    Scene,
    in_the_way,
    live_transfers,
)
from tests.payouts.test_opening import counted

UNHURRIED = WriteRate(per_second=1000, burst=1000)


def planned(scene: Scene, many: int, amount_minor: int = 1_000) -> list[Payout]:
    """Payouts of as many experts, batched, with money at Stripe to send them."""
    scene.stripe.ask("POST", "/_balance/top_up", amount=1_000_000)
    accounts = scene.stripe.ask("POST", "/_accounts", count=many)["ids"]
    owners: list[Owner] = []
    fund = Line(chart.stripe_clearing(), chart.lab_funding(scene.lab_id), 1_000_000)
    with scene.begin() as session:
        post_entry(session, key="fund", kind="fund", lines=[fund], at=scene.now())
        for account_id in accounts:
            payee = Payee(
                owner_id=UUID(int=len(owners) + 1),
                country="US",
                created_at=scene.now() - timedelta(days=1),
                account_id=account_id,
                transfers_status="active",
            )
            session.add(payee)
            owners.append((payee.owner_id, "USD"))
    for owner_id, _ in owners:
        scene.earn(owner_id, amount_minor)
    with scene.begin() as session:
        opened = open_payouts(
            session, owners, period_end=PERIOD_END, at=scene.now(), policy=AT_ONCE
        )
    return list(opened.new)


def send(
    scene: Scene, gateway: Gateway | None = None, rate: WriteRate = UNHURRIED
) -> list[CallOutcome]:
    """One round of one sender."""
    return send_transfers(
        scene.begin,
        gateway or scene.gateway,
        now=scene.now,
        tell=scene.tell,
        policy=AT_ONCE,
        rate=rate,
    )


def results(outcomes: list[CallOutcome], payouts: list[Payout]) -> list[str]:
    """What came of the payouts, in their order."""
    found = {outcome.call_id: str(outcome.result) for outcome in outcomes}
    return [found[one.call_id] for one in payouts if one.call_id is not None]


def states(scene: Scene, payouts: list[Payout]) -> list[str]:
    """Where the payouts stand now, in their order."""
    return [str(scene.payout(one.id).state) for one in payouts]


def test_many_transfers_are_leased_and_recorded_together(scene: Scene) -> None:
    payouts = planned(scene, 5)
    outcomes = send(scene)
    assert results(outcomes, payouts) == ["confirmed"] * 5
    assert states(scene, payouts) == ["transferred"] * 5
    assert [live_transfers(scene, one.id) for one in payouts] == [1] * 5
    assert scene.kinds() == ["payout_transferred"] * 5
    with scene.begin() as session:
        transfers = session.scalars(select(Transfer).order_by(Transfer.id)).all()
        posted = session.scalar(
            select(func.count()).where(JournalEntry.kind == "payout_transferred")
        )
    assert {one.payout_id: one.call_id for one in transfers} == {
        one.id: one.call_id for one in payouts
    }
    assert all(one.destination_payment for one in transfers)
    assert posted == 5
    scene.agrees(*(one.owner_id for one in payouts))
    assert send(scene) == []


def test_ten_transfers_take_as_many_statements_as_two(scene: Scene) -> None:
    counts = []
    payouts = planned(scene, 12)
    for limit in (2, 10):
        with counted() as sent:
            outcomes = send_transfers(
                scene.begin,
                scene.gateway,
                now=scene.now,
                policy=AT_ONCE,
                rate=UNHURRIED,
                limit=limit,
            )
        assert len(outcomes) == limit
        counts.append(len(sent))
    assert counts[0] == counts[1]
    assert states(scene, payouts) == ["transferred"] * 12


def test_each_of_many_gets_its_own_answer(scene: Scene) -> None:
    payouts = planned(scene, 4)
    moved = scene.seen(payouts[0].owner_id)
    with scene.begin() as session:
        found = session.get_one(Payee, moved.id)
        found.destination_version += 2
    account_id = scene.seen(payouts[1].owner_id).account_id
    scene.stripe.ask("POST", f"/_accounts/{account_id}/take", amount=50_000)
    scene.stripe.fault(TRANSFER, "drop_after")
    outcomes = send(scene)
    assert results(outcomes, payouts) == ["refused", "refused", "try_later", "confirmed"]
    # The first is planned anew to where it goes now.
    assert states(scene, payouts) == ["batched", "held", "transferring", "transferred"]
    with scene.begin() as session:
        (hold,) = open_holds(session, payouts[1].id)
    assert hold.code == HoldCode.PROVIDER_REFUSED
    assert scene.insist(payouts[2].call_id).result is Result.CONFIRMED
    assert live_transfers(scene, payouts[2].id) == 1
    assert results(send(scene), [scene.payout(payouts[0].id)]) == ["confirmed"]


def test_senders_at_once_never_take_the_same(scene: Scene) -> None:
    payouts = planned(scene, 12)
    gate = threading.Barrier(4)
    outcomes: list[CallOutcome] = []

    def work() -> None:
        gate.wait()
        while sent := send_transfers(
            scene.begin,
            scene.gateway,
            now=scene.now,
            tell=scene.tell,
            policy=AT_ONCE,
            rate=UNHURRIED,
            limit=3,
        ):
            outcomes.extend(sent)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(one.subject_id for one in outcomes) == sorted(one.id for one in payouts)
    assert {one.result for one in outcomes} == {Result.CONFIRMED}
    assert len(scene.stripe.every("transfer")) == 12
    assert states(scene, payouts) == ["transferred"] * 12


def test_what_a_dead_sender_had_heard_is_sent_again_and_paid_once(scene: Scene) -> None:
    payouts = planned(scene, 3)

    class Died(BaseException):
        """Stands for the end of a process: nothing is stored after it."""

    class Deathbed(Gateway):
        left = 2

        def create_transfer(self, *args: object, **options: object) -> TransferSeen:
            self.left -= 1
            if self.left < 0:
                raise Died
            return super().create_transfer(*args, **options)  # type: ignore[arg-type]

    began = 0

    @contextmanager
    def begin() -> Iterator[Session]:
        nonlocal began
        began += 1
        if began > 1:
            raise Died
        with scene.begin() as session:
            yield session

    dying = Deathbed(api_key=API_KEY, base_url=scene.stripe.url)
    with pytest.raises(Died):
        send_transfers(begin, dying, now=scene.now, policy=AT_ONCE, rate=UNHURRIED)
    assert len(scene.stripe.every("transfer")) == 2
    assert states(scene, payouts) == ["transferring"] * 3
    assert [scene.available(chart.owed_to(one.owner_id)) for one in payouts] == [0] * 3
    assert send(scene) == []
    scene.pass_time(minutes=2)
    with scene.begin() as session:
        assert sorted(due_calls(session, scene.now())) == sorted(
            one.call_id for one in payouts if one.call_id
        )
    for one in payouts:
        assert scene.run(one.call_id).result is Result.CONFIRMED
    assert [live_transfers(scene, one.id) for one in payouts] == [1] * 3
    scene.agrees(*(one.owner_id for one in payouts))


def test_what_was_heard_before_a_rejected_key_is_kept_and_the_rest_is_let_go(scene: Scene) -> None:
    payouts = planned(scene, 3)

    class Locked(Gateway):
        left = 1

        def create_transfer(self, *args: object, **options: object) -> TransferSeen:
            self.left -= 1
            if self.left < 0:
                raise GatewayKeyRejected("the key was revoked")
            return super().create_transfer(*args, **options)  # type: ignore[arg-type]

    with pytest.raises(GatewayKeyRejected):
        send(scene, Locked(api_key=API_KEY, base_url=scene.stripe.url))
    assert states(scene, payouts) == ["transferred", "transferring", "transferring"]
    for one in payouts:
        assert scene.run(one.call_id).result is Result.CONFIRMED
    assert len(scene.stripe.every("transfer")) == 3


def test_a_slow_stripe_lets_the_rest_go_before_their_lease_ends(scene: Scene) -> None:
    payouts = planned(scene, 3)

    class Slow(Gateway):
        def create_transfer(self, *args: object, **options: object) -> TransferSeen:
            scene.passed += ASKING
            return super().create_transfer(*args, **options)  # type: ignore[arg-type]

    outcomes = send(scene, Slow(api_key=API_KEY, base_url=scene.stripe.url))
    assert results(outcomes, payouts) == ["confirmed", "try_later", "try_later"]
    with scene.begin() as session:
        calls = session.scalars(select(ExternalCall).order_by(ExternalCall.id)).all()
    assert [(one.state, one.tries, one.leased_until) for one in calls] == [
        ("confirmed", 1, None),
        ("sent", 0, None),
        ("sent", 0, None),
    ]
    assert scene.run(payouts[1].call_id).result is Result.CONFIRMED


def test_one_answer_that_cannot_be_stored_takes_no_other_along(scene: Scene) -> None:
    payouts = planned(scene, 3)
    assert payouts[1].call_id is not None
    given_back: UUID = payouts[1].call_id

    class Meddled(Gateway):
        def create_transfer(self, *args: object, **options: object) -> TransferSeen:
            seen = super().create_transfer(*args, **options)  # type: ignore[arg-type]
            if options["key"] == str(given_back):
                # A person decides meanwhile that it never happened.
                with scene.begin() as session:
                    call = session.get_one(ExternalCall, given_back)
                    call.state = CallState.UNKNOWN
                    call.lookups = 2
                    session.flush()
                    approve_new_attempt(
                        session, given_back, by=scene.lab_id, reason="not there", at=scene.now()
                    )
            return seen

    with pytest.raises(CallNotOpen, match="was refused, and"):
        send(scene, Meddled(api_key=API_KEY, base_url=scene.stripe.url))
    assert states(scene, payouts) == ["transferred", "held", "transferred"]


def test_a_no_that_comes_after_another_sender_took_over_gives_nothing_back(scene: Scene) -> None:
    (payout,) = planned(scene, 1)

    class Late(Gateway):
        def create_transfer(self, *_args: object, **_options: object) -> TransferSeen:
            scene.pass_time(minutes=2)
            scene.stripe.fault(TRANSFER, "drop_after")
            assert scene.run(payout.call_id).result is Result.TRY_LATER
            raise GatewayRefused(400, "late", "no")

    assert results(send(scene, Late(api_key=API_KEY, base_url=scene.stripe.url)), [payout]) == [
        "busy"
    ]
    assert states(scene, [payout]) == ["transferring"]
    assert scene.insist(payout.call_id).result is Result.CONFIRMED
    assert live_transfers(scene, payout.id) == 1


def test_a_row_that_the_database_refuses_takes_no_other_along(scene: Scene) -> None:
    payouts = planned(scene, 3)
    with in_the_way(scene.begin, payouts[1]), pytest.raises(IntegrityError):
        send(scene)
    assert states(scene, payouts) == ["transferred", "transferring", "transferred"]


def test_a_lost_connection_is_no_rows_fault(scene: Scene) -> None:
    payouts = planned(scene, 3)
    began = 0

    @contextmanager
    def begin() -> Iterator[Session]:
        nonlocal began
        began += 1
        if began > 1:
            raise OperationalError("begin", {}, Exception("the server closed the connection"))
        with scene.begin() as session:
            yield session

    with pytest.raises(OperationalError):
        send_transfers(begin, scene.gateway, now=scene.now, policy=AT_ONCE, rate=UNHURRIED)
    assert began == 2
    assert states(scene, payouts) == ["transferring"] * 3


def test_the_first_that_is_short_of_funds_stops_those_behind_it(scene: Scene) -> None:
    payouts = planned(scene, 4)
    scene.stripe.fault(TRANSFER, "402")
    assert results(send(scene), payouts) == ["refused", *["try_later"] * 3]
    for one in payouts[1:]:
        assert scene.run(one.call_id).result == Result.REFUSED
    assert scene.stripe.every("transfer") == []
    with scene.begin() as session:
        holds = [hold for one in payouts for hold in open_holds(session, one.id)]
    assert {hold.code for hold in holds} == {HoldCode.PLATFORM_FUNDS}
    # They wait together, and no longer than the first.
    assert len(holds) == 4
    assert {hold.expires_at for hold in holds} == {holds[0].expires_at}
    scene.pass_time(hours=2)
    for one in payouts:
        with scene.begin() as session:
            review_payout(session, one.id, at=scene.now(), policy=AT_ONCE)
    again = [scene.payout(one.id) for one in payouts]
    assert results(send(scene), again) == ["confirmed"] * 4
    assert [live_transfers(scene, one.id) for one in payouts] == [1] * 4


def test_transfers_leave_at_the_pace_of_the_bucket(scene: Scene) -> None:
    planned(scene, 4)
    at = datetime.now(UTC)
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(round(seconds, 3))
        nonlocal at
        at += timedelta(seconds=seconds)

    rate = WriteRate(per_second=4, burst=2, wait=wait)
    outcomes = send_transfers(scene.begin, scene.gateway, now=lambda: at, policy=AT_ONCE, rate=rate)
    assert {one.result for one in outcomes} == {Result.CONFIRMED}
    # Two go at once, the others a quarter of a second apart.
    assert waited == [0.25, 0.25]
