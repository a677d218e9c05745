"""What labs pay in, take back and have, over HTTP."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated
from uuid import UUID

from litestar import Response
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from msgspec import Meta

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.fundings.actions import (
    request_funding,
    request_invoice,
    request_refund,
    void_invoice,
)
from market.fundings.models import Funding
from market.fundings.queries import (
    LabMoney,
    Spent,
    funding,
    fundings,
    lab_money,
    refundable_of_lab,
    spent_by_project,
)
from market.fundings.rules import FundingWayUnclear
from market.http import (
    Cursor,
    Limit,
    Page,
    StateFilter,
    Wire,
    get,
    listed,
    post,
    read_id,
    tagged,
    wire_id,
)
from market.projects.routes import MoneyIn, MoneyOut
from payouts.money import Money

Minor = Annotated[int, Meta(ge=1, le=2**53 - 1)]


class FundingInvoiceIn(Wire):
    """Where an invoice is sent, and within how many days it is to be paid."""

    email: Annotated[str, Meta(max_length=320)]
    days_until_due: int = 30


class FundingIn(Wire):
    """Money to be taken from a bank account or a card that the lab has set up at Stripe, or to be
    paid by invoice: one of the two.
    """

    amount: MoneyIn
    payment_method: str | None = None
    invoice: FundingInvoiceIn | None = None


class FundingInvoiceOut(Wire):
    """An invoice: where it is paid, and until when; all three are null until it is out."""

    number: str | None
    url: str | None
    due_at: datetime | None


class FundingOut(Wire):
    """A payment of a lab's; it can be spent when it has `succeeded`."""

    id: str
    organisation_id: str
    amount: MoneyOut
    state: str
    failure: str | None
    created_at: datetime
    settled_at: datetime | None
    invoice: FundingInvoiceOut | None


class RefundIn(Wire):
    """How much of a funding is to go back."""

    amount_minor: Minor


class RefundOut(Wire):
    """A refund that is on its way; the event stream says when it has left."""

    id: str
    funding_id: str
    amount: MoneyOut


class ProjectMoneyOut(Wire):
    """What a project was given: `given` is `reserved` and `spent` and `free` together.

    Of what was spent, `accrued` is pay that waits for an approval or a decision, `owed` pay that is
    approved and in no bank yet, `paid` pay in its expert's bank, and `fee` ours on all of them.
    """

    project_id: str
    name: str
    given: MoneyOut
    reserved: MoneyOut
    spent: MoneyOut
    accrued: MoneyOut
    owed: MoneyOut
    paid: MoneyOut
    fee: MoneyOut
    free: MoneyOut


class LabMoneyOut(Wire):
    """What a lab paid in, in one currency.

    `funded` is `given` to projects and `refunded` and `unassigned` together; what can be promised
    next is what the projects have `free`. `unsettled` may still be taken back by the lab's bank;
    `refundable` can be sent back to whoever paid it.
    """

    currency: str
    funded: MoneyOut
    unsettled: MoneyOut
    refunded: MoneyOut
    given: MoneyOut
    unassigned: MoneyOut
    refundable: MoneyOut
    reserved: MoneyOut
    spent: MoneyOut
    free: MoneyOut
    projects: list[ProjectMoneyOut]


@post(
    "/fundings",
    scope="fund:write",
    keyed="required",
    status_code=HTTP_201_CREATED,
    tags=["Funding"],
)
def post_funding(
    data: JSONBody[FundingIn], principal: NamedDependency[Principal]
) -> Response[FundingOut]:
    """Pay in; the answer comes before the bank's, so look at its state afterwards.

    An invoice is out, with its address, when the state is `invoiced`.
    """
    money = Money(data.amount.amount_minor, data.amount.currency)
    if (data.payment_method is None) == (data.invoice is None):
        raise FundingWayUnclear()
    # As the platform, which alone plans calls to Stripe; the lab is the key's own.
    with database.begin(PLATFORM) as session:
        if data.invoice is not None:
            made = request_invoice(
                session,
                organisation_id=principal.tenant,
                money=money,
                email=data.invoice.email,
                days_until_due=data.invoice.days_until_due,
                actor_id=principal.person_id,
                at=now(),
            )
        else:
            made = request_funding(
                session,
                organisation_id=principal.tenant,
                money=money,
                payment_method=data.payment_method or "",
                actor_id=principal.person_id,
                at=now(),
            )
        return tagged(_funding_out(made), made.version, status=HTTP_201_CREATED)


