"""The border to Stripe's library: what it sends, what it makes of answers, and its traps."""

import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from payouts.calls import canonical
from payouts.errors import (
    GatewayKeyMisused,
    GatewayKeyRejected,
    GatewayRefused,
    GatewayUnknown,
)
from payouts.gateway import Gateway
from tests.fakestripe import FakeStripe
from tests.payouts.scene import API_KEY

RECIPIENT: dict[str, Any] = {
    "contact_email": "e@example.com",
    "dashboard": "express",
    "identity": {"country": "us", "entity_type": "individual"},
    "configuration": {
        "recipient": {"capabilities": {"stripe_balance": {"stripe_transfers": {"requested": True}}}}
    },
    "defaults": {
        "responsibilities": {"fees_collector": "application", "losses_collector": "application"}
    },
    "include": ["configuration.recipient", "requirements", "identity"],
    "metadata": {"owner_id": "o"},
}


def new_key() -> str:
    """A key as our rows have it."""
    return str(uuid7())


@pytest.fixture
def gateway(stripe: FakeStripe) -> Gateway:
    """The gateway against the stand-in."""
    return Gateway(api_key=API_KEY, base_url=stripe.url, timeout_s=60)


def intent(amount: object = 5_000, method: str = "pm_card_bypassPending") -> dict[str, Any]:
    """The parameters of a payment."""
    return {
        "amount": amount,
        "currency": "usd",
        "confirm": True,
        "payment_method": method,
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        "metadata": {"a": "b"},
        "expand": ["latest_charge.balance_transaction"],
    }


def funded_account(stripe: FakeStripe, gateway: Gateway) -> str:
    """A recipient that can be sent money, and a platform that has some."""
    gateway.create_payment_intent(intent(1_000_000), key=new_key())
    account = gateway.create_account(RECIPIENT, key=new_key())
    stripe.onboard(account.id)
    return account.id


def transfer_to(account_id: str, amount: object = 700) -> dict[str, Any]:
    """The parameters of a transfer."""
    return {
        "amount": amount,
        "currency": "usd",
        "destination": account_id,
        "transfer_group": "group",
        "metadata": {"attempt": "1"},
    }


def test_every_read_and_write_of_ours_passes_the_published_description(
    stripe: FakeStripe, gateway: Gateway
) -> None:
    account = gateway.create_account(RECIPIENT, key=new_key())
    assert account.transfers_status == "restricted"
    assert "external_account" in account.requirements
    link = gateway.create_account_link(
        {
            "account": account.id,
            "use_case": {
                "type": "account_onboarding",
                "account_onboarding": {
                    "refresh_url": "https://example.com/again",
                    "return_url": "https://example.com/back",
                },
            },
        },
        key=new_key(),
    )
    assert link.url.startswith(stripe.url)
    stripe.onboard(account.id)
    assert gateway.account(account.id).transfers_status == "active"
    assert [found.id for found in gateway.accounts()] == [account.id]
    paid = gateway.create_payment_intent(intent(100_000), key=new_key())
    assert paid.status == "succeeded"
    assert paid.transaction is not None
    assert paid.transaction.net_minor == 100_000 - 2_930
    assert gateway.payment_intent(paid.id) == paid
    since = datetime.now(UTC) - timedelta(minutes=1)
    assert list(gateway.payment_intents(since=since)) == [paid]
    assert gateway.transaction(paid.transaction.id).fee_minor == 2_930
    assert gateway.balance().available == {"USD": 97_070}
    # The money stays where it is until it was taken back in part.
    stripe.ask("POST", "/_clock", paused=True)
    moved = gateway.create_transfer(transfer_to(account.id), key=new_key())
    assert gateway.transfer(moved.id) == moved
    assert list(gateway.transfers(transfer_group="group", since=since)) == [moved]
    assert list(gateway.transfers(transfer_group="other", since=since)) == []
    back = gateway.create_reversal(moved.id, {"amount": 200, "metadata": {}}, key=new_key())
    assert back.amount_minor == 200
    assert list(gateway.reversals(moved.id)) == [back]
    refund = gateway.create_refund({"payment_intent": paid.id, "amount": 300}, key=new_key())
    assert gateway.refund(refund.id) == refund
    assert list(gateway.refunds(paid.id)) == [refund]
    stripe.ask("POST", "/_clock", paused=False)
    stripe.settle()
    (payout,) = stripe.every("payout")
    assert gateway.payout(payout["id"], account.id).status == "paid"
    lines = gateway.transactions_of_payout(payout["id"], account.id)
    assert moved.id in {line.source_transfer for line in lines}
    assert moved.destination_payment in {line.source_id for line in lines}
    assert {event.id for event in gateway.events(since=since)} <= {
        event["id"] for event in stripe.every("event")
    }
    assert list(gateway.events(since=since, account_id=account.id))
    stripe.assert_clean()


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("timeout_before", None),
        ("timeout_after", None),
        ("drop_before", None),
        ("drop_after", None),
        ("cut_body", None),
        ("500_before", 500),
        ("500_after", 500),
        ("502_html", 502),
        ("409", 409),
        ("429", 429),
    ],
)
def test_whatever_leaves_the_outcome_open_is_unknown_and_nothing_is_sent_twice(
    stripe: FakeStripe, gateway: Gateway, kind: str, status: int | None
) -> None:
    account_id = funded_account(stripe, gateway)
    stripe.fault("post /v1/transfers", kind, delay_s=0.6)
    hasty = Gateway(api_key=API_KEY, base_url=stripe.url, timeout_s=0.5)
    with pytest.raises(GatewayUnknown) as unknown:
        hasty.create_transfer(transfer_to(account_id), key=new_key())
    assert unknown.value.status in (status, 200 if kind == "cut_body" else status)
    assert stripe.ask("GET", "/_faults")["rules"][0]["seen"] == 1


