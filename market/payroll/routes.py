"""Everybody's pay of some weeks as a file, over HTTP."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Literal

from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery
from litestar.response import Stream

from market.earnings.rules import plain_cell
from market.http import get, wire_id, wire_ids
from market.payroll.queries import PayrollLine, PayrollTotal, payroll_lines, payroll_totals
from market.payroll.rules import checked_weeks
from payouts.money import Money

By = Literal["expert", "line"]

OF_TOTALS = (
    *("expert", "name", "currency", "lines", "seconds", "pay"),
    *("waiting", "in_payouts", "paid", "withheld"),
)
OF_LINES = (
    *("week", "expert", "name", "project", "offer", "line", "kind", "seconds", "rate_an_hour"),
    *("pay", "fee", "currency", "state", "payout", "credited_at"),
)


@get("/payroll.csv", scope="pay:read", tags=["Payouts"], media_type="text/csv")
def get_payroll(
    first: FromQuery[date], last: FromQuery[date | None] = None, by: FromQuery[By] = "expert"
) -> Stream:
    """Everybody's pay of the weeks that begin from `first` to `last` (that week alone when absent)
    as CSV: a row for each expert and currency, or for each line of pay.
    """
    return payroll_file(first, last, by)


def payroll_file(
    first: date, last: date | None, by: By, headers: Mapping[str, str] | None = None
) -> Stream:
    """Everybody's pay as a file, written while it is read: it is never whole in memory.

    Raises:
        WeeksUnfit.
    """
    first, last = checked_weeks(first, last)
    name = f"payroll-{first.isoformat()}-by-{by}.csv"
    kept = {**(headers or {}), "Content-Disposition": f'attachment; filename="{name}"'}
    rows = _totals(first, last) if by == "expert" else _lines(first, last)
    return Stream(_table(rows), media_type="text/csv", headers=kept)


def _table(lots: Iterable[Iterable[Iterable[object]]]) -> Iterator[str]:
    for lot in lots:
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerows(lot)
        yield text.getvalue()


def _totals(first: date, last: date) -> Iterator[list[tuple[object, ...]]]:
    yield [OF_TOTALS]
    for lot in payroll_totals(first, last):
        yield [_total_cells(one) for one in lot]


def _lines(first: date, last: date) -> Iterator[list[tuple[object, ...]]]:
    yield [OF_LINES]
    for lot in payroll_lines(first, last):
        yield [_line_cells(one) for one in lot]


def _total_cells(one: PayrollTotal) -> tuple[object, ...]:
    sums = (
        one.pay_minor,
        one.waiting_minor,
        one.in_payouts_minor,
        one.paid_minor,
        one.withheld_minor,
    )
    return (
        wire_id("per", one.expert_id),
        plain_cell(one.name),
        one.currency,
        one.lines,
        one.seconds,
        *(Money(amount, one.currency).in_units for amount in sums),
    )


def _line_cells(one: PayrollLine) -> tuple[object, ...]:
    paid = one.earning
    return (
        paid.week.isoformat(),
        wire_id("per", paid.expert_id),
        plain_cell(one.name),
        plain_cell(one.project or paid.note or ""),
        wire_ids("ofr", paid.offer_id) or "",
        wire_id("ear", paid.id),
        paid.kind,
        paid.seconds,
        Money(paid.rate_minor_per_hour, paid.currency).in_units,
        Money(paid.pay_minor, paid.currency).in_units,
        Money(paid.fee_minor, paid.currency).in_units,
        paid.currency,
        one.payout_state or paid.state,
        wire_ids("pay", paid.payout_id) or "",
        paid.at.isoformat(),
    )


ROUTES: list[HTTPRouteHandler] = [get_payroll]
