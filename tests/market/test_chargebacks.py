"""Card disputes as labs and ops meet them."""

from market.auth import Part
from market.events import Event
from payouts import chart
from tests.market.house import House


def dispute_its_charge(house: House) -> str:
    (charge,) = house.stripe.every("charge")
    made = house.stripe.ask("POST", f"/_charges/{charge['id']}/dispute")
    house.hear()
    return str(made["id"])


def test_a_lab_reads_what_its_bank_took_and_ops_answer_it_once(house: House) -> None:
    lab, other, ops = house.caller(Part.LAB), house.caller(Part.LAB), house.caller(Part.OPS)
    house.fund(lab, 50_000)
    house.hear()
    stripe_id = dispute_its_charge(house)
    (found,) = lab.get("/v1/card-disputes?state=open").json()["items"]
    assert (found["state"], found["withheld"]["amount_minor"]) == ("open", 50_000)
    assert lab.get("/v1/balance").json()[0]["unassigned"]["amount_minor"] == 50_000
    assert other.get("/v1/card-disputes").json()["items"] == []
    address = f"/v1/card-disputes/{found['id']}"
    assert other.get(address).status_code == 404
    assert len(house.events(Event.DISPUTE_OPENED)) == 1

    note = {"note": "The lab signed for a prepaid budget and directed the work."}
    assert lab.post(f"{address}/evidence", json=note).json()["code"] == "scope_missing"
    short = ops.post(f"{address}/evidence", json={"note": "no"})
    assert (short.status_code, short.json()["code"]) == (422, "evidence_missing")
    assert ops.post(f"{address}/evidence", json=note).status_code == 200
    house.hear()
    (at_stripe,) = house.stripe.every("dispute")
    assert at_stripe["status"] == "under_review"
    assert "prepaid budget" in at_stripe["evidence"]["uncategorized_text"]
    again = ops.post(f"{address}/evidence", json=note)
    assert (again.status_code, again.json()["code"]) == (409, "dispute_answered")

    house.stripe.ask("POST", f"/_disputes/{stripe_id}/close", won=False)
    house.hear()
    assert lab.get(address).json()["state"] == "lost"
    assert lab.organisation_id is not None
    assert house.posted(chart.lab_funding(lab.organisation_id)) == 0
