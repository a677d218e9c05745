"""What a lab was charged, over HTTP."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery
from litestar.response import Stream

from market.auth import Principal
from market.db import PLATFORM, database
from market.earnings.models import Earning
from market.earnings.rules import plain_cell
from market.http import Cursor, Limit, Page, Wire, get, listed, read_id, wire_id, wire_ids
from market.invoices.queries import (
    InvoiceLine,
    ProjectCharge,
    Weeks,
    charged_lines,
    lots_of_lines,
    project_charges,
)
from market.projects.routes import MoneyOut
from payouts.money import Money

COLUMNS = (
    *("week", "project", "offer", "line", "kind", "seconds", "rate_an_hour"),
    *("expert_pay", "fee", "total", "currency", "ledger_entry", "charged_at"),
)


class ProjectChargeOut(Wire):
    """What one project was charged in one currency: `total` is `expert_pay` and `fee`."""

    project_id: str
    project: str
    lines: int
    expert_pay: MoneyOut
    fee: MoneyOut
    total: MoneyOut


class InvoiceOut(Wire):
    """What a lab was charged in the weeks from `first` to `last`, by project.

    Its lines are in the CSV of the same weeks: each names the line of pay and the ledger entry
    that it is, so that every amount traces to the item it was paid for.
    """

    first: date | None
    last: date | None
    charges: list[ProjectChargeOut]


@get("/invoice", scope="fund:read", tags=["Funding"])
def get_invoice(
    principal: NamedDependency[Principal],
    first: FromQuery[date | None] = None,
    last: FromQuery[date | None] = None,
    organisation_id: FromQuery[str | None] = None,
) -> InvoiceOut:
    """What your lab was charged, by project; ops name a lab by `organisation_id`."""
    # As the platform, since lines of pay are their experts'; only the lab's own are read.
    with database.begin(PLATFORM) as session:
        found = project_charges(session, _weeks(principal, first, last, organisation_id))
    return InvoiceOut(first=first, last=last, charges=[_charge_out(charge) for charge in found])


class InvoiceLineOut(Wire):
    """One thing that a lab was charged for; `ledger_entry` is the entry that moved the money."""

    earning_id: str
    project_id: str
    project: str
    offer_id: str | None
    submission_id: str | None
    week: date
    kind: str
    seconds: int
    rate_minor_per_hour: int
    expert_pay: MoneyOut
    fee: MoneyOut
    total: MoneyOut
    ledger_entry: str | None
    charged_at: datetime


@get("/invoice/lines", scope="fund:read", tags=["Funding"])
def get_invoice_items(
    principal: NamedDependency[Principal],
    first: FromQuery[date | None] = None,
    last: FromQuery[date | None] = None,
    organisation_id: FromQuery[str | None] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[InvoiceLineOut]:
    """What your lab was charged, line by line, oldest first, each with what it was paid for."""
    weeks = _weeks(principal, first, last, organisation_id)
    # As the platform, since lines of pay are their experts'; only the lab's own are read.
    with database.begin(PLATFORM) as session:
        return listed(
            session,
            charged_lines(weeks),
            Earning.id,
            lambda row: _line_out(InvoiceLine(*row)),
            limit=limit,
            cursor=cursor,
            filters=f"{weeks}|invoice lines",
            newest_first=False,
        )


@get("/invoice.csv", scope="fund:read", tags=["Funding"], media_type="text/csv")
def get_invoice_lines(
    principal: NamedDependency[Principal],
    first: FromQuery[date | None] = None,
    last: FromQuery[date | None] = None,
    organisation_id: FromQuery[str | None] = None,
) -> Stream:
    """The same as CSV, line by line."""
    return invoice_file(_weeks(principal, first, last, organisation_id))


def invoice_file(weeks: Weeks, headers: Mapping[str, str] | None = None) -> Stream:
    """What was charged as a file of CSV, a line each, under its ledger entry."""
    kept = {**(headers or {}), "Content-Disposition": 'attachment; filename="invoice.csv"'}
    return Stream(_table(weeks), media_type="text/csv", headers=kept)


def _table(weeks: Weeks) -> Iterator[str]:
    yield _rows([COLUMNS])
    for lot in lots_of_lines(weeks):
        yield _rows([_cells(line) for line in lot])


def _rows(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()


def _cells(line: InvoiceLine) -> tuple[object, ...]:
    paid = line.earning
    return (
        paid.week.isoformat(),
        plain_cell(line.project),
        wire_ids("ofr", paid.offer_id) or "",
        wire_id("ear", paid.id),
        paid.kind,
        paid.seconds,
        Money(paid.rate_minor_per_hour, paid.currency).in_units,
        Money(paid.pay_minor, paid.currency).in_units,
        Money(paid.fee_minor, paid.currency).in_units,
        Money(line.total_minor, paid.currency).in_units,
        paid.currency,
        wire_ids("led", line.entry_id) or "",
        paid.at.isoformat(),
    )


def _line_out(line: InvoiceLine) -> InvoiceLineOut:
    paid = line.earning

    def money(amount_minor: int) -> MoneyOut:
        return MoneyOut(amount_minor=amount_minor, currency=paid.currency)

    return InvoiceLineOut(
        earning_id=wire_id("ear", paid.id),
        project_id=wire_id("prj", paid.project_id),
        project=line.project,
        offer_id=wire_ids("ofr", paid.offer_id),
        submission_id=wire_ids("sub", paid.submission_id),
        week=paid.week,
        kind=paid.kind,
        seconds=paid.seconds,
        rate_minor_per_hour=paid.rate_minor_per_hour,
        expert_pay=money(paid.pay_minor),
        fee=money(paid.fee_minor),
        total=money(line.total_minor),
        ledger_entry=wire_ids("led", line.entry_id),
        charged_at=paid.at,
    )


def _weeks(
    principal: Principal, first: date | None, last: date | None, organisation_id: str | None
) -> Weeks:
    lab_id = principal.organisation_id
    if lab_id is None:
        lab_id = read_id("org", organisation_id or "")
    return Weeks(lab_id, first, last)


def _charge_out(charge: ProjectCharge) -> ProjectChargeOut:
    def money(amount_minor: int) -> MoneyOut:
        return MoneyOut(amount_minor=amount_minor, currency=charge.currency)

    return ProjectChargeOut(
        project_id=wire_id("prj", charge.project_id),
        project=charge.project,
        lines=charge.lines,
        expert_pay=money(charge.pay_minor),
        fee=money(charge.fee_minor),
        total=money(charge.total_minor),
    )


ROUTES: list[HTTPRouteHandler] = [get_invoice, get_invoice_items, get_invoice_lines]
