"""The stand-in itself: what it keeps for a key, what its bank holds, what its gate lets pass."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from payouts.gateway import Gateway
from tests.fakestripe import FakeStripe
from tests.fakestripe.bank import Bank, InsufficientFunds, Unbalanced
from tests.fakestripe.gate import SDK_FILE, data_folder, nested
from tests.payouts.scene import API_KEY, Mailbox
from tests.payouts.test_gateway import RECIPIENT, funded_account, intent, new_key, transfer_to

VERSION = "2026-10-28.endive"


class Wire:
    """Requests by hand, as no library would send them."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=120, trust_env=False)

    def post(
        self,
        path: str,
        form: dict[str, str],
        *,
        key: str | None = None,
        version: str = VERSION,
        bearer: str = API_KEY,
    ) -> httpx.Response:
        """One form, with the headers that Stripe wants unless told otherwise."""
        headers = {"authorization": f"Bearer {bearer}"}
        if version:
            headers["stripe-version"] = version
        if key is None:
            headers["idempotency-key"] = new_key()
        elif key:
            headers["idempotency-key"] = key
        return self.http.post(path, data=form, headers=headers)


@pytest.fixture
def wire(stripe: FakeStripe) -> Iterator[Wire]:
    """A client of the stand-in's."""
    found = Wire(stripe.url)
    yield found
    found.http.close()


@pytest.fixture
def gateway(stripe: FakeStripe) -> Gateway:
    """The gateway against the stand-in."""
    return Gateway(api_key=API_KEY, base_url=stripe.url, timeout_s=60)


def form_of(account_id: str, amount: str = "500") -> dict[str, str]:
    """A transfer as a form."""
    return {"amount": amount, "currency": "usd", "destination": account_id}


def test_the_first_answer_is_kept_for_a_key_errors_too(
    stripe: FakeStripe, gateway: Gateway, wire: Wire
) -> None:
    account_id = funded_account(stripe, gateway)
    key = new_key()
    first = wire.post("/v1/transfers", form_of(account_id), key=key)
    again = wire.post("/v1/transfers", form_of(account_id), key=key)
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"
    assert len(stripe.every("transfer")) == 1
    for kind, transfers in (("500_before", 1), ("500_after", 2)):
        failing = new_key()
        stripe.fault("post /v1/transfers", kind)
        assert wire.post("/v1/transfers", form_of(account_id), key=failing).status_code == 500
        assert wire.post("/v1/transfers", form_of(account_id), key=failing).status_code == 500
        assert len(stripe.every("transfer")) == transfers
    short = new_key()
    for _ in range(2):
        refused = wire.post("/v1/transfers", form_of(account_id, "99999999"), key=short)
        assert refused.json()["error"]["code"] == "balance_insufficient"


def test_a_key_with_other_parameters_is_refused_and_one_in_flight_is_in_use(
    stripe: FakeStripe, gateway: Gateway, wire: Wire
) -> None:
    account_id = funded_account(stripe, gateway)
    key = new_key()
    wire.post("/v1/transfers", form_of(account_id), key=key)
    other = wire.post("/v1/transfers", form_of(account_id, "501"), key=key)
    assert other.status_code == 400
    assert other.json()["error"]["type"] == "idempotency_error"
    stripe.fault("post /v1/transfers", "slow", delay_s=0.5)
    busy = new_key()
    answers: list[int] = []

    def send() -> None:
        answers.append(wire.post("/v1/transfers", form_of(account_id), key=busy).status_code)

    slow = threading.Thread(target=send)
    slow.start()
    while not stripe.ask("GET", "/_faults")["rules"][0]["seen"]:
        time.sleep(0.01)
    assert wire.post("/v1/transfers", form_of(account_id), key=busy).status_code == 409
    slow.join(timeout=120)
    assert answers == [200]


def test_a_key_is_forgotten_after_a_day_so_that_the_same_key_pays_twice(
    stripe: FakeStripe, gateway: Gateway, wire: Wire
) -> None:
    account_id = funded_account(stripe, gateway)
    key = new_key()
    wire.post("/v1/transfers", form_of(account_id), key=key)
    stripe.advance(23 * 3600)
    wire.post("/v1/transfers", form_of(account_id), key=key)
    assert len(stripe.every("transfer")) == 1
    stripe.advance(3601)
    wire.post("/v1/transfers", form_of(account_id), key=key)
    assert len(stripe.every("transfer")) == 2


