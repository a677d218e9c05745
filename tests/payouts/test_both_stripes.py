"""The same scenarios against the stand-in and, where a test key is given, against Stripe itself.

`STUMPWORK_STRIPE_TEST_KEY=sk_test_... pytest -m stripe_sandbox` runs them there; without a key the
sandbox half is reported as not run. The stand-in is checked against Stripe's published description
and was written by us: only the sandbox half says anything about Stripe.
"""

import os
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from payouts.errors import GatewayKeyMisused, GatewayRefused
from payouts.gateway import Gateway
from payouts.reconciliation import reference_of
from tests.fakestripe import FakeStripe
from tests.payouts.scene import API_KEY

TEST_KEY = os.environ.get("STUMPWORK_STRIPE_TEST_KEY", "")


@pytest.fixture(params=["stand_in", pytest.param("sandbox", marks=pytest.mark.stripe_sandbox)])
def gateway(request: pytest.FixtureRequest) -> Gateway:
    """The way to the stand-in, or to Stripe's sandbox."""
    if request.param == "sandbox":
        if not TEST_KEY.startswith("sk_test_"):
            pytest.skip("not run: no test key in STUMPWORK_STRIPE_TEST_KEY")
        return Gateway(api_key=TEST_KEY)
    stripe: FakeStripe = request.getfixturevalue("stripe")
    return Gateway(api_key=API_KEY, base_url=stripe.url)


def payment(amount: int = 5_000) -> dict[str, object]:
    return {
        "amount": amount,
        "currency": "usd",
        "confirm": True,
        "payment_method": "pm_card_bypassPending",
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        "metadata": {"natural_key": f"payment_intent:{uuid4()}", "attempt": "1"},
        "expand": ["latest_charge.balance_transaction"],
    }


def key() -> str:
    """A key such as a row of ours would have."""
    return f"test-{uuid4().hex}"


def test_a_payment_is_available_has_its_line_and_goes_back_in_part(gateway: Gateway) -> None:
    since = datetime.now(UTC) - timedelta(minutes=5)
    made = gateway.create_payment_intent(payment(), key=key())  # type: ignore[arg-type]
    assert made.status == "succeeded"
    assert made.transaction is not None
    assert made.transaction.status == "available"
    assert made.transaction.net_minor == 5_000 - made.transaction.fee_minor
    lines = {reference_of(line) for line in gateway.transactions(since=since)}
    assert f"charge:{made.charge_id}" in lines
    refund = {
        "payment_intent": made.id,
        "amount": 2_000,
        "metadata": {"natural_key": "refund", "attempt": "1"},
    }
    sent = gateway.create_refund(refund, key=key())  # type: ignore[arg-type]
    assert sent.amount_minor == 2_000
    assert [one.id for one in gateway.refunds(made.id)] == [sent.id]


def test_a_key_gives_one_object_and_no_other_body(gateway: Gateway) -> None:
    body, once = payment(), key()
    first = gateway.create_payment_intent(body, key=once)  # type: ignore[arg-type]
    assert gateway.create_payment_intent(body, key=once).id == first.id  # type: ignore[arg-type]
    with pytest.raises(GatewayKeyMisused):
        gateway.create_payment_intent({**body, "amount": 5_001}, key=once)  # type: ignore[dict-item]


def test_a_declined_card_is_a_definite_no(gateway: Gateway) -> None:
    declined = {**payment(), "payment_method": "pm_card_chargeDeclined"}
    with pytest.raises(GatewayRefused) as refused:
        gateway.create_payment_intent(declined, key=key())  # type: ignore[arg-type]
    assert (refused.value.status, refused.value.code) == (402, "card_declined")


def test_a_recipient_is_asked_for_something_before_it_can_be_paid(gateway: Gateway) -> None:
    transfers = {"stripe_balance": {"stripe_transfers": {"requested": True}}}
    body = {
        "contact_email": "expert@example.com",
        "dashboard": "express",
        "identity": {"country": "us", "entity_type": "individual"},
        "configuration": {"recipient": {"capabilities": transfers}},
        "defaults": {
            "responsibilities": {
                "fees_collector": "application",
                "losses_collector": "application",
            }
        },
        "include": ["configuration.recipient", "requirements", "identity"],
        "metadata": {"natural_key": f"account:{uuid4()}"},
    }
    made = gateway.create_account(body, key=key())  # type: ignore[arg-type]
    assert made.transfers_status != "active"
    assert gateway.account(made.id).requirements != ()
    transfer = {"amount": 100, "currency": "usd", "destination": made.id}
    with pytest.raises(GatewayRefused):
        gateway.create_transfer(transfer, key=key())  # type: ignore[arg-type]