def test_a_closed_port_is_unknown_too() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    gateway = Gateway(api_key=API_KEY, base_url=f"http://127.0.0.1:{port}", timeout_s=0.5)
    with pytest.raises(GatewayUnknown):
        gateway.balance()


@pytest.mark.parametrize("status", [400, 402, 403, 404])
def test_a_definite_no_carries_its_code_and_words(
    stripe: FakeStripe, gateway: Gateway, status: int
) -> None:
    account_id = funded_account(stripe, gateway)
    stripe.fault("post /v1/transfers", "refuse", status=status, code="no_way", message="Not this.")
    with pytest.raises(GatewayRefused) as refused:
        gateway.create_transfer(transfer_to(account_id), key=new_key())
    assert refused.value.status == status
    assert refused.value.text == "Not this."
    assert refused.value.request_id.startswith("req_")


def test_a_key_with_another_body_is_our_bug_and_a_false_api_key_stops_everything(
    stripe: FakeStripe, gateway: Gateway
) -> None:
    account_id = funded_account(stripe, gateway)
    key = new_key()
    first = gateway.create_transfer(transfer_to(account_id), key=key)
    assert gateway.create_transfer(transfer_to(account_id), key=key) == first
    with pytest.raises(GatewayKeyMisused):
        gateway.create_transfer(transfer_to(account_id, 701), key=key)
    wrong = Gateway(api_key="sk_live_nonsense", base_url=stripe.url)
    with pytest.raises(GatewayKeyRejected):
        wrong.balance()


def test_an_unknown_page_in_the_middle_of_a_list_is_unknown(
    stripe: FakeStripe, gateway: Gateway
) -> None:
    since = datetime.now(UTC) - timedelta(minutes=1)
    stripe.ask("POST", "/_pages", longest=2)
    for _ in range(5):
        gateway.create_payment_intent(intent(), key=new_key())
    assert len(list(gateway.payment_intents(since=since))) == 5
    stripe.fault("get /v1/payment_intents", "500_before", nth=2)
    found = gateway.payment_intents(since=since)
    assert next(found).amount_minor == 5_000
    with pytest.raises(GatewayUnknown):
        list(found)


def test_a_write_needs_a_key_and_a_taking_back_needs_an_amount(gateway: Gateway) -> None:
    with pytest.raises(ValueError, match="key"):
        gateway.create_transfer(transfer_to("acct_x"), key="")
    with pytest.raises(ValueError, match="amount"):
        gateway.create_reversal("tr_x", {"metadata": {}}, key=new_key())
    with pytest.raises(ValueError, match="amount"):
        gateway.create_refund({"payment_intent": "pi_x"}, key=new_key())


@pytest.mark.parametrize("value", [None, 5.0, {"a": None}, [1.5], object()])
def test_nulls_and_floats_cannot_be_planned(value: object) -> None:
    with pytest.raises(TypeError):
        canonical({"amount": value})  # type: ignore[dict-item]


def test_parameters_have_one_spelling() -> None:
    assert canonical({"b": 1, "a": [True, "é"]}) == canonical({"a": (True, "é"), "b": 1})


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda p: p | {"idempotency_key": "x"}, "idempotency_key"),
        (lambda p: p | {"stripe_account": "acct_x"}, "stripe_account"),
        (lambda p: p | {"amount": 5.5}, "amount"),
        (lambda p: {k: v for k, v in p.items() if k != "currency"}, "currency"),
        (lambda p: p | {"metadata": {"a": {"b": "c"}}}, "metadata.a"),
    ],
    ids=["key in the body", "account in the body", "float", "missing", "nested metadata"],
)
def test_the_gate_refuses_what_the_library_would_send_without_a_word(
    stripe: FakeStripe,
    gateway: Gateway,
    spoil: Callable[[dict[str, Any]], dict[str, Any]],
    field: str,
) -> None:
    with pytest.raises(GatewayRefused) as refused:
        gateway.create_transfer(spoil(transfer_to("acct_x")), key=new_key())
    assert refused.value.status == 400
    complaints = stripe.ask("GET", "/_gate")["complaints"]
    assert {c["field"] for c in complaints} == {field}
    assert {c["path"] for c in complaints} == {"/v1/transfers"}


def test_the_library_reports_nothing_and_prints_nothing(
    stripe: FakeStripe, gateway: Gateway
) -> None:
    import os

    import stripe as library

    gateway.balance()
    gateway.balance()
    assert library.enable_telemetry is False
    assert os.environ["STRIPE_SUPPRESS_NOTICES"] == "true"
    headers = stripe.ask("GET", "/_headers")["headers"]
    assert "x-stripe-client-telemetry" not in headers
    assert "telemetry_id" not in headers["x-stripe-client-user-agent"]
    assert headers["stripe-version"] == "2026-10-28.endive"


def test_only_the_gateway_brings_the_library_in() -> None:
    code = (
        "import sys, payouts.webhooks, payouts.sender, payouts.arrivals, payouts.payees\n"
        "assert 'stripe' not in sys.modules, 'stripe was imported'\n"
        "import payouts.gateway\n"
        "assert 'stripe' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
