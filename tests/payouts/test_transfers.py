"""Payouts from what is owed to the bank: the real library, the stand-in's process, real commits."""

import threading
from datetime import date
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError, IntegrityError

from payouts import chart
from payouts.errors import (
    FloorBreached,
    PayoutStateConflict,
)
from payouts.ledger import Line, post_entry
from payouts.models import ExternalCall, Payout, PayoutMove, StateRule, Transfer
from payouts.opening import open_payout
from payouts.outcomes import CallOutcome, Result
from payouts.reversals import plan_reversal
from payouts.states import (
    CALL_MOVES,
    CARD_DISPUTE_MOVES,
    INVOICE_MOVES,
    MOVES,
    PLATFORM_PAYOUT_MOVES,
    PayoutState,
)
from payouts.transfers import move_payout
from tests.payouts.scene import (
    Scene,
    batched,
    live_transfers,
)


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
        thread.join(timeout=120)
    assert len(results) == 16
    assert len(opened) == 1
    assert {r.result for r in results} <= {Result.CONFIRMED, Result.BUSY}
    assert live_transfers(scene, opened.pop()) == 1


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
    wanted |= {("card_dispute", str(one), str(two)) for one, two in CARD_DISPUTE_MOVES}
    wanted |= {("platform_payout", str(one), str(two)) for one, two in PLATFORM_PAYOUT_MOVES}
    wanted |= {("funding_invoice", str(one), str(two)) for one, two in INVOICE_MOVES}
    wanted |= {("card_dispute", "", "open"), ("card_dispute", "", "inquiry")}
    wanted |= {("funding_invoice", "", "planned")}
    wanted |= {("platform_payout", "", "planned")}
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
