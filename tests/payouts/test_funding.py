"""Labs' money: booked once, usable only when Stripe says so, sent back once."""

from dataclasses import replace
from uuid import uuid4

import pytest

from payouts import chart
from payouts.errors import EventUnclear, FloorBreached
from payouts.funding import locked_funding, plan_funding, record_intent
from payouts.models import Funding
from payouts.money import Money
from payouts.outcomes import Result
from payouts.refunds import plan_refund
from payouts.states import FundingState
from tests.payouts.scene import Scene


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


def test_money_that_came_in_another_currency_is_not_booked_as_what_was_asked_for(
    scene: Scene,
) -> None:
    scene.fund(50_000)
    (intent,) = scene.stripe.every("payment_intent")
    seen = scene.gateway.payment_intent(intent["id"])
    assert seen.transaction is not None
    changed = replace(seen, id="pi_other", transaction=replace(seen.transaction, currency="EUR"))
    with scene.begin() as session:
        other = uuid4()
        plan_funding(
            session,
            funding_id=other,
            lab_id=scene.lab_id,
            money=Money(50_000, "USD"),
            payment_method="pm_card_visa",
            at=scene.now(),
        )
        with pytest.raises(EventUnclear, match="50000 minor units of EUR"):
            record_intent(session, locked_funding(session, other), changed, scene.now())
    assert scene.available(chart.lab_funding(scene.lab_id)) == 50_000


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
