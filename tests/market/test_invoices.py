"""What a lab was charged: to the cent what its projects spent, and line by line what for."""

import csv
import io

from sqlalchemy import select

from market.auth import Part
from market.earnings.models import Earning
from payouts import chart
from tests.market.house import House, earn


def test_an_invoice_adds_up_to_what_was_spent_and_traces_to_each_line(house: House) -> None:
    expert, ops, other = house.expert(), house.caller(Part.OPS), house.caller(Part.LAB)
    earn(house, expert)
    with house.begin() as session:
        line = session.scalars(select(Earning)).one()
    lab = f"org_{line.organisation_id.hex}"
    found = ops.get(f"/v1/invoice?organisation_id={lab}").json()
    (charge,) = found["charges"]
    assert charge["expert_pay"]["amount_minor"] == line.pay_minor == 4400
    assert charge["fee"]["amount_minor"] == line.fee_minor == house.posted(chart.platform_fee())
    assert charge["total"]["amount_minor"] == line.pay_minor + line.fee_minor
    (row,) = csv.DictReader(io.StringIO(ops.get(f"/v1/invoice.csv?organisation_id={lab}").text))
    assert (row["expert_pay"], row["fee"], row["total"]) == ("44.00", "8.80", "52.80")
    assert row["line"] == f"ear_{line.id.hex}"
    assert row["ledger_entry"].startswith("led_")
    (item,) = ops.get(f"/v1/invoice/lines?organisation_id={lab}").json()["items"]
    assert item["total"]["amount_minor"] == 5280
    assert (item["earning_id"], item["ledger_entry"]) == (row["line"], row["ledger_entry"])
    assert (item["offer_id"], item["submission_id"]) == (
        row["offer"],
        f"sub_{line.submission_id.hex}" if line.submission_id else None,
    )
    lines = f"/v1/invoice/lines?organisation_id={lab}"
    assert ops.get(f"{lines}&first=2099-01-05").json()["items"] == []
    assert other.get(lines).json()["items"] == []
    statement = expert.get("/v1/statement").json()
    (total,) = statement["totals"]
    assert (total["pay_minor"], total["paid_minor"]) == (4400, 0)
    assert [one["id"] for one in statement["lines"]] == [row["line"]]
    assert expert.get("/v1/statement?first=2099-01-05").json()["totals"] == []
    later = f"/v1/invoice?organisation_id={lab}&first=2099-01-05"
    assert ops.get(later).json()["charges"] == []
    # A lab cannot name another one.
    assert other.get(f"/v1/invoice?organisation_id={lab}").json()["charges"] == []
    assert expert.get("/v1/invoice").status_code == 403
