"""The payroll: everybody's pay of a week, as whoever pays people reads it by a script."""

import csv
import io
from datetime import timedelta

import pytest

from market.auth import Part
from market.payroll.queries import payroll_lines, payroll_totals
from tests.factories import AT, Caller
from tests.market.house import HOUR, House, earn, paid_in
from tests.market.test_console import come_in

WEEK = AT.date() - timedelta(days=AT.weekday())


def rows(ops: Caller, path: str) -> list[dict[str, str]]:
    """What a file says, row by row."""
    answer = ops.get(path)
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_a_pay_week_is_exported_by_expert_and_by_line_until_it_is_paid(house: House) -> None:
    paid_in(house)
    first, second, ops = house.expert(), house.expert(), house.caller(Part.OPS)
    earn(house, first)
    earn(house, first, HOUR, since=AT + timedelta(hours=3))
    earn(house, second, since=AT + timedelta(weeks=1))
    file = f"/v1/payroll.csv?first={WEEK}"
    (row,) = rows(ops, file)
    assert row["expert"] == f"per_{first.person_id.hex}"
    assert (row["lines"], row["seconds"], row["currency"]) == ("2", str(3 * HOUR), "USD")
    assert (row["pay"], row["waiting"], row["in_payouts"], row["paid"]) == (
        *("66.00", "66.00"),
        *("0.00", "0.00"),
    )
    both = rows(ops, f"{file}&last={WEEK + timedelta(weeks=1)}")
    assert {one["pay"] for one in both} == {"66.00", "44.00"}
    lines = rows(ops, f"{file}&by=line")
    assert [(one["week"], one["kind"], one["pay"], one["state"]) for one in lines] == [
        (str(WEEK), "hours", "44.00", "accrued"),
        (str(WEEK), "hours", "22.00", "accrued"),
    ]
    house.become_payee(first)
    house.pay_out(ops)
    assert rows(ops, file)[0]["in_payouts"] == "66.00"
    house.hear()
    (row,) = rows(ops, file)
    assert (row["waiting"], row["in_payouts"], row["paid"]) == ("0.00", "0.00", "66.00")
    lines = rows(ops, f"{file}&by=line")
    assert {(one["state"], one["payout"]) for one in lines} == {
        ("paid", first.get("/v1/payouts").json()["items"][0]["id"])
    }
    come_in(house.web, ops)
    assert "payroll.csv" in house.web.get("/console/ops/money/runs").text
    printed = house.web.get(f"/console/ops/money/payroll.csv?first={WEEK}")
    assert printed.text == ops.get(file).text


@pytest.mark.slow
def test_a_payroll_is_read_in_lots_and_leaves_nobody_out(house: House) -> None:
    experts = [house.expert() for _ in range(3)]
    for expert in experts:
        earn(house, expert)
        earn(house, expert, HOUR, since=AT + timedelta(hours=3))
    totals = [one for lot in payroll_totals(WEEK, WEEK, lot=2) for one in lot]
    assert sorted(one.expert_id for one in totals) == sorted(one.person_id for one in experts)
    assert {one.pay_minor for one in totals} == {6600}
    lines = [one.earning.id for lot in payroll_lines(WEEK, WEEK, lot=2) for one in lot]
    assert len(set(lines)) == len(lines) == 6


def test_a_payroll_is_for_the_platforms_people(house: House) -> None:
    file = f"/v1/payroll.csv?first={WEEK}"
    for part in (Part.LAB, Part.EXPERT):
        assert house.caller(part).get(file).status_code == 403
    ops = house.caller(Part.OPS)
    assert ops.get("/v1/payroll.csv").status_code == 400
    for weeks in (
        f"first={WEEK + timedelta(days=2)}",
        f"first={WEEK}&last={WEEK + timedelta(days=3)}",
        f"first={WEEK}&last={WEEK - timedelta(weeks=1)}",
    ):
        refused = ops.get(f"/v1/payroll.csv?{weeks}")
        assert (refused.status_code, refused.json()["code"]) == (422, "weeks_unfit"), weeks
