"""Who can be paid: set up at Stripe, what is missing, what holds a payout, and who may read it."""

from datetime import UTC, datetime

from sqlalchemy import select

from market.auth import Part
from market.books.jobs import prove_books
from market.treasury.jobs import review_held_payouts
from payouts.payees import payee_of
from payouts.proof_models import Break
from tests.factories import make_project, make_task
from tests.market.earned import make_active_offer
from tests.market.house import House, earn, paid_in
from tests.market.test_console import come_in


def test_who_is_no_payee_yet_reads_why_nothing_comes(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    assert expert.get("/v1/payees/me").json()["code"] == "not_a_payee"
    earn(house, expert)
    assert house.pay_out(ops)["result"]["held"] == 1
    (payout,) = expert.get("/v1/payouts?state=held").json()["items"]
    (hold,) = payout["holds"]
    assert (hold["code"], hold["acts"]) == ("payee_requirements", "expert")
    assert "set up your payouts" in hold["text"]
    # Nothing else is to be done: it goes as soon as the expert can be paid.
    house.become_payee(expert)
    house.hear()
    assert expert.get(f"/v1/payouts/{payout['id']}").json()["state"] == "paid"


def test_ops_end_a_hold_and_the_reason_comes_back_while_it_stands(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    earn(house, expert)
    house.pay_out(ops)
    (payout,) = ops.get("/v1/payouts").json()["items"]
    address = f"/v1/payout-holds/{payout['holds'][0]['id']}/end"
    assert ops.post(address, json={"note": "ok"}).json()["code"] == "note_missing"
    after = ops.post(address, json={"note": "looked at it, may go"}).json()
    assert (after["state"], len(after["holds"])) == ("held", 1)
    assert ops.post(address, json={"note": "looked at it, may go"}).status_code == 404
    assert expert.post(address, json={"note": "let me have it"}).status_code == 403


def test_nobody_reads_anothers_payout(house: House) -> None:
    paid_in(house)
    expert, other, ops = house.expert(), house.expert(), house.caller(Part.OPS)
    earn(house, expert)
    house.pay_out(ops)
    (payout,) = expert.get("/v1/payouts").json()["items"]
    assert other.get(f"/v1/payouts/{payout['id']}").status_code == 404
    assert other.get("/v1/payouts").json()["items"] == []
    assert other.get("/v1/earnings/balance").json() == []
    lab = house.caller(Part.LAB)
    assert lab.get("/v1/payouts").status_code == 403
    assert expert.get("/v1/payout-runs").status_code == 403
    assert expert.get("/v1/ledger/trial-balance").status_code == 403


def test_a_country_is_two_letters(house: House) -> None:
    expert = house.expert()
    refused = expert.post("/v1/payees/me", json={"country": "USA"})
    assert (refused.status_code, refused.json()["code"]) == (422, "country_invalid")


def test_a_country_that_stripe_asks_more_for_is_refused_before_anything_is_opened(
    house: House,
) -> None:
    expert = house.expert()
    refused = expert.post("/v1/payees/me", json={"country": "KE"})
    assert (refused.status_code, refused.json()["code"]) == (422, "country_out_of_reach")
    assert "one of AT, BE, " in refused.json()["detail"]
    assert "is kept for you" in refused.json()["detail"]
    # Nothing was written, so that another country can still be named.
    assert expert.post("/v1/payees/me", json={"country": "DE"}).status_code == 201


def test_what_keeps_pay_away_is_read_with_the_offer_before_any_work(house: House) -> None:
    expert = house.expert()
    with house.begin() as session:
        project = make_project(session)
        task = make_task(session, project)
        now = datetime.now(UTC)
        offer = make_active_offer(session, project, task, expert.person_id, at=now)
        path = f"/v1/offers/ofr_{offer.id.hex}"
    (said,) = expert.get(path).json()["pay_blocks"]
    assert said.startswith("You have not said where you are paid")
    come_in(house.web, expert)
    assert "Before you begin." in house.web.get("/console/expert").text
    expert.post("/v1/payees/me", json={"country": "US"})
    house.react()
    blocks = expert.get(path).json()["pay_blocks"]
    assert "Stripe still needs a bank account to be paid to." in blocks
    house.become_payee(expert)
    assert expert.get(path).json()["pay_blocks"] == []
    assert "Before you begin." not in house.web.get("/console/expert").text


def test_onboarding_is_a_page_of_stripes_for_a_few_minutes(house: House) -> None:
    expert = house.expert()
    address = "/v1/payees/me/onboarding-link"
    assert expert.put(address).json()["code"] == "not_a_payee"
    expert.post("/v1/payees/me", json={"country": "US"})
    assert expert.put(address).json()["code"] == "onboarding_not_ready"
    house.react()
    assert expert.get("/v1/payees/me").json()["is_ready"] is False
    assert expert.get("/v1/payees/me").json()["missing"]
    assert expert.put(address).json()["url"].startswith("http")


def test_who_is_ready_at_stripe_is_paid_though_its_word_was_lost(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    expert.post("/v1/payees/me", json={"country": "US"})
    house.react()
    earn(house, expert)
    assert house.pay_out(ops)["result"]["held"] == 1
    with house.begin() as session:
        payee = payee_of(session, expert.person_id)
    assert payee is not None
    assert payee.account_id is not None
    house.stripe.onboard(payee.account_id)
    house.stripe.settle()
    house.mailbox.take()
    house.react()
    assert expert.get("/v1/payouts").json()["items"][0]["state"] == "held"
    review_held_payouts("2026-01-05T00:00:00+00:00")
    house.hear()
    assert expert.get("/v1/payouts").json()["items"][0]["state"] == "paid"


def test_an_expert_reads_what_stripe_made_of_its_pay_in_another_currency(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    with house.begin() as session:
        payee = payee_of(session, expert.person_id)
        assert payee is not None
        account_id = payee.account_id
    house.stripe.ask("POST", f"/_accounts/{account_id}/currency", currency="eur")
    house.stripe.ask("POST", "/_rates", **{"from": "usd", "to": "eur", "rate": "0.875"})
    earn(house, expert)
    house.pay_out(ops)
    house.hear()
    (payout,) = expert.get("/v1/payouts").json()["items"]
    assert (payout["state"], payout["amount"]["amount_minor"]) == ("paid", 4400)
    arrived = payout["arrived"]
    assert (arrived["arrived"], arrived["rate"], arrived["source"]) == (
        {"amount_minor": 3850, "currency": "EUR"},
        "0.875",
        "stripe",
    )
    assert arrived["text"].startswith("USD 44.00 arrived as EUR 38.50: Stripe changed it on ")
    told = expert.get("/v1/statement").json()["conversions"]
    assert told == [arrived]
    for reader, path in (
        (expert, "expert/earnings"),
        (expert, "expert/statement"),
        (ops, f"ops/money/payouts/{payout['id']}"),
    ):
        come_in(house.web, reader)
        assert "USD 44.00 arrived as EUR 38.50" in house.web.get(f"/console/{path}").text
    prove_books("now")
    with house.begin() as session:
        mine = Break.place == str(expert.person_id)
        assert session.scalars(select(Break).where(mine)).all() == []