@pytest.mark.parametrize("fault", ["500_before", "500_after"])
def test_v2_finishes_failed_work_under_the_same_key_and_makes_nothing_twice(
    stripe: FakeStripe, gateway: Gateway, fault: str
) -> None:
    from payouts.errors import GatewayUnknown

    key = new_key()
    stripe.fault("post /v2/core/accounts", fault)
    with pytest.raises(GatewayUnknown):
        gateway.create_account(RECIPIENT, key=key)
    made = gateway.create_account(RECIPIENT, key=key)
    assert gateway.create_account(RECIPIENT, key=key).id == made.id
    assert len(stripe.every("account")) == 1


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"key": ""}, "Idempotency-Key"),
        ({"key": "4b3c1c5e-5f0e-4d6f-9a53-0f5d3c0d9d11"}, "Idempotency-Key"),
        ({"version": ""}, "Stripe-Version"),
        ({"version": "2020-08-27"}, "Stripe-Version"),
    ],
    ids=["no key", "the library's own key", "no version", "another version"],
)
def test_the_gate_wants_a_key_of_ours_and_the_pinned_version(
    stripe: FakeStripe, wire: Wire, options: dict[str, Any], field: str
) -> None:
    refused = wire.post("/v1/transfers", form_of("acct_x"), **options)
    assert refused.status_code == 400
    (complaint,) = stripe.ask("GET", "/_gate")["complaints"]
    assert complaint["field"] == field
    with pytest.raises(AssertionError):
        stripe.assert_clean()


@pytest.mark.parametrize(
    ("path", "form", "field"),
    [
        ("/v1/transfers", {"currency": "usd", "destination": "a", "made_up": "1"}, "made_up"),
        ("/v1/transfers", {"currency": "usd", "destination": "a", "amount": "5.0"}, "amount"),
        ("/v1/transfers", {"destination": "a", "amount": "5"}, "currency"),
        (
            "/v1/transfers",
            {"currency": "usd", "destination": "a", "source_type": "gold"},
            "source_type",
        ),
        ("/v1/refunds", {"charge": "ch_1", "amount": "all"}, "amount"),
        ("/v1/payment_intents", {"amount": "5", "currency": "usd", "confirm": "yes"}, "confirm"),
        (
            "/v1/payment_intents",
            {"amount": "5", "currency": "usd", "payment_method_types[0]": "card"},
            "payment_method_types",
        ),
    ],
)
def test_the_gate_names_the_field_that_the_published_description_forbids(
    stripe: FakeStripe, wire: Wire, path: str, form: dict[str, str], field: str
) -> None:
    if not (data_folder() / SDK_FILE).exists():
        pytest.skip("Stripe's published description is not on this machine: this did not run")
    assert wire.post(path, form).status_code == 400
    assert field in {c["field"] for c in stripe.ask("GET", "/_gate")["complaints"]}


def test_a_path_that_stripe_or_the_stand_in_does_not_have_is_a_complaint(
    stripe: FakeStripe, wire: Wire
) -> None:
    assert wire.post("/v1/transfers/../balance", {}).status_code in (404, 405)
    assert wire.post("/v1/moneytrees", {}).status_code == 404
    assert len(stripe.ask("GET", "/_gate")["complaints"]) == 2


def test_without_the_description_the_gate_says_so_and_still_checks(tmp_path: Path) -> None:
    environment = os.environ | {"STUMPWORK_SHARED_DATA": str(tmp_path)}
    with FakeStripe(environment=environment) as bare:
        assert "built-in minimal checks" in bare.ready_line
        assert "never run against Stripe" in bare.ready_line
        gateway = Gateway(api_key=API_KEY, base_url=bare.url)
        account_id = funded_account(bare, gateway)
        gateway.create_transfer(transfer_to(account_id), key=new_key())
        bare.settle()
        bare.assert_clean()
        wire = Wire(bare.url)
        refused = wire.post("/v1/transfers", form_of(account_id) | {"made_up": "1"})
        assert refused.status_code == 400
        wire.http.close()


def test_the_ready_line_says_what_it_is_and_what_it_was_checked_against(
    stripe: FakeStripe,
) -> None:
    assert "a stand-in for Stripe" in stripe.ready_line
    assert "never run against Stripe" in stripe.ready_line
    health = stripe.ask("GET", "/_health")
    assert health["never_run_against_stripe"] is True
    assert health["checked_against"] in stripe.ready_line


