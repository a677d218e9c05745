"""An expert whose account keeps another currency than the project pays in."""

from collections.abc import Iterator
from fractions import Fraction
from uuid import UUID, uuid4

import pytest

from payouts import chart
from payouts.bank_models import Conversion
from payouts.invariants import violations
from payouts.ledger import Line, post_entry, trial_balance
from payouts.models import Payout
from payouts.proof_models import Break
from payouts.reconciliation import Reconciled, reconcile
from payouts.reversals import plan_reversal
from payouts.states import PayoutState
from payouts.withdrawals import plan_recall
from tests.payouts.scene import Scene, batched


@pytest.fixture
def abroad(scene: Scene) -> Iterator[Payout]:
    """A payout in dollars, planned to an account that keeps euros; no bank is paid meanwhile."""
    scene.stripe.ask("POST", "/_clock", paused=True)
    payout = batched(scene, 10_000)
    scene.stripe.ask("POST", f"/_accounts/{payout.destination}/currency", currency="eur")
    _rate(scene, "usd", "eur", "0.9215")
    yield payout
    scene.stripe.ask("POST", "/_clock", paused=False)


def _rate(scene: Scene, source: str, target: str, rate: str) -> None:
    scene.stripe.ask("POST", "/_rates", **{"from": source, "to": target, "rate": rate})


def _compare(scene: Scene, owner_id: UUID) -> Reconciled:
    return reconcile(scene.begin, scene.gateway, now=scene.now, owners=[owner_id])


def _sound(scene: Scene) -> None:
    with scene.begin() as session:
        assert [str(one) for one in violations(session)] == []
        assert session.query(Break).filter(Break.resolved_at.is_(None)).all() == []
    scene.stripe.assert_clean()


def _positions(scene: Scene) -> list[int]:
    return [scene.posted(chart.fx_position(currency)) for currency in ("USD", "EUR")]


def test_what_stripe_changes_is_booked_at_its_rate_and_leaves_no_position(
    scene: Scene, abroad: Payout
) -> None:
    scene.insist(abroad.call_id)
    owner_id = abroad.owner_id
    assert _compare(scene, owner_id).conversions_booked == 1
    assert _positions(scene) == [10_000, -9_215]
    assert scene.posted(chart.connected_balance(owner_id)) == 0
    assert scene.posted(chart.connected_balance(owner_id, "EUR")) == 9_215
    with scene.begin() as session:
        found = session.query(Conversion).one()
    assert Fraction(found.rate_numerator, found.rate_denominator) == Fraction("0.9215")
    assert (found.from_minor, found.to_minor, found.to_currency) == (10_000, 9_215, "EUR")
    _sound(scene)
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    scene.deliver()
    assert scene.payout(abroad.id).state == PayoutState.PAID
    assert scene.stripe.held(f"{abroad.destination}/bank", "eur") == 9_215
    assert _positions(scene) == [0, 0]
    assert scene.posted(chart.connected_balance(owner_id, "EUR")) == 0
    # Nothing is booked twice, and nobody has gained or lost anything by it.
    assert _compare(scene, owner_id).conversions_booked == 0
    assert scene.posted(chart.fx_gain_loss()) == 0
    _sound(scene)


def test_the_banks_payout_tells_of_the_rate_before_any_reconciliation(
    scene: Scene, abroad: Payout
) -> None:
    scene.insist(abroad.call_id)
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    scene.deliver()
    with scene.begin() as session:
        assert session.query(Conversion).one().to_minor == 9_215
    (out,) = scene.stripe.every("payout")
    scene.stripe.ask("POST", f"/_payouts/{out['id']}/fail")
    scene.deliver()
    assert scene.payout(abroad.id).state == PayoutState.RETURNED
    # It is on the expert's balance at Stripe again, in the currency that it was changed into.
    assert _positions(scene) == [10_000, -9_215]
    assert scene.posted(chart.connected_balance(abroad.owner_id, "EUR")) == 9_215
    _compare(scene, abroad.owner_id)
    _sound(scene)


def test_what_a_reversal_brings_back_less_is_our_loss_and_never_the_experts(
    scene: Scene, abroad: Payout
) -> None:
    scene.insist(abroad.call_id)
    _compare(scene, abroad.owner_id)
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    scene.deliver()
    (out,) = scene.stripe.every("payout")
    scene.stripe.ask("POST", f"/_payouts/{out['id']}/fail")
    scene.deliver()
    _rate(scene, "eur", "usd", "1.0500")
    with scene.begin() as session:
        call = plan_recall(
            session, payout_id=abroad.id, by=uuid4(), reason="The bank is closed.", at=scene.now()
        )
    scene.insist(call.id)
    _compare(scene, abroad.owner_id)
    # 92.15 euros came back as 96.76 dollars of the 100.00 that are owed again, whole.
    assert scene.available(chart.owed_to(abroad.owner_id)) == 10_000
    assert scene.posted(chart.fx_gain_loss()) == 10_000 - 9_676
    assert _positions(scene) == [0, 0]
    with scene.begin() as session:
        found = session.query(Conversion).one()
        assert (found.back_minor, found.lost_minor) == (9_215, 324)
        assert sum(row.debit_minor - row.credit_minor for row in trial_balance(session)) == 0
    _sound(scene)


@pytest.mark.slow
def test_a_part_is_taken_back_by_a_case_and_the_rest_goes_to_the_bank(
    scene: Scene, abroad: Payout
) -> None:
    scene.insist(abroad.call_id)
    _rate(scene, "eur", "usd", "1.1000")
    owner_id = abroad.owner_id
    with scene.begin() as session:
        owed = Line(chart.receivable_from(owner_id), chart.lab_funding(scene.lab_id), 4_000)
        post_entry(session, key="case", kind="clawback", lines=[owed], at=scene.now())
        call = plan_reversal(
            session, payout_id=abroad.id, amount_minor=4_000, decided_by=uuid4(), at=scene.now()
        )
    scene.insist(call.id)
    # The transfer and what was taken of it are told of in the same look.
    assert _compare(scene, owner_id).conversions_booked == 2
    assert scene.posted(chart.connected_balance(owner_id, "EUR")) == 9_215 - 3_686
    # 36.86 euros are 40.55 dollars by now: a gain.
    assert scene.posted(chart.fx_gain_loss()) == 4_000 - 4_055
    scene.stripe.ask("POST", "/_clock", paused=False)
    scene.deliver()
    scene.deliver()
    assert scene.payout(abroad.id).state == PayoutState.PAID
    assert _positions(scene) == [0, 0]
    _compare(scene, owner_id)
    _sound(scene)


def test_a_currency_that_stripe_does_not_change_into_is_refused_and_held_with_its_reason(
    scene: Scene, abroad: Payout
) -> None:
    scene.stripe.ask("POST", f"/_accounts/{abroad.destination}/currency", currency="jpy")
    scene.insist(abroad.call_id)
    found = scene.payout(abroad.id)
    assert (found.state, found.reservation_key) == (PayoutState.HELD, None)
    (held,) = [fact for fact in scene.facts if fact.kind == "payout_held"]
    assert "keeps jpy" in held.text
    assert scene.available(chart.owed_to(abroad.owner_id)) == 10_000
    with scene.begin() as session:
        assert session.query(Conversion).all() == []
    _sound(scene)
