"""What labs pay in, and what they take back."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from httpx import Response

from market.auth import Part
from market.events import Event
from market.fundings.rules import FUNDING
from market.treasury.jobs import chase_invoices, start_funding, sweep_stripe
from payouts import chart
from tests.factories import Caller, pairs_in_database
from tests.market.house import House

HUNDRED = {"amount": {"amount_minor": 10_000, "currency": "USD"}, "payment_method": "pm_card_visa"}


def money(lab: Caller) -> dict[str, int]:
    """A lab's figures in dollars' cents."""
    (found,) = lab.get("/v1/balance").json()
    return {name: value["amount_minor"] for name, value in found.items() if isinstance(value, dict)}


def test_money_that_stripe_takes_at_once_can_be_spent_at_once(house: House) -> None:
    lab = house.caller(Part.LAB)
    funding_id = house.fund(lab, 1_000_000)
    assert lab.get(f"/v1/fundings/{funding_id}").json()["state"] == "requested"
    assert house.react() == ["start_funding"]
    found = lab.get(f"/v1/fundings/{funding_id}").json()
    assert (found["state"], found["amount"]["amount_minor"]) == ("succeeded", 1_000_000)
    assert found["settled_at"] is not None
    assert money(lab)["unassigned"] == money(lab)["funded"] == 1_000_000
    assert money(lab)["refundable"] == 1_000_000
    assert len(house.events(Event.FUNDING_SUCCEEDED)) == 1


def test_money_that_can_still_bounce_is_not_funded_yet(house: House) -> None:
    lab = house.caller(Part.LAB)
    funding_id = house.fund(lab, 50_000, "pm_card_visa")
    house.react()
    assert lab.get(f"/v1/fundings/{funding_id}").json()["state"] == "received"
    assert (money(lab)["funded"], money(lab)["unsettled"]) == (0, 50_000)
    house.hear()
    assert lab.get(f"/v1/fundings/{funding_id}").json()["state"] == "succeeded"
    assert (money(lab)["funded"], money(lab)["unsettled"]) == (50_000, 0)


def test_a_bank_debit_settles_by_its_webhooks(house: House) -> None:
    lab = house.caller(Part.LAB)
    funding_id = house.fund(lab, 200_000, "pm_usBankAccount_success")
    house.react()
    assert lab.get(f"/v1/fundings/{funding_id}").json()["state"] == "processing"
    assert house.posted(chart.stripe_clearing()) == 0
    house.hear()
    assert lab.get(f"/v1/fundings/{funding_id}").json()["state"] == "succeeded"
    assert money(lab)["funded"] == 200_000


def test_a_payment_that_fails_says_why_and_leaves_no_money(house: House) -> None:
    lab = house.caller(Part.LAB)
    refused = house.fund(lab, 10_000, "pm_card_chargeDeclined")
    bounced = house.fund(lab, 10_000, "pm_usBankAccount_insufficientFunds")
    house.hear()
    for funding_id in (refused, bounced):
        found = lab.get(f"/v1/fundings/{funding_id}").json()
        assert found["state"] == "failed"
        assert found["failure"]
    assert lab.get("/v1/fundings?state=failed").json()["items"][0]["id"] == bounced
    assert lab.organisation_id is not None
    assert house.posted(chart.lab_funding(lab.organisation_id)) == 0


def test_a_lost_answer_is_asked_for_again_under_the_same_key(house: House) -> None:
    lab = house.caller(Part.LAB)
    house.stripe.fault("post /v1/payment_intents", "drop_after", times=1)
    house.fund(lab, 10_000)
    house.react()
    assert money_or_nothing(lab) == 0
    sweep_until(house, lambda: money_or_nothing(lab) == 10_000)
    assert len(house.stripe.every("payment_intent")) == 1


def money_or_nothing(lab: Caller) -> int:
    found = lab.get("/v1/balance").json()
    return int(found[0]["funded"]["amount_minor"]) if found else 0


def sweep_until(house: House, is_done: Callable[[], bool]) -> None:
    """Let the clock's sweep run until something holds; a call waits two seconds at most."""
    for _ in range(40):
        sweep_stripe("2026-01-05T00:00:00+00:00")
        house.react()
        if is_done():
            return
        time.sleep(0.1)
    raise AssertionError("the sweep did not bring it about")


