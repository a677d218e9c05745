"""Where an expert is paid and what is owed, over HTTP."""

from functools import partial
from uuid import UUID

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody
from litestar.status_codes import HTTP_200_OK, HTTP_201_CREATED
from sqlalchemy.orm import Session

from market.auth import Part, Principal
from market.db import PLATFORM, database, now
from market.http import Wire, get, post, put
from market.payees.actions import become_payee
from market.payees.rules import NotAPayee, OnboardingNotReady
from market.people.queries import person
from market.people.rules import PersonNotFound
from market.projects.routes import MoneyOut
from market.settings import in_force
from market.treasury.actions import gateway
from market.treasury.queries import what_is_owed
from payouts.errors import PayeeNotReady, UnknownPayee
from payouts.payees import payee_state, plan_onboarding_link
from payouts.sender import run_call


class PayeeIn(Wire):
    """Where an expert is paid: a country, by its code; it cannot be changed later."""

    country: str


class PayeeOut(Wire):
    """Whether you can be paid, and what is missing, in sentences."""

    is_ready: bool
    missing: list[str]


class LinkOut(Wire):
    """A page of Stripe's for you alone; it works for some minutes."""

    url: str


class OwedOut(Wire):
    """What you have earned in one currency and not been sent.

    `free` goes with the next payout; `in_payouts` is in payouts that have not been sent
    yet, `in_review` is earned and waits to be approved, by the lab or by its silence.
    """

    currency: str
    free: MoneyOut
    in_payouts: MoneyOut
    in_review: MoneyOut


@post("/payees/me", scope="payee:write", status_code=HTTP_201_CREATED, tags=["Payouts"])
def post_payee(data: JSONBody[PayeeIn], principal: NamedDependency[Principal]) -> PayeeOut:
    """Say where you are paid; Stripe opens an account for it."""
    # As the platform, which alone plans calls to Stripe; the payee is the key's own person.
    with database.begin(PLATFORM) as session:
        me = person(session, principal.person_id)
        if me is None:
            raise PersonNotFound(principal.person_id)
        become_payee(
            session, expert_id=principal.person_id, country=data.country, email=me.email, at=now()
        )
        return _payee_out(session, principal)


@get("/payees/me", scope="earning:read", tags=["Payouts"])
def get_payee(principal: NamedDependency[Principal]) -> PayeeOut:
    """Whether you can be paid, and what Stripe still needs of you."""
    with database.begin() as session:
        return _payee_out(session, principal)


@put(
    "/payees/me/onboarding-link",
    scope="payee:write",
    status_code=HTTP_200_OK,
    tags=["Payouts"],
)
def put_onboarding_link(principal: NamedDependency[Principal]) -> LinkOut:
    """A fresh page of Stripe's on which you give what is missing."""
    home = "/console/reviewer" if principal.part is Part.REVIEWER else "/console/expert"
    return LinkOut(url=onboarding_url(principal.person_id, home=home))


def onboarding_url(owner_id: UUID, *, home: str = "/console/expert") -> str:
    """The address of a fresh page of Stripe's for somebody who is to be paid, and comes back to its
    earnings.

    Raises:
        NotAPayee, OnboardingNotReady.
    """
    back = f"{in_force.settings.public_url}{home}/earnings"
    with database.begin(PLATFORM) as session:
        try:
            call_id = plan_onboarding_link(
                session,
                owner_id=owner_id,
                refresh_url=back,
                return_url=back,
                at=now(),
            ).id
        except UnknownPayee:
            raise NotAPayee(owner_id) from None
        except PayeeNotReady as early:
            raise OnboardingNotReady(" ".join(early.requirements)) from None
    # Stripe is asked here, since the address must not be kept; no transaction is open meanwhile.
    outcome = run_call(partial(database.begin, PLATFORM), gateway(), call_id, now=now)
    if not outcome.link_url:
        raise OnboardingNotReady("Stripe did not answer; ask again in some minutes.")
    return outcome.link_url


@get("/earnings/balance", scope="earning:read", tags=["Earnings"])
def get_owed(principal: NamedDependency[Principal]) -> list[OwedOut]:
    """What you have earned and not been sent, by currency."""
    with database.begin() as session:
        return [
            OwedOut(
                currency=currency,
                free=MoneyOut(amount_minor=held.available_minor, currency=currency),
                in_payouts=MoneyOut(amount_minor=held.pending_debit_minor, currency=currency),
                in_review=MoneyOut(amount_minor=in_review, currency=currency),
            )
            for currency, held, in_review in what_is_owed(session, principal.person_id)
        ]


def _payee_out(session: Session, principal: Principal) -> PayeeOut:
    try:
        found = payee_state(session, principal.person_id)
    except UnknownPayee:
        raise NotAPayee(principal.person_id) from None
    return PayeeOut(is_ready=found.is_ready, missing=list(found.missing))


ROUTES: list[HTTPRouteHandler] = [post_payee, get_payee, put_onboarding_link, get_owed]