@get("/fundings", scope="fund:read", tags=["Funding"])
def get_fundings(
    in_state: StateFilter = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[FundingOut]:
    """Your lab's payments, newest first."""
    with database.begin() as session:
        return listed(
            session,
            fundings(state=in_state),
            Funding.id,
            _funding_out,
            limit=limit,
            cursor=cursor,
            filters=f"fundings|{in_state}",
        )


@get("/fundings/{funding_id:str}", scope="fund:read", tags=["Funding"])
def get_funding(funding_id: FromPath[str]) -> Response[FundingOut]:
    """One payment, and how far it is."""
    with database.begin() as session:
        found = funding(session, read_id("fnd", funding_id))
        return tagged(_funding_out(found), found.version)


@post(
    "/fundings/{funding_id:str}/void-invoice",
    scope="fund:write",
    keyed="required",
    status_code=HTTP_200_OK,
    tags=["Funding"],
)
def post_void_invoice(
    funding_id: FromPath[str], principal: NamedDependency[Principal]
) -> Response[FundingOut]:
    """Take an invoice back that is not paid; the funding has `failed` when that is done."""
    with database.begin() as session:
        # Read as the lab first: another lab's funding is not there.
        found = funding(session, read_id("fnd", funding_id))
    with database.begin(PLATFORM) as session:
        made = void_invoice(session, found.id, actor_id=principal.person_id, at=now())
        return tagged(_funding_out(made), made.version)


@post(
    "/fundings/{funding_id:str}/refunds",
    scope="fund:write",
    keyed="required",
    status_code=HTTP_201_CREATED,
    tags=["Funding"],
)
def post_refund(
    funding_id: FromPath[str], data: JSONBody[RefundIn], principal: NamedDependency[Principal]
) -> RefundOut:
    """Send money that no project has been given back the way it came."""
    with database.begin() as session:
        # Read as the lab first: another lab's funding is not there.
        found = funding(session, read_id("fnd", funding_id))
    with database.begin(PLATFORM) as session:
        call_id = request_refund(
            session,
            found.id,
            amount_minor=data.amount_minor,
            actor_id=principal.person_id,
            at=now(),
        )
    return RefundOut(
        id=wire_id("cal", call_id),
        funding_id=wire_id("fnd", found.id),
        amount=MoneyOut(amount_minor=data.amount_minor, currency=found.currency),
    )


@get("/balance", scope="fund:read", tags=["Funding"])
def get_balance(
    principal: NamedDependency[Principal], organisation_id: FromQuery[str | None] = None
) -> list[LabMoneyOut]:
    """What your lab paid in, promised, spent and has free, by currency and project.

    Ops name a lab by `organisation_id`.
    """
    lab_id = principal.organisation_id
    if lab_id is None:
        lab_id = read_id("org", organisation_id or "")
    with database.begin() as session:
        found = lab_money(session, lab_id)
    # As the platform, since lines of pay are their experts'; only sums of the lab's own are told.
    with database.begin(PLATFORM) as session:
        spent = spent_by_project(
            session, [line.project_id for one in found for line in one.projects]
        )
        return [
            _lab_money_out(one, spent, refundable_of_lab(session, lab_id, one)) for one in found
        ]


def _funding_out(found: Funding) -> FundingOut:
    return FundingOut(
        id=wire_id("fnd", found.id),
        organisation_id=wire_id("org", found.organisation_id),
        amount=MoneyOut(amount_minor=found.amount_minor, currency=found.currency),
        state=found.state,
        failure=found.failure,
        created_at=found.created_at,
        settled_at=found.settled_at,
        invoice=None
        if found.payment_method is not None
        else FundingInvoiceOut(
            number=found.invoice_number, url=found.invoice_url, due_at=found.due_at
        ),
    )


def _lab_money_out(
    found: LabMoney, spent: Mapping[UUID, Spent], refundable_minor: int
) -> LabMoneyOut:
    def money(amount_minor: int) -> MoneyOut:
        return MoneyOut(amount_minor=amount_minor, currency=found.currency)

    return LabMoneyOut(
        currency=found.currency,
        funded=money(found.funded_minor),
        unsettled=money(found.unsettled_minor),
        refunded=money(found.refunded_minor),
        given=money(found.given_minor),
        unassigned=money(found.unassigned_minor),
        refundable=money(refundable_minor),
        reserved=money(found.reserved_minor),
        spent=money(found.spent_minor),
        free=money(found.free_minor),
        projects=[
            ProjectMoneyOut(
                project_id=wire_id("prj", one.project_id),
                name=one.name,
                given=money(one.given_minor),
                reserved=money(one.reserved_minor),
                spent=money(one.spent_minor),
                accrued=money(spent[one.project_id].accrued_minor),
                owed=money(spent[one.project_id].owed_minor),
                paid=money(spent[one.project_id].paid_minor),
                fee=money(spent[one.project_id].fee_minor),
                free=money(one.free_minor),
            )
            for one in found.projects
        ],
    )


ROUTES: list[HTTPRouteHandler] = [
    post_funding,
    get_fundings,
    get_funding,
    post_void_invoice,
    post_refund,
    get_balance,
]
