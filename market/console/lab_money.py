"""A lab's money: paying in, hours that wait for approval, and what was charged line by line."""

from collections.abc import Mapping
from datetime import date
from functools import partial
from typing import Any

from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect, Stream, Template
from sqlalchemy import select

from market.approvals.actions import approve_lines
from market.approvals.queries import lines_to_approve, owners_of_lines
from market.console.forms import Form, field, minor, once, tried, whole_number
from market.console.frame import HEADERS, Notice, page
from market.console.visitors import LAB, FormUnreadable, my_lab
from market.db import PLATFORM, database, now
from market.earnings.models import Earning
from market.fundings.actions import request_funding, request_invoice, void_invoice
from market.fundings.models import Funding
from market.fundings.queries import funding, lab_money, spent_by_project
from market.http import page_of, principal_of_request, read_id
from market.invoices.queries import Weeks, invoice_lines, project_charges
from market.invoices.routes import invoice_file
from market.offers.models import Offer
from market.people.models import Organisation
from market.projects.models import Project
from market.tasks.models import Task
from payouts.money import Money

PAGE = 25
PRINTED = 1000
"""Lines on a page to print; a file has them all."""


def _money(
    request: Request[Any, Any, Any],
    *,
    status: int = 200,
    notice: Notice | None = None,
    typed: Mapping[str, str] | None = None,
) -> Template:
    # As the platform, since lines of pay are their experts'; only the lab's own are read.
    with database.begin(PLATFORM) as session:
        charged = project_charges(session, Weeks(my_lab(request)))
        spent = spent_by_project(session, [one.project_id for one in charged])
    with database.begin() as session:
        return page(
            request,
            "lab/money.html",
            status=status,
            notice=notice,
            money=lab_money(session, my_lab(request)),
            fundings=session.scalars(select(Funding).order_by(Funding.id.desc()).limit(PAGE)).all(),
            charged=charged,
            spent=spent,
            typed=typed or {},
        )


@get("/money", guards=LAB, sync_to_thread=True)
def get_money(request: Request[Any, Any, Any]) -> Template:
    """What the lab paid in, where it is now, and what was charged."""
    return _money(request)


@post("/fundings", guards=LAB, sync_to_thread=True, status_code=303)
def post_funding(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Pay in from a bank account or a card that Stripe knows, or by invoice."""
    principal = principal_of_request(request)

    def act() -> str:
        currency = field(data, "currency").upper() or "USD"
        amount = minor(data, "amount", "the amount", currency)
        if amount is None:
            raise FormUnreadable("say how much you pay in")
        # As the platform, which alone plans calls to Stripe; the lab is the visitor's own.
        with database.begin(PLATFORM) as session:
            if field(data, "way") == "invoice":
                request_invoice(
                    session,
                    organisation_id=principal.tenant,
                    money=Money(amount, currency),
                    email=field(data, "email"),
                    days_until_due=whole_number(
                        data, "days_until_due", "the days to pay", least=1, most=90, absent=30
                    ),
                    actor_id=principal.person_id,
                    at=now(),
                )
                return "/console/lab/money?said=invoice"
            request_funding(
                session,
                organisation_id=principal.tenant,
                money=Money(amount, currency),
                payment_method=field(data, "payment_method"),
                actor_id=principal.person_id,
                at=now(),
            )
        return "/console/lab/money?said=funding"

    return tried(data, act, partial(_money, request, typed=data))


@post("/fundings/{funding_id:str}/void", guards=LAB, sync_to_thread=True, status_code=303)
def post_void(
    request: Request[Any, Any, Any], funding_id: FromPath[str], data: Form
) -> Redirect | Template:
    """Take an invoice back that is not paid."""
    principal = principal_of_request(request)

    def act() -> str:
        with database.begin() as session:
            # Read as the lab first: another lab's funding is not there.
            found = funding(session, read_id("fnd", funding_id))
        with database.begin(PLATFORM) as session:
            void_invoice(session, found.id, actor_id=principal.person_id, at=now())
        return "/console/lab/money?said=voided"

    return tried(data, act, partial(_money, request))


@get("/invoice", guards=LAB, sync_to_thread=True)
def get_printed_invoice(
    request: Request[Any, Any, Any],
    first: FromQuery[date | None] = None,
    last: FromQuery[date | None] = None,
) -> Template:
    """What the lab was charged in some weeks, on a page to print; each line names its item."""
    weeks = Weeks(my_lab(request), first, last)
    # As the platform, since lines of pay are their experts'; only the lab's own are read.
    with database.begin(PLATFORM) as session:
        found = invoice_lines(session, weeks, limit=PRINTED)
        charged = project_charges(session, weeks)
        lab = session.get_one(Organisation, my_lab(request)).name
    return page(
        request,
        "lab/invoice.html",
        lab=lab,
        first=first,
        last=last,
        lines=found,
        charged=charged,
        unprinted=sum(one.lines for one in charged) - len(found),
    )


@get("/invoice.csv", guards=LAB, sync_to_thread=True)
def get_invoice(
    request: Request[Any, Any, Any],
    first: FromQuery[date | None] = None,
    last: FromQuery[date | None] = None,
) -> Stream:
    """Every line that the lab was charged, as a table to keep; each traces to its item."""
    return invoice_file(Weeks(my_lab(request), first, last), HEADERS)


@get("/hours", guards=LAB, sync_to_thread=True)
def get_hours(request: Request[Any, Any, Any], cursor: FromQuery[str | None] = None) -> Template:
    """Lines of pay that wait for the lab, which its silence approves."""
    principal = principal_of_request(request)
    with database.begin() as session:
        rows, following = page_of(
            session,
            lines_to_approve(),
            Earning.id,
            limit=PAGE,
            cursor=cursor,
            filters=f"hours of {principal.tenant}",
        )
        names = {
            line_id: (project_id, name)
            for line_id, project_id, name in session.execute(
                select(Earning.id, Project.id, Project.name)
                .join(Project, Project.id == Earning.project_id)
                .where(Earning.id.in_([one.id for one in rows]))
            )
        }
    # As the platform, because offers are their experts'; only the names of the lab's own tasks.
    with database.begin(PLATFORM) as session:
        tasks = dict(
            session.execute(
                select(Offer.id, Task.external_id)
                .join(Task, Task.id == Offer.task_id)
                .where(
                    Offer.id.in_([one.offer_id for one in rows if one.offer_id]),
                    Task.organisation_id == principal.tenant,
                )
            ).all()
        )
    return page(request, "lab/hours.html", rows=rows, names=names, tasks=tasks, following=following)


@post("/hours", guards=LAB, sync_to_thread=True, status_code=303)
def post_hours(request: Request[Any, Any, Any], data: Form) -> Redirect | Template:
    """Approve the lines that were ticked before silence would."""
    principal = principal_of_request(request)
    wanted = [read_id("ear", name) for name in data if name.startswith("ear_")]

    def act() -> str:
        if not wanted:
            raise FormUnreadable("tick the lines that you approve")
        with database.begin() as session:
            # Only lines of the lab's own projects are seen by it.
            owners = owners_of_lines(session, wanted)
        for expert_id, line_ids in sorted(owners.items()):
            with database.begin(PLATFORM) as session:
                approve_lines(session, expert_id, line_ids, at=now(), actor_id=principal.person_id)
        return "/console/lab/hours?said=approved"

    return once(data, act)


ROUTES: list[HTTPRouteHandler] = [
    get_money,
    post_funding,
    post_void,
    get_printed_invoice,
    get_invoice,
    get_hours,
    post_hours,
]