def test_paying_in_needs_a_key_and_pays_in_once_for_it(house: House) -> None:
    lab = house.caller(Part.LAB)
    assert lab.post("/v1/fundings", json=HUNDRED).status_code == 400
    keyed = {"Idempotency-Key": "one"}
    first = lab.post("/v1/fundings", json=HUNDRED, headers=keyed)
    again = lab.post("/v1/fundings", json=HUNDRED, headers=keyed)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = {**HUNDRED, "amount": {"amount_minor": 20_000, "currency": "USD"}}
    refused = lab.post("/v1/fundings", json=other, headers=keyed)
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
    house.hear()
    assert len(house.stripe.every("payment_intent")) == 1
    assert money(lab)["funded"] == 10_000


def test_the_job_twice_pays_in_once(house: House) -> None:
    lab = house.caller(Part.LAB)
    funding_id = UUID(house.fund(lab, 10_000).removeprefix("fnd_"))
    start_funding(str(funding_id))
    start_funding(str(funding_id))
    house.hear()
    assert len(house.stripe.every("payment_intent")) == 1
    assert money(lab)["funded"] == 10_000


def test_what_cannot_be_paid_in_is_refused(house: House) -> None:
    lab = house.caller(Part.LAB)

    def ask(amount_minor: int, currency: str, method: str) -> tuple[int, str]:
        answer = lab.post(
            "/v1/fundings",
            json={
                "amount": {"amount_minor": amount_minor, "currency": currency},
                "payment_method": method,
            },
            headers={"Idempotency-Key": "k"},
        )
        return answer.status_code, answer.json()["code"]

    assert ask(99, "USD", "pm_card_visa") == (422, "funding_amount")
    assert ask(100_000_000, "USD", "pm_card_visa") == (422, "funding_amount")
    assert ask(0, "USD", "pm_card_visa") == (422, "invalid_body")
    assert ask(100, "XXX", "pm_card_visa") == (422, "currency_unknown")
    assert ask(100, "USD", "pm_; drop table") == (422, "payment_method_invalid")


def test_another_labs_payment_is_not_there(house: House) -> None:
    lab, other = house.caller(Part.LAB), house.caller(Part.LAB)
    funding_id = house.fund(lab, 10_000)
    house.react()
    assert other.get(f"/v1/fundings/{funding_id}").status_code == 404
    assert other.get("/v1/fundings").json()["items"] == []
    assert other.get("/v1/balance").json() == []
    refund = other.post(
        f"/v1/fundings/{funding_id}/refunds",
        json={"amount_minor": 100},
        headers={"Idempotency-Key": "r"},
    )
    assert refund.status_code == 404
    ops = house.caller(Part.OPS)
    assert lab.organisation_id is not None
    named = f"/v1/balance?organisation_id=org_{lab.organisation_id.hex}"
    assert ops.get(named).json()[0]["funded"]["amount_minor"] == 10_000
    # A lab that names another gets its own.
    assert other.get(named).json() == []


def test_money_that_no_project_has_goes_back_the_way_it_came(house: House) -> None:
    lab = house.caller(Part.LAB)
    funding_id = house.fund(lab, 10_000)
    house.react()
    address = f"/v1/fundings/{funding_id}/refunds"
    much = lab.post(address, json={"amount_minor": 10_001}, headers={"Idempotency-Key": "a"})
    assert (much.status_code, much.json()["left_minor"]) == (409, 10_000)
    answer = lab.post(address, json={"amount_minor": 4_000}, headers={"Idempotency-Key": "a"})
    assert answer.status_code == 201, answer.text
    assert house.react() == ["make_stripe_call"]
    assert money(lab)["unassigned"] == 6_000
    assert money(lab)["refunded"] == 4_000
    assert money(lab)["funded"] == 10_000
    # The fee of the payment stays with Stripe.
    held = house.stripe.held("platform/available") + house.stripe.held("platform/pending")
    assert house.posted(chart.stripe_clearing()) == held
    assert len(house.events(Event.REFUND_SENT)) == 1


