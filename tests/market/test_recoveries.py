"""Pay that was wrong: opened by one person, answered by the expert, decided by another; and payouts
that are taken out, brought back or made a second time.
"""

from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from market.auth import Part
from market.events import Event
from payouts import chart
from tests.factories import Caller
from tests.market.house import MONDAY, House, earn, paid_in

WHY = "The hand-in is a copy of chapter three of a textbook; both are in the evidence folder."
NOTE = {"note": "A person looked at it and stopped it."}


def owed_line(house: House, expert: Caller) -> str:
    """Two hours of pay that nothing has taken along yet."""
    earn(house, expert)
    (line,) = expert.get("/v1/earnings").json()["items"]
    return str(line["id"])


def test_only_a_second_person_decides_and_the_expert_answers_first(house: House) -> None:
    paid_in(house)
    expert, other = house.expert(), house.expert()
    opener, decider = house.caller(Part.OPS), house.caller(Part.OPS)
    line = owed_line(house, expert)
    short = opener.post("/v1/recovery-cases", json={"earning_id": line, "reason": "bad"})
    assert (short.status_code, short.json()["code"]) == (422, "case_reason_missing")
    body = {"earning_id": line, "reason": WHY}
    made = opener.post("/v1/recovery-cases", json=body).json()
    again = opener.post("/v1/recovery-cases", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "case_exists")
    unknown = opener.post("/v1/recovery-cases", json={**body, "earning_id": "ear_" + "0" * 32})
    assert unknown.status_code == 404

    address = f"/v1/recovery-cases/{made['id']}"
    yes = {"uphold": True, "decision": WHY}
    self_decided = opener.post(f"{address}/decision", json=yes)
    assert (self_decided.status_code, self_decided.json()["code"]) == (403, "second_person_needed")
    early = decider.post(f"{address}/decision", json=yes)
    assert (early.status_code, early.json()["code"]) == (409, "answer_still_due")
    assert other.post(f"{address}/answer", json={"text": WHY}).status_code == 404
    said = expert.post(f"{address}/answer", json={"text": WHY}).json()
    assert said["answer"] == WHY
    assert house.posted(chart.receivable_from(expert.person_id)) == 0

    done = decider.post(f"{address}/decision", json=yes).json()
    assert (done["state"], done["amount"]["amount_minor"]) == ("upheld", 4400)
    assert house.posted(chart.receivable_from(expert.person_id)) == 4400
    assert len(house.events(Event.RECOVERY_DECIDED)) == 1
    late = expert.post(f"{address}/answer", json={"text": WHY})
    assert (late.status_code, late.json()["code"]) == (409, "state_conflict")

    # Half of what is owed goes back; the other half is paid.
    house.become_payee(expert)
    house.pay_out(decider)
    (payout,) = expert.get("/v1/payouts").json()["items"]
    assert payout["amount"]["amount_minor"] == 2200
    (case,) = expert.get("/v1/recovery-cases").json()["items"]
    assert case["recovered"]["amount_minor"] == 2200


def test_a_dismissed_case_moves_no_money_and_another_can_be_opened(house: House) -> None:
    paid_in(house)
    expert = house.expert()
    opener, decider = house.caller(Part.OPS), house.caller(Part.OPS)
    body = {"earning_id": owed_line(house, expert), "reason": WHY}
    made = opener.post("/v1/recovery-cases", json=body).json()
    no = {"uphold": False, "decision": WHY}
    done = decider.post(f"/v1/recovery-cases/{made['id']}/decision", json=no)
    assert done.json()["state"] == "dismissed"
    assert house.posted(chart.receivable_from(expert.person_id)) == 0
    assert opener.post("/v1/recovery-cases", json=body).status_code == 201


def test_money_still_at_stripe_is_taken_back_there(house: House) -> None:
    paid_in(house)
    expert = house.expert()
    opener, decider = house.caller(Part.OPS), house.caller(Part.OPS)
    house.become_payee(expert)
    line = owed_line(house, expert)
    house.stripe.ask("POST", "/_clock", paused=True)
    house.pay_out(decider)
    made = opener.post("/v1/recovery-cases", json={"earning_id": line, "reason": WHY}).json()
    with house.begin() as session:
        session.execute(text("update market.recovery_case set answer_by = opened_at"))
    yes = {"uphold": True, "decision": WHY}
    decider.post(f"/v1/recovery-cases/{made['id']}/decision", json=yes)
    house.react()
    assert house.posted(chart.receivable_from(expert.person_id)) == 0
    (payout,) = expert.get("/v1/payouts").json()["items"]
    assert payout["state"] == "reversed"
    house.stripe.ask("POST", "/_clock", paused=False)


def test_a_second_payout_in_a_period_needs_a_reason_and_something_owed(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    earn(house, expert)
    house.pay_out(ops)
    body = {
        "expert_id": f"per_{expert.person_id.hex}",
        "currency": "USD",
        "period_end": MONDAY.isoformat(),
        "reason_code": "correction",
    }

    def ask(key: str, **change: str) -> tuple[int, str]:
        answer = ops.post("/v1/payouts", json=body | change, headers={"Idempotency-Key": key})
        return answer.status_code, str(answer.json().get("code") or answer.json()["state"])

    assert ask("a") == (409, "nothing_owed")
    assert ask("b", reason_code="please") == (422, "extra_reason_unknown")
    week = (MONDAY + timedelta(days=1)).isoformat()
    house.post(chart.lab_funding(house_lab(house)), chart.owed_to(expert.person_id), 900, "more")
    assert ask("c", period_end=week) == (422, "period_end_invalid")
    assert ask("d") == (201, "batched")
    house.hear()
    states = {one["state"] for one in expert.get("/v1/payouts").json()["items"]}
    assert states == {"paid"}


def house_lab(house: House) -> UUID:
    """A lab with settled money."""
    lab = house.caller(Part.LAB)
    house.fund(lab, 20_000)
    house.hear()
    assert lab.organisation_id is not None
    return lab.organisation_id


def test_a_payout_that_came_back_is_recalled_and_owed_again(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    house.become_payee(expert)
    earn(house, expert)
    house.pay_out(ops)
    house.hear()
    (payout,) = expert.get("/v1/payouts").json()["items"]
    address = f"/v1/payouts/{payout['id']}"
    for way in ("recall", "withdraw"):
        refused = ops.post(f"{address}/{way}", json=NOTE)
        assert (refused.status_code, refused.json()["code"]) == (409, "payout_not_movable")
    (out,) = house.stripe.every("payout")
    house.stripe.ask("POST", f"/_payouts/{out['id']}/fail")
    house.hear()
    assert expert.get(address).json()["failure"].startswith("Your bank account is closed")
    assert ops.post(f"{address}/recall", json=NOTE).status_code == 202
    house.hear()
    assert expert.get(address).json()["state"] == "cancelled"
    owed = expert.get("/v1/earnings/balance").json()
    assert owed[0]["free"]["amount_minor"] == 4400
    assert expert.get("/v1/earnings").json()["items"][0]["state"] == "approved"


def test_one_unsent_payout_is_withdrawn(house: House) -> None:
    paid_in(house)
    expert, ops = house.expert(), house.caller(Part.OPS)
    earn(house, expert)
    house.pay_out(ops)
    (payout,) = expert.get("/v1/payouts?state=held").json()["items"]
    taken = ops.post(f"/v1/payouts/{payout['id']}/withdraw", json=NOTE)
    assert (taken.status_code, taken.json()["state"]) == (200, "cancelled")
    assert house.posted(chart.owed_to(expert.person_id)) == 4400
