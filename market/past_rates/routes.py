"""What a lab paid before for work like an offer's, over HTTP."""

from datetime import datetime

from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from market.auth import Principal
from market.db import PLATFORM, database, now
from market.http import Wire, get, read_id
from market.offers.queries import own_offer
from market.past_rates.queries import past_rates, price_of
from market.past_rates.rules import PastRates, Priced, is_less, rates_told
from market.projects.routes import MoneyOut


class PricedOut(Wire):
    """What work was said to pay at some time: an hour's rate, or a sum for accepted work; null
    where it is each expert's own by tier.
    """

    at: datetime
    pay_basis: str
    rate_from: str
    price: MoneyOut | None


class PastRatesOut(Wire):
    """What one project offered for work in this domain, at first and most recently."""

    is_this_project: bool
    first: PricedOut
    latest: PricedOut


class RatesOut(Wire):
    """What the lab of an offer paid for such work before, and whether any of it was more."""

    offer_id: str
    is_less_than_before: bool
    text: str
    projects: list[PastRatesOut]


@get("/offers/{offer_id:str}/rates", scope="offer:read", tags=["Offers"])
def get_past_rates(offer_id: FromPath[str], principal: NamedDependency[Principal]) -> RatesOut:
    """What the lab of an offer made to you has paid for work in its domain in the last year, on
    this project and on others: so that the same work at a lower rate is not taken unawares.
    """
    wanted = read_id("ofr", offer_id)
    # As the platform, since the other offers are others'; nobody is told of in it.
    with database.begin(PLATFORM) as session:
        offer = own_offer(session, wanted, principal.person_id)
        offered, found = price_of(offer), past_rates(session, offer, at=now())
        currency = offer.currency
    return RatesOut(
        offer_id=offer_id,
        is_less_than_before=any(is_less(offered, one) for one in found),
        text=rates_told(offered, found, currency),
        projects=[_past_out(one, currency) for one in found],
    )


def _past_out(found: PastRates, currency: str) -> PastRatesOut:
    return PastRatesOut(
        is_this_project=found.is_this_project,
        first=_priced_out(found.first, currency),
        latest=_priced_out(found.latest, currency),
    )


def _priced_out(one: Priced, currency: str) -> PricedOut:
    is_told = one.rate_from == "project"
    return PricedOut(
        at=one.at,
        pay_basis=one.pay_basis,
        rate_from=one.rate_from,
        price=MoneyOut(amount_minor=one.price_minor, currency=currency) if is_told else None,
    )


ROUTES: list[HTTPRouteHandler] = [get_past_rates]