def test_the_database_knows_the_moves_of_a_funding(house: House) -> None:
    with house.begin() as session:
        assert pairs_in_database(session, FUNDING) == FUNDING.pairs()


def test_an_invoice_is_asked_for_paid_and_counted_over_http(house: House) -> None:
    lab = house.caller(Part.LAB)
    terms = {"email": "accounts@lab.example", "days_until_due": 14}
    answer = ask_invoice(lab, terms)
    assert (answer.status_code, answer.json()["state"]) == (201, "requested")
    path = f"/v1/fundings/{answer.json()['id']}"
    house.react()
    out = lab.get(path).json()
    assert out["state"] == "invoiced"
    (invoice,) = house.stripe.every("invoice")
    assert (out["invoice"]["number"], out["invoice"]["url"]) == (
        invoice["number"],
        invoice["hosted_invoice_url"],
    )
    # What is not paid is in no book.
    assert lab.get("/v1/balance").json() == []
    house.stripe.ask("POST", f"/_invoices/{invoice['id']}/pay")
    house.hear()
    assert lab.get(path).json()["state"] == "succeeded"
    assert money(lab)["funded"] == money(lab)["unassigned"] == 70_000
    late = lab.post(f"{path}/void-invoice", headers={"Idempotency-Key": "late"})
    assert (late.status_code, late.json()["code"]) == (409, "invoice_not_voidable")
    assert late.json()["state"] == "paid"


def test_an_invoice_is_taken_back_by_its_lab_only(house: House) -> None:
    lab, other = house.caller(Part.LAB), house.caller(Part.LAB)
    path = f"/v1/fundings/{ask_invoice(lab, {'email': 'a@lab.example'}).json()['id']}/void-invoice"
    early = lab.post(path, headers={"Idempotency-Key": "early"})
    assert (early.status_code, early.json()["state"]) == (409, "planned")
    house.react()
    assert other.post(path, headers={"Idempotency-Key": "theirs"}).status_code == 404
    assert lab.post(path, headers={"Idempotency-Key": "back"}).status_code == 200
    house.hear()
    found = lab.get(path.removesuffix("/void-invoice")).json()
    assert (found["state"], found["failure"]) == ("failed", "The invoice was taken back.")
    by_card = house.fund(lab, 10_000)
    answer = lab.post(f"/v1/fundings/{by_card}/void-invoice", headers={"Idempotency-Key": "card"})
    assert answer.status_code == 409


def test_an_invoice_that_cannot_be_sent_says_what_to_change(house: House) -> None:
    lab = house.caller(Part.LAB)
    refused: dict[str, list[dict[str, Any]]] = {
        "funding_way_unclear": [{}, {"payment_method": "pm_x", "invoice": {"email": "a@b.com"}}],
        "invoice_terms_invalid": [
            {"invoice": {"email": "nobody"}},
            {"invoice": {"email": "a@b.com", "days_until_due": 0}},
            {"invoice": {"email": "a@b.com", "days_until_due": 91}},
        ],
    }
    for code, ways in refused.items():
        for way in ways:
            answer = ask_invoice(lab, None, **way)
            assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_a_late_invoice_is_told_to_its_lab_once(house: House) -> None:
    lab = house.caller(Part.LAB)
    ask_invoice(lab, {"email": "accounts@lab.example", "days_until_due": 1})
    house.react()
    for days in (0, 2, 3):
        chase_invoices((datetime.now(UTC) + timedelta(days=days)).isoformat())
    assert len(house.events(Event.FUNDING_OVERDUE)) == 1


def ask_invoice(lab: Caller, terms: dict[str, Any] | None, **way: Any) -> Response:
    """A lab asks for an invoice of 700 dollars."""
    asked: dict[str, Any] = {"amount": {"amount_minor": 70_000, "currency": "USD"}, **way}
    if terms is not None:
        asked["invoice"] = terms
    headers = {"Idempotency-Key": f"invoice-{uuid4()}"}
    return lab.post("/v1/fundings", json=asked, headers=headers)
