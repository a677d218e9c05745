"""What a lab was charged, over HTTP."""

import csv
import io
from collections import defaultdict
from datetime import date, datetime

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery

from market.auth import Principal
from market.db import PLATFORM, database
from market.earnings.rules import plain_cell
from market.http import Wire, get, read_id, wire_id, wire_ids
from market.invoices.queries import InvoiceLine, invoice_lines
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
    grouped: dict[tuple[str, str, str], list[InvoiceLine]] = defaultdict(list)
    for line in _lines(principal, first, last, organisation_id):
        key = (wire_id("prj", line.earning.project_id), line.project, line.earning.currency)
        grouped[key].append(line)
    return InvoiceOut(
        first=first,
        last=last,
        charges=[
            _charge(project_id, project, currency, lines)
            for (project_id, project, currency), lines in sorted(grouped.items())
        ],
    )


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
) -> list[InvoiceLineOut]:
    """What your lab was charged, line by line, each with the work that it was paid for."""
    return [_line_out(line) for line in _lines(principal, first, last, organisation_id)]


@get("/invoice.csv", scope="fund:read", tags=["Funding"], media_type="text/csv")
def get_invoice_lines(
    principal: NamedDependency[Principal],
    first: FromQuery[date | None] = None,
    last: FromQuery[date | None] = None,
    organisation_id: FromQuery[str | None] = None,
) -> Response[str]:
    """The same as CSV, line by line."""
    return Response(
        invoice_csv(_lines(principal, first, last, organisation_id)),
        media_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="invoice.csv"'},
    )


def invoice_csv(lines: list[InvoiceLine]) -> str:
    """What was charged as CSV, a line each, under its ledger entry."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\r\n").writerow
    write(COLUMNS)
    for line in lines:
        paid = line.earning
        write(
            (
                paid.week.isoformat(),
                plain_cell(line.project),
                wire_ids("ofr", paid.offer_id) or "",
                wire_id("ear", paid.id),
                paid.kind,
                paid.seconds,
                _units(paid.rate_minor_per_hour, paid.currency),
                _units(paid.pay_minor, paid.currency),
                _units(paid.fee_minor, paid.currency),
                _units(line.total_minor, paid.currency),
                paid.currency,
                wire_ids("led", line.entry_id) or "",
                paid.at.isoformat(),
            )
        )
    return text.getvalue()


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


def _lines(
    principal: Principal, first: date | None, last: date | None, organisation_id: str | None
) -> list[InvoiceLine]:
    lab_id = principal.organisation_id
    if lab_id is None:
        lab_id = read_id("org", organisation_id or "")
    # As the platform, since lines of pay are their experts'; only the lab's own are read.
    with database.begin(PLATFORM) as session:
        return invoice_lines(session, lab_id, first=first, last=last)


def _units(amount_minor: int, currency: str) -> str:
    """An amount in units with all its decimals, without its currency."""
    return str(Money(amount_minor, currency)).removeprefix(f"{currency} ")


def _charge(
    project_id: str, project: str, currency: str, lines: list[InvoiceLine]
) -> ProjectChargeOut:
    def money(amount_minor: int) -> MoneyOut:
        return MoneyOut(amount_minor=amount_minor, currency=currency)

    return ProjectChargeOut(
        project_id=project_id,
        project=project,
        lines=len(lines),
        expert_pay=money(sum(line.earning.pay_minor for line in lines)),
        fee=money(sum(line.earning.fee_minor for line in lines)),
        total=money(sum(line.total_minor for line in lines)),
    )


ROUTES: list[HTTPRouteHandler] = [get_invoice, get_invoice_items, get_invoice_lines]
