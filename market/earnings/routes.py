"""What an expert earned, line by line, over HTTP."""

import csv
import io
from collections.abc import Mapping
from datetime import date, datetime
from uuid import UUID

import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery
from sqlalchemy.orm import Session

from market.auth import Part, Principal, tell_of
from market.db import database
from market.earnings.models import Earning
from market.earnings.queries import (
    earnings,
    payout_states,
    statement_conversions,
    statement_lines,
    statement_totals,
)
from market.earnings.rules import plain_cell
from market.http import (
    Cursor,
    Limit,
    Page,
    Wire,
    get,
    page,
    page_of,
    wire_id,
    wire_ids,
)
from market.projects.routes import MoneyOut
from payouts.bank_models import Conversion
from payouts.conversions import conversion_in_words, rate_of
from payouts.money import Money


class EarningOut(Wire):
    """A line of pay: what one offer earned in one week at one rate, or a sum for work or a bonus.

    Its state is its own until a payout takes it along, and then the payout's.

    Nothing is taken off: the platform's fee is paid by the project, on top.
    """

    id: str
    offer_id: str | None
    submission_id: str | None
    project_id: str
    week: date
    kind: str
    seconds: int
    rate_minor_per_hour: int
    pay_minor: int
    currency: str
    state: str
    payout_id: str | None
    credited_at: datetime


@get("/earnings", scope="earning:read", tags=["Earnings"])
def get_earnings(
    principal: NamedDependency[Principal],
    week: FromQuery[date | None] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[EarningOut]:
    """Every line of your pay, newest first; of one week, named by its Monday, if you wish."""
    own = None if principal.part is Part.OPS else principal.person_id
    with database.begin() as session:
        rows, following = page_of(
            session,
            earnings(expert_id=own, week=week),
            Earning.id,
            limit=limit,
            cursor=cursor,
            filters=f"{principal.tenant}|{week}",
        )
        states = payout_states(session, rows)
        return page([_earning_out(line, states) for line in rows], following)


class StatementLineOut(EarningOut):
    """A line of pay, and the project's name as it was when the expert took the work."""

    project: str


class StatementTotalOut(Wire):
    """What a period came to in one currency: `pay_minor` is all, `paid_minor` what the bank has."""

    currency: str
    seconds: int
    pay_minor: int
    paid_minor: int


class ConversionOut(Wire):
    """What Stripe made of a payout in another currency, on its way to your account there.

    `rate` is what one unit of the currency that was sent is worth in the one that came, as Stripe
    says; what Stripe takes for it is in that rate.
    """

    payout_id: str
    sent: MoneyOut
    arrived: MoneyOut
    rate: str
    source: str
    at: datetime
    text: str


class StatementOut(Wire):
    """What an expert earned in the weeks from `first` to `last`: totals, and every line of them;
    and what of it was changed into another currency on its way.
    """

    first: date | None
    last: date | None
    totals: list[StatementTotalOut]
    lines: list[StatementLineOut]
    conversions: list[ConversionOut]


@get("/statement", scope="earning:read", tags=["Earnings"])
def get_statement_data(
    principal: NamedDependency[Principal],
    first: FromQuery[date | None] = None,
    last: FromQuery[date | None] = None,
) -> StatementOut:
    """Your statement as data: the weeks that begin from `first` to `last`, oldest first."""
    with database.begin() as session:
        lines = statement_lines(session, principal.person_id, first=first, last=last)
        return StatementOut(
            first=first,
            last=last,
            totals=[
                StatementTotalOut(
                    currency=one.currency,
                    seconds=one.seconds,
                    pay_minor=one.pay_minor,
                    paid_minor=one.paid_minor,
                )
                for one in statement_totals(lines)
            ],
            lines=[
                StatementLineOut(
                    **msgspec.structs.asdict(
                        _earning_out(
                            line, {line.payout_id: state or line.state} if line.payout_id else {}
                        )
                    ),
                    project=name,
                )
                for line, name, state in lines
            ],
            conversions=[conversion_out(one) for one in statement_conversions(session, lines)],
        )


@get("/earnings.csv", scope="earning:read", tags=["Earnings"], media_type="text/csv")
def get_statement(
    principal: NamedDependency[Principal],
    first: FromQuery[date | None] = None,
    last: FromQuery[date | None] = None,
) -> Response[str]:
    """Your statement as CSV: every line of the weeks that begin from `first` to `last`."""
    with database.begin() as session:
        text = statement(session, principal.person_id, first=first, last=last)
    return Response(
        text,
        media_type="text/csv",
        headers={"Content-Disposition": 'attachment; filename="earnings.csv"'},
    )


def statement(
    session: Session, expert_id: UUID, *, first: date | None = None, last: date | None = None
) -> str:
    """An expert's statement as CSV: every line of the weeks that begin from `first` to `last`."""
    lines = statement_lines(session, expert_id, first=first, last=last)
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\r\n").writerow
    write(
        (
            *("week", "project", "offer", "kind", "seconds", "rate_an_hour", "pay", "currency"),
            *("state", "payout", "credited_at"),
        )
    )
    for line, project_name, state in lines:
        write(
            (
                line.week.isoformat(),
                plain_cell(project_name),
                wire_ids("ofr", line.offer_id) or "",
                line.kind,
                line.seconds,
                Money(line.rate_minor_per_hour, line.currency).in_units,
                Money(line.pay_minor, line.currency).in_units,
                line.currency,
                state or line.state,
                wire_ids("pay", line.payout_id) or "",
                line.at.isoformat(),
            )
        )
    return text.getvalue()


def conversion_out(found: Conversion) -> ConversionOut:
    """A conversion as it travels."""
    return ConversionOut(
        payout_id=wire_id("pay", found.payout_id),
        sent=MoneyOut(amount_minor=found.from_minor, currency=found.from_currency),
        arrived=MoneyOut(amount_minor=found.to_minor, currency=found.to_currency),
        rate=rate_of(found),
        source=found.source,
        at=found.converted_at,
        text=conversion_in_words(found),
    )


def _earning_out(line: Earning, states: Mapping[UUID, str]) -> EarningOut:
    tell_of(line.expert_id)
    return EarningOut(
        id=wire_id("ear", line.id),
        offer_id=wire_ids("ofr", line.offer_id),
        submission_id=wire_ids("sub", line.submission_id),
        project_id=wire_id("prj", line.project_id),
        week=line.week,
        kind=line.kind,
        seconds=line.seconds,
        rate_minor_per_hour=line.rate_minor_per_hour,
        pay_minor=line.pay_minor,
        currency=line.currency,
        state=states[line.payout_id] if line.payout_id else line.state,
        payout_id=wire_ids("pay", line.payout_id),
        credited_at=line.at,
    )


ROUTES: list[HTTPRouteHandler] = [
    get_earnings,
    get_statement_data,
    get_statement,
]
