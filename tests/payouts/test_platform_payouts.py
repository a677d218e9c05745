"""Our own money to our own bank: what we have earned, and not a cent of anybody else's."""

from uuid import UUID, uuid4

import pytest

from payouts import chart
from payouts.bank_models import PlatformPayout
from payouts.errors import FloorBreached
from payouts.ledger import Line, post_entry
from payouts.money import Money
from payouts.outcomes import Result
from payouts.platform_payouts import own_money, plan_platform_payout
from payouts.states import PlatformPayoutState
from tests.payouts.scene import Scene

FEE = 200_000


def earned_fees(scene: Scene) -> None:
    """A lab pays in, and part of it becomes our fee; the rest stays the lab's."""
    scene.fund(1_000_000)
    scene.deliver()
    with scene.begin() as session:
        lines = [Line(chart.lab_funding(scene.lab_id), chart.platform_fee(), FEE)]
        post_entry(session, key=f"fee:{uuid4()}", kind="fee", lines=lines, at=scene.now())


def own(scene: Scene) -> int:
    with scene.begin() as session:
        return own_money(session, "USD")


def planned(scene: Scene, amount_minor: int) -> PlatformPayout:
    with scene.begin() as session:
        money = Money(amount_minor, "USD")
        return plan_platform_payout(session, money=money, by=uuid4(), at=scene.now())


def seen(scene: Scene, payout_id: UUID) -> PlatformPayout:
    with scene.begin() as session:
        return session.get_one(PlatformPayout, payout_id)


def test_fees_reach_our_bank_and_the_books_say_so(scene: Scene) -> None:
    earned_fees(scene)
    # Stripe's own fee on the lab's payment came out of ours: it is owed to the lab whole.
    most = own(scene)
    assert most == FEE - scene.posted(chart.stripe_fees())
    payout = planned(scene, most)
    assert scene.insist(payout.call_id).result is Result.CONFIRMED
    scene.deliver()
    assert seen(scene, payout.id).state == PlatformPayoutState.PAID
    assert scene.posted(chart.bank()) == most
    assert scene.stripe.held("platform/bank") == most
    assert own(scene) == 0
    scene.agrees()


def test_more_than_is_ours_is_refused_and_so_is_the_same_money_twice(scene: Scene) -> None:
    earned_fees(scene)
    most = own(scene)
    with pytest.raises(FloorBreached):
        planned(scene, most + 1)
    planned(scene, most)
    with pytest.raises(FloorBreached):
        planned(scene, 1)


def test_money_that_our_bank_returns_is_at_stripe_again(scene: Scene) -> None:
    earned_fees(scene)
    payout = planned(scene, 1_000)
    scene.insist(payout.call_id)
    scene.deliver()
    stripe_id = seen(scene, payout.id).stripe_id
    scene.stripe.ask("POST", f"/_payouts/{stripe_id}/fail")
    scene.deliver()
    found = seen(scene, payout.id)
    assert found.state == PlatformPayoutState.FAILED
    assert found.failure_text == "Your bank account is closed."
    assert scene.posted(chart.bank()) == 0
    scene.agrees()


def test_a_payout_whose_answer_was_lost_is_found_and_made_once(scene: Scene) -> None:
    earned_fees(scene)
    payout = planned(scene, 500)
    scene.stripe.fault("post /v1/payouts", "drop_after")
    scene.insist(payout.call_id)
    assert len(scene.stripe.every("payout")) == 1


def test_a_refused_payout_gives_the_money_back(scene: Scene) -> None:
    earned_fees(scene)
    most = own(scene)
    payout = planned(scene, most)
    scene.stripe.fault("post /v1/payouts", "refuse", status=400, code="payouts_not_allowed")
    assert scene.insist(payout.call_id).result is Result.REFUSED
    assert seen(scene, payout.id).state == PlatformPayoutState.FAILED
    assert own(scene) == most
