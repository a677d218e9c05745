"""What an hour was paid on average, over HTTP."""

from datetime import date
from uuid import UUID

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromQuery

from market.auth import Principal
from market.db import PLATFORM, database
from market.http import Wire, get, read_id, wire_id
from market.pay_rates.queries import PayRate, pay_rates
from market.pay_rates.rules import By
from market.projects.routes import MoneyOut

PREFIX = {"project": "prj", "lab": "org"}


class PayRateOut(Wire):
    """What the paid hours of one project, lab, domain or tier came to, every second counting alike.

    `measured_seconds` are those on work that has a verdict; the rest was given back, or waits.
    An empty name is work at a project's own rate, which is no tier's.
    """

    id: str
    name: str
    average_per_hour: MoneyOut
    pay: MoneyOut
    seconds: int
    measured_seconds: int
    experts: int


@get("/pay-rates", scope="fund:read", tags=["Funding"])
def get_pay_rates(
    principal: NamedDependency[Principal],
    by: FromQuery[By] = "project",
    first: FromQuery[date | None] = None,
    last: FromQuery[date | None] = None,
    organisation_id: FromQuery[str | None] = None,
) -> list[PayRateOut]:
    """What an hour of your experts' work was paid on average, the dearest first; ops see all labs,
    or the one that they name. `first` and `last` bound the weeks by their Mondays.
    """
    lab_id = principal.organisation_id
    if lab_id is None and organisation_id is not None:
        lab_id = read_id("org", organisation_id)
    # As the platform, since lines of pay are their experts'; only the lab's own are read.
    with database.begin(PLATFORM) as session:
        found = pay_rates(session, by, organisation_id=lab_id, first=first, last=last)
    return [_out(one, by) for one in found]


def _out(one: PayRate, by: By) -> PayRateOut:
    def money(amount_minor: int) -> MoneyOut:
        return MoneyOut(amount_minor=amount_minor, currency=one.currency)

    return PayRateOut(
        id=wire_id(PREFIX[by], UUID(one.key)) if by in PREFIX else one.key,
        name=one.name,
        average_per_hour=money(one.minor_per_hour),
        pay=money(one.pay_minor),
        seconds=one.seconds,
        measured_seconds=one.measured_s,
        experts=one.experts,
    )


ROUTES: list[HTTPRouteHandler] = [get_pay_rates]
