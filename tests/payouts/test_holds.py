"""Why payouts wait, what their experts read, and how each wait ends."""

from datetime import date, timedelta
from uuid import uuid4

import pytest

from payouts import chart
from payouts.errors import (
    UnknownHold,
)
from payouts.holds import HoldPolicy, open_holds
from payouts.ledger import Line, post_entry
from payouts.opening import open_payout
from payouts.outcomes import Result
from payouts.states import (
    HoldCode,
    HoldOwner,
    PayoutState,
)
from payouts.transfers import clear_hold, place_hold, review_payout
from tests.payouts.scene import (
    AT_ONCE,
    PERIOD_END,
    TRANSFER,
    Scene,
    batched,
    check_under_way,
    live_transfers,
)


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