def test_a_restart_keeps_accounts_keys_money_and_unsent_webhooks(
    tmp_path: Path, mailbox: Mailbox
) -> None:
    state, tape = tmp_path / "state.json", tmp_path / "tape.jsonl"
    key = new_key()
    mailbox.take()
    with FakeStripe(state=state, tape=tape) as first:
        gateway = Gateway(api_key=API_KEY, base_url=first.url)
        account_id = funded_account(first, gateway)
        moved = gateway.create_transfer(transfer_to(account_id), key=key)
    target = f"http://127.0.0.1:{mailbox.port}/snapshot"
    with FakeStripe(state=state, webhook=target, webhook_secret="whsec_x") as second:
        assert "state resumed" in second.ready_line
        gateway = Gateway(api_key=API_KEY, base_url=second.url)
        assert gateway.create_transfer(transfer_to(account_id), key=key) == moved
        assert gateway.account(account_id).transfers_status == "active"
        second.settle()
        assert second.held(f"{account_id}/bank") == 700
        second.assert_clean()
    types = {json.loads(letter.payload)["type"] for letter in mailbox.take()}
    assert {"transfer.created", "payout.paid"} <= types
    lines = [json.loads(line) for line in tape.read_text().splitlines()]
    assert [line["path"] for line in lines][-1] == "/v1/transfers"
    assert lines[-1]["key"] == key
    assert lines[-1]["status"] == 200
    json.loads(state.read_text())


def test_a_payout_that_fails_after_it_was_paid_brings_the_money_back(
    stripe: FakeStripe, gateway: Gateway
) -> None:
    account_id = funded_account(stripe, gateway)
    gateway.create_transfer(transfer_to(account_id), key=new_key())
    stripe.settle()
    (payout,) = stripe.every("payout")
    assert payout["status"] == "paid"
    stripe.ask("POST", f"/_payouts/{payout['id']}/fail", code="no_account")
    assert stripe.held(f"{account_id}/bank") == 0
    assert stripe.held(f"{account_id}/available") == 700
    seen = gateway.payout(payout["id"], account_id)
    assert (seen.status, seen.failure_code) == ("failed", "no_account")
    stripe.settle()
    # Nothing is sent to a bank that refused, until there is another.
    assert stripe.held(f"{account_id}/available") == 700
    stripe.ask("POST", f"/_accounts/{account_id}/bank")
    stripe.settle()
    assert stripe.held(f"{account_id}/bank") == 700
    stripe.assert_clean()


def test_money_cannot_be_sent_to_an_account_that_may_not_have_it(
    stripe: FakeStripe, gateway: Gateway, wire: Wire
) -> None:
    gateway.create_payment_intent(intent(10_000), key=new_key())
    account = gateway.create_account(RECIPIENT, key=new_key())
    refused = wire.post("/v1/transfers", form_of(account.id))
    assert refused.json()["error"]["code"] == "insufficient_capabilities_for_transfer"
    assert wire.post("/v1/transfers", form_of("acct_nobody")).status_code == 400
    assert stripe.every("transfer") == []


def test_an_unknown_fault_is_refused(stripe: FakeStripe) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        stripe.fault("post /v1/transfers", "gremlins")


def test_forms_are_read_as_the_structure_they_spell() -> None:
    assert nested([("a[b][0]", "1"), ("a[b][1]", "2"), ("c", "3"), ("d[]", "4"), ("d[]", "5")]) == {
        "a": {"b": ["1", "2"]},
        "c": "3",
        "d": ["4", "5"],
    }


PLACES = ["platform/available", "platform/pending", "acct_1/available", "acct_1/bank"]


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(PLACES),
            st.sampled_from([*PLACES, "world/payers"]),
            st.integers(-50, 90),
        ),
        max_size=30,
    )
)
def test_the_bank_loses_no_cent_and_lets_no_place_of_ours_go_below_zero(
    moves: list[tuple[str, str, int]],
) -> None:
    bank = Bank()
    bank.move(
        kind="start",
        source="s",
        at=0,
        legs=[("world/payers", "usd", -100), ("platform/available", "usd", 100)],
    )
    for one, other, amount in moves:
        before = bank.by_place()
        try:
            bank.move(
                kind="m", source="s", at=0, legs=[(one, "usd", -amount), (other, "usd", amount)]
            )
        except InsufficientFunds:
            assert bank.by_place() == before
    assert bank.problems() == []
    assert all(bank.balance(place, "usd") >= 0 for place in PLACES)
    twin = Bank()
    twin.load(bank.dump())
    assert twin.by_place() == bank.by_place()


def test_the_bank_refuses_to_make_money_and_notices_when_a_figure_was_changed() -> None:
    bank = Bank()
    with pytest.raises(Unbalanced):
        bank.move(kind="m", source="s", at=0, legs=[("platform/available", "usd", 1)])
    bank.move(
        kind="m", source="s", at=0, legs=[("world/payers", "usd", -9), ("acct_1/bank", "usd", 9)]
    )
    assert bank.problems() == []
    bank.held["acct_1/bank", "usd"] += 1
    assert bank.problems() == ["acct_1/bank holds 10 but its movements say 9"]


def test_keys_of_our_rows_are_told_from_the_librarys() -> None:
    assert uuid7().version == 7
